#include "table/upkeeper.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <exception>

#include "base/clock.h"
#include "table/commit_options.h"
#include "table/table.h"

namespace headrace::table {
namespace {

constexpr double kTurnSeconds = 90;  // without a sign of life, after which another takes the turn
constexpr double kLeastRest = 0.25;  // seconds between two runs

}  // namespace

bool MayWantUpkeep(const Snapshot& snapshot) {
  int64_t small = 0;
  for (const auto& entry : snapshot.inline_entries) small += entry.rows < limits::kSmallFragmentRows;
  for (const auto& manifest : snapshot.manifests) {
    // At least so many of them must be small for their rows to be so few.
    small += std::max<int64_t>(0, manifest.entries - manifest.rows / limits::kSmallFragmentRows);
  }
  return small > limits::kMaxSmallFragments;
}

Upkeeper::Upkeeper(std::shared_ptr<store::ObjectStore> store, UpkeepTiming timing)
    : store_(std::move(store)), timing_(timing), watch_(MonotonicSeconds) {}

Upkeeper::~Upkeeper() {
  {
    std::unique_lock lock(mutex_);
    closing_ = true;
    due_.clear();
    wake_.notify_all();
    wake_.wait_for(lock, std::chrono::duration<double>(timing_.closing_seconds), [&] { return !working_; });
  }
  stop_.Stop();
  if (thread_.joinable()) thread_.join();
}

void Upkeeper::Committed(const Snapshot& snapshot) noexcept {
  try {
    const bool small = MayWantUpkeep(snapshot);
    if (!small && snapshot.keep_us == 0) return;
    const std::lock_guard lock(mutex_);
    const Needs needs = NeedsOf(snapshot, small);
    if (closing_ || !(needs.joining || needs.collecting)) return;
    if (!thread_.joinable()) thread_ = std::thread([this] { Loop(); });
    Needs& due = due_[snapshot.table];
    due = {due.joining || needs.joining, due.collecting || needs.collecting, needs.version};
    wake_.notify_all();
  } catch (const std::exception&) {
    // No thread, or no memory: the next commit tries again.
  }
}

Upkeeper::Needs Upkeeper::NeedsOf(const Snapshot& snapshot, bool small) {
  Needs needs{.version = snapshot.version};
  const auto looked = looked_at_.find(snapshot.table);
  needs.joining =
      small && (looked == looked_at_.end() || snapshot.version >= looked->second + timing_.versions);
  if (snapshot.keep_us > 0) {
    const double now = MonotonicSeconds();
    const auto collected = collected_at_.try_emplace(snapshot.table, now).first;
    needs.collecting = now >= collected->second + timing_.collect_every;
  }
  return needs;
}

void Upkeeper::Settle() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return due_.empty() && !working_; });
}

int64_t Upkeeper::runs() const {
  const std::lock_guard lock(mutex_);
  return runs_;
}

std::unique_ptr<Lease> Upkeeper::TakeTurn(const Uuid& table) {
  const std::string name = "upkeep-" + table.ToString();
  LeaseTerms terms;
  terms.holder = DefaultWho() + ", process " + std::to_string(getpid());
  terms.ttl_seconds = kTurnSeconds;
  const auto others = ListLeases(store_.get(), name);
  if (!others.ok()) return nullptr;
  watch_.See(*others);
  const bool lapsed = !others->empty() && watch_.Lapsed(others->front());
  if (!others->empty() && !lapsed) return nullptr;
  auto turn = Lease::Take(store_, name, terms, lapsed ? &others->front() : nullptr);
  return turn.ok() ? std::move(turn).value() : nullptr;
}

void Upkeeper::Run(const Uuid& table, const Needs& needs) {
  const auto turn = TakeTurn(table);
  if (!turn) return;
  double renewed = MonotonicSeconds();
  StopSource this_run;
  const StopCallback closing(stop_.token(), [&] { this_run.Stop(); });
  CommitOptions options;
  options.how = "upkeep";
  options.stop = this_run.token();
  options.progress = [&](const Progress&) {
    if (MonotonicSeconds() < renewed + kTurnSeconds / 3) return;
    renewed = MonotonicSeconds();
    if (turn->Renew().Is(Code::kConflict)) this_run.Stop();  // it slept, and another has the turn
  };
  Table kept(env_, "a table", table);
  bool committed = false;
  if (needs.joining) {
    const auto done = kept.Upkeep(options);
    committed = done.ok() && done->commits > 0;
  }
  if (needs.collecting && options.stop.Check().ok()) {
    const auto done = kept.Collect({}, options);
    committed = committed || (done.ok() && done->expired > 0);
  }
  const Status ignored = turn->Release(/*name_is_unique=*/false);
  (void)ignored;  // it lapses
  const std::lock_guard lock(mutex_);
  runs_ += committed;
}

void Upkeeper::Loop() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 10);
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return closing_ || !due_.empty(); });
    const double rest = rest_until_ - MonotonicSeconds();
    if (!closing_ && rest > 0) {
      wake_.wait_for(lock, std::chrono::duration<double>(rest), [&] { return closing_; });
      continue;
    }
    if (closing_) return;
    const Uuid table = due_.begin()->first;
    const Needs needs = due_.begin()->second;
    due_.erase(due_.begin());
    if (needs.joining) looked_at_[table] = needs.version;
    if (needs.collecting) collected_at_[table] = MonotonicSeconds();
    working_ = true;
    lock.unlock();
    const double begin = MonotonicSeconds();
    try {
      if (!env_) env_ = std::make_shared<Environment>(store_, 1);
      Run(table, needs);
    } catch (const std::exception&) {
      // As a failure: the next commit tries again.
    }
    const double took = MonotonicSeconds() - begin;
    lock.lock();
    working_ = false;
    rest_until_ = MonotonicSeconds() + std::max(kLeastRest, took * (1 / timing_.share - 1));
    wake_.notify_all();
  }
}

}  // namespace headrace::table
