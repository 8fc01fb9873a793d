// label: one person at work on a queue, and its labels as a column.
#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <cstdio>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/label_desk.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "query/query.h"
#include "table/arrow_bridge.h"
#include "trace/annotator.h"
#include "trace/committer.h"
#include "trace/labels_column.h"
#include "trace/spool.h"
#include "trace/tables.h"
#include "trace/tail.h"
#include "trace/views.h"

namespace headrace::cli {
namespace {

struct LabelWords {
  std::string queue, who, into, pictures = "auto", why;
  double ttl = 60;
  bool yes = false;
};

// Waits until others have labelled or given back what they have. False: the person has had enough.
Result<bool> AwaitOthers(const Context& context, const LabelDesk& desk, const trace::QueueProgress& progress,
                         bool* told) {
  if (!*told)
    desk.Tell("The last " + HumanCount(progress.left) +
              " are with others; waiting for what comes back (Ctrl-C ends)");
  *told = true;
  return !context.stop.WaitFor(1.0);
}

// Nothing is free. Whether to go on: others may give something back, or the person takes something back.
Result<bool> GoesOn(const Context& context, trace::Annotator* annotator, const LabelDesk& desk,
                    const trace::QueueProgress& progress, bool* told) {
  if (progress.left > 0) return AwaitOthers(context, desk, progress, told);
  desk.Tell("Nothing is left for you: " + HumanCount(progress.mine) + " labels of yours, " +
            HumanCount(progress.labels) + " of " + HumanCount(progress.wanted) + " in all");
  HEADRACE_ASSIGN(const bool undo, desk.AskToUndo());
  if (!undo) return false;
  HEADRACE_ASSIGN(const auto item, annotator->Undo());
  return item.has_value();
}

// What the answer asks for. Conflict: the item went to others while the person was away.
Status Take(trace::Annotator* annotator, const LabelDesk& desk, int64_t item, const LabelAnswer& answer) {
  if (answer.kind == LabelAnswer::Kind::kLabel) return annotator->Label(item, answer.judgement).status();
  if (answer.kind == LabelAnswer::Kind::kSkip)
    return annotator->Skip(item, answer.judgement.comment).status();
  const auto again = annotator->Undo();
  if (again.ok() && !*again) desk.Tell("there is nothing to undo");
  return again.status();
}

// Hands the person items until there are none, or enough.
Status Work(const Context& context, trace::Annotator* annotator, LabelDesk* desk) {
  desk->Instruct();
  for (bool told = false;;) {
    HEADRACE_ASSIGN(const auto item, annotator->Next());
    HEADRACE_ASSIGN(const trace::QueueProgress progress, annotator->Progress());
    if (!item) {
      HEADRACE_ASSIGN(const bool on, GoesOn(context, annotator, *desk, progress, &told));
      if (!on) return Status::Ok();
      continue;
    }
    told = false;
    HEADRACE_TRY(desk->Show(*item, progress));
    HEADRACE_ASSIGN(const LabelAnswer answer, desk->Ask());
    if (answer.kind == LabelAnswer::Kind::kQuit) return Status::Ok();
    const Status done = Take(annotator, *desk, item->number, answer);
    if (!done.ok() && !done.Is(Code::kConflict)) return done;
    if (!done.ok()) std::fprintf(stderr, "headrace: %s\n", done.message().c_str());
  }
}

Status LabelQueue(const Context& context, const LabelWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const trace::Queue queue, trace::FindQueue(*catalog, words.queue));
  HEADRACE_ASSIGN(const Pictures pictures, ParsePictures(words.pictures));
  // The table first: SQL reads tails of tables that are there.
  HEADRACE_TRY(trace::OpenOrCreate(catalog.get(), trace::kScores).status());
  HEADRACE_ASSIGN(auto spool, trace::Spool::Create(trace::SpoolRoot(*catalog)));
  const auto write = [&](const nlohmann::json& row) {
    return spool->Append(trace::Kind::kScore,
                         row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  };
  HEADRACE_ASSIGN(const auto annotator,
                  trace::Annotator::Open(catalog, queue,
                                         {.who = words.who.empty() ? table::DefaultWho() : words.who,
                                          .write = write,
                                          .ttl_seconds = words.ttl}));
  LabelDesk desk(context, catalog, queue, context.json ? Pictures::kNone : pictures);
  const Status worked = Work(context, annotator.get(), &desk);
  const Status closed = annotator->Close();
  spool.reset();  // from here on it is a dead writer's, which whoever commits next takes over
  const Status committed = trace::CommitSpools(catalog).status();
  if (!committed.ok())
    std::fprintf(stderr, "headrace: the labels are kept, and not in the table yet: %s\n",
                 committed.ToString().c_str());
  return worked.ok() ? closed : worked;
}

// What the people said of the rows of one table.
Result<std::vector<trace::Vote>> VotesOf(const std::shared_ptr<table::Catalog>& catalog,
                                         const trace::Queue& queue, const std::string& table) {
  HEADRACE_ASSIGN(const auto engine, query::SqlEngine::Open(catalog, {.tailed = trace::TailedTables(),
                                                                      .tail = trace::TailOf(catalog),
                                                                      .views = trace::Views(),
                                                                      .view = trace::ViewOf(catalog)}));
  HEADRACE_ASSIGN(
      const auto rows,
      engine->Query("select target, value, label from hr.scores_now where queue = $queue and "
                    "target_kind = 'row' and starts_with(target, $table) and epoch_us(time) >= $made",
                    {{}, {{"queue", queue.name}, {"table", table + "@"}, {"made", queue.time}}}));
  std::vector<trace::Vote> votes;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(rows->ReadNext(&batch));
    if (!batch) return votes;
    const auto& targets = static_cast<const arrow::StringArray&>(*batch->column(0));
    const auto& values = static_cast<const arrow::DoubleArray&>(*batch->column(1));
    const auto& labels = static_cast<const arrow::StringArray&>(*batch->column(2));
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      HEADRACE_ASSIGN(const trace::RowTarget target, trace::ParseRowTarget(targets.GetString(i)));
      trace::Vote vote{.row = target.row, .value = {}, .label = labels.IsNull(i) ? "" : labels.GetString(i)};
      if (!values.IsNull(i)) vote.value = values.Value(i);
      votes.push_back(std::move(vote));
    }
  }
}

