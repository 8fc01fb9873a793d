#include "trace/note.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>

#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "base/ids.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

std::string NotePath(const std::string& root) { return root + "/committer.note"; }

Status SyncFolder(const std::string& path) {
  const int folder = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return Status::FromErrno(errno, "open", path);
  const bool synced = fsync(folder) == 0;
  const int why = errno;
  close(folder);
  return synced ? Status::Ok() : Status::FromErrno(why, "sync", path);
}

Status WriteSynced(const std::string& path, const std::string& text) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) return Status::FromErrno(errno, "create", path);
  Status status;
  for (size_t at = 0; at < text.size() && status.ok();) {
    const ssize_t wrote = write(file, text.data() + at, text.size() - at);
    if (wrote > 0) {
      at += static_cast<size_t>(wrote);
    } else if (errno != EINTR) {
      status = Status::FromErrno(wrote < 0 ? errno : ENOSPC, "write", path);
    }
  }
  if (status.ok() && fsync(file) != 0) status = Status::FromErrno(errno, "sync", path);
  close(file);
  return status;
}

std::string Encode(const Note& note) {
  json spools = json::object();
  for (const auto& [writer, span] : note.spools)
    spools[writer] = {{"from", span.from.sequence()}, {"to", span.to.sequence()}, {"over", span.over}};
  return json{{"committer", note.committer}, {"number", note.number}, {"spools", spools}}.dump();
}

bool Decode(const std::string& text, Note* note) {
  const json value = json::parse(text, nullptr, false);
  if (!value.is_object()) return false;
  try {
    note->committer = value.at("committer");
    note->number = value.at("number");
    for (const auto& [writer, span] : value.at("spools").items())
      note->spools[writer] = {Position::Of(span.at("from")), Position::Of(span.at("to")), span.at("over")};
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
  std::ifstream in(path, std::ios::binary);
  Note note;
  if (!in) {
    struct stat info {};
    if (stat(path.c_str(), &info) == 0 || errno != ENOENT) return Status::Io("cannot read " + path);
    note.committer = Uuid::Random().ToString();
    return note;
  }
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.substr(0, space) != Hex64(Xxh3(text.substr(space + 1))) ||
      !Decode(text.substr(space + 1), &note))
    return Status::Corrupt(path +
                           " does not match its checksum, so it is not known which records of the spools "
                           "beside it are rows already; without it all of them are committed (again)");
  return note;
}

Status WriteNote(const std::string& root, const Note& note) {
  const std::string path = NotePath(root), fresh = path + ".new";
  const std::string text = Encode(note);
  Status status = WriteSynced(fresh, Hex64(Xxh3(text)) + " " + text);
  if (status.ok() && std::rename(fresh.c_str(), path.c_str()) != 0)
    status = Status::FromErrno(errno, "rename", fresh);
  if (!status.ok()) {
    unlink(fresh.c_str());
    return status;
  }
  return SyncFolder(root);
}

}  // namespace headrace::trace
