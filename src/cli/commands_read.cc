// ls, describe, log, head, get.
#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/storage_report.h"
#include "cli/terminal.h"
#include "table/arrow_bridge.h"
#include "table/describe.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;

Result<int64_t> BytesOf(const table::View& view) {
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  return table::BytesOf(*fragments);
}

Status Ls(const Context& context) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(auto refs, catalog->refs().All());
  std::stable_partition(refs.begin(), refs.end(),
                        [](const auto& ref) { return !table::IsSystemName(ref.name); });
  std::vector<std::vector<std::string>> rows = {{"table", "rows", "columns", "size", "version", "changed"}};
  ordered_json list = ordered_json::array();
  for (const auto& ref : refs) {
    if (ref.kind != table::RefKind::kTable && ref.kind != table::RefKind::kSnapshot) continue;
    HEADRACE_ASSIGN(const auto view, catalog->Resolve(ref.name));
    HEADRACE_ASSIGN(const int64_t bytes, BytesOf(view));
    const auto& snapshot = view.snapshot();
    const bool is_ref = ref.kind == table::RefKind::kSnapshot;
    rows.push_back({ref.name + (is_ref ? " (ref)" : ""), HumanCount(snapshot.rows),
                    std::to_string(snapshot.schema.fields.size()), HumanBytes(static_cast<double>(bytes)),
                    std::to_string(snapshot.version), ShortTime(snapshot.time_us)});
    list.push_back({{"name", ref.name},
                    {"kind", is_ref                          ? "ref"
                             : table::IsSystemName(ref.name) ? "system"
                                                             : "table"},
                    {"rows", snapshot.rows},
                    {"columns", snapshot.schema.fields.size()},
                    {"bytes", bytes},
                    {"version", snapshot.version},
                    {"changed", FormatMicros(snapshot.time_us)}});
  }
  if (context.json) {
    PrintJson(list);
  } else if (list.empty()) {
    std::printf("%s has no tables yet. Take some files in: headrace ingest FOLDER --table NAME\n",
                catalog->Describe().c_str());
  } else {
    PrintAligned(rows, 1, 5);
  }
  return Status::Ok();
}

// A smallest or largest value; "" for null.
std::string BoundText(const table::Type& type, const table::Value& value) {
  if (table::IsNull(value)) return "";
  if (const auto* number = std::get_if<int64_t>(&value)) {
    if (type.kind == table::Kind::kTimestamp && type.unit == table::TimeUnit::kMicro)
      return ShortTime(*number);
    if (type.kind == table::Kind::kDate) return FormatMicros(*number * 86'400'000'000).substr(0, 10);
    return type.kind == table::Kind::kBool ? (*number ? "true" : "false") : std::to_string(*number);
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    return type.kind == table::Kind::kBinary ? "" : text->size() > 24 ? text->substr(0, 24) + "…" : *text;
  }
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.6g", std::get<double>(value));
  return buffer;
}

Status Describe(const Context& context, const std::string& name, bool storage) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto view, catalog->Resolve(name));
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  HEADRACE_ASSIGN(const int64_t bytes, BytesOf(view));
  const auto& snapshot = view.snapshot();
  HEADRACE_ASSIGN(const auto summaries, table::SummariseColumns(view));
  ordered_json columns = ordered_json::array();
  std::vector<std::vector<std::string>> rows = {{"column", "type", "nulls", "min", "max"}};
  for (const auto& column : summaries) {
    const auto bound = [&](const table::Value& value) {
      return column.known ? BoundText(column.field.type, value) : std::string();
    };
    rows.push_back({(column.nested ? "  ." : "") + column.field.name, column.field.type.ToString(),
                    column.known ? (column.exact ? "" : "≤ ") + HumanCount(column.nulls) : "",
                    bound(column.min), bound(column.max)});
    ordered_json entry = {
        {"name", column.path}, {"id", column.field.id}, {"type", column.field.type.ToString()}};
    if (column.known) {
      entry[column.exact ? "nulls" : "nulls_at_most"] = column.nulls;
      if (!table::IsNull(column.min)) {
        entry["min"] = bound(column.min);
        entry["max"] = bound(column.max);
      }
    }
    columns.push_back(entry);
  }
  if (context.json) {
    ordered_json tags = ordered_json::object();
    for (const auto& [tag, version] : snapshot.tags) tags[tag] = version;
    ordered_json json = {{"name", name},
                         {"id", snapshot.table.ToString()},
                         {"version", snapshot.version},
                         {"rows", snapshot.rows},
                         {"bytes", bytes},
                         {"fragments", fragments->size()},
                         {"folder", catalog->Describe() + "/" + view.prefix()},
                         {"tags", tags},
                         {"columns", columns}};
    if (storage) {
      HEADRACE_ASSIGN(json["storage"], StorageJson(view, context.stop));
    }
    PrintJson(json);
    return Status::Ok();
  }
  std::printf("%s: version %ld, %s rows, %s in %s fragments\n", name.c_str(),
              static_cast<long>(snapshot.version), HumanCount(snapshot.rows).c_str(),
              HumanBytes(static_cast<double>(bytes)).c_str(),
              HumanCount(static_cast<int64_t>(fragments->size())).c_str());
  std::printf("files: %s/%s\n", catalog->Describe().c_str(), view.prefix().c_str());
  for (const auto& [tag, version] : snapshot.tags)
    std::printf("tag %s: version %ld\n", tag.c_str(), static_cast<long>(version));
  std::printf("\n");
  PrintAligned(rows, 2, 3);
  return storage ? PrintStorage(view, context.stop) : Status::Ok();
}

