// runs: list, show, compare.
#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <set>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/plot.h"
#include "cli/render.h"
#include "cli/run_diff.h"
#include "cli/run_page.h"
#include "cli/run_table.h"
#include "cli/terminal.h"

namespace headrace::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kShownId = 8;      // characters of an id in a list
constexpr size_t kShownKeys = 4;    // of a summary, where nobody says which
constexpr size_t kShownCurves = 4;  // where nobody says which
constexpr int kMostText = 60;       // characters of a value
constexpr int kMostCompared = 26;   // runs: a letter for each

struct ListWords {
  std::string where, sort, project, state;
  std::vector<std::string> columns;
  int64_t limit = 20;
};

struct ShowWords {
  std::string run;
  std::vector<std::string> keys;
  std::optional<std::string> html;  // "": a file that is named after the run
};

struct DiffWords {
  std::vector<std::string> runs, keys;
  std::optional<std::string> html;
};

std::string Cut(std::string text, int width) {
  // A character has 4 bytes at most: what is far behind the end is dropped at once.
  if (const size_t most = static_cast<size_t>(width + 1) * 4; text.size() > most) text.resize(most);
  while (DisplayWidth(text) > width) {
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0) == 0x80) text.pop_back();
    if (!text.empty()) text.pop_back();
    if (DisplayWidth(text) < width) return text + "…";
  }
  return text;
}

// What of a text may stand in a file's name.
std::string FileWord(std::string text) {
  for (char& c : text)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))) c = '_';
  return text;
}

std::string ValueText(const Json& value) {
  if (value.is_number_float()) return ShortNumber(value.get<double>());
  return Cut(Plain(value), kMostText);
}

// The keys of summaries that most of the runs have.
std::vector<std::string> CommonKeys(const std::vector<Json>& runs) {
  std::map<std::string, int> counts;
  std::vector<std::string> order;
  for (const Json& run : runs) {
    if (!run["summary"].is_object()) continue;
    for (const auto& [key, value] : run["summary"].items()) {
      if (!value.is_number()) continue;
      if (counts[key]++ == 0) order.push_back(key);
    }
  }
  std::ranges::stable_sort(order, [&](const auto& a, const auto& b) { return counts[a] > counts[b]; });
  if (order.size() > kShownKeys) order.resize(kShownKeys);
  std::vector<std::string> columns;
  for (const std::string& key : order) columns.push_back("summary." + key);
  return columns;
}

// A column, or a field of a config (nested) or of a summary (not).
Json FieldOf(const Json& run, const std::string& field) {
  if (field.starts_with("summary.")) {
    const std::string key = field.substr(8);
    return run["summary"].is_object() && run["summary"].contains(key) ? run["summary"][key] : Json();
  }
  if (field.starts_with("config.")) {
    Json at = run["config"];
    std::string rest = field.substr(7);
    if (at.is_object() && at.contains(rest)) return at[rest];
    for (size_t dot = 0; !rest.empty(); rest = dot == std::string::npos ? "" : rest.substr(dot + 1)) {
      dot = rest.find('.');
      const std::string name = rest.substr(0, dot);
      if (!at.is_object() || !at.contains(name)) return {};
      at = Json(at[name]);
    }
    return at;
  }
  return run.contains(field) ? run[field] : Json();
}

std::string ListSql(const ListWords& words) {
  std::string sql = "select id from runs_now where true";
  if (!words.project.empty()) sql += " and project = $project";
  if (!words.state.empty()) sql += " and state = $state";
  if (!words.where.empty()) sql += " and (" + WithJsonFields(words.where) + ")";
  const bool down = words.sort.starts_with("-");
  const std::string by = SortExpression(down ? words.sort.substr(1) : words.sort);
  std::string order;
  for (size_t at = 0; at != std::string::npos;) {
    // "try_cast(…) , text" is two: each with its direction.
    const size_t comma =
        by.starts_with("try_cast") && at == 0 ? by.find("), json_extract") : std::string::npos;
    const std::string one = comma == std::string::npos ? by.substr(at) : by.substr(at, comma + 1 - at);
    order += (order.empty() ? "" : ", ") + one + (down ? " desc" : "") + " nulls last";
    at = comma == std::string::npos ? comma : comma + 3;
  }
  return sql + " order by " + order + ", started desc limit " +
         std::to_string(words.limit < 0 ? INT64_MAX : words.limit);
}

