// diff: what differs between two versions of a table.
#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <cstdio>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "table/arrow_bridge.h"
#include "table/diff.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;
using BatchPtr = std::shared_ptr<arrow::RecordBatch>;

constexpr size_t kShownColumns = 6;  // of a row that was added or deleted

// Rows that differ, some thousand at most.
struct SomeRows {
  struct Row {
    int64_t id = 0;
    std::string change;
    std::vector<std::string> columns;  // their names after; of a changed row
  };
  std::vector<Row> rows;
  BatchPtr before;  // the values of rows that were deleted or changed, in order
  BatchPtr after;   // … that were added or changed
};

// The next rows that differ, `limit` at most; none at the end.
Result<SomeRows> ReadSome(const table::Diff& diff, arrow::RecordBatchReader* reader, int64_t limit) {
  SomeRows some;
  BatchPtr batch;
  if (limit > 0) HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
  if (!batch) return some;
  std::vector<int64_t> ids_before;
  std::vector<int64_t> ids_after;
  const auto& ids = static_cast<const arrow::Int64Array&>(*batch->column(0));
  const auto& changes = static_cast<const arrow::StringArray&>(*batch->column(1));
  const auto& lists = static_cast<const arrow::ListArray&>(*batch->column(2));
  const auto& names = static_cast<const arrow::StringArray&>(*lists.values());
  for (int64_t i = 0; i < std::min(batch->num_rows(), limit); ++i) {
    SomeRows::Row row{ids.Value(i), changes.GetString(i), {}};
    for (int64_t v = lists.value_offset(i); v < lists.value_offset(i + 1); ++v)
      row.columns.push_back(names.GetString(v));
    if (row.change != "added") ids_before.push_back(row.id);
    if (row.change != "deleted") ids_after.push_back(row.id);
    some.rows.push_back(std::move(row));
  }
  HEADRACE_ASSIGN(some.before, diff.before().Take(ids_before, {}));
  HEADRACE_ASSIGN(some.after, diff.after().Take(ids_after, {}));
  return some;
}

// Calls show(row, before, after) with the row's number in SomeRows::before and ::after, which may mean
// nothing.
template <typename Show>
void ForEach(const SomeRows& some, Show show) {
  int64_t before = 0;
  int64_t after = 0;
  for (const auto& row : some.rows) {
    show(row, before, after);
    before += row.change != "added";
    after += row.change != "deleted";
  }
}

std::string NameBefore(const table::Diff& diff, const std::string& after) {
  for (const auto& column : diff.columns()) {
    if (column.after == after) return *column.before;
  }
  return after;
}

ordered_json RowJson(const table::Diff& diff, const SomeRows& some, const SomeRows::Row& row, int64_t before,
                     int64_t after) {
  ordered_json json = {{"row_id", row.id}, {"change", row.change}};
  const auto whole = [](const arrow::RecordBatch& batch, int64_t at) {
    ordered_json values = ordered_json::object();
    for (int c = 0; c < batch.num_columns(); ++c)
      values[batch.column_name(c)] = CellToJson(*batch.schema()->field(c), *batch.column(c), at);
    return values;
  };
  if (row.change == "deleted") json["before"] = whole(*some.before, before);
  if (row.change == "added") json["after"] = whole(*some.after, after);
  if (row.change != "changed") return json;
  const auto cell = [](const arrow::RecordBatch& batch, const std::string& name, int64_t at) {
    const int c = batch.schema()->GetFieldIndex(name);
    return CellToJson(*batch.schema()->field(c), *batch.column(c), at);
  };
  for (const std::string& name : row.columns) {
    json["before"][name] = cell(*some.before, NameBefore(diff, name), before);
    json["after"][name] = cell(*some.after, name, after);
  }
  return json;
}

void PrintRow(const table::Diff& diff, const SomeRows& some, const SomeRows::Row& row, int64_t before,
              int64_t after) {
  const auto cell = [](const arrow::RecordBatch& batch, int c, int64_t at) {
    return CellToText(*batch.schema()->field(c), *batch.column(c), at);
  };
  std::string line;
  if (row.change == "changed") {
    for (const std::string& name : row.columns) {
      const int from = some.before->schema()->GetFieldIndex(NameBefore(diff, name));
      const int to = some.after->schema()->GetFieldIndex(name);
      line += "  " + name + ": " + cell(*some.before, from, before) + " → " + cell(*some.after, to, after);
    }
  } else {
    const bool added = row.change == "added";
    const auto& batch = added ? *some.after : *some.before;
    const int shown = std::min(batch.num_columns(), static_cast<int>(kShownColumns));
    for (int c = 0; c < shown; ++c)
      line += "  " + batch.column_name(c) + "=" + cell(batch, c, added ? after : before);
    if (shown < batch.num_columns()) line += "  …";
  }
  const bool colour = StdoutIsTerminal();
  const char mark = row.change == "added" ? '+' : row.change == "deleted" ? '-' : '~';
  const char* begin = !colour ? "" : mark == '+' ? "\033[32m" : mark == '-' ? "\033[31m" : "\033[33m";
  std::printf("%s%c %ld%s%s\n", begin, mark, static_cast<long>(row.id), line.c_str(),
              colour ? "\033[0m" : "");
}

std::string Joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