std::string WhatHappened(const table::Operation& operation) {
  std::string text = table::OperationName(operation.kind);
  for (char& c : text) c = c == '_' ? ' ' : c;
  if (operation.rows > 0) text += " " + HumanCount(operation.rows) + " rows";
  std::string columns;
  for (size_t i = 0; i < operation.columns.size() && i < 6; ++i)
    columns += (i ? ", " : "") + operation.columns[i];
  if (operation.columns.size() > 6) columns += ", …";
  if (!columns.empty()) text += ": " + columns;
  return text;
}

// "3, 5-7" of ascending numbers.
std::string Ranges(const std::vector<int64_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    text += (i ? ", " : "") + std::to_string(numbers[i]);
    if (end - i > 1) text += "-" + std::to_string(numbers[end - 1]);
    i = end;
  }
  return text;
}

// The versions between those that are shown (newest first), and before the last where nothing older is left.
std::vector<int64_t> Gaps(const std::vector<table::HistoryEntry>& shown, bool whole) {
  std::vector<int64_t> gaps;
  int64_t next = whole || shown.empty() ? 1 : shown.back().version;
  for (auto entry = shown.rbegin(); entry != shown.rend(); ++entry) {
    for (; next < entry->version; ++next) gaps.push_back(next);
    ++next;
  }
  return gaps;
}

// The version that a restore went back to, which the log has as "v2"; 0 of other commits.
int64_t RestoredFrom(const table::Operation& operation) {
  if (operation.kind != table::OperationKind::kRestore || operation.columns.size() != 1) return 0;
  const std::string& target = operation.columns[0];
  return target.starts_with("v") ? std::strtoll(target.c_str() + 1, nullptr, 10) : 0;
}

// A column before the rows of the log: `*` for versions that the newest one goes back to, `o` beside them for
// those that a restore left behind.
void DrawGraph(const std::vector<table::HistoryEntry>& history, std::vector<std::vector<std::string>>* rows) {
  std::vector<std::vector<std::string>> drawn = {std::move(rows->front())};
  drawn[0].insert(drawn[0].begin(), "");
  int64_t next = history.empty() ? 0 : history.front().version;  // of those that the newest goes back to
  bool beside = false;
  for (size_t i = 0; i < history.size(); ++i) {
    const bool left_behind = history[i].version > next;
    if (beside && !left_behind) drawn.push_back({"|/"});
    beside = left_behind;
    if (!left_behind) {
      const int64_t restored = RestoredFrom(history[i].operation);
      next = restored > 0 ? restored : history[i].version - 1;
    }
    std::vector<std::string>& row = (*rows)[i + 1];
    row.insert(row.begin(), left_behind ? "| o" : "*");
    drawn.push_back(std::move(row));
  }
  *rows = std::move(drawn);
}

