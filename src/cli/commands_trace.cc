// trace: what happened in requests and in the programs that made them, span by span.
#include <algorithm>
#include <cstdio>
#include <set>

#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "cli/trace_page.h"
#include "cli/trace_rows.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;
using trace::Phase;
using trace::TreeSpan;

constexpr int kBarWidth = 24;
constexpr size_t kNameWidth = 48;

struct TraceWords {
  std::string id, html, where;
  int64_t limit = 0;
};

struct Trace {
  TraceRows rows;
  std::vector<TreeSpan> tree;
  int64_t began = -1, ended = -1;
  int64_t prompt_tokens = -1, answer_tokens = -1, errors = 0;
  double cost = -1;
  double seconds() const { return ended > began ? static_cast<double>(ended - began) / 1e6 : 0; }
};

template <typename Figure>
void AddKnown(Figure more, Figure* sum) {
  if (more >= 0) *sum = std::max<Figure>(*sum, 0) + more;
}

Result<Trace> ReadTrace(TraceReader* reader, const std::string& id, bool details) {
  Trace trace;
  HEADRACE_ASSIGN(trace.rows, reader->Read(id, details));
  std::vector<trace::SpanFacts> facts;
  for (size_t row = 0; row < trace.rows.size(); ++row) {
    facts.push_back(trace.rows.Facts(row));
    if (!trace.rows.IsNull(row, "error")) ++trace.errors;
  }
  trace.tree = trace::LayOut(facts);
  for (const TreeSpan& span : trace.tree) {
    if (span.started >= 0) {
      trace.began = trace.began < 0 ? span.started : std::min(trace.began, span.started);
      trace.ended = std::max(trace.ended, span.started + static_cast<int64_t>(span.seconds * 1e6));
    }
    if (span.depth > 0) continue;
    AddKnown(span.prompt_tokens, &trace.prompt_tokens);
    AddKnown(span.answer_tokens, &trace.answer_tokens);
    AddKnown(span.cost, &trace.cost);
  }
  return trace;
}

std::string Tokens(int64_t prompt, int64_t answer) {
  if (prompt < 0 && answer < 0) return "";
  return HumanCount(std::max<int64_t>(prompt, 0)) + " → " + HumanCount(std::max<int64_t>(answer, 0));
}

std::string Dollars(double cost) {
  if (cost < 0) return "";
  char text[32];
  std::snprintf(text, sizeof text, cost >= 1 ? "$%.2f" : "$%.2g", cost);
  return text;
}

std::string Seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, seconds < 1 ? "%.1f ms" : "%.2f s", seconds < 1 ? seconds * 1e3 : seconds);
  return text;
}

// When it ran, as part of the whole.
std::string Bar(double start, double seconds, double all) {
  const auto at = [&](double time) {
    return all <= 0 ? 0 : std::clamp(static_cast<int>(time / all * kBarWidth), 0, kBarWidth - 1);
  };
  std::string bar;
  for (int i = 0; i < kBarWidth; ++i) bar += i < at(start) || i > at(start + seconds) ? " " : "█";
  return bar;
}

std::string Name(const Trace& trace, const TreeSpan& span) {
  if (span.phase != Phase::kNone) return PhaseName(span.phase);
  const std::string name = trace.rows.Text(span.span, "name");
  return Printable(name.empty() ? "(no name)" : name, kNameWidth);
}

double StartOf(const Trace& trace, const TreeSpan& span) {
  return span.started < 0 ? 0 : static_cast<double>(span.started - trace.began) / 1e6;
}

void PrintTree(const std::string& id, const Trace& trace, int64_t limit) {
  std::string head = "trace " + Printable(id, 64) + "  " +
                     HumanCount(static_cast<int64_t>(trace.rows.size())) + " spans, " +
                     Seconds(trace.seconds());
  if (trace.began >= 0) head += ", " + ShortTime(trace.began);
  if (const auto tokens = Tokens(trace.prompt_tokens, trace.answer_tokens); !tokens.empty())
    head += ", " + tokens + " tokens";
  if (trace.cost >= 0) head += ", " + Dollars(trace.cost);
  if (trace.errors > 0) head += ", " + HumanCount(trace.errors) + " failed";
  std::printf("%s\n", head.c_str());
  std::vector<std::vector<std::string>> lines = {
      {"START", "TOOK", "", "SPAN", "TOKENS", "COST", "SERVICE", "MODEL", ""}};
  const bool colour = StdoutIsTerminal();
  for (const TreeSpan& span : trace.tree) {
    if (limit > 0 && static_cast<int64_t>(lines.size()) > limit) break;
    const bool part = span.phase != Phase::kNone;
    const std::string error = part ? "" : Printable(trace.rows.Text(span.span, "error"), 60);
    const bool running = !part && trace.rows.IsNull(span.span, "ended");
    const double start = StartOf(trace, span);
    lines.push_back({Seconds(start), running ? "…" : Seconds(span.seconds),
                     Bar(start, span.seconds, trace.seconds()),
                     std::string(2 * static_cast<size_t>(std::min(span.depth, 20)), ' ') + Name(trace, span),
                     Tokens(span.prompt_tokens, span.answer_tokens), Dollars(span.cost),
                     part ? "" : Printable(trace.rows.Text(span.span, "service"), 20),
                     part ? "" : Printable(trace.rows.Text(span.span, "model"), 24),
                     error.empty() || !colour ? error : "\033[31m" + error + "\033[0m"});
  }
  PrintAligned(lines, 0, 2);
  if (const auto left = static_cast<int64_t>(trace.tree.size() - (lines.size() - 1)); left > 0)
    std::printf("… %s more; --limit 0 prints all\n", HumanCount(left).c_str());
}

