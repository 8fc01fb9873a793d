// annotator: one person (or program) at work on a queue. Items are handed out under a claim in the queue's
// log, so that no more people than the overlap get one, and nobody gets one twice; the claims of an annotator
// who has died go to others. That it lives is told by a lease, which a thread renews.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "table/lease.h"
#include "trace/queue.h"
#include "trace/queue_log.h"

namespace headrace::trace {

struct AnnotatorOptions {
  std::string who;
  // Keeps a score where it survives this process: in a spool.
  std::function<Status(const nlohmann::json& row)> write;
  double ttl_seconds = 60;  // without a sign of life, after which its claims go to others
  double idle_seconds = 0;  // without a call, after which no sign of life is given; 0: for ever
};

struct Judgement {
  std::optional<double> value;
  std::string label, comment;
  double seconds = 0;  // that it took
};

struct QueueProgress {
  int64_t items = 0;   // of the queue
  int64_t wanted = 0;  // labels: items times overlap
  int64_t labels = 0;  // that there are
  int64_t mine = 0;    // of them
  int64_t left = 0;    // items that this annotator has not had and that lack labels
};

// Thread-safe.
class Annotator {
 public:
  static Result<std::unique_ptr<Annotator>> Open(std::shared_ptr<table::Catalog> catalog, const Queue& queue,
                                                 AnnotatorOptions options);
  ~Annotator();  // as if it had died, unless it was closed
  Annotator(const Annotator&) = delete;
  Annotator& operator=(const Annotator&) = delete;

  // The item that it has, else one that is free, else what this person has in another session. Nothing where
  // none is: progress() tells whether others still have some.
  Result<std::optional<QueueItem>> Next();
  // The row that was kept; it is safe in the log even where `write` failed. An item that this annotator has
  // labelled gets the new label. Conflict: it has gone to others meanwhile. Invalid: the rubric says no.
  Result<nlohmann::json> Label(int64_t item, const Judgement& judgement);
  // Whoever skips an item gets it no more.
  Result<nlohmann::json> Skip(int64_t item, const std::string& comment = "");
  // Takes back the last label or skip of this person, in this session or an earlier one: the item is theirs
  // again. Nothing where there is none; Conflict where others have taken the place of a skipped one.
  Result<std::optional<QueueItem>> Undo();
  Result<QueueProgress> Progress();
  // Gives back what it has. An error: some rows could not be written; whoever opens the queue next does.
  Status Close();
  const Queue& queue() const { return queue_; }

 private:
  using Steps = nlohmann::json;
  Annotator(std::shared_ptr<table::Catalog> catalog, const Queue& queue, AnnotatorOptions options,
            QueueLog log);
  Status Begin();
  Status Ready();
  Status Flush();
  Result<bool> Append(Steps steps);
  Result<bool> Sweep();
  Result<bool> TakeOver();
  Result<nlohmann::json> Finish(int64_t item, const char* op, nlohmann::json row);
  nlohmann::json RowOf(const QueueItem& item) const;
  Result<const QueueItem*> ItemAt(int64_t number) const;
  int64_t TimeOf(int64_t number) const;
  void Beat();

  std::shared_ptr<table::Catalog> catalog_;
  const Queue queue_;
  const AnnotatorOptions options_;
  std::vector<QueueItem> items_;
  std::mutex mutex_;  // of the log, the session and what was written
  QueueLog log_;
  std::string session_;
  bool begun_ = false;  // the log has an entry of this session
  bool closed_ = false;
  int64_t stored_ = 0;  // rows of this session that were written
  std::vector<nlohmann::json> unwritten_;
  table::LeaseWatch watch_;

  std::mutex lease_mutex_;
  std::unique_ptr<table::Lease> lease_;
  double used_ = 0;  // monotonic seconds of the last call
  bool stopping_ = false;
  std::condition_variable wake_;
  std::thread beat_;
};

}  // namespace headrace::trace