Status Log(const Context& context, const std::string& name, int64_t limit, bool all, bool graph) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(name));
  HEADRACE_ASSIGN(const auto history, opened->History(limit, all));
  std::vector<std::vector<std::string>> rows = {
      {"version", "time (UTC)", "rows", "written", "what", "who", "why"}};
  for (const auto& entry : history) {
    const auto& operation = entry.operation;
    if (context.json) {
      PrintJson({{"version", entry.version},
                 {"time", FormatMicros(entry.time_us)},
                 {"kind", table::OperationName(operation.kind)},
                 {"rows", operation.rows},
                 {"rows_after", entry.rows},
                 {"fragments", operation.fragments},
                 {"bytes", operation.bytes},
                 {"columns", operation.columns},
                 {"who", operation.who},
                 {"why", operation.why},
                 {"how", operation.how},
                 {"inputs", operation.inputs},
                 {"tags", entry.tags},
                 {"expired", entry.expired}});
      continue;
    }
    std::string version = std::to_string(entry.version);
    for (const auto& tag : entry.tags) version += " [" + tag + "]";
    if (entry.expired) version += " expired";
    rows.push_back({version, ShortTime(entry.time_us), HumanCount(entry.rows),
                    operation.bytes ? HumanBytes(static_cast<double>(operation.bytes)) : "",
                    WhatHappened(operation), operation.who,
                    operation.why.empty() ? operation.how.substr(0, 60) : operation.why});
  }
  if (context.json) return Status::Ok();
  if (graph) DrawGraph(history, &rows);
  PrintAligned(rows, graph ? 3 : 2, graph ? 5 : 4);
  const bool whole = limit < 0 || static_cast<int64_t>(history.size()) < limit;
  if (const auto gaps = Gaps(history, whole); !gaps.empty() && !context.quiet) {
    std::printf("%s %s: only ids for new columns were reserved (--all shows %s)\n",
                gaps.size() == 1 ? "Version" : "Versions", Ranges(gaps).c_str(),
                gaps.size() == 1 ? "it" : "them");
  }
  return Status::Ok();
}

Status Head(const Context& context, const std::string& name, const table::ScanOptions& options) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto view, catalog->Resolve(name));
  HEADRACE_ASSIGN(const auto reader, view.Scan(options));
  return Render(
             reader.get(),
             {.json = context.json, .max_rows = -1, .colour = StdoutIsTerminal(), .width = TerminalWidth()})
      .status();
}

Status Get(const Context& context, const std::string& name, int64_t row, const std::string& column,
           const std::string& output) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto view, catalog->Resolve(name));
  if (column.empty()) {
    HEADRACE_ASSIGN(const auto batch, view.Take({row}, {}));
    for (int c = 0; c < batch->num_columns() && !context.json; ++c) {
      std::printf("%-16s %s\n", batch->column_name(c).c_str(),
                  CellToText(*batch->schema()->field(c), *batch->column(c), 0).c_str());
    }
    if (context.json) std::printf("%s\n", RowToJson(*batch, 0).c_str());
    return Status::Ok();
  }
  HEADRACE_ASSIGN(const auto batch, view.Take({row}, {column}));
  const auto cell = batch->column(0);
  const table::Field* field = view.schema().Find(column);
  std::string bytes;
  if (cell->IsNull(0)) return Status::NotFound("'" + column + "' of row " + std::to_string(row) + " is null");
  if (field != nullptr && field->type.kind == table::Kind::kBlob) {
    HEADRACE_ASSIGN(const auto blobs, view.ReadBlobs(cell));
    bytes = std::string(blobs[0]->view());
  } else if (cell->type_id() == arrow::Type::STRING || cell->type_id() == arrow::Type::BINARY) {
    bytes = static_cast<const arrow::BinaryArray&>(*cell).GetString(0);
  } else {
    bytes = CellToJson(*batch->schema()->field(0), *cell, 0).dump() + "\n";
  }
  if (output.empty() || output == "-") {
    const bool picture = field != nullptr && field->type.kind == table::Kind::kBlob;
    if (picture && StdoutIsTerminal()) {
      return Status::Invalid(
          "this is " + HumanBytes(static_cast<double>(bytes.size())) +
          " of binary data and the terminal would show it as noise; add -o FILE or pipe it");
    }
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    return Status::Ok();
  }
  FILE* file = std::fopen(output.c_str(), "wb");
  if (file == nullptr) return Status::FromErrno(errno, "write", output);
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (std::fclose(file) != 0 || !written) return Status::FromErrno(errno, "write", output);
  if (!context.quiet)
    std::fprintf(stderr, "%s written to %s\n", HumanBytes(static_cast<double>(bytes.size())).c_str(),
                 output.c_str());
  return Status::Ok();
}

}  // namespace

