#include "table/pins.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

#include "base/clock.h"
#include "table/commit_options.h"
#include "table/keys.h"

namespace headrace::table {

namespace {

constexpr double kLeastWait = 0.02;  // seconds
constexpr double kMostWait = 3600;

}  // namespace

PinTiming PinTiming::FromEnvironment() {
  PinTiming timing;
  const char* given = getenv("HEADRACE_LEASE_AFTER");
  double seconds = 0;
  if (given == nullptr) return timing;
  const auto [end, error] = std::from_chars(given, given + std::strlen(given), seconds);
  constexpr double kMost = 1e6;
  if (error == std::errc() && *end == '\0' && seconds >= 0)
    timing.lease_after_seconds = std::min(seconds, kMost);
  return timing;
}

Pins::Pins(std::shared_ptr<store::ObjectStore> store, PinTiming timing)
    : store_(std::move(store)), timing_(timing) {}

Pins::~Pins() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<const void> Pins::Add(PinnedVersion pin) {
  {
    const std::lock_guard lock(mutex_);
    Held& held = held_[pin];
    if (held.count++ == 0 && !held.lease && !held.tended)
      held.due = MonotonicSeconds() + timing_.lease_after_seconds;
    try {
      if (!thread_.joinable()) thread_ = std::thread([this] { Loop(); });
    } catch (const std::exception&) {
      // Without a thread there are no leases: the grace period holds the version.
    }
  }
  auto token = std::make_shared<PinnedVersion>(std::move(pin));
  return {token.get(), [self = shared_from_this(), token](const void*) { self->Remove(*token); }};
}

void Pins::Remove(const PinnedVersion& pin) {
  const std::lock_guard lock(mutex_);
  const auto it = held_.find(pin);
  if (--it->second.count > 0 || it->second.tended) return;
  if (it->second.lease) {
    ended_.push_back(std::move(it->second.lease));
    wake_.notify_all();
  }
  held_.erase(it);
}

double Pins::NextDue() const {
  // What is added while this is waited for is seen in time: a new pin does not wake the thread.
  double due = MonotonicSeconds() + std::clamp(timing_.lease_after_seconds / 4, kLeastWait, kMostWait);
  for (const auto& [pin, held] : held_) due = std::min(due, held.due);
  return due;
}

std::unique_ptr<Lease> Pins::Renewed(const PinnedVersion& pin, std::unique_ptr<Lease> lease) const {
  if (lease && lease->Renew().ok()) return lease;
  const auto key = ParseKey(CollectedKey(pin.prefix));  // any of the table's
  if (!key) return nullptr;
  const std::string table = key->table.ToString();
  LeaseTerms terms;
  terms.holder = DefaultWho() + ", process " + std::to_string(getpid());
  terms.ttl_seconds = timing_.ttl_seconds;
  terms.table = table;
  terms.version = pin.version;
  terms.writes = pin.writes;
  auto taken = Lease::Take(store_, table + "-" + Uuid::Random().ToString(), terms);
  return taken.ok() ? std::move(taken).value() : nullptr;
}

void Pins::Tend() {
  std::unique_lock lock(mutex_);
  const double now = MonotonicSeconds();
  std::vector<PinnedVersion> due;
  for (auto& [pin, held] : held_) {
    if (held.due > now || held.tended) continue;
    held.tended = true;
    held.due = now + timing_.ttl_seconds / 3;
    due.push_back(pin);
  }
  for (const auto& pin : due) {
    auto lease = std::move(held_[pin].lease);
    lock.unlock();
    try {
      lease = Renewed(pin, std::move(lease));
    } catch (const std::exception&) {
      lease = nullptr;  // it is taken anew when it is due again
    }
    lock.lock();
    const auto it = held_.find(pin);
    it->second.tended = false;
    if (it->second.count > 0) {
      it->second.lease = std::move(lease);
      continue;
    }
    if (lease) ended_.push_back(std::move(lease));
    held_.erase(it);
  }
  const auto ended = std::exchange(ended_, {});
  lock.unlock();
  for (const auto& lease : ended) {
    const Status ignored = lease->Release(/*name_is_unique=*/true);
    (void)ignored;  // it lapses
  }
}

void Pins::Loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const double left = NextDue() - MonotonicSeconds();
    if (!closing_ && ended_.empty() && left > 0) wake_.wait_for(lock, std::chrono::duration<double>(left));
    const bool last = closing_;
    if (last) {
      for (auto& [pin, held] : held_) {
        if (held.lease && !held.tended) ended_.push_back(std::move(held.lease));
      }
    }
    if (last && ended_.empty()) return;
    lock.unlock();
    Tend();
    lock.lock();
    if (last) return;
  }
}

}  // namespace headrace::table
