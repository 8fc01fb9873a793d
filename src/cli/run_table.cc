#include "cli/run_table.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <set>

#include "base/clock.h"
#include "base/json.h"
#include "base/ordered_json.h"
#include "cli/render.h"
#include "cli/run_slurm.h"
#include "table/arrow_bridge.h"
#include "trace/committer.h"
#include "trace/spool.h"
#include "trace/tail.h"
#include "trace/views.h"

namespace headrace::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostShown = 4096;       // characters of a value
constexpr size_t kShortestBeginning = 6;  // of an id that is not written out
// Figures of the machine come each ten seconds and are committed at least each minute: one that is silent for
// longer than this has gone, or cannot reach the store.
constexpr int64_t kSilentMicros = int64_t{180} * 1'000'000;

// The same value, its keys in ascending order. (The parser of ordered values looks each key up among all that
// came before.)
Json InOrder(const nlohmann::json& value) {
  if (value.is_object()) {
    Json::object_t object;
    object.reserve(value.size());
    for (const auto& [key, item] : value.items()) object.push_back({key, InOrder(item)});
    return object;
  }
  if (value.is_array()) {
    Json array = Json::array();
    for (const nlohmann::json& item : value) array.push_back(InOrder(item));
    return array;
  }
  return Json(value);
}

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

std::string Quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "''" : std::string(1, c);
  return out + "'";
}

// A field of a JSON column: config."opt"."lr" is nested, the keys of a summary are not.
std::string Extract(const std::string& column, const std::vector<std::string>& names) {
  std::string path = "$";
  for (const std::string& name : names) {
    path += ".\"";
    for (const char c : name) path += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    path += '"';
  }
  return "json_extract_string(" + column + ", " + Quoted(path) + ")";
}

// Of `text` at `at`, which is behind "config" or "summary": .name, ."name", …
std::vector<std::string> TakeNames(const std::string& text, size_t* at) {
  std::vector<std::string> names;
  while (*at + 1 < text.size() && text[*at] == '.') {
    size_t end = *at + 1;
    if (text[end] == '"') {
      end = text.find('"', end + 1);
      if (end == std::string::npos) return names;
      names.push_back(text.substr(*at + 2, end - *at - 2));
      *at = end + 1;
      continue;
    }
    while (end < text.size() && IsWord(text[end])) ++end;
    if (end == *at + 1) return names;
    names.push_back(text.substr(*at + 1, end - *at - 1));
    *at = end;
  }
  return names;
}

std::string WordAt(const std::string& text, size_t at) {
  std::string word;
  for (; at < text.size() && IsWord(text[at]); ++at)
    word += static_cast<char>(std::tolower(static_cast<unsigned char>(text[at])));
  return word;
}

// Whether a text or a truth stands behind `at`, after an operator: then the field is text there.
bool BeforeText(const std::string& text, size_t at) {
  while (at < text.size() && std::string_view(" =<>!(").find(text[at]) != std::string_view::npos) ++at;
  const std::string word = WordAt(text, at);
  for (const char* one : {"like", "ilike", "is", "similar", "true", "false"})
    if (word == one) return true;
  if (word == "in" || word == "not") return BeforeText(text, at + word.size());
  return at < text.size() && text[at] == '\'';
}

// Whether a text stands before `at` and an operator, or a function that takes texts is open.
bool BehindText(const std::string& text, size_t at) {
  bool compared = false;
  for (; at > 0 && std::string_view(" =<>!").find(text[at - 1]) != std::string_view::npos; --at)
    compared = compared || text[at - 1] != ' ';
  if (compared) return at > 0 && text[at - 1] == '\'';
  if (at == 0 || text[at - 1] != '(') return false;
  size_t begin = --at;
  while (begin > 0 && IsWord(text[begin - 1])) --begin;
  const std::string function = WordAt(text, begin).substr(0, at - begin);
  for (const char* one :
       {"upper", "lower", "length", "strlen", "trim", "starts_with", "ends_with", "contains", "prefix",
        "suffix", "regexp_matches", "concat", "replace", "substr", "substring", "left", "right"})
    if (function == one) return true;
  return false;
}

// Whether a literal ends there.
size_t BehindLiteral(const std::string& text, size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] != '\'') continue;
    if (at + 1 < text.size() && text[at + 1] == '\'') {
      ++at;
      continue;
    }
    return at + 1;
  }
  return at;
}

}  // namespace

Result<std::unique_ptr<query::SqlEngine>> OpenSql(const std::shared_ptr<table::Catalog>& catalog) {
  return query::SqlEngine::Open(catalog, {.tailed = trace::TailedTables(),
                                          .tail = trace::TailOf(catalog),
                                          .views = trace::Views(),
                                          .view = trace::ViewOf(catalog)});
}

Json Parsed(const Json& value) {
  if (!value.is_string()) return value;
  const auto& text = value.get_ref<const std::string&>();
  if (JsonDepth(text) > kMostJsonDepth) return value;
  const nlohmann::json parsed = ParseJson(text);
  return parsed.is_discarded() ? value : InOrder(parsed);
}

Result<std::vector<Json>> Rows(query::SqlEngine* engine, const std::string& sql,
                               std::vector<query::Param> params) {
  HEADRACE_ASSIGN(const auto reader, engine->Query(sql, {.params = std::move(params)}));
  std::vector<Json> rows;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) return rows;
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      Json row = Json::object();
      for (int c = 0; c < batch->num_columns(); ++c) {
        const auto& field = batch->schema()->field(c);
        Json cell = batch->column(c)->IsNull(i) ? Json() : CellToJson(*field, *batch->column(c), i);
        const bool json = field->name() == "config" || field->name() == "summary" ||
                          field->name() == "tags" || field->name() == "inputs" ||
                          field->name() == "outputs" || field->name() == "code" || field->name() == "env" ||
                          field->name() == "command";
        row[field->name()] = json ? Parsed(cell) : std::move(cell);
      }
      rows.push_back(std::move(row));
    }
  }
}

