// queue: annotation queues, made, listed and removed. `headrace label` works on them.
#include <algorithm>
#include <charconv>
#include <cstdio>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "query/query.h"
#include "trace/queue.h"
#include "trace/queue_log.h"
#include "trace/tail.h"
#include "trace/views.h"

namespace headrace::cli {
namespace {

using trace::Queue;

struct QueueWords {
  std::string name, sql, rubric = "score", range, instructions, why;
  std::vector<std::string> labels;
  int64_t overlap = 1;
  bool yes = false;
};

// "g=good", or "good".
trace::Rubric::Label LabelOf(const std::string& word) {
  const bool keyed = word.size() > 2 && word[1] == '=';
  return keyed ? trace::Rubric::Label{word.substr(0, 1), word.substr(2)} : trace::Rubric::Label{"", word};
}

// "0..10".
Status ReadRange(const std::string& text, trace::Rubric* rubric) {
  const size_t dots = text.find("..");
  const auto number = [](const std::string& word, double* to) {
    const auto read = std::from_chars(word.data(), word.data() + word.size(), *to);
    return read.ec == std::errc() && read.ptr == word.data() + word.size();
  };
  if (dots == std::string::npos || !number(text.substr(0, dots), &rubric->least) ||
      !number(text.substr(dots + 2), &rubric->most) || rubric->least >= rubric->most)
    return Status::Invalid("--range is LEAST..MOST, as in 0..10, not '" + text + "'");
  return Status::Ok();
}

Result<trace::Rubric> RubricOf(const QueueWords& words) {
  if (words.labels.empty() == words.range.empty())
    return Status::Invalid("what are people to say? Give --label once for each label, or --range 0..10");
  trace::Rubric rubric{.name = words.rubric, .labels = {}, .instructions = words.instructions};
  for (const std::string& word : words.labels) rubric.labels.push_back(LabelOf(word));
  if (!words.range.empty()) HEADRACE_TRY(ReadRange(words.range, &rubric));
  HEADRACE_TRY(rubric.Complete());
  return rubric;
}

void PrintQueue(const Queue& queue) {
  std::printf("%s: %s items, each to %lld %s\n", queue.name.c_str(), HumanCount(queue.items).c_str(),
              static_cast<long long>(queue.overlap), queue.overlap == 1 ? "person" : "people");
  std::string inputs;
  for (const std::string& input : queue.inputs) inputs += (inputs.empty() ? "" : ", ") + input;
  std::printf("  of      %s\n  query   %s\n  made by %s, %s\n", inputs.c_str(), queue.sql.c_str(),
              queue.who.c_str(), ShortTime(queue.time).c_str());
  const trace::Rubric& rubric = queue.rubric;
  std::printf("  asks    %s: ", rubric.name.c_str());
  if (rubric.labels.empty())
    std::printf("a number from %s to %s", nlohmann::json(rubric.least).dump().c_str(),
                nlohmann::json(rubric.most).dump().c_str());
  for (size_t i = 0; i < rubric.labels.size(); ++i)
    std::printf("%s%s (%s)", i == 0 ? "" : ", ", rubric.labels[i].label.c_str(),
                rubric.labels[i].key.c_str());
  std::printf("\n");
  if (!rubric.instructions.empty()) std::printf("  %s\n", rubric.instructions.c_str());
}

Status Create(const Context& context, const QueueWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  Queue queue;
  queue.name = words.name;
  queue.sql = words.sql;
  queue.overlap = words.overlap;
  HEADRACE_ASSIGN(queue.rubric, RubricOf(words));
  HEADRACE_ASSIGN(const auto engine, query::SqlEngine::Open(catalog, {.tailed = trace::TailedTables(),
                                                                      .tail = trace::TailOf(catalog),
                                                                      .views = trace::Views(),
                                                                      .view = trace::ViewOf(catalog)}));
  const auto run = [&](const std::string& sql) -> Result<trace::SqlRows> {
    HEADRACE_ASSIGN(auto rows, engine->Query(sql, {context.stop, {}}));
    return trace::SqlRows{std::move(rows), engine->inputs()};
  };
  HEADRACE_ASSIGN(queue, trace::CreateQueue(catalog.get(), std::move(queue), run, context.Commit(words.why)));
  if (context.json) {
    PrintJson(trace::ToJson(queue));
  } else if (!context.quiet) {
    PrintQueue(queue);
    std::printf("Now: headrace label %s\n", queue.name.c_str());
  }
  return Status::Ok();
}

Result<trace::QueueState> StateOf(const table::Catalog& catalog, const Queue& queue) {
  HEADRACE_ASSIGN(const auto log, trace::QueueLog::Open(catalog.environment()->store, queue.id));
  return log.state();
}

Status List(const Context& context) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto queues, trace::ListQueues(*catalog));
  if (queues.empty() && !context.json) std::printf("no queues; make one with `headrace queue create`\n");
  std::vector<std::vector<std::string>> rows = {{"queue", "items", "overlap", "labels", "asks"}};
  for (const Queue& queue : queues) {
    HEADRACE_ASSIGN(const auto state, StateOf(*catalog, queue));
    if (context.json) {
      auto told = trace::ToJson(queue);
      told["labelled"] = state.labels();
      PrintJson(told);
      continue;
    }
    rows.push_back({queue.name, HumanCount(queue.items), std::to_string(queue.overlap),
                    HumanCount(state.labels()), queue.rubric.name});
  }
  if (rows.size() > 1) PrintAligned(rows, 1, 4);
  return Status::Ok();
}

