// writers.
#include <cstdio>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"

namespace headrace::cli {
namespace {

using Json = nlohmann::ordered_json;
using table::WriterChange;

struct WritersWords {
  std::string table, keep, release, forget, why;
};

Status Change(const Context& context, const WritersWords& words, table::Table* table) {
  const auto change = !words.keep.empty()      ? WriterChange{WriterChange::Kind::kKeep, words.keep}
                      : !words.release.empty() ? WriterChange{WriterChange::Kind::kRelease, words.release}
                                               : WriterChange{WriterChange::Kind::kForget, words.forget};
  HEADRACE_ASSIGN(const auto done, table->ChangeWriter(change, context.Commit(words.why)));
  if (context.json) {
    PrintJson({{"table", words.table}, {"version", done.version}});
  } else if (!context.quiet) {
    const char* said = change.kind == WriterChange::Kind::kKeep ? "is never forgotten"
                       : change.kind == WriterChange::Kind::kRelease
                           ? "may be forgotten 30 days after its last commit"
                           : "is forgotten";
    std::printf("'%s' %s (version %lld of '%s')\n", change.writer.c_str(), said,
                static_cast<long long>(done.version), words.table.c_str());
  }
  return Status::Ok();
}

Status List(const Context& context, const WritersWords& words, const table::Table& table) {
  HEADRACE_ASSIGN(const auto view, table.At());
  const auto& writers = view.snapshot().writers;
  if (context.json) {
    for (const auto& [name, mark] : writers)
      PrintJson(
          {{"writer", name}, {"sequence", mark.sequence}, {"version", mark.version}, {"kept", mark.keep}});
    return Status::Ok();
  }
  if (writers.empty()) {
    std::printf("nobody has committed to '%s' under a writer's name\n", words.table.c_str());
    return Status::Ok();
  }
  std::vector<std::vector<std::string>> rows = {{"writer", "last", "version", ""}};
  for (const auto& [name, mark] : writers) {
    rows.push_back({name, mark.sequence < 0 ? "-" : std::to_string(mark.sequence),
                    std::to_string(mark.version), mark.keep ? "kept" : ""});
  }
  PrintAligned(rows, 1, 3);
  return Status::Ok();
}

Status RunWriters(const Context& context, const WritersWords& words) {
  const int asked = !words.keep.empty() + !words.release.empty() + !words.forget.empty();
  if (asked > 1) return Status::Invalid("one of --keep, --release and --forget at a time");
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable(words.table));
  return asked == 1 ? Change(context, words, table.get()) : List(context, words, *table);
}

}  // namespace

void AddWriters(CLI::App* app, Context* context, Action* action) {
  auto* command =
      app->add_subcommand("writers", "Who commits to a table exactly once, and whose names it keeps");
  auto words = std::make_shared<WritersWords>();
  command->add_option("table", words->table, "The table")->required();
  command->add_option("--keep", words->keep, "Never forget this writer, however long it is away");
  command->add_option("--release", words->release, "Let this writer be forgotten as the others are");
  command->add_option("--forget", words->forget, "Forget this writer now");
  command->add_option("-m,--why", words->why, "A note for the table's log");
  command->footer(
      "A table remembers the number of each writer's last commit, so that a commit which is tried again is "
      "made once. "
      "It may forget a writer 30 days after that; one that comes back later is refused, not doubled.\n\n"
      "Examples:\n  headrace writers traces\n  headrace writers traces --keep machine-7");
  command->callback([=] { *action = [=] { return RunWriters(*context, *words); }; });
}

}  // namespace headrace::cli
