// score: a judgement of an answer, a run, a row, …, as a row that joins what it judges.
#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <cmath>
#include <cstdio>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "query/query.h"
#include "table/arrow_bridge.h"
#include "trace/scores.h"
#include "trace/tables.h"
#include "trace/tail.h"

namespace headrace::cli {
namespace {

struct ScoreWords {
  std::string target, against, name = "score", label, comment, source = "person", who, judge, run, supersedes;
  double value = NAN, seconds = NAN;
  int64_t repeat = 0;
  bool force = false, withdraw = false;
};

constexpr size_t kShortestBeginning = 6;  // of an id that is not written out

// Where the targets of a kind are rows: so far as they are, an id is looked up before it is scored.
struct Place {
  const char* kind;
  const char* table;  // without the schema
  const char* column;
  const char* time;  // @last: the latest by it
};
constexpr Place kPlaces[] = {
    {"request", "traces", "id", "started"},
    {"span", "traces", "id", "started"},
    {"trace", "traces", "trace_id", "started"},
    {"session", "traces", "session", "started"},
    {"run", "runs", "id", "time"},
    {"sample", "samples", "id", "time"},
};

// The ids of a place, in spools too, that a condition with one parameter leaves: two of them at most.
Result<std::vector<std::string>> Ids(query::SqlEngine* engine, const std::string& from,
                                     const std::string& rest, const std::string& id) {
  query::QueryOptions options;
  if (rest.find('?') != std::string::npos) options.params.push_back({"1", id});
  HEADRACE_ASSIGN(const auto rows, engine->Query(from + " " + rest + " limit 2", options));
  std::vector<std::string> ids;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    const auto status = rows->ReadNext(&batch);
    if (!status.ok()) return table::FromArrow(status);
    if (!batch) return ids;
    const auto& column = static_cast<const arrow::StringArray&>(*batch->column(0));
    for (int64_t row = 0; row < column.length(); ++row) ids.push_back(column.GetString(row));
  }
}

Status NotThere(const table::Catalog& catalog, const std::string& what, const char* table) {
  return Status::NotFound(what + " in the " + table + " of " + catalog.Describe() +
                          "; --force scores an id that is not there (yet)");
}

// The id of a target that a person names by it, by its beginning, or as @last.
Result<std::string> IdOf(const std::shared_ptr<table::Catalog>& catalog, const Place& place,
                         const std::string& id) {
  const std::string kind = place.kind;
  const Status none =
      NotThere(*catalog, "there is no " + kind + (id == "@last" ? "" : " '" + id + "'"), place.table);
  HEADRACE_ASSIGN(const auto name, trace::NameIn(*catalog, place.table));
  if (!name) return none;
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable(*name));
  HEADRACE_ASSIGN(const table::View view, table->At());
  if (view.schema().Find(place.column) == nullptr) return none;
  HEADRACE_ASSIGN(const auto engine, query::SqlEngine::Open(catalog, {.tailed = trace::TailedTables(),
                                                                      .tail = trace::TailOf(catalog)}));
  const std::string column = place.column, from = "select distinct " + column + " from " + *name;
  if (id == "@last") {
    HEADRACE_ASSIGN(const auto newest,
                    Ids(engine.get(), "select " + column + " from " + *name,
                        "where " + column + " is not null order by " + place.time + " desc", ""));
    return newest.empty() ? Result<std::string>(none) : newest[0];
  }
  HEADRACE_ASSIGN(const auto exact, Ids(engine.get(), from, "where " + column + " = ?", id));
  if (!exact.empty()) return id;
  if (id.size() < kShortestBeginning) return none;
  HEADRACE_ASSIGN(const auto begun, Ids(engine.get(), from, "where starts_with(" + column + ", ?)", id));
  if (begun.size() > 1)
    return Status::Invalid("more than one " + kind + "'s id begins with '" + id + "'; write more of it");
  return begun.empty() ? Result<std::string>(none) : begun[0];
}

Status CheckRow(const table::Catalog& catalog, const std::string& id) {
  HEADRACE_ASSIGN(const trace::RowTarget target, trace::ParseRowTarget(id));
  HEADRACE_ASSIGN(const table::View view, catalog.Resolve(target.table + "@" + target.version));
  return view.Take({target.row}, {std::string(table::kRowIdColumn)}).status();
}

// What a person names, looked up unless `force` says not to.
Result<trace::Target> TargetOf(const std::shared_ptr<table::Catalog>& catalog, const std::string& kind,
                               const std::string& told, bool force) {
  HEADRACE_ASSIGN(trace::Target target, trace::ParseTarget(kind, told));
  if (force && target.id != "@last") return target;
  if (target.kind == "row") {
    HEADRACE_TRY(CheckRow(*catalog, target.id));
    return target;
  }
  for (const Place& place : kPlaces) {
    if (target.kind != place.kind) continue;
    HEADRACE_ASSIGN(target.id, IdOf(catalog, place, target.id));
  }
  return target;
}

