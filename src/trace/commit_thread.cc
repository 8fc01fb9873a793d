#include "trace/commit_thread.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "store/object_store.h"

namespace headrace::trace {
namespace {

constexpr double kLookSeconds = 1;       // between looks at how much waits, and at who commits
constexpr int64_t kMuchBytes = 8 << 20;  // that wait: committed at the next look

}  // namespace

std::unique_ptr<CommitThread> CommitThread::Start(std::shared_ptr<table::Catalog> catalog,
                                                  CommitThreadOptions options) {
  std::unique_ptr<CommitThread> thread(new CommitThread());
  thread->catalog_ = std::move(catalog);
  thread->options_ = std::move(options);
  thread->thread_ = std::thread([raw = thread.get()] { raw->Run(); });
  return thread;
}

CommitThread::~CommitThread() {
  Stop();
  if (live_) live_->Forget();  // after the last commit: until then it tells what that takes
}

void CommitThread::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Status CommitThread::Commit() {
  const std::lock_guard lock(commit_mutex_);
  Status status;
  if (!committer_) {
    auto committer = Committer::Try(catalog_);
    status = committer.status();
    if (committer.ok()) committer_ = std::move(*committer);
  }
  if (committer_) {
    const auto counts = committer_->Commit();
    status = counts.status();
    if (counts.ok()) {
      committed_ += counts->total();
      if (options_.complaints && !counts->complaints.empty()) options_.complaints(counts->complaints);
    }
  }
  if (options_.outcome) options_.outcome(status);
  std::string kept;
  for (const std::string& path : DamagedSpools(SpoolRoot(*catalog_)))
    kept += (kept.empty() ? "" : ", ") + path;
  const std::lock_guard told(mutex_);
  damaged_ = kept;
  return status;
}

std::string CommitThread::damaged() const {
  const std::lock_guard lock(mutex_);
  return damaged_;
}

// Whether to commit now, the last time being `since` (monotonic seconds).
bool CommitThread::IsDue(double since) {
  if (MonotonicSeconds() - since >= options_.seconds) return true;
  const std::lock_guard lock(commit_mutex_);
  return committer_ && committer_->waiting() >= kMuchBytes;
}

// For viewers on other machines. What fails is tried again; nobody's rows depend on it.
void CommitThread::ShowTails() {
  if (catalog_->environment()->store->is_local()) return;
  const std::lock_guard lock(commit_mutex_);
  if (!committer_ || committer_->id().empty()) return;
  if (!live_) live_ = std::make_unique<LiveTails>(catalog_, committer_->id());
  (void)live_->Look(MonotonicSeconds(), committer_->waiting() > 0);
}

void CommitThread::Run() {
  pthread_setname_np(pthread_self(), "hr-trace");
  if (options_.nice != 0) setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), options_.nice);
  (void)Commit();  // of programs that died
  const std::chrono::duration<double> look(std::min(kLookSeconds, options_.seconds));
  for (double last = MonotonicSeconds();;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, look, [&] { return stopping_; });
      if (stopping_) return;
    }
    if (options_.each_look) options_.each_look();
    ShowTails();
    if (!IsDue(last)) continue;
    (void)Commit();
    last = MonotonicSeconds();
  }
}

}  // namespace headrace::trace
