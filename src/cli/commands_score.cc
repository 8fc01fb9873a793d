// score: a judgement of an answer, as a row that joins its trace.
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "trace/committer.h"

namespace headrace::cli {
namespace {

struct ScoreWords {
  std::string request, name = "score", label, comment, source = "person", who;
  double value = NAN;
};

Status Score(const Context& context, ScoreWords words) {
  words.request = trace::RowIdOf(std::move(words.request));
  if (std::isnan(words.value) && words.label.empty() && words.comment.empty())
    return Status::Invalid("a score has a --value, a --label or a --comment");
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  nlohmann::json row = {{"request", words.request},
                        {"time", NowMicros()},
                        {"name", words.name},
                        {"source", words.source},
                        {"who", words.who.empty() ? table::DefaultWho() : words.who}};
  if (!std::isnan(words.value)) row["value"] = words.value;
  if (!words.label.empty()) row["label"] = words.label;
  if (!words.comment.empty()) row["comment"] = words.comment;
  HEADRACE_ASSIGN(const auto done, trace::CommitScore(catalog.get(), row));
  if (context.json) {
    PrintJson({{"request", words.request}, {"name", words.name}, {"version", done.version}});
  } else if (!context.quiet) {
    std::printf("scored %s (scores, version %lld)\n", words.request.c_str(),
                static_cast<long long>(done.version));
  }
  return Status::Ok();
}

}  // namespace

void AddScore(CLI::App* app, Context* context, Action* action) {
  auto words = std::make_shared<ScoreWords>();
  CLI::App* command = app->add_subcommand(
      "score", "Judge an answer: a row of `scores`, which joins `traces` by request = id");
  command->add_option("request", words->request, "The answer's id")->required();
  command->add_option("--value", words->value, "A number");
  command->add_option("--label", words->label, "A word");
  command->add_option("--comment", words->comment, "Why");
  command->add_option("--name", words->name, "What is judged")->capture_default_str();
  command->add_option("--source", words->source, "person, model or program")
      ->check(CLI::IsMember({"person", "model", "program"}))
      ->capture_default_str();
  command->add_option("--who", words->who, "By whom (default: you)");
  command->callback(
      [words, context, action] { *action = [words, context] { return Score(*context, *words); }; });
}

}  // namespace headrace::cli