void AddLs(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("ls", "List tables and refs");
  command->footer("Examples:\n  headrace ls\n  headrace ls --json | jq .");
  command->callback([=] { *action = [=] { return Ls(*context); }; });
}

void AddDescribe(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("describe", "Columns, types, bounds, tags and files of a table");
  auto name = std::make_shared<std::string>();
  auto storage = std::make_shared<bool>(false);
  command->add_option("table", *name, "A table, table@version or ref")->required();
  command->add_flag("--storage", *storage, "Also how it lies in files: bytes by column, fragments, updates");
  command->footer(
      "Examples:\n  headrace describe photos\n  headrace describe photos@v3\n  headrace describe photos "
      "--storage");
  command->callback([=] { *action = [=] { return Describe(*context, *name, *storage); }; });
}

void AddLog(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("log", "A table's history: what, who, why, how many");
  auto name = std::make_shared<std::string>();
  auto limit = std::make_shared<int64_t>(20);
  auto all = std::make_shared<bool>(false);
  command->add_option("table", *name, "The table")->required();
  command->add_option("-n", *limit, "Newest entries to show; -1 for all")->capture_default_str();
  command->add_flag("--all", *all, "Also the reservations of column ids");
  auto graph = std::make_shared<bool>(false);
  command->add_flag("--graph", *graph,
                    "Draw which versions the newest goes back to, and which restores left behind");
  command->footer(
      "Examples:\n  headrace log photos\n  headrace log photos -n 3 --json\n  headrace log photos --graph");
  command->callback([=] { *action = [=] { return Log(*context, *name, *limit, *all, *graph); }; });
}

void AddHead(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("head", "The first rows of a table");
  auto name = std::make_shared<std::string>();
  auto options = std::make_shared<table::ScanOptions>();
  options->limit = 10;
  command->add_option("table", *name, "A table, table@version or ref")->required();
  command->add_option("-n", options->limit, "Rows; -1 for all")->capture_default_str();
  command->add_option("-c,--columns", options->columns, "Columns, or fields such as image.width")
      ->delimiter(',');
  command->add_option("-w,--where", options->where, "A filter, as in: image.width >= 512 and lang = 'en'");
  command->footer(
      "Examples:\n  headrace head photos\n  headrace head photos -n 3 -c path,image.width -w \"image.width > "
      "2000\"");
  command->callback([=] {
    *action = [=] {
      options->stop = context->stop;
      return Head(*context, *name, *options);
    };
  });
}

void AddGet(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("get", "One row, or the bytes of one of its cells");
  auto name = std::make_shared<std::string>();
  auto row = std::make_shared<int64_t>(0);
  auto column = std::make_shared<std::string>();
  auto output = std::make_shared<std::string>();
  command->add_option("table", *name, "A table, table@version or ref")->required();
  command->add_option("row", *row, "The row's id (_row_id)")->required();
  command->add_option("column", *column, "A column; without it, the whole row is shown");
  command->add_option("-o,--output", *output, "A file (default: standard output)");
  command->footer("Examples:\n  headrace get photos 17\n  headrace get photos 17 image -o 17.jpg");
  command->callback([=] { *action = [=] { return Get(*context, *name, *row, *column, *output); }; });
}

}  // namespace headrace::cli
