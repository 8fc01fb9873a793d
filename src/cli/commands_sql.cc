// sql.
#include <arrow/record_batch.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "query/query.h"
#ifdef HEADRACE_ENGINE
#include "trace/tail.h"
#include "trace/views.h"
#endif

namespace headrace::cli {
namespace {

struct SqlOptions {
  std::string sql;
  std::string output;
  std::string format;
  std::string into;
  std::string why;
  bool explain = false, files = false;
  int64_t rows = 50;
  std::string memory;
  int threads = 0;
  std::vector<std::string> params;
};

// "name=value" for $name, a value alone for the next ?. A JSON number, true, false or null is that, a JSON
// text its content; anything else is text as it stands.
Result<std::vector<query::Param>> ParamsOf(const std::vector<std::string>& given) {
  std::vector<query::Param> params;
  for (const std::string& word : given) {
    const size_t equals = word.find('=');
    const bool named = equals != std::string::npos && equals > 0 &&
                       std::all_of(word.begin(), word.begin() + static_cast<int64_t>(equals),
                                   [](char c) { return isalnum(static_cast<unsigned char>(c)) || c == '_'; });
    query::Param param;
    param.name = named ? word.substr(0, equals) : std::to_string(params.size() + 1);
    const std::string text = named ? word.substr(equals + 1) : word;
    const auto json = ParseJson(text);
    if (json.is_boolean()) {
      param.value = json.get<bool>();
    } else if (json.is_number_integer() && !json.is_number_unsigned()) {
      param.value = json.get<int64_t>();
    } else if (json.is_number_unsigned() && json.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)) {
      param.value = json.get<int64_t>();
    } else if (json.is_number_float()) {
      param.value = json.get<double>();
    } else if (json.is_string()) {
      param.value = json.get<std::string>();
    } else if (!json.is_null()) {
      param.value = text;
    }
    for (const auto& other : params) {
      if (other.name == param.name) return Status::Invalid("--param " + param.name + " is given twice");
    }
    params.push_back(std::move(param));
  }
  return params;
}

Result<std::string> FormatOf(const SqlOptions& options) {
  if (!options.format.empty()) {
    if (options.format == "csv" || options.format == "json" || options.format == "parquet" ||
        options.format == "table")
      return options.format;
    return Status::Invalid("'" + options.format +
                           "' is not a format; there are table, csv, json and parquet");
  }
  const auto ends = [&](const char* end) { return options.output.ends_with(end); };
  if (ends(".csv")) return std::string("csv");
  if (ends(".parquet")) return std::string("parquet");
  if (ends(".json") || ends(".jsonl") || ends(".ndjson")) return std::string("json");
  if (!options.output.empty() && options.output != "-") {
    return Status::Invalid("what to write into '" + options.output + "'? Add --format csv, json or parquet");
  }
  return std::string("table");
}

Status Sql(const Context& context, SqlOptions options) {
  if (options.sql == "-") options.sql.assign(std::istreambuf_iterator<char>(std::cin), {});
  if (options.sql.find_first_not_of(" \t\r\n;") == std::string::npos)
    return Status::Invalid("the query is empty");
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  query::SqlEngineOptions opened{
      .threads = options.threads, .memory_limit = options.memory, .files = options.files};
#ifdef HEADRACE_ENGINE
  opened.tailed = trace::TailedTables();
  opened.tail = trace::TailOf(catalog);
  opened.views = trace::Views();
  opened.view = trace::ViewOf(catalog);
#endif
  HEADRACE_ASSIGN(const auto engine, query::SqlEngine::Open(catalog, opened));
  HEADRACE_ASSIGN(const auto params, ParamsOf(options.params));
  const query::QueryOptions run{context.stop, params};
  if (options.explain) {
    HEADRACE_ASSIGN(const std::string text, engine->Explain(options.sql, run));
    std::printf("%s", text.c_str());
    return Status::Ok();
  }
  const double start = MonotonicSeconds();
  if (!options.into.empty()) {
    auto commit = context.Commit(options.why);
    commit.progress = ProgressLine(context.quiet || context.json);
    HEADRACE_ASSIGN(const auto result,
                    query::QueryInto(catalog.get(), engine.get(), options.sql, options.into, commit, params));
    EndProgress();
    if (context.json) {
      std::printf("%s\n", nlohmann::ordered_json({{"table", options.into},
                                                  {"version", result.version},
                                                  {"rows", result.rows},
                                                  {"bytes", result.bytes}})
                              .dump()
                              .c_str());
    } else {
      std::printf("%s rows into '%s' in %s\n", HumanCount(result.rows).c_str(), options.into.c_str(),
                  HumanSeconds(MonotonicSeconds() - start).c_str());
    }
    return Status::Ok();
  }
  HEADRACE_ASSIGN(std::string format, FormatOf(options));
  if (context.json && format == "table") format = "json";
  const bool to_stdout = options.output.empty() || options.output == "-";
  const bool ours = format == "table" || (format == "json" && to_stdout);
  if (!ours) {
    if (to_stdout && format == "parquet" && StdoutIsTerminal())
      return Status::Invalid("Parquet is not for terminals; add -o FILE or pipe it");
    HEADRACE_ASSIGN(const int64_t rows,
                    engine->CopyTo(options.sql, to_stdout ? "/dev/stdout" : options.output, format, run));
    if (!to_stdout && !context.quiet) {
      std::fprintf(stderr, "%s rows written to %s in %s\n", HumanCount(rows).c_str(), options.output.c_str(),
                   HumanSeconds(MonotonicSeconds() - start).c_str());
    }
    return Status::Ok();
  }
  HEADRACE_ASSIGN(const auto reader, engine->Query(options.sql, run));
  const bool colour = StdoutIsTerminal();
  HEADRACE_ASSIGN(const int64_t rows, Render(reader.get(), {.json = format == "json",
                                                            .max_rows = options.rows,
                                                            .colour = colour,
                                                            .width = TerminalWidth()}));
  if (format == "table" && StderrIsTerminal() && !context.quiet) {
    std::fprintf(stderr, "\033[2m%s %s in %s\033[0m\n", HumanCount(rows).c_str(), rows == 1 ? "row" : "rows",
                 HumanSeconds(MonotonicSeconds() - start).c_str());
  }
  return Status::Ok();
}

}  // namespace