Status LabelsInto(const Context& context, const LabelWords& words) {
  const size_t dot = words.into.rfind('.');
  if (dot == std::string::npos || dot == 0 || dot + 1 == words.into.size())
    return Status::Invalid("--into is TABLE.COLUMN, as in photos.quality, not '" + words.into + "'");
  const std::string name = words.into.substr(0, dot), column = words.into.substr(dot + 1);
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const trace::Queue queue, trace::FindQueue(*catalog, words.queue));
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable(name));
  HEADRACE_ASSIGN(const auto view, table->At());
  HEADRACE_ASSIGN(const auto votes, VotesOf(catalog, queue, table->name()));
  if (votes.empty())
    return Status::NotFound("the queue '" + queue.name + "' has no labels of rows of '" + name + "'");
  if (view.schema().Find(column) != nullptr)
    HEADRACE_TRY(Confirm(context, words.yes, "give every row of '" + words.into + "' a new value"));
  const trace::Agreed agreed = trace::Agree(votes);
  auto commit = context.Commit(words.why.empty() ? "labels of the queue '" + queue.name + "'" : words.why);
  commit.inputs = {"hr.scores (queue " + queue.name + ")"};
  for (const std::string& input : queue.inputs) commit.inputs.push_back(input);
  HEADRACE_ASSIGN(const auto done,
                  trace::WriteLabels(table.get(), agreed, queue.rubric.labels.empty(), column, commit));
  if (context.json) {
    PrintJson({{"table", name},
               {"column", column},
               {"version", done.commit.version},
               {"votes", votes.size()},
               {"rows", done.filled},
               {"ties", agreed.ties},
               {"gone", done.gone}});
    return Status::Ok();
  }
  std::printf("%s rows of %s have a value, of %s votes (version %lld)\n", HumanCount(done.filled).c_str(),
              words.into.c_str(), HumanCount(static_cast<int64_t>(votes.size())).c_str(),
              static_cast<long long>(done.commit.version));
  if (!agreed.ties.empty()) {
    std::string rows;
    for (size_t i = 0; i < std::min<size_t>(agreed.ties.size(), 5); ++i)
      rows += (rows.empty() ? "" : ", ") + std::to_string(agreed.ties[i]);
    std::printf("%s %s: no label has most votes, and they are null (rows %s%s)\n",
                HumanCount(static_cast<int64_t>(agreed.ties.size())).c_str(),
                agreed.ties.size() == 1 ? "row is a tie" : "rows are ties", rows.c_str(),
                agreed.ties.size() > 5 ? ", …" : "");
  }
  if (done.gone > 0)
    std::printf("%s labelled rows are not in the table any more\n", HumanCount(done.gone).c_str());
  return Status::Ok();
}

}  // namespace

void AddLabel(CLI::App* app, Context* context, Action* action) {
  auto words = std::make_shared<LabelWords>();
  auto* command = app->add_subcommand("label", "Work on a queue: one key for each label");
  command->add_option("queue", words->queue, "The queue")->required();
  command->add_option("--who", words->who, "Who labels (default: you)");
  command
      ->add_option("--pictures", words->pictures,
                   "How the terminal shows pictures: auto, kitty, iterm2, sixel or none")
      ->capture_default_str();
  command
      ->add_option("--ttl", words->ttl,
                   "Seconds without a sign of life after which others get the items of a session")
      ->check(CLI::Range(0.2, 86400.0))
      ->capture_default_str();
  command->add_option(
      "--into", words->into,
      "Do not label: make the labels a column, TABLE.COLUMN, the one with most votes or the mean");
  command->add_option("-m,--why", words->why, "With --into: a note for the table's log");
  command->add_flag("-y,--yes", words->yes, "With --into: overwrite a column without asking");
  command->footer(
      "Keys: those of the labels; u undoes the last, s skips, c comments, q quits. Without a terminal a line "
      "is an answer, with --json each item is an object on a line.\n\n"
      "Examples:\n  headrace label sharpness\n  headrace label sharpness --into photos.quality");
  command->callback([=] {
    *action = [=] {
      return words->into.empty() ? LabelQueue(*context, *words) : LabelsInto(*context, *words);
    };
  });
}

}  // namespace headrace::cli
