#include "trace/note.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/ids.h"
#include "base/json.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

std::string NotePath(const std::string& root) { return root + "/committer.note"; }

std::string Encode(const Note& note) {
  json spools = json::object();
  for (const auto& [writer, span] : note.spools)
    spools[writer] = {{"from", span.from.sequence()}, {"to", span.to.sequence()}, {"over", span.over}};
  return json{{"committer", note.committer},
              {"number", note.number},
              {"spools", spools},
              {"since", note.since},
              {"finished", note.finished}}
      .dump();
}

bool Decode(const std::string& text, Note* note) {
  const json value = ParseJson(text);
  if (!value.is_object()) return false;
  try {
    note->committer = value.at("committer");
    note->number = value.at("number");
    for (const auto& [writer, span] : value.at("spools").items())
      note->spools[writer] = {Position::Of(span.at("from")), Position::Of(span.at("to")), span.at("over")};
    // Notes of earlier programs say neither.
    if (value.contains("since")) value.at("since").get_to(note->since);
    note->finished = value.value("finished", false);
  } catch (const json::exception&) {
    return false;
  }
  return true;
}

}  // namespace

Position Note::Taken(const std::string& writer, int64_t sequence) const {
  const auto found = spools.find(writer);
  if (found == spools.end()) return {};
  return sequence >= number ? found->second.to : found->second.from;
}

bool Note::TookInterrupted(const std::string& writer, int64_t sequence) const {
  const auto found = spools.find(writer);
  if (found == spools.end() || found->second.over == 0) return false;
  return found->second.over < number || sequence >= number;
}

Result<Note> ReadNote(const std::string& root) {
  const std::string path = NotePath(root);
  const auto bytes = ReadFile(path);
  Note note;
  if (bytes.status().Is(Code::kNotFound)) {
    note.committer = Uuid::Random().ToString();
    return note;
  }
  if (!bytes.ok()) return bytes.status();
  const std::string& text = *bytes;
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.substr(0, space) != Hex64(Xxh3(text.substr(space + 1))) ||
      !Decode(text.substr(space + 1), &note))
    return Status::Corrupt(path +
                           " does not match its checksum, so it is not known which records of the spools "
                           "beside it are rows already; without it all of them are committed (again)");
  return note;
}

Status WriteNote(const std::string& root, const Note& note) {
  const std::string text = Encode(note);
  return ReplaceFile(NotePath(root), Hex64(Xxh3(text)) + " " + text, /*sync=*/true, /*mode=*/0600);
}

}  // namespace headrace::trace