nlohmann::json RowOf(const ScoreWords& words, const trace::Target& target) {
  nlohmann::json row = {{"target_kind", target.kind},
                        {"target", target.id},
                        {"name", words.name},
                        {"source", words.source},
                        {"who", words.who.empty() ? table::DefaultWho() : words.who},
                        {"repeat", words.repeat}};
  if (!std::isnan(words.value)) row["value"] = words.value;
  if (!std::isnan(words.seconds)) row["seconds"] = words.seconds;
  const std::pair<const char*, const std::string&> texts[] = {
      {"label", words.label}, {"comment", words.comment}, {"judge", words.judge},
      {"run", words.run},     {"against", words.against}, {"supersedes", words.supersedes}};
  for (const auto& [name, text] : texts)
    if (!text.empty()) row[name] = text;
  if (words.withdraw) row["state"] = "withdrawn";
  trace::FinishScore(&row);
  return row;
}

Status Score(const Context& context, ScoreWords words) {
  if (std::isnan(words.value) && words.label.empty() && words.comment.empty() && !words.withdraw)
    return Status::Invalid("a score has a --value, a --label or a --comment");
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const trace::Target target, TargetOf(catalog, "", words.target, words.force));
  if (!words.against.empty()) {
    HEADRACE_ASSIGN(trace::Target against, TargetOf(catalog, target.kind, words.against, words.force));
    words.against = std::move(against.id);
  }
  const nlohmann::json row = RowOf(words, target);
  HEADRACE_ASSIGN(const auto done, trace::CommitScore(catalog.get(), row));
  if (context.json) {
    nlohmann::json told = {{"id", row["id"]},
                           {"target", target.kind + ":" + target.id},
                           {"name", words.name},
                           {"version", done.version}};
    if (target.kind == "request") told["request"] = target.id;
    PrintJson(told);
  } else if (!context.quiet) {
    const std::string shown = target.kind == "request" ? target.id : target.kind + " " + target.id;
    std::printf("%s %s (scores, version %lld)\n", words.withdraw ? "withdrew the score of" : "scored",
                shown.c_str(), static_cast<long long>(done.version));
  }
  return Status::Ok();
}

}  // namespace

void AddScore(CLI::App* app, Context* context, Action* action) {
  auto words = std::make_shared<ScoreWords>();
  CLI::App* command = app->add_subcommand(
      "score", "Judge an answer, a run, a row, …: a row of `scores`; `scores_now` has the last of each");
  command
      ->add_option("target", words->target,
                   "What is judged: an answer's id, its beginning, @last, or KIND:ID (request, span, trace, "
                   "session, run, sample, row), as in run:@last and row:photos@v7:42")
      ->required();
  command->add_option("--value", words->value, "A number");
  command->add_option("--label", words->label, "A word");
  command->add_option("--comment", words->comment, "Why");
  command->add_option("--name", words->name, "What is judged of it")->capture_default_str();
  command->add_option("--against", words->against,
                      "What it is compared with, of the same kind: the score says how it does against that");
  command->add_option("--source", words->source, "person, model, program or user (of an application)")
      ->check(CLI::IsMember({"person", "model", "program", "user"}))
      ->capture_default_str();
  command->add_option("--who", words->who, "By whom (default: you)");
  command->add_option("--judge", words->judge, "The model or program that judges, with its version");
  command->add_option("--repeat", words->repeat, "The how manyth time by the same judge, from 0")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--run", words->run, "The run that it is given in");
  command->add_option("--seconds", words->seconds, "What the judgement took")->check(CLI::NonNegativeNumber);
  command->add_option("--supersedes", words->supersedes, "The id of another score that this one replaces");
  command->add_flag("--withdraw", words->withdraw,
                    "Take back the score of the same target, name, who, judge and repeat");
  command->add_flag("--force", words->force, "Also an id that is not there (yet)");
  command->footer(
      "Examples:\n  headrace score @last --value 1 --name helpful\n  headrace score chatcmpl-0193 --label "
      "wrong --comment \"it is Rome\"\n  headrace score row:photos@v7:42 --label blurred --name quality\n"
      "  headrace sql \"select avg(s.value) from traces t join scores_now s on s.request = t.id\"");
  command->callback(
      [words, context, action] { *action = [words, context] { return Score(*context, *words); }; });
}

}  // namespace headrace::cli