void AddSql(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("sql", "Ask tables in SQL (DuckDB's)");
  auto options = std::make_shared<SqlOptions>();
  command->add_option("query", options->sql, "The query; - reads it from standard input")->required();
  command->add_option("-o,--output", options->output, "A file: .csv, .json, .jsonl or .parquet");
  command->add_option("--format", options->format, "table, csv, json (an object a line) or parquet");
  command->add_option("--into", options->into, "Store the result as a new table, with its lineage");
  command->add_option("-m,--why", options->why, "A note for that table's log");
  command
      ->add_option("--param", options->params,
                   "A value: name=value for $name in the query, a value alone for the next ?")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_flag("--allow-files", options->files,
                    "The statement may read and write files: read_parquet('x.parquet'), copy … to 'x.csv'");
  command->add_flag("--explain", options->explain,
                    "Run it and show the plan, and what was read of our files");
  command->add_option("--rows", options->rows, "Rows shown of a table; -1 for all")->capture_default_str();
  command->add_option("--memory", options->memory,
                      "DuckDB's memory limit, such as 4GB (default: 80 % of this machine's)");
  command->add_option("--threads", options->threads, "Threads (default: all)");
  command->footer(
      "A table of a version: \"photos@v3\", \"photos@golden\", \"photos@2026-11-22\". Media facts are "
      "fields: image.width.\n\n"
      "Examples:\n  headrace sql \"select count(*), avg(image.width) from photos\"\n"
      "  headrace sql \"select * from photos join captions using (path)\" -o joined.parquet\n"
      "  headrace sql \"select path from photos where image.width > 2000\" --into large\n"
      "  headrace sql 'select path from photos where label = $label' --param label=cat");
  command->callback([=] { *action = [=] { return Sql(*context, *options); }; });
}

}  // namespace headrace::cli
