// watch: a run while it runs.
#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/plot.h"
#include "cli/render.h"
#include "cli/run_table.h"
#include "cli/terminal.h"

namespace headrace::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kLookSeconds = 1;
constexpr int kKeysShown = 12;

struct WatchWords {
  std::string run = "@last";
  std::vector<std::string> keys;
  double every = kLookSeconds;
};

// The last value of each key, and its step.
Result<std::vector<Json>> Last(query::SqlEngine* engine, const std::string& run) {
  return Rows(
      engine,
      "select key, arg_max(last, (life, to_step)) as last, max(to_step) as step, sum(n)::bigint as points "
      "from hr.metrics where run = ? and not starts_with(key, 'sys/') group by key order by key",
      {{"1", run}});
}

std::string StateLine(const Json& run) {
  std::string line = Plain(run["name"]) + " " + Plain(run["id"]).substr(0, 8) + "  " + Plain(run["state"]);
  if (run["reason"].is_string()) line += ": " + Plain(run["reason"]);
  return line;
}

// One look as lines for a terminal.
Result<std::vector<std::string>> Screen(const table::Catalog& catalog, const Json& run,
                                        const std::vector<Json>& keys, const WatchWords& words) {
  std::vector<std::string> lines = {StateLine(run), ""};
  int shown = 0;
  for (const Json& key : keys) {
    if (++shown > kKeysShown) {
      lines.push_back("  … " + std::to_string(keys.size() - kKeysShown) + " more");
      break;
    }
    lines.push_back("  " + Plain(key["key"]) + " = " +
                    (key["last"].is_number() ? ShortNumber(key["last"].get<double>()) : Plain(key["last"])) +
                    "  (step " + Plain(key["step"]) + ")");
  }
  std::vector<std::string> drawn = words.keys;
  if (drawn.empty()) {
    for (const Json& key : keys)
      if (Text(key["key"]).find("loss") != std::string::npos) drawn.push_back(Text(key["key"]));
    if (drawn.empty() && !keys.empty()) drawn.push_back(Text(keys[0]["key"]));
    if (drawn.size() > 2) drawn.resize(2);
  }
  PlotOptions plot;
  plot.width = std::clamp(TerminalWidth(), 30, 120);
  for (const std::string& key : drawn) {
    HEADRACE_ASSIGN(
        const auto curve,
        trace::ReadCurve(catalog, {.run = Text(run["id"]), .key = key, .pixels = PlotPixels(plot)}));
    lines.push_back("");
    lines.push_back("  " + Printable(key, 60));
    for (std::string& line : Plot(curve, plot)) lines.push_back(std::move(line));
  }
  return lines;
}

void PrintLook(const Context& context, const Json& run, const std::vector<Json>& keys) {
  if (context.json) {
    Json values = Json::object();
    for (const Json& key : keys) values[Text(key["key"])] = key["last"];
    PrintJson({{"id", run["id"]}, {"state", run["state"]}, {"values", values}});
    return;
  }
  std::string line = StateLine(run);
  for (const Json& key : keys)
    line += "  " + Plain(key["key"]) + "=" +
            (key["last"].is_number() ? ShortNumber(key["last"].get<double>()) : Plain(key["last"]));
  std::printf("%s\n", line.c_str());
}

Status Watch(const Context& context, const WatchWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto engine, OpenSql(catalog));
  HEADRACE_ASSIGN(const std::string id, RunOf(engine.get(), words.run));
  const bool screen = StdoutIsTerminal() && !context.json;
  size_t drawn = 0;
  std::string told;
  for (;;) {
    HEADRACE_ASSIGN(auto runs, Rows(engine.get(), "select * from runs_now where id = ?", {{"1", id}}));
    if (runs.empty()) return Status::NotFound("there is no run '" + id + "'");
    HEADRACE_TRY(TellSilent(*catalog, engine.get(), &runs));
    HEADRACE_ASSIGN(const auto keys, Last(engine.get(), id));
    const std::string now = runs[0]["state"].dump() + Json(keys).dump();
    if (screen) {
      HEADRACE_ASSIGN(const auto lines, Screen(*catalog, runs[0], keys, words));
      if (drawn > 0) std::printf("\033[%zuA\033[J", drawn);
      for (const std::string& line : lines) std::printf("%s\n", line.c_str());
      drawn = lines.size();
    } else if (now != told) {
      PrintLook(context, runs[0], keys);
    }
    std::fflush(stdout);
    told = now;
    if (runs[0]["state"] != "running" || context.stop.WaitFor(words.every)) return Status::Ok();
  }
}

}  // namespace

void AddWatch(CLI::App* app, Context* context, Action* action) {
  auto words = std::make_shared<WatchWords>();
  CLI::App* command =
      app->add_subcommand("watch", "Follow a run until it ends: its state, its last values, a curve");
  command->add_option("run", words->run, "An id or its beginning, a name, or @last")->capture_default_str();
  command->add_option("--key", words->keys, "Draw these metrics (default: losses)")->delimiter(',');
  command->add_option("--every", words->every, "Seconds between two looks")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  command->footer("In a pipe: a line for each change; with --json an object.");
  command->callback([=] { *action = [=] { return Watch(*context, *words); }; });
}

}  // namespace headrace::cli
