#include "trace/queue_log.h"

#include "table/keys.h"
#include "table/sealed_json.h"
#include "table/settle.h"

namespace headrace::trace {

using nlohmann::json;

Result<json> QueueLog::Read(int64_t number) const {
  const std::string key = table::QueueLogKey(queue_, number);
  HEADRACE_ASSIGN(const auto bytes, store_->Get(key));
  json entry = ParseJson(bytes.view());
  if (!entry.is_object() || !table::SealHolds(entry))
    return Status::Corrupt(key + " is damaged: its checksum does not match");
  return entry;
}

Result<QueueLog> QueueLog::Open(std::shared_ptr<store::ObjectStore> store, const Uuid& queue) {
  QueueLog log(std::move(store), queue);
  HEADRACE_ASSIGN(const auto newest, log.store_->List(table::QueueLogFolder(queue), "", 1));  // listed first
  if (newest.empty()) return log;
  const auto key = table::ParseKey(newest[0].key);
  if (!key) return Status::Corrupt("'" + newest[0].key + "' is no entry of a queue's log");
  if (const int64_t with_state = key->number / kStateEvery * kStateEvery; with_state > 0) {
    HEADRACE_ASSIGN(const json entry, log.Read(with_state));
    HEADRACE_ASSIGN(log.state_, QueueState::FromJson(entry.value("state", json())));
  }
  HEADRACE_TRY(log.Refresh());
  return log;
}

Status QueueLog::Refresh() {
  for (;;) {
    const auto entry = Read(state_.number + 1);
    if (entry.status().Is(Code::kNotFound)) return Status::Ok();
    HEADRACE_TRY(entry.status());
    HEADRACE_TRY(state_.Apply(*entry));
  }
}

Result<bool> QueueLog::Append(json entry) {
  QueueState after = state_;
  HEADRACE_TRY(after.Apply(entry));
  entry["nonce"] = Uuid::Random().ToString();
  if (after.number % kStateEvery == 0) entry["state"] = after.ToJson();
  table::Seal(&entry);
  const std::string text = entry.dump(-1, ' ', false, json::error_handler_t::replace);
  HEADRACE_ASSIGN(const bool ours,
                  table::PutSettled(
                      store_.get(), table::QueueLogKey(queue_, after.number), text,
                      [&](std::string_view there) -> Result<bool> { return there == text; },
                      "the store never said whether it took the entry into the queue's log"));
  if (ours) {
    state_ = std::move(after);
    return true;
  }
  HEADRACE_TRY(Refresh());
  return false;
}

}  // namespace headrace::trace
