// score: a judgement of an answer, as a row that joins its trace.
#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <cmath>
#include <cstdio>

#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "query/query.h"
#include "table/arrow_bridge.h"
#include "trace/tables.h"
#include "trace/tail.h"

namespace headrace::cli {
namespace {

struct ScoreWords {
  std::string request, name = "score", label, comment, source = "person", who;
  double value = NAN;
  bool force = false;
};

constexpr size_t kShortestBeginning = 6;  // of an id that is not written out

// Ids of traces, in spools too, that a condition with one parameter leaves: two of them at most.
Result<std::vector<std::string>> Ids(query::SqlEngine* engine, const std::string& traces,
                                     const std::string& rest, const std::string& id) {
  query::QueryOptions options;
  if (rest.find('?') != std::string::npos) options.params.push_back({"1", id});
  HEADRACE_ASSIGN(const auto rows,
                  engine->Query("select id from " + traces + " " + rest + " limit 2", options));
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

// The request that a person names: its id, the beginning of one, or @last.
Result<std::string> RequestOf(const std::shared_ptr<table::Catalog>& catalog, const std::string& told) {
  const auto none = [&](const std::string& what) {
    return Status::NotFound(what + " in the traces of " + catalog->Describe() +
                            "; --force scores an id that is not there (yet)");
  };
  HEADRACE_ASSIGN(const auto traces, trace::NameIn(*catalog, trace::kTraces));
  if (!traces) return none("there is no request '" + told + "'");
  HEADRACE_ASSIGN(const auto engine, query::SqlEngine::Open(catalog, {.tailed = trace::TailedTables(),
                                                                      .tail = trace::TailOf(catalog)}));
  if (told == "@last") {
    HEADRACE_ASSIGN(const auto newest, Ids(engine.get(), *traces, "order by started desc", ""));
    if (newest.empty()) return none("there is no request");
    return newest[0];
  }
  const std::string id = trace::RowIdOf(told);
  HEADRACE_ASSIGN(const auto exact, Ids(engine.get(), *traces, "where id = ?", id));
  if (!exact.empty()) return id;
  if (id.size() >= kShortestBeginning) {
    HEADRACE_ASSIGN(const auto begun, Ids(engine.get(), *traces, "where starts_with(id, ?)", id));
    if (begun.size() == 1) return begun[0];
    if (begun.size() > 1)
      return Status::Invalid("more than one request's id begins with '" + id + "'; write more of it");
  }
  return none("there is no request '" + told + "'");
}

Status Score(const Context& context, ScoreWords words) {
  if (std::isnan(words.value) && words.label.empty() && words.comment.empty())
    return Status::Invalid("a score has a --value, a --label or a --comment");
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  if (words.force && words.request != "@last") {
    words.request = trace::RowIdOf(std::move(words.request));
  } else {
    HEADRACE_ASSIGN(words.request, RequestOf(catalog, words.request));
  }
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
  command->add_option("request", words->request, "The answer's id, its beginning, or @last")->required();
  command->add_option("--value", words->value, "A number");
  command->add_option("--label", words->label, "A word");
  command->add_option("--comment", words->comment, "Why");
  command->add_option("--name", words->name, "What is judged")->capture_default_str();
  command->add_option("--source", words->source, "person, model or program")
      ->check(CLI::IsMember({"person", "model", "program"}))
      ->capture_default_str();
  command->add_option("--who", words->who, "By whom (default: you)");
  command->add_flag("--force", words->force, "Also an id that is not in `traces`");
  command->footer(
      "Examples:\n  headrace score @last --value 1 --name helpful\n  headrace score chatcmpl-0193 --label "
      "wrong "
      "--comment \"it is Rome\"\n"
      "  headrace sql \"select avg(s.value) from traces t join scores s on s.request = t.id\"");
  command->callback(
      [words, context, action] { *action = [words, context] { return Score(*context, *words); }; });
}

}  // namespace headrace::cli
