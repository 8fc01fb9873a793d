// commit_thread: commits the spools of this machine in the background, for every program that writes one. One
// process at a time does it for all (committer.h); the others stand by, and one of them goes on when it ends.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "trace/committer.h"
#include "trace/live.h"

namespace headrace::trace {

struct CommitThreadOptions {
  double seconds = 15;  // between commits; they come sooner where much waits
  int nice = 0;         // of the thread, above the program's own
  // All of these are called on the thread, or by whoever calls Commit(); any may be empty.
  std::function<void()> each_look;                                  // about once a second
  std::function<void(const Status&)> outcome;                       // of each commit
  std::function<void(const std::vector<std::string>&)> complaints;  // of what could not be read
};

class CommitThread {
 public:
  static std::unique_ptr<CommitThread> Start(std::shared_ptr<table::Catalog> catalog,
                                             CommitThreadOptions options);
  ~CommitThread();  // stops; what was not committed is for whoever comes next
  CommitThread(const CommitThread&) = delete;
  CommitThread& operator=(const CommitThread&) = delete;

  // Nothing more by itself; Commit() still works.
  void Stop();
  // Now, unless another process commits these spools.
  Status Commit();
  int64_t committed() const { return committed_; }  // rows, by this process
  std::string damaged() const;                      // where records are kept that could not be read

 private:
  CommitThread() = default;
  void Run();
  bool IsDue(double since);
  void ShowTails();

  std::shared_ptr<table::Catalog> catalog_;
  CommitThreadOptions options_;
  std::mutex commit_mutex_;
  std::unique_ptr<Committer> committer_;  // null while another process has its lock
  std::unique_ptr<LiveTails> live_;       // of the committer, where the catalog is in a bucket
  std::atomic<int64_t> committed_{0};
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::string damaged_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace headrace::trace