template <typename Figure>
void SetKnown(const char* name, Figure value, ordered_json* into) {
  if (value >= 0) (*into)[name] = value;
}

ordered_json SpanJson(const Trace& trace, const TreeSpan& span) {
  ordered_json json = {{"id", trace.rows.Text(span.span, "id")},
                       {"span_id", trace.rows.Text(span.span, "span_id")}};
  if (span.phase != Phase::kNone) {
    json["phase"] = PhaseName(span.phase);
  } else {
    for (const char* name : {"parent", "name", "kind", "operation", "service", "model", "finish", "error"})
      if (!trace.rows.IsNull(span.span, name)) json[name] = trace.rows.Text(span.span, name);
  }
  json["depth"] = span.depth;
  if (span.started >= 0) json["started"] = FormatMicros(span.started);
  json["seconds"] = span.seconds;
  SetKnown("prompt_tokens", span.prompt_tokens, &json);
  SetKnown("answer_tokens", span.answer_tokens, &json);
  SetKnown("cost", span.cost, &json);
  return json;
}

ordered_json Summary(const std::string& id, const Trace& trace) {
  ordered_json json = {
      {"trace", id}, {"spans", trace.rows.size()}, {"seconds", trace.seconds()}, {"errors", trace.errors}};
  if (trace.began >= 0) json["started"] = FormatMicros(trace.began);
  SetKnown("prompt_tokens", trace.prompt_tokens, &json);
  SetKnown("answer_tokens", trace.answer_tokens, &json);
  SetKnown("cost", trace.cost, &json);
  return json;
}

Status ShowTrace(const Context& context, const TraceWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(auto reader, TraceReader::Open(catalog));
  HEADRACE_ASSIGN(const std::string id, reader.Find(words.id));
  HEADRACE_ASSIGN(const Trace trace, ReadTrace(&reader, id, !words.html.empty()));
  if (!words.html.empty()) {
    HEADRACE_ASSIGN(const auto pictures, reader.Pictures(trace.rows, kMostPagePictures));
    HEADRACE_TRY(WriteTracePage(words.html, id, trace.rows, trace.tree, pictures));
    if (!context.quiet && !context.json)
      std::printf("%s: %s spans\n", words.html.c_str(),
                  HumanCount(static_cast<int64_t>(trace.rows.size())).c_str());
    if (!context.json) return Status::Ok();
  }
  if (!context.json) {
    PrintTree(id, trace, words.limit);
    return Status::Ok();
  }
  ordered_json json = Summary(id, trace);
  json["spans"] = ordered_json::array();
  for (const TreeSpan& span : trace.tree) json["spans"].push_back(SpanJson(trace, span));
  PrintJson(json);
  return Status::Ok();
}

Status ListTraces(const Context& context, const TraceWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(auto reader, TraceReader::Open(catalog));
  HEADRACE_ASSIGN(const auto ids, reader.Newest(words.where, words.limit));
  std::vector<std::vector<std::string>> lines = {
      {"TRACE", "STARTED", "TOOK", "SPANS", "TOKENS", "COST", "FIRST SPAN", "SERVICE", "FAILED"}};
  for (const std::string& id : ids) {
    HEADRACE_ASSIGN(const Trace trace, ReadTrace(&reader, id, false));
    if (trace.tree.empty()) continue;
    const TreeSpan& root = trace.tree[0];
    if (context.json) {
      ordered_json json = Summary(id, trace);
      json["name"] = trace.rows.Text(root.span, "name");
      json["service"] = trace.rows.Text(root.span, "service");
      PrintJson(json);
      continue;
    }
    lines.push_back({Printable(id, 32), trace.began < 0 ? "" : ShortTime(trace.began),
                     Seconds(trace.seconds()), HumanCount(static_cast<int64_t>(trace.rows.size())),
                     Tokens(trace.prompt_tokens, trace.answer_tokens), Dollars(trace.cost), Name(trace, root),
                     Printable(trace.rows.Text(root.span, "service"), 20),
                     trace.errors > 0 ? HumanCount(trace.errors) : ""});
  }
  if (!context.json) PrintAligned(lines, 2, 6);
  return Status::Ok();
}

}  // namespace

void AddTrace(CLI::App* app, Context* context, Action* action) {
  CLI::App* group =
      app->add_subcommand("trace", "What happened in a request, and in the program that made it");
  group->require_subcommand(1);
  auto listed = std::make_shared<TraceWords>();
  listed->limit = 20;
  CLI::App* ls = group->add_subcommand("ls", "The newest traces");
  ls->add_option("--where", listed->where, "Those that have a span for which this SQL condition holds");
  ls->add_option("--limit", listed->limit, "So many")->check(CLI::PositiveNumber)->capture_default_str();
  ls->footer("Example: headrace trace ls --where \"service = 'app' and error is not null\"");
  ls->callback([=] { *action = [=] { return ListTraces(*context, *listed); }; });
  auto shown = std::make_shared<TraceWords>();
  shown->limit = 500;
  CLI::App* show = group->add_subcommand("show", "Its spans as a tree: when, how long, tokens, cost");
  show->add_option("trace", shown->id, "Its id or a request's, the beginning of one, or @last")->required();
  show->add_option("--html", shown->html,
                   "Write a waterfall and its conversations to this file, which opens offline");
  show->add_option("--limit", shown->limit, "Print so many spans (0: all)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  show->footer("Examples:\n  headrace trace show @last\n  headrace trace show 4bf92f --html trace.html");
  show->callback([=] { *action = [=] { return ShowTrace(*context, *shown); }; });
}

}  // namespace headrace::cli
