#include "trace/queue.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/clock.h"
#include "base/exception_text.h"
#include "table/arrow_bridge.h"
#include "trace/queue_rows.h"
#include "trace/tables.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

constexpr Column kQueueColumns[] = {
    {"id", Type::kText},         {"seq", Type::kInteger},   {"time", Type::kTime},
    {"writer", Type::kText},     {"name", Type::kText},     {"sql", Type::kText},
    {"inputs", Type::kText},  // JSON list
    {"rubric", Type::kText},  // JSON
    {"overlap", Type::kInteger}, {"items", Type::kInteger}, {"who", Type::kText},
    {"state", Type::kText},  // null; removed
};

std::string Dumped(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

Status Write(table::Catalog* catalog, const Queue& queue, const table::CommitOptions& options) {
  json row = {{"id", queue.id.ToString()},
              {"time", queue.time},
              {"name", queue.name},
              {"sql", queue.sql},
              {"inputs", Dumped(queue.inputs)},
              {"rubric", Dumped(queue.rubric.ToJson())},
              {"overlap", queue.overlap},
              {"items", queue.items},
              {"who", queue.who}};
  if (queue.removed) row["state"] = "removed";
  return CommitRows(catalog, QueueTable(), {row}, options).status();
}

Result<Queue> FromRow(const json& row) {
  Queue queue;
  queue.name = row.value("name", "");
  queue.sql = row.value("sql", "");
  queue.who = row.value("who", "");
  queue.time = row.value("time", int64_t{0});
  queue.overlap = row.value("overlap", int64_t{1});
  queue.items = row.value("items", int64_t{0});
  queue.removed = row.value("state", "") == "removed";
  HEADRACE_ASSIGN(queue.id, Uuid::Parse(row.value("id", "")));
  HEADRACE_ASSIGN(queue.rubric, Rubric::FromJson(ParseJson(row.value("rubric", ""))));
  const json inputs = ParseJson(row.value("inputs", ""));
  if (inputs.is_array())
    for (const json& input : inputs)
      if (input.is_string()) queue.inputs.push_back(input);
  return queue;
}

bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= 100 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  });
}

}  // namespace

const SpoolTable& QueueTable() {
  static constexpr SpoolTable table = {kQueues, [] { return std::span<const Column>(kQueueColumns); }, {}, 0};
  return table;
}

Status Rubric::Complete() {
  if (name.empty()) return Status::Invalid("the scores of a rubric have a name");
  if (labels.empty())
    return least < most ? Status::Ok() : Status::Invalid("a rubric has labels, or a range of numbers");
  std::set<std::string> keys, words;
  for (const Label& one : labels) {
    if (one.label.empty()) return Status::Invalid("a label is empty");
    if (!words.insert(one.label).second)
      return Status::Invalid("the label '" + one.label + "' is there twice");
    if (one.key.size() > 1 || one.key == " " || one.key == "?")
      return Status::Invalid("the key of the label '" + one.label + "' is one letter or digit");
    if (!one.key.empty() && !keys.insert(one.key).second)
      return Status::Invalid("two labels have the key '" + one.key + "'");
  }
  // The keys of the commands: undo, skip, comment, quit.
  const std::string taken = "uscq";
  for (Label& one : labels) {
    if (!one.key.empty() && taken.find(one.key) != std::string::npos)
      return Status::Invalid("the keys u, s, c and q undo, skip, comment and quit; give the label '" +
                             one.label + "' another");
    for (size_t i = 0; one.key.empty() && i <= one.label.size() + 9; ++i) {
      const std::string key = i < one.label.size()
                                  ? std::string(1, static_cast<char>(std::tolower(one.label[i])))
                                  : std::to_string(i - one.label.size() + 1);
      const bool plain = std::isalnum(static_cast<unsigned char>(key[0])) != 0 && key.size() == 1;
      if (plain && taken.find(key) == std::string::npos && keys.insert(key).second) one.key = key;
    }
    if (one.key.empty()) return Status::Invalid("there is no key left for the label '" + one.label + "'");
  }
  return Status::Ok();
}

Status Rubric::Check(const std::optional<double>& value, const std::string& label) const {
  if (labels.empty()) {
    if (value && *value >= least && *value <= most) return Status::Ok();
    return Status::Invalid("'" + name + "' is a number from " + Dumped(least) + " to " + Dumped(most));
  }
  std::string words;
  for (const Label& one : labels) {
    if (one.label == label) return Status::Ok();
    words += (words.empty() ? "" : ", ") + one.label;
  }
  return Status::Invalid("'" + name + "' is one of: " + words);
}

json Rubric::ToJson() const {
  json out = {{"name", name}};
  if (!instructions.empty()) out["instructions"] = instructions;
  if (labels.empty()) out["range"] = {least, most};
  for (const Label& one : labels) out["labels"].push_back({{"key", one.key}, {"label", one.label}});
  return out;
}