std::string WithJsonFields(const std::string& condition) {
  std::string out;
  for (size_t at = 0; at < condition.size();) {
    if (condition[at] == '\'') {
      const size_t end = BehindLiteral(condition, at);
      out += condition.substr(at, end - at);
      at = end;
      continue;
    }
    const bool begins = at == 0 || (!IsWord(condition[at - 1]) && condition[at - 1] != '.');
    std::string column;
    for (const char* name : {"summary", "config"})
      if (begins && condition.compare(at, std::string_view(name).size(), name) == 0) column = name;
    size_t end = at + column.size();
    const auto names = column.empty() ? std::vector<std::string>() : TakeNames(condition, &end);
    if (names.empty()) {
      out += condition[at++];
      continue;
    }
    const std::string text = Extract(column, names);
    out +=
        BeforeText(condition, end) || BehindText(condition, at) ? text : "try_cast(" + text + " as double)";
    at = end;
  }
  return out;
}

std::string SortExpression(const std::string& field) {
  for (const std::string column : {"summary", "config"}) {
    if (!field.starts_with(column + ".")) continue;
    size_t at = column.size();
    std::vector<std::string> names = TakeNames(field, &at);
    // A summary's keys hold slashes and dots: the rest is one name.
    if (column == "summary" || at != field.size()) names = {field.substr(column.size() + 1)};
    const std::string text = Extract(column, names);
    return "try_cast(" + text + " as double), " + text;
  }
  std::string name = "\"";
  for (const char c : field) name += c == '"' ? "\"\"" : std::string(1, c);
  return name + '"';
}

Result<std::string> RunOf(query::SqlEngine* engine, const std::string& told) {
  if (told == "@last") {
    HEADRACE_ASSIGN(const auto last, Rows(engine, "select id from runs_now order by started desc limit 1"));
    if (last.empty()) return Status::NotFound("there is no run yet");
    return last[0]["id"].get<std::string>();
  }
  const query::Param word{"1", told};
  HEADRACE_ASSIGN(
      const auto named,
      Rows(engine,
           "select id from runs_now where id = ? or name = ?2 order by id = ?2 desc, started desc limit 1",
           {word, {"2", told}}));
  if (!named.empty()) return named[0]["id"].get<std::string>();
  if (told.size() >= kShortestBeginning) {
    HEADRACE_ASSIGN(const auto begun,
                    Rows(engine, "select id from runs_now where starts_with(id, ?) limit 2", {word}));
    if (begun.size() == 1) return begun[0]["id"].get<std::string>();
    if (begun.size() > 1)
      return Status::Invalid("more than one run's id begins with '" + told + "'; write more of it");
  }
  return Status::NotFound("there is no run '" + told +
                          "': give its id, 6 or more characters of its beginning, its name, or "
                          "@last; headrace runs lists them");
}

namespace {

// The job that a run was in, where Slurm knows it and it is the same person's: another cluster has the same
// numbers.
std::optional<SlurmJob> JobOf(const Json& run, const std::map<std::string, SlurmJob>& jobs) {
  const auto job = jobs.find(Text(run["slurm_job"]));
  if (job == jobs.end() || job->second.user != Text(run["who"])) return std::nullopt;
  return job->second;
}

}  // namespace

Status TellSilent(const table::Catalog& catalog, query::SqlEngine* engine, std::vector<Json>* runs) {
  const std::string root = trace::SpoolRoot(catalog);
  std::vector<Json*> unheard;
  std::set<std::string> ids;
  for (Json& run : *runs) {
    if (run["state"] != "running" || !run["writer"].is_string()) continue;
    if (trace::IsAlive(root, run["writer"].get<std::string>())) continue;
    unheard.push_back(&run);
    if (run["slurm_job"].is_string()) ids.insert(Text(run["slurm_job"]));
  }
  const auto jobs = ids.empty() ? std::map<std::string, SlurmJob>() : SlurmJobs(ids);
  for (Json* found : unheard) {
    Json& run = *found;
    const std::optional<SlurmJob> job = JobOf(run, jobs);
    if (job && HasEnded(*job)) {
      run["state"] = "killed";
      run["reason"] = "Slurm says of its job " + Text(run["slurm_job"]) + ": " + job->state;
      continue;
    }
    HEADRACE_ASSIGN(const auto seen, Rows(engine, "select max(time) as time from hr.metrics where run = ?",
                                          {{"1", run["id"].get<std::string>()}}));
    std::string last = run["time"].get<std::string>();
    if (!seen.empty() && seen[0]["time"].is_string())
      last = std::max(last, seen[0]["time"].get<std::string>());
    HEADRACE_ASSIGN(const int64_t micros, ParseMicros(last));
    if (NowMicros() - micros < kSilentMicros) continue;
    run["state"] = "silent";
    run["reason"] = "nothing was heard of it since " + ShortTime(micros);
    if (job)
      run["reason"] =
          Text(run["reason"]) + "; Slurm says of its job " + Text(run["slurm_job"]) + ": " + job->state;
  }
  return Status::Ok();
}

std::string Text(const Json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }

std::string Plain(const Json& value) {
  if (value.is_null()) return "";
  const std::string text = value.is_string() ? value.get<std::string>()
                                             : value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return Printable(text, kMostShown);
}

}  // namespace headrace::cli