// The runs of a query for their ids, in its order. In two steps: the first reads only the columns that it
// filters and sorts by, which matters with tens of thousands of runs.
Result<std::vector<Json>> Page(query::SqlEngine* engine, const std::string& ids,
                               std::vector<query::Param> params) {
  HEADRACE_ASSIGN(const auto found, Rows(engine, ids, std::move(params)));
  if (found.empty()) return std::vector<Json>();
  std::string list;
  std::map<std::string, size_t> places;
  for (const Json& row : found) {
    const std::string id = row["id"].get<std::string>();
    places.emplace(id, places.size());
    list += list.empty() ? "'" : ", '";
    for (const char c : id) list += c == '\'' ? "''" : std::string(1, c);
    list += "'";
  }
  HEADRACE_ASSIGN(auto runs, Rows(engine, "select * from runs_now where id in (" + list + ")"));
  std::ranges::sort(runs, {}, [&](const Json& run) { return places[run["id"].get<std::string>()]; });
  return runs;
}

Status List(const Context& context, ListWords words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto engine, OpenSql(catalog));
  std::vector<query::Param> params;
  if (!words.project.empty()) params.push_back({"project", words.project});
  if (!words.state.empty()) params.push_back({"state", words.state});
  HEADRACE_ASSIGN(auto runs, Page(engine.get(), ListSql(words), std::move(params)));
  HEADRACE_TRY(TellSilent(*catalog, engine.get(), &runs));
  if (context.json) {
    for (const Json& run : runs) PrintJson(run);
    return Status::Ok();
  }
  std::vector<std::string> columns = words.columns;
  if (columns.empty()) columns = CommonKeys(runs);
  const std::string sorted = words.sort.starts_with("-") ? words.sort.substr(1) : words.sort;
  if (sorted.find('.') != std::string::npos && std::ranges::find(columns, sorted) == columns.end())
    columns.insert(columns.begin(), sorted);
  std::vector<std::vector<std::string>> rows = {{"id", "name", "state", "started", "took"}};
  for (const std::string& column : columns)
    rows[0].push_back(column.starts_with("summary.") ? column.substr(8) : column);
  for (const Json& run : runs) {
    std::vector<std::string> row = {Plain(run["id"]).substr(0, kShownId), Cut(Plain(run["name"]), 30),
                                    Plain(run["state"]), TimeText(run["started"]), TookText(run)};
    for (const std::string& column : columns) row.push_back(ValueText(FieldOf(run, column)));
    rows.push_back(std::move(row));
  }
  if (runs.empty()) {
    if (!context.quiet)
      std::fprintf(
          stderr,
          words.where.empty() && words.project.empty() && words.state.empty()
              ? "no runs yet: with hr.run(\"name\") as run: in a program, or headrace track -- COMMAND\n"
              : "no run is like that\n");
    return Status::Ok();
  }
  PrintAligned(rows, 4, rows[0].size());
  return Status::Ok();
}

Result<Json> ReadRun(const table::Catalog& catalog, query::SqlEngine* engine, const std::string& told) {
  HEADRACE_ASSIGN(const std::string id, RunOf(engine, told));
  HEADRACE_ASSIGN(auto runs, Rows(engine, "select * from runs_now where id = ?", {{"1", id}}));
  if (runs.empty()) return Status::NotFound("there is no run '" + told + "'");
  HEADRACE_TRY(TellSilent(catalog, engine, &runs));
  return runs[0];
}

