// ls, describe, log, head, get.
#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <cstdio>

#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "table/arrow_bridge.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;

std::string ShortTime(int64_t micros) {
  std::string text = FormatMicros(micros).substr(0, 19);
  text[10] = ' ';
  return text;
}

// Rows of text as an aligned table.
void PrintAligned(const std::vector<std::vector<std::string>>& rows, size_t right_from, size_t right_to) {
  std::vector<int> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  const bool colour = StdoutIsTerminal();
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < rows[r].size(); ++i) {
      const std::string space(static_cast<size_t>(widths[i] - DisplayWidth(rows[r][i])), ' ');
      const bool right = i >= right_from && i < right_to;
      line += (i ? "  " : "") + (right ? space + rows[r][i] : rows[r][i] + space);
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    std::printf(r == 0 && colour ? "\033[1m%s\033[0m\n" : "%s\n", line.c_str());
  }
}

Result<int64_t> BytesOf(const table::View& view) {
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  return table::BytesOf(*fragments);
}

Status Ls(const Context& context) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto refs, catalog->refs().All());
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
                    {"kind", is_ref ? "ref" : "table"},
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

Status Describe(const Context& context, const std::string& name) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto view, catalog->Resolve(name));
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  HEADRACE_ASSIGN(const int64_t bytes, BytesOf(view));
  const auto& snapshot = view.snapshot();
  ordered_json columns = ordered_json::array();
  std::vector<std::vector<std::string>> rows = {{"column", "type", "nulls", "min", "max"}};
  const std::function<Status(const table::Field&, const std::string&, bool)> add =
      [&](const table::Field& field, const std::string& path, bool nested) -> Status {
    HEADRACE_ASSIGN(const auto stats, view.Stats(field));
    std::optional<table::FieldStats> all = table::FieldStats{};
    for (const auto& one : stats)
      all = all && one ? std::optional(table::MergeStats(*all, *one)) : std::nullopt;
    const bool known = all && field.type.is_scalar() && !fragments->empty();
    // Statistics count what was deleted or laid over.
    const bool exact = std::all_of(fragments->begin(), fragments->end(), [](const table::Fragment& fragment) {
      return fragment.deleted.empty() && fragment.overlays.empty();
    });
    const auto bound = [&](const table::Value& value) {
      return known ? BoundText(field.type, value) : std::string();
    };
    rows.push_back({(nested ? "  ." : "") + field.name, field.type.ToString(),
                    known ? (exact ? "" : "≤ ") + HumanCount(all->nulls) : "", known ? bound(all->min) : "",
                    known ? bound(all->max) : ""});
    ordered_json entry = {{"name", path}, {"id", field.id}, {"type", field.type.ToString()}};
    if (known) {
      entry[exact ? "nulls" : "nulls_at_most"] = all->nulls;
      if (!table::IsNull(all->min)) {
        entry["min"] = bound(all->min);
        entry["max"] = bound(all->max);
      }
    }
    columns.push_back(entry);
    if (field.type.kind == table::Kind::kBlob) {
      for (const auto& child : field.type.children) {
        const bool fact = child.name == "media_type" || child.name == "width" || child.name == "height" ||
                          child.name == "length" || child.name == "checksum";
        if (fact) HEADRACE_TRY(add(child, path + "." + child.name, true));
      }
    } else if (field.type.kind == table::Kind::kStruct) {
      for (const auto& child : field.type.children) HEADRACE_TRY(add(child, path + "." + child.name, true));
    }
    return Status::Ok();
  };
  for (const auto& field : snapshot.schema.fields) HEADRACE_TRY(add(field, field.name, false));
  if (context.json) {
    ordered_json tags = ordered_json::object();
    for (const auto& [tag, version] : snapshot.tags) tags[tag] = version;
    PrintJson({{"name", name},
               {"id", snapshot.table.ToString()},
               {"version", snapshot.version},
               {"rows", snapshot.rows},
               {"bytes", bytes},
               {"fragments", fragments->size()},
               {"folder", catalog->Describe() + "/" + view.prefix()},
               {"tags", tags},
               {"columns", columns}});
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
  return Status::Ok();
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

Status Log(const Context& context, const std::string& name, int64_t limit, bool all) {
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
                 {"tags", entry.tags}});
      continue;
    }
    std::string version = std::to_string(entry.version);
    for (const auto& tag : entry.tags) version += " [" + tag + "]";
    rows.push_back({version, ShortTime(entry.time_us), HumanCount(entry.rows),
                    operation.bytes ? HumanBytes(static_cast<double>(operation.bytes)) : "",
                    WhatHappened(operation), operation.who,
                    operation.why.empty() ? operation.how.substr(0, 60) : operation.why});
  }
  if (context.json) return Status::Ok();
  PrintAligned(rows, 2, 4);
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
  command->add_option("table", *name, "A table, table@version or ref")->required();
  command->footer("Examples:\n  headrace describe photos\n  headrace describe photos@v3");
  command->callback([=] { *action = [=] { return Describe(*context, *name); }; });
}

void AddLog(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("log", "A table's history: what, who, why, how many");
  auto name = std::make_shared<std::string>();
  auto limit = std::make_shared<int64_t>(20);
  auto all = std::make_shared<bool>(false);
  command->add_option("table", *name, "The table")->required();
  command->add_option("-n", *limit, "Newest entries to show; -1 for all")->capture_default_str();
  command->add_flag("--all", *all, "Also the reservations of column ids");
  command->footer("Examples:\n  headrace log photos\n  headrace log photos -n 3 --json");
  command->callback([=] { *action = [=] { return Log(*context, *name, *limit, *all); }; });
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