void PrintSummary(const std::string& name, const table::Diff& diff, const table::DiffCounts& counts) {
  std::printf("%s: version %ld to %ld\n", name.c_str(), static_cast<long>(diff.before().snapshot().version),
              static_cast<long>(diff.after().snapshot().version));
  std::printf("rows: %s added, %s deleted, %s changed, %s the same\n", HumanCount(counts.added).c_str(),
              HumanCount(counts.deleted).c_str(), HumanCount(counts.changed).c_str(),
              HumanCount(counts.same).c_str());
  std::vector<std::string> columns;
  std::vector<std::string> values;
  for (size_t i = 0; i < diff.columns().size(); ++i) {
    const auto& column = diff.columns()[i];
    if (column.added()) columns.push_back("+ " + *column.after + " (" + column.field.type.ToString() + ")");
    if (column.dropped()) columns.push_back("- " + *column.before);
    if (column.renamed()) columns.push_back(*column.before + " is now " + *column.after);
    if (column.retyped)
      columns.push_back(*column.after + " was " + column.retyped->first + " and is " +
                        column.retyped->second);
    if (counts.changed_in[i] > 0) values.push_back(*column.after + " of " + HumanCount(counts.changed_in[i]));
  }
  if (!columns.empty()) std::printf("columns: %s\n", Joined(columns).c_str());
  if (!values.empty()) std::printf("changed: %s\n", Joined(values).c_str());
}

ordered_json SummaryJson(const table::Diff& diff, const table::DiffCounts& counts) {
  ordered_json added = ordered_json::object();
  ordered_json dropped = ordered_json::object();
  ordered_json renamed = ordered_json::object();
  ordered_json retyped = ordered_json::object();
  ordered_json changed = ordered_json::object();
  for (size_t i = 0; i < diff.columns().size(); ++i) {
    const auto& column = diff.columns()[i];
    if (column.added()) added[*column.after] = column.field.type.ToString();
    if (column.dropped()) dropped[*column.before] = column.field.type.ToString();
    if (column.renamed()) renamed[*column.before] = *column.after;
    if (column.retyped) retyped[*column.after] = {column.retyped->first, column.retyped->second};
    if (counts.changed_in[i] > 0) changed[*column.after] = counts.changed_in[i];
  }
  return {{"before", diff.before().snapshot().version},
          {"after", diff.after().snapshot().version},
          {"rows",
           {{"added", counts.added},
            {"deleted", counts.deleted},
            {"changed", counts.changed},
            {"same", counts.same}}},
          {"columns",
           {{"added", added},
            {"dropped", dropped},
            {"renamed", renamed},
            {"retyped", retyped},
            {"changed", changed}}}};
}

Status RunDiff(const Context& context, const std::string& name, const std::string& from,
               const std::string& to, const std::vector<std::string>& columns, int64_t limit) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(name));
  HEADRACE_ASSIGN(const auto before, opened->At(from));
  HEADRACE_ASSIGN(const auto after, opened->At(to));
  HEADRACE_ASSIGN(const auto diff, table::Diff::Between(before, after, columns));
  HEADRACE_ASSIGN(const auto counts, diff.Count(context.stop));
  const int64_t all = counts.added + counts.deleted + counts.changed;
  ordered_json json = SummaryJson(diff, counts);
  json["changes"] = ordered_json::array();
  if (!context.json) PrintSummary(name, diff, counts);
  if (!context.json && limit != 0 && all > 0) std::printf("\n");
  HEADRACE_ASSIGN(const auto reader, diff.Rows(context.stop));
  int64_t left = limit < 0 ? all : std::min(limit, all);
  const int64_t more = all - left;
  while (left > 0) {
    HEADRACE_ASSIGN(const SomeRows some, ReadSome(diff, reader.get(), left));
    if (some.rows.empty()) break;
    left -= static_cast<int64_t>(some.rows.size());
    ForEach(some, [&](const SomeRows::Row& row, int64_t at_before, int64_t at_after) {
      if (context.json) {
        json["changes"].push_back(RowJson(diff, some, row, at_before, at_after));
      } else {
        PrintRow(diff, some, row, at_before, at_after);
      }
    });
  }
  if (context.json) {
    PrintJson(json);
  } else if (more > 0 && limit != 0) {
    std::printf("… and %s more (-n -1 shows all)\n", HumanCount(more).c_str());
  }
  return Status::Ok();
}

}  // namespace

void AddDiff(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("diff", "Rows and columns that differ between two versions");
  auto name = std::make_shared<std::string>();
  auto from = std::make_shared<std::string>();
  auto to = std::make_shared<std::string>();
  auto limit = std::make_shared<int64_t>(10);
  command->add_option("table", *name, "The table")->required();
  command->add_option("before", *from, "A version, tag or time")->required();
  command->add_option("after", *to, "Another (default: the newest version)");
  auto columns = std::make_shared<std::vector<std::string>>();
  command->add_option("-n", *limit, "Rows to show; -1 for all")->capture_default_str();
  command->add_option("-c,--columns", *columns, "Compare only the values of these")->delimiter(',');
  command->footer(
      "Examples:\n  headrace diff photos v3 v7\n  headrace diff photos golden -n 0\n  headrace sql \"select "
      "change, count(*) from diff('photos', 'v3', 'v7') group by 1\"");
  command->callback(
      [=] { *action = [=] { return RunDiff(*context, *name, *from, *to, *columns, *limit); }; });
}

}  // namespace headrace::cli