// What its metrics say of each key: how many points, the least, the greatest, the last.
Result<std::vector<Json>> KeyFacts(query::SqlEngine* engine, const std::string& run) {
  return Rows(engine,
              "select key, sum(n)::bigint as points, min(min) as min, max(max) as max, "
              "arg_max(last, (life, to_step)) as last, max(to_step) as step from hr.metrics "
              "where run = ? and not starts_with(key, 'sys/') group by key order by key",
              {{"1", run}});
}

void PrintHead(const Json& run) {
  std::printf("%s  %s\n", Plain(run["name"]).c_str(), Plain(run["id"]).c_str());
  const auto line = [](const char* name, const std::string& value) {
    if (!value.empty()) std::printf("  %-9s %s\n", name, value.c_str());
  };
  const std::string reason = Plain(run["reason"]);
  line("state", Plain(run["state"]) + (reason.empty() ? "" : ": " + reason));
  const std::string took = TookText(run);
  line("started", TimeText(run["started"]) + (took.empty() ? "" : ", took " + took));
  if (run["lives"].is_number() && run["lives"].get<int64_t>() > 1) line("lives", Plain(run["lives"]));
  line("project", Plain(run["project"]));
  line("parent", Plain(run["parent"]));
  line("by", Plain(run["who"]) + (run["host"].is_string() ? " on " + Plain(run["host"]) : "") +
                 (!Text(run["slurm_job"]).empty() ? ", Slurm job " + Plain(run["slurm_job"]) : ""));
  if (run["command"].is_array()) {
    std::string words;
    for (const Json& word : run["command"]) words += (words.empty() ? "" : " ") + Plain(word);
    line("command", words);
  }
  if (run["code"].is_object() && run["code"].contains("commit"))
    line("code", Plain(run["code"]["commit"]).substr(0, 12) +
                     (run["code"].value("changed", false) ? " and changes" : "") +
                     (run["code"].contains("branch") ? " on " + Plain(run["code"]["branch"]) : ""));
  if (run["tags"].is_array() && !run["tags"].empty()) {
    std::string tags;
    for (const Json& tag : run["tags"]) tags += (tags.empty() ? "" : ", ") + Plain(tag);
    line("tags", tags);
  }
  line("notes", Plain(run["notes"]));
  for (const char* list : {"inputs", "outputs"})
    if (run[list].is_array())
      for (const Json& one : run[list]) line(list[0] == 'i' ? "input" : "output", InputText(one));
}

// Runs that used what this one left.
Status PrintUsers(query::SqlEngine* engine, const Json& run) {
  std::set<std::string> shas;
  if (run["outputs"].is_array())
    for (const Json& output : run["outputs"]) shas.insert(output.value("sha256", ""));
  shas.erase("");
  for (const std::string& sha : shas) {
    HEADRACE_ASSIGN(
        const auto users,
        Rows(engine, "select id, name from runs_now where contains(inputs::varchar, ?) and id <> ?2 limit 20",
             {{"1", sha}, {"2", Text(run["id"])}}));
    for (const Json& user : users)
      std::printf("  %-9s %s %s\n", "used by", Plain(user["name"]).c_str(),
                  Plain(user["id"]).substr(0, kShownId).c_str());
  }
  return Status::Ok();
}

Status PrintCurves(const table::Catalog& catalog, const std::string& run, std::vector<std::string> keys,
                   const std::vector<Json>& facts) {
  if (keys.empty()) {
    for (const Json& fact : facts)
      if (fact["points"].get<int64_t>() > 1) keys.push_back(Text(fact["key"]));
    std::ranges::stable_sort(keys, {}, [](const auto& key) { return key.find("loss") == std::string::npos; });
    if (keys.size() > kShownCurves) keys.resize(kShownCurves);
  }
  PlotOptions plot;
  if (const int width = TerminalWidth(); width > 0) plot.width = std::clamp(width, 30, 120);
  for (const std::string& key : keys) {
    HEADRACE_ASSIGN(const auto curve,
                    trace::ReadCurve(catalog, {.run = run, .key = key, .pixels = PlotPixels(plot)}));
    std::printf("\n  %s, %s points\n", Printable(key, kMostText).c_str(), HumanCount(curve.points).c_str());
    for (const std::string& line : Plot(curve, plot)) std::printf("%s\n", line.c_str());
  }
  return Status::Ok();
}

