#include "trace/queue_state.h"

#include <algorithm>

#include "base/exception_text.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

void DropSession(QueueState* state, const std::string& session) {
  for (auto& [number, item] : state->items) item.claims.erase(session);
  state->sessions.erase(session);
}

void ApplyDone(QueueState* state, const std::string& op, const json& step, const std::string& session,
               const std::string& who) {
  const auto number = step.at("item").get<int64_t>();
  const json& row = step.at("row");
  QueueState::Item& item = state->items[number];
  state->sessions[session].rows.push_back(row);
  if (op == "undo") {
    item.labels.erase(who);
    item.skips.erase(who);
    item.claims[session] = who;
    auto& done = state->done[who];
    std::erase_if(done, [&](const auto& one) { return one.item == number; });
    return;
  }
  item.claims.erase(session);
  item.skips.erase(who);
  (op == "label" ? item.labels : item.skips).insert(who);
  auto& done = state->done[who];
  std::erase_if(done, [&](const auto& one) { return one.item == number; });
  done.push_back({number, row.at("time").get<int64_t>(), op == "skip"});
}

}  // namespace

bool QueueState::Item::Saw(const std::string& who) const {
  return labels.contains(who) || skips.contains(who) ||
         std::any_of(claims.begin(), claims.end(), [&](const auto& claim) { return claim.second == who; });
}

Status QueueState::Apply(const json& entry) {
  try {
    const auto session = entry.at("session").get<std::string>(), who = entry.at("who").get<std::string>();
    Session& own = sessions[session];
    own.who = who;
    const auto stored = entry.at("stored").get<int64_t>();
    for (; own.stored < stored && !own.rows.empty(); ++own.stored) own.rows.erase(own.rows.begin());
    for (const json& step : entry.at("do")) {
      const auto op = step.at("op").get<std::string>();
      if (op == "claim") {
        items[step.at("item").get<int64_t>()].claims[session] = who;
      } else if (op == "release") {
        items[step.at("item").get<int64_t>()].claims.erase(step.value("session", session));
      } else if (op == "label" || op == "skip" || op == "undo") {
        ApplyDone(this, op, step, session, who);
      } else if (op == "lapse") {
        DropSession(this, step.at("session").get<std::string>());
      } else if (op == "end") {
        DropSession(this, session);
      } else {
        return Status::Unsupported("a newer Headrace has written '" + op + "' into the queue's log");
      }
    }
    ++number;
    return Status::Ok();
  } catch (const std::exception& error) {
    return Status::Corrupt("the queue's log cannot be read: " + ExceptionText(error));
  }
}

const QueueState::Item& QueueState::At(int64_t item) const {
  static const Item untouched;
  const auto found = items.find(item);
  return found == items.end() ? untouched : found->second;
}

std::optional<int64_t> QueueState::Free(const std::string& who, int64_t count, int64_t overlap) const {
  for (int64_t i = 0; i < count; ++i) {
    const Item& item = At(i);
    if (item.places() < overlap && !item.Saw(who)) return i;
  }
  return std::nullopt;
}

int64_t QueueState::Left(const std::string& who, int64_t count, int64_t overlap) const {
  int64_t left = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Item& item = At(i);
    const bool done = item.labels.contains(who) || item.skips.contains(who);
    left += !done && static_cast<int64_t>(item.labels.size()) < overlap;
  }
  return left;
}

std::optional<int64_t> QueueState::HeldBy(const std::string& session) const {
  for (const auto& [number, item] : items)
    if (item.claims.contains(session)) return number;
  return std::nullopt;
}

std::string QueueState::SessionWith(int64_t item, const std::string& who) const {
  for (const auto& [session, claimant] : At(item).claims)
    if (claimant == who) return session;
  return "";
}

int64_t QueueState::labels() const {
  int64_t sum = 0;
  for (const auto& [number, item] : items) sum += static_cast<int64_t>(item.labels.size());
  return sum;
}

json QueueState::ToJson() const {
  json out = {
      {"number", number}, {"items", json::array()}, {"sessions", json::object()}, {"done", json::object()}};
  for (const auto& [number, item] : items)
    out["items"].push_back({number, item.labels, item.claims, item.skips});
  for (const auto& [id, session] : sessions)
    out["sessions"][id] = {{"who", session.who}, {"stored", session.stored}, {"rows", session.rows}};
  for (const auto& [who, list] : done) {
    json& told = out["done"][who] = json::array();
    for (const Done& one : list) told.push_back({one.item, one.time, one.skipped});
  }
  return out;
}

Result<QueueState> QueueState::FromJson(const json& in) {
  try {
    QueueState state;
    state.number = in.at("number").get<int64_t>();
    for (const json& one : in.at("items")) {
      Item& item = state.items[one.at(0).get<int64_t>()];
      item.labels = one.at(1).get<std::set<std::string>>();
      item.claims = one.at(2).get<std::map<std::string, std::string>>();
      item.skips = one.at(3).get<std::set<std::string>>();
    }
    for (const auto& [id, one] : in.at("sessions").items())
      state.sessions[id] = {one.at("who").get<std::string>(), one.at("stored").get<int64_t>(),
                            one.at("rows").get<std::vector<json>>()};
    for (const auto& [who, list] : in.at("done").items())
      for (const json& one : list)
        state.done[who].push_back(
            {one.at(0).get<int64_t>(), one.at(1).get<int64_t>(), one.at(2).get<bool>()});
    return state;
  } catch (const std::exception& error) {
    return Status::Corrupt("the queue's log cannot be read: " + ExceptionText(error));
  }
}

}  // namespace headrace::trace