Status Show(const Context& context, const QueueWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const Queue queue, trace::FindQueue(*catalog, words.name));
  HEADRACE_ASSIGN(const auto state, StateOf(*catalog, queue));
  if (context.json) {
    nlohmann::ordered_json told = trace::ToJson(queue);
    told["labelled"] = state.labels();
    told["people"] = nlohmann::ordered_json::object();
    for (const auto& [who, done] : state.done) {
      const auto skipped =
          std::count_if(done.begin(), done.end(), [](const auto& one) { return one.skipped; });
      told["people"][who] = {{"labels", static_cast<int64_t>(done.size()) - skipped}, {"skipped", skipped}};
    }
    PrintJson(told);
    return Status::Ok();
  }
  PrintQueue(queue);
  std::printf("  %s of %s labels\n", HumanCount(state.labels()).c_str(),
              HumanCount(queue.items * queue.overlap).c_str());
  for (const auto& [who, done] : state.done) {
    const auto skipped = std::count_if(done.begin(), done.end(), [](const auto& one) { return one.skipped; });
    std::printf("    %s: %s labels, %s skipped\n", who.c_str(),
                HumanCount(static_cast<int64_t>(done.size()) - skipped).c_str(), HumanCount(skipped).c_str());
  }
  for (const auto& [id, session] : state.sessions) std::printf("    at work: %s\n", session.who.c_str());
  return Status::Ok();
}

Status Log(const Context& context) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto queues, trace::ListQueues(*catalog, /*removed=*/true));
  for (const Queue& queue : queues) {
    if (context.json) {
      auto told = trace::ToJson(queue);
      told["removed"] = queue.removed;
      PrintJson(told);
      continue;
    }
    std::printf("%s  %s  %s, %s items, by %s\n", ShortTime(queue.time).c_str(), queue.name.c_str(),
                queue.removed ? "removed" : "made", HumanCount(queue.items).c_str(), queue.who.c_str());
  }
  return Status::Ok();
}

Status Remove(const Context& context, const QueueWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_TRY(trace::FindQueue(*catalog, words.name).status());
  HEADRACE_TRY(Confirm(context, words.yes, "remove the queue '" + words.name + "' (its labels stay)"));
  HEADRACE_ASSIGN(const Queue queue,
                  trace::RemoveQueue(catalog.get(), words.name, context.Commit(words.why)));
  if (context.json) {
    PrintJson({{"removed", queue.name}});
  } else if (!context.quiet) {
    std::printf("nobody gets items of '%s' any more; its labels stay in scores\n", queue.name.c_str());
  }
  return Status::Ok();
}

void AddCreate(CLI::App* group, Context* context, Action* action) {
  auto words = std::make_shared<QueueWords>();
  auto* create = group->add_subcommand("create", "Make a queue of a query's rows");
  create->add_option("queue", words->name, "What it is called")->required();
  create
      ->add_option("query", words->sql,
                   "Its items, in their order: rows of one table, requests or runs (with their id), or of "
                   "anything with a column `target`")
      ->required();
  create->add_option("--name", words->rubric, "What is asked: the name of the scores")->capture_default_str();
  create->add_option("--label", words->labels, "A label, as in good or g=good with its key; once for each")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
  create->add_option("--range", words->range, "A number instead, from LEAST..MOST");
  create->add_option("--instructions", words->instructions, "What people are told");
  create->add_option("--overlap", words->overlap, "People that each item goes to")->capture_default_str();
  create->add_option("-m,--why", words->why, "A note for the log");
  create->footer(
      "The query runs once: the queue keeps its rows, and the versions of the tables that it read.\n\n"
      "Examples:\n  headrace queue create sharpness \"select path, image from photos where split = 'val'\" "
      "--name quality --label sharp --label blurred --overlap 2\n"
      "  headrace queue create helpful \"select id, input, answer from traces\" --range 1..5");
  create->callback([=] { *action = [=] { return Create(*context, *words); }; });
}

}  // namespace

void AddQueue(CLI::App* app, Context* context, Action* action) {
  auto* group = app->add_subcommand("queue", "Queues of items that people are to judge");
  group->require_subcommand(1);
  AddCreate(group, context, action);
  auto words = std::make_shared<QueueWords>();
  auto* list = group->add_subcommand("ls", "All queues, and how far they are");
  list->callback([=] { *action = [=] { return List(*context); }; });
  auto* show = group->add_subcommand("show", "A queue: its query, what it asks, who has done how much");
  show->add_option("queue", words->name, "The queue")->required();
  show->callback([=] { *action = [=] { return Show(*context, *words); }; });
  auto* log = group->add_subcommand("log", "Queues that were made and removed");
  log->callback([=] { *action = [=] { return Log(*context); }; });
  auto* remove = group->add_subcommand("rm", "Hand out no more items; labels stay");
  remove->add_option("queue", words->name, "The queue")->required();
  remove->add_flag("-y,--yes", words->yes, "Without asking");
  remove->add_option("-m,--why", words->why, "A note for the log");
  remove->callback([=] { *action = [=] { return Remove(*context, *words); }; });
  group->footer(
      "Examples:\n  headrace queue create -h\n  headrace queue show sharpness\n  headrace label sharpness");
}

}  // namespace headrace::cli
