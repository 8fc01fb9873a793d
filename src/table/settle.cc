#include "table/settle.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

namespace headrace::table {
namespace {

constexpr int kAttempts = 8;

}  // namespace

bool Ambiguous(const Status& status) {
  return status.Is(Code::kTimeout) || status.Is(Code::kUnavailable) || status.Is(Code::kUnknown);
}

void Backoff(int64_t attempt) {
  thread_local std::mt19937_64 random(std::random_device{}());
  const int64_t cap_us = std::min<int64_t>(100'000, 500 << std::min<int64_t>(attempt, 8));
  std::this_thread::sleep_for(std::chrono::microseconds(random() % static_cast<uint64_t>(cap_us)));
}

Result<bool> PutSettled(store::ObjectStore* store, const std::string& key, const std::string& text,
                        const std::function<Result<bool>(std::string_view)>& ours, const std::string& what) {
  Status put = store->PutIfAbsent(key, text);
  if (put.ok()) return true;
  if (!put.Is(Code::kAlreadyExists) && !Ambiguous(put)) return put;
  // Someone is there, or the answer was lost: what stands at the key decides. Where nothing stands yet, the
  // same bytes are offered again, so a late arrival of the first attempt changes nothing.
  const auto unknown = [&](const Status& why) { return Status::Unknown(what).Wrap(why.ToString()); };
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto there = store->Get(key);
    if (there.ok()) {
      const Result<bool> mine = ours(there->view());
      if (!mine.ok()) return unknown(mine.status());
      // The store itself said that it cannot promise to keep it: that is no success.
      if (*mine && put.Is(Code::kUnknown)) return put;
      return *mine;
    }
    if (there.status().Is(Code::kNotFound)) {
      put = store->PutIfAbsent(key, text);
      if (put.ok()) return true;
      // Refused now, but the first attempt may still arrive.
      if (!put.Is(Code::kAlreadyExists) && !Ambiguous(put)) return unknown(put);
    } else if (!Ambiguous(there.status())) {
      return unknown(there.status());
    }
    Backoff(attempt + 4);
  }
  return unknown(put);
}

Result<std::string> PutFirst(store::ObjectStore* store, const std::string& key, const std::string& text) {
  std::string stands = text;
  const auto ours = PutSettled(
      store, key, text,
      [&](std::string_view there) -> Result<bool> {
        stands = there;
        return there == text;
      },
      "the store never said whether " + key + " was written; look at it before trying again");
  if (!ours.ok()) return ours.status();
  return stands;
}

}  // namespace headrace::table