Result<Rubric> Rubric::FromJson(const json& in) {
  try {
    Rubric rubric;
    rubric.name = in.value("name", "score");
    rubric.instructions = in.value("instructions", "");
    if (in.contains("range")) {
      rubric.least = in.at("range").at(0).get<double>();
      rubric.most = in.at("range").at(1).get<double>();
    }
    if (in.contains("labels"))
      for (const json& one : in.at("labels"))
        rubric.labels.push_back({one.value("key", ""), one.at("label").get<std::string>()});
    HEADRACE_TRY(rubric.Complete());
    return rubric;
  } catch (const std::exception& error) {
    return Status::Invalid("this is no rubric: " + ExceptionText(error));
  }
}

nlohmann::ordered_json ToJson(const Queue& queue) {
  return {{"name", queue.name},
          {"id", queue.id.ToString()},
          {"sql", queue.sql},
          {"inputs", queue.inputs},
          {"rubric", queue.rubric.ToJson()},
          {"overlap", queue.overlap},
          {"items", queue.items},
          {"who", queue.who},
          {"time", FormatMicros(queue.time)}};
}

Result<Queue> QueueFromJson(const json& in) {
  try {
    Queue queue;
    queue.name = in.at("name").get<std::string>();
    queue.sql = in.at("sql").get<std::string>();
    queue.overlap = in.value("overlap", int64_t{1});
    HEADRACE_ASSIGN(queue.rubric, Rubric::FromJson(in.at("rubric")));
    return queue;
  } catch (const std::exception& error) {
    return Status::Invalid("this is no queue: " + ExceptionText(error));
  }
}

Result<Queue> CreateQueue(table::Catalog* catalog, Queue queue, const RunSql& run,
                          const table::CommitOptions& options) {
  if (!IsName(queue.name))
    return Status::Invalid("a queue's name has letters, digits, '.', '_' and '-', not '" + queue.name + "'");
  if (queue.overlap < 1 || queue.overlap > 100)
    return Status::Invalid("an item goes to 1 to 100 people, not to " + std::to_string(queue.overlap));
  HEADRACE_TRY(queue.rubric.Complete());
  HEADRACE_ASSIGN(const auto known, ListQueues(*catalog));
  for (const Queue& other : known)
    if (other.name == queue.name)
      return Status::AlreadyExists("there is a queue '" + queue.name +
                                   "'; remove it first, or take another name");
  queue.id = Uuid::Random();
  queue.time = NowMicros();
  if (queue.who.empty()) queue.who = options.who.empty() ? table::DefaultWho() : options.who;
  HEADRACE_ASSIGN(const auto items, ItemsOf(queue.sql, run, &queue.inputs));
  if (items.empty()) return Status::Invalid("the query gives no rows: there is nothing to judge");
  queue.items = static_cast<int64_t>(items.size());
  // The items first: the queue is there once its own row is.
  HEADRACE_TRY(WriteItems(catalog, queue, items, options));
  HEADRACE_TRY(Write(catalog, queue, options));
  return queue;
}

Result<std::vector<Queue>> ListQueues(const table::Catalog& catalog, bool removed) {
  HEADRACE_ASSIGN(const auto rows, ReadRows(catalog, QueueTable(), ""));
  std::vector<Queue> all;
  for (const json& row : rows) {
    HEADRACE_ASSIGN(Queue queue, FromRow(row));
    const auto same =
        std::find_if(all.begin(), all.end(), [&](const Queue& one) { return one.id == queue.id; });
    if (same != all.end()) {
      *same = std::move(queue);
    } else {
      all.push_back(std::move(queue));
    }
  }
  if (removed) return all;
  std::map<std::string, Queue> newest;
  for (Queue& queue : all) {
    if (queue.removed) continue;
    std::string name = queue.name;
    newest.insert_or_assign(std::move(name), std::move(queue));
  }
  std::vector<Queue> queues;
  for (auto& [name, queue] : newest) queues.push_back(std::move(queue));
  return queues;
}

Result<Queue> FindQueue(const table::Catalog& catalog, const std::string& name) {
  HEADRACE_ASSIGN(const auto queues, ListQueues(catalog));
  std::string names;
  for (const Queue& queue : queues) {
    if (queue.name == name) return queue;
    names += (names.empty() ? "" : ", ") + queue.name;
  }
  return Status::NotFound("there is no queue '" + name + "'" +
                          (names.empty() ? "; there are none" : "; there are " + names));
}

Result<Queue> RemoveQueue(table::Catalog* catalog, const std::string& name,
                          const table::CommitOptions& options) {
  HEADRACE_ASSIGN(Queue queue, FindQueue(*catalog, name));
  queue.removed = true;
  queue.time = NowMicros();
  HEADRACE_TRY(Write(catalog, queue, options));
  return queue;
}

}  // namespace headrace::trace