Status WritePage(const Context& context, const std::shared_ptr<table::Catalog>& catalog,
                 query::SqlEngine* engine, const std::vector<Json>& runs, std::string file,
                 const std::vector<std::string>& keys) {
  if (file.empty()) {
    file = runs.size() > 1 ? "runs" : "run";
    for (const Json& run : runs) file += "-" + FileWord(Text(run["id"]).substr(0, kShownId));
    file += ".html";
  }
  HEADRACE_ASSIGN(const RunPageFacts facts, WriteRunPage(file, catalog, engine, runs, keys));
  if (context.json) {
    PrintJson({{"file", file}, {"bytes", facts.bytes}, {"curves", facts.curves}, {"points", facts.points}});
  } else if (!context.quiet) {
    std::printf("%s: %s curves, %s points, %s\n", file.c_str(), HumanCount(facts.curves).c_str(),
                HumanCount(facts.points).c_str(), HumanBytes(static_cast<double>(facts.bytes)).c_str());
  }
  return Status::Ok();
}

Status Show(const Context& context, const ShowWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto engine, OpenSql(catalog));
  HEADRACE_ASSIGN(Json run, ReadRun(*catalog, engine.get(), words.run));
  const std::string id = Text(run["id"]);
  if (words.html) return WritePage(context, catalog, engine.get(), {run}, *words.html, words.keys);
  HEADRACE_ASSIGN(const auto facts, KeyFacts(engine.get(), id));
  if (context.json) {
    run["metrics"] = facts;
    PrintJson(run);
    return Status::Ok();
  }
  PrintHead(run);
  HEADRACE_TRY(PrintUsers(engine.get(), run));
  NamedValues config;
  Flatten(run["config"], "", &config);
  if (!config.empty()) std::printf("\n  config\n");
  for (const auto& [name, value] : config)
    std::printf("    %s = %s\n", Printable(name, kMostText).c_str(), Cut(Plain(value), kMostText).c_str());
  if (!facts.empty()) {
    std::printf("\n");
    std::vector<std::vector<std::string>> rows = {{"metric", "last", "min", "max", "last step", "points"}};
    for (const Json& fact : facts)
      rows.push_back({Cut(Plain(fact["key"]), 40), ValueText(fact["last"]), ValueText(fact["min"]),
                      ValueText(fact["max"]), Plain(fact["step"]),
                      HumanCount(fact["points"].get<int64_t>())});
    PrintAligned(rows, 1, 6);
  }
  return PrintCurves(*catalog, id, words.keys, facts);
}

// A letter for each run, as in JSON.
std::string LetterOf(size_t run) { return {static_cast<char>('a' + run)}; }

std::string DifferenceText(const Json& value) { return value.is_discarded() ? "–" : ValueText(value); }

Status Diff(const Context& context, const DiffWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto engine, OpenSql(catalog));
  std::vector<Json> runs;
  for (const std::string& told : words.runs) {
    HEADRACE_ASSIGN(Json run, ReadRun(*catalog, engine.get(), told));
    runs.push_back(std::move(run));
  }
  if (words.html) return WritePage(context, catalog, engine.get(), runs, *words.html, words.keys);
  const auto found = DifferencesOf(runs);
  if (context.json) {
    for (const Difference& one : found.rows) {
      Json line = {{"what", one.what}};
      for (size_t i = 0; i < runs.size(); ++i) line[LetterOf(i)] = DifferenceText(one.values[i]);
      PrintJson(line);
    }
    return Status::Ok();
  }
  if (found.rows.empty()) {
    std::printf("nothing that is known of them differs\n");
    return Status::Ok();
  }
  std::vector<std::vector<std::string>> rows = {{""}};
  for (const Json& run : runs)
    rows[0].push_back(Plain(run["name"]) + " " + Plain(run["id"]).substr(0, kShownId));
  for (const Difference& one : found.rows) {
    rows.push_back({Printable(one.what, kMostText)});
    for (const Json& value : one.values) rows.back().push_back(DifferenceText(value));
  }
  PrintAligned(rows, rows[0].size(), rows[0].size());
  return Status::Ok();
}

