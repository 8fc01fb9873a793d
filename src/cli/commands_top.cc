// top: what a server does now.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "store/http_client.h"

namespace headrace::cli {
namespace {

using nlohmann::json;

struct TopWords {
  std::string url = "http://127.0.0.1:8000", key;
  double every = 1;
  int count = 0;
};

Result<json> Ask(store::HttpClient* client, const TopWords& words) {
  store::HttpRequest request;
  request.url = words.url + "/load";
  if (!words.key.empty()) request.headers.push_back("Authorization: Bearer " + words.key);
  request.timeout_seconds = 10;
  HEADRACE_ASSIGN(const store::HttpResponse answer, client->Send(request).get());
  json body = ParseJson(answer.body);
  if (answer.status != 200) {
    const std::string why =
        body.is_object() && body.contains("error") ? body["error"].value("message", "") : "";
    return Status::Permission(
        words.url + " answers " + std::to_string(answer.status) + (why.empty() ? "" : ": " + why) +
        (answer.status == 401 || answer.status == 403 ? " (--key, with the scope admin)" : ""));
  }
  if (!body.is_object()) return Status::Corrupt(words.url + " does not answer as a headrace server does");
  return body;
}

std::string Bar(double share, int width) {
  std::string bar;
  const int full = static_cast<int>(std::lround(share * width));
  for (int i = 0; i < width; ++i) bar += i < full ? "█" : "░";
  return bar;
}

// One screen: models with their rates since the last look, then the requests, longest first.
std::string Screen(const json& now, const json& before, bool colour, int width) {
  const char* bold = colour ? "\033[1m" : "";
  const char* dim = colour ? "\033[2m" : "";
  const char* off = colour ? "\033[0m" : "";
  const double seconds = before.is_object() ? now["time"].get<double>() - before["time"].get<double>() : 0;
  std::string text;
  char line[512];
  for (const json& model : now["models"]) {
    const std::string name = model.value("name", "");
    if (!model.contains("running")) {
      const std::string state = model.value("state", "ready");
      std::snprintf(line, sizeof line, "%s%-20s%s %s\n", bold, name.c_str(), off,
                    state == "ready" ? "embeddings" : state.c_str());
      text += line;
      continue;
    }
    const auto rate = [&](const char* what) {
      if (seconds <= 0) return 0.0;
      for (const json& old : before["models"])
        if (old.value("name", "") == name && old.contains(what))
          return (model[what].get<double>() - old[what].get<double>()) / seconds;
      return 0.0;
    };
    const double used = model.value("cells_used", 0.0), cells = std::max(1.0, model.value("cells", 1.0));
    const double prompts = model.value("prompt_tokens", 0.0), cached = model.value("cached_tokens", 0.0);
    std::snprintf(
        line, sizeof line,
        "%s%-20s%s %3d running %4d waiting   decode %6.1f tok/s   prefill %7.1f tok/s   steps %5.1f/s\n",
        bold, name.c_str(), off, model.value("running", 0), model.value("waiting", 0), rate("decode_rows"),
        rate("prefill_rows"), rate("steps"));
    text += line;
    std::snprintf(line, sizeof line,
                  "%s  cache %s %.0f %%   prompts from cache %.0f %%   evictions %lld   gave way %lld%s\n",
                  dim, Bar(used / cells, 20).c_str(), 100 * used / cells,
                  prompts > 0 ? 100 * cached / prompts : 0,
                  static_cast<long long>(model.value("evictions", 0)),
                  static_cast<long long>(model.value("preemptions", 0)), off);
    text += line;
  }
  const json& http = now["http"];
  const json& traces = now["traces"];
  std::snprintf(line, sizeof line, "%s%d connections   %lld hang-ups   %lld records   %lld dropped%s\n", dim,
                http.value("connections", 0), static_cast<long long>(http.value("hang_ups", 0)),
                static_cast<long long>(traces.value("written", 0)),
                static_cast<long long>(traces.value("dropped", 0)), off);
  text += line;
  if (const std::string trouble = traces.value("trouble", ""); !trouble.empty())
    text += std::string(colour ? "\033[31m" : "") + trouble + off + "\n";
  std::vector<json> requests(now["requests"].begin(), now["requests"].end());
  std::sort(requests.begin(), requests.end(), [](const json& a, const json& b) {
    return a["seconds"].get<double>() > b["seconds"].get<double>();
  });
  if (requests.empty()) return text + "\nnobody is asking\n";
  text += std::string("\n") + bold +
          "    SECONDS STATE      PROMPT  ANSWER KEY              MODEL            REQUEST" + off + "\n";
  size_t shown = 0;
  for (const json& r : requests) {
    if (shown++ == 20) {
      text += "… and " + std::to_string(requests.size() - 20) + " more\n";
      break;
    }
    std::snprintf(line, sizeof line, "%11.1f %-9s %7lld %7lld %-16.16s %-16.16s %s",
                  r["seconds"].get<double>(), r.value("state", "").c_str(),
                  static_cast<long long>(r.value("prompt_tokens", 0)),
                  static_cast<long long>(r.value("answer_tokens", 0)), r.value("key", "").c_str(),
                  r.value("model", "").c_str(), r.value("id", "").c_str());
    std::string row = line;
    if (width > 0 && row.size() > static_cast<size_t>(width)) row.resize(static_cast<size_t>(width));
    text += row + "\n";
  }
  return text;
}

Status Top(const Context& context, const TopWords& words) {
  store::HttpClient client(1);
  const bool live = StdoutIsTerminal() && !context.json;
  json before;
  for (int i = 0; !context.stop.stopped(); ++i) {
    HEADRACE_ASSIGN(const json now, Ask(&client, words));
    if (context.json) {
      PrintJson(now);
    } else {
      if (live) std::printf("\033[H\033[2J");
      std::printf("%s", Screen(now, before, live, TerminalWidth()).c_str());
      if (!live) std::printf("\n");
    }
    std::fflush(stdout);
    before = now;
    if (words.count > 0 && i + 1 >= words.count) break;
    context.stop.WaitFor(words.every);
  }
  return Status::Ok();
}

}  // namespace

void AddTop(CLI::App* app, Context* context, Action* action) {
  auto words = std::make_shared<TopWords>();
  CLI::App* command = app->add_subcommand("top", "What a server does now: models, requests, who waits");
  command->add_option("url", words->url, "Of the server")->capture_default_str()->envname("HEADRACE_URL");
  command->add_option("--key", words->key, "An API key with the scope admin")->envname("HEADRACE_API_KEY");
  command->add_option("--every", words->every, "Seconds between looks")->capture_default_str();
  command->add_option("-n", words->count, "Looks, then it ends (0: until Ctrl-C)")->capture_default_str();
  command->callback(
      [words, context, action] { *action = [words, context] { return Top(*context, *words); }; });
}

}  // namespace headrace::cli
