// sort: by what compaction sorts a table's rows.
#include <cstdio>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "table/sort_rows.h"

namespace headrace::cli {
namespace {

using Json = nlohmann::ordered_json;

struct SortWords {
  std::string table, why;
  std::vector<std::string> columns;
  bool none = false;
};

Status RunSort(const Context& context, const SortWords& words) {
  if (words.none && !words.columns.empty())
    return Status::Invalid("name the columns to sort by, or say --none: not both");
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable(words.table));
  const bool asked = words.none || !words.columns.empty();
  if (asked) HEADRACE_TRY(table->SortBy(words.columns, context.Commit(words.why)).status());
  HEADRACE_ASSIGN(const auto view, table->At());
  const std::vector<std::string> names = table::SortKey(view.snapshot());
  if (context.json) {
    PrintJson({{"table", words.table}, {"sort", names}, {"version", view.snapshot().version}});
    return Status::Ok();
  }
  if (asked && context.quiet) return Status::Ok();
  std::string key = names.empty() ? "nothing" : "";
  for (const auto& name : names) key += (key.empty() ? "" : ", ") + name;
  const bool is_new = asked && !names.empty();
  std::printf("'%s' is sorted by %s%s\n", words.table.c_str(), key.c_str(),
              is_new ? "; headrace compact sorts what is there" : "");
  return Status::Ok();
}

}  // namespace

void AddSort(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("sort", "Say by which columns compaction sorts a table's rows");
  auto words = std::make_shared<SortWords>();
  command->add_option("table", words->table, "The table")->required();
  command->add_option("columns", words->columns, "The first is the first; none: show what it is sorted by");
  command->add_flag("--none", words->none, "By nothing from now on");
  command->add_option("-m,--why", words->why, "A note for the table's log");
  command->footer(
      "Rows that are asked for together then lie together, and a filter on the first columns reads their "
      "pages alone. Nothing is written now: `headrace compact` sorts what is there, and what is joined in "
      "the background is sorted on the way. Rows keep their ids; a scan gives them in the order in which "
      "they lie.\n\nExamples:\n  headrace sort metrics run key\n  headrace compact metrics\n"
      "  headrace sort metrics --none");
  command->callback([=] { *action = [=] { return RunSort(*context, *words); }; });
}

}  // namespace headrace::cli