// `--html` and, where a person says one, the file.
void AddHtmlOption(CLI::App* command, std::optional<std::string>* file) {
  command
      ->add_option_function<std::vector<std::string>>(
          "--html", [file](const std::vector<std::string>& told) { *file = told.empty() ? "" : told[0]; },
          "Write a page that opens offline to this file (default: named after the run, in this folder)")
      ->expected(0, 1)
      ->type_name("FILE");
}

void AddListOptions(CLI::App* command, const std::shared_ptr<ListWords>& words) {
  command->add_option("--where", words->where,
                      "A condition: summary.loss < 0.1 and config.opt.lr >= 0.001; summary.\"val/f1\" > 0.8");
  command
      ->add_option("--sort", words->sort, "A column, summary.NAME or config.NAME; -NAME: the greatest first")
      ->capture_default_str();
  command->add_option("--project", words->project, "Only of this project");
  command->add_option("--state", words->state,
                      "Only in this state: running, finished, failed, killed, interrupted");
  command
      ->add_option("--columns", words->columns,
                   "What to show of each: summary.loss,config.lr (default: what most have)")
      ->delimiter(',');
  command->add_option("-n,--limit", words->limit, "Runs at most; -1 for all")->capture_default_str();
}

}  // namespace

void AddRuns(CLI::App* app, Context* context, Action* action) {
  CLI::App* group = app->add_subcommand("runs", "What was tried: list, show and compare runs");
  group->require_subcommand(0, 1);
  auto list = std::make_shared<ListWords>();
  list->sort = "-started";
  AddListOptions(group, list);
  const auto run_list = [=] { *action = [=] { return List(*context, *list); }; };
  group->callback([group, run_list] {
    if (group->get_subcommands().empty()) run_list();
  });
  CLI::App* ls = group->add_subcommand("ls", "List runs, the newest first");
  AddListOptions(ls, list);
  ls->callback(run_list);
  auto show = std::make_shared<ShowWords>();
  CLI::App* one =
      group->add_subcommand("show", "One run: its state, config, metrics, curves, and what it used and left");
  one->add_option("run", show->run, "An id or its beginning, a name, or @last")->required();
  one->add_option("--key", show->keys, "Draw these metrics (default: four, losses first)")->delimiter(',');
  one->callback([=] { *action = [=] { return Show(*context, *show); }; });
  AddHtmlOption(one, &show->html);
  auto compared = std::make_shared<DiffWords>();
  CLI::App* diff =
      group->add_subcommand("diff", "What differs between runs: config, results, code, packages, data");
  diff->add_option("runs", compared->runs, "Two runs or more")
      ->required()
      ->expected(2, kMostCompared)
      ->option_text("RUN RUN ... REQUIRED");
  diff->add_option("--key", compared->keys, "On the page: only these metrics (default: all)")->delimiter(',');
  diff->callback([=] { *action = [=] { return Diff(*context, *compared); }; });
  AddHtmlOption(diff, &compared->html);
  group->footer(
      "Examples:\n  headrace runs --sort summary.loss --where \"config.lr < 0.01\"\n  headrace runs show "
      "@last --key loss,acc\n"
      "  headrace runs show @last --html run.html\n"
      "  headrace runs diff probe-a probe-b --html\n"
      "  headrace sql \"select step, value from points where run = '…' and key = 'loss'\"");
}

}  // namespace headrace::cli
