#include "serve/recorder.h"

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/hash.h"
#include "trace/tables.h"

namespace headrace::serve {

using nlohmann::json;

namespace {

constexpr size_t kMostLostEnds = 16 << 10;
constexpr double kCommitSeconds = 1;     // between looks at how much waits, and at who commits
constexpr int64_t kMuchBytes = 8 << 20;  // that wait: committed at the next look

}  // namespace

Result<RecordMode> ParseRecordMode(const std::string& word) {
  if (word == "full") return RecordMode::kFull;
  if (word == "hash") return RecordMode::kHash;
  if (word == "none") return RecordMode::kNone;
  return Status::Invalid("--record is full, hash or none, not '" + word + "'");
}

Result<std::unique_ptr<Recorder>> Recorder::Start(std::shared_ptr<table::Catalog> catalog, RecordMode mode,
                                                  double commit_seconds) {
  std::unique_ptr<Recorder> recorder(new Recorder());
  recorder->mode_ = mode;
  recorder->commit_seconds_ = commit_seconds;
  if (!catalog) return recorder;
  recorder->catalog_ = catalog;
  // The tables are there from the first request on, so that SQL finds their tails.
  for (const trace::SpoolTable& table : trace::SpoolTables())
    HEADRACE_TRY(trace::OpenOrCreate(catalog.get(), table.name, table.columns()).status());
  HEADRACE_ASSIGN(recorder->spool_, trace::Spool::Create(trace::SpoolRoot(*catalog)));
  recorder->thread_ = std::thread([raw = recorder.get()] { raw->Run(); });
  return recorder;
}

Recorder::~Recorder() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (!spool_) return;
  WriteLostEnds();
  spool_.reset();        // from here on it is a dead writer's
  (void)CommitSpools();  // what stays is for whoever comes next
}

void Recorder::Complain(const std::vector<std::string>& complaints) {
  for (const std::string& complaint : complaints)
    std::fprintf(stderr, "headrace: traces: %s\n", complaint.c_str());
}

void Recorder::SetText(json* row, const char* text, const char* hash, const std::string& value) const {
  if (mode_ == RecordMode::kFull) (*row)[text] = value;
  if (mode_ != RecordMode::kNone && hash != nullptr) (*row)[hash] = Hex64(Xxh3(value));
}

void Recorder::Trouble(const std::string& what, const Status& status) {
  const std::string text = status.ok() ? "" : what + ": " + status.ToString();
  bool news = false;
  {
    const std::lock_guard lock(mutex_);
    std::string& known = what == "recording" ? spool_trouble_ : commit_trouble_;
    news = known.empty() != text.empty();
    known = text;
  }
  if (news)
    std::fprintf(stderr, "headrace: %s\n",
                 text.empty() ? (what + " works again").c_str() : (text + "; serving goes on").c_str());
}

Status Recorder::Append(trace::Kind kind, const json& row) {
  return spool_->Append(kind, row.dump(-1, ' ', false, json::error_handler_t::replace));
}

bool Recorder::Write(trace::Kind kind, const json& row) {
  if (!spool_) return true;
  const Status status = Append(kind, row);
  ++(status.ok() ? written_ : dropped_);
  if (!status.ok() || dropped_.load(std::memory_order_relaxed) > 0) Trouble("recording", status);
  if (!status.ok() && kind == trace::Kind::kEnd) {
    json end = {{"why", "the rest of this row could not be written: " + status.ToString()}};
    for (const char* name : {"id", "ended", "finish", "status"})
      if (row.contains(name)) end[name] = row[name];
    const std::lock_guard lock(mutex_);
    if (lost_ends_.size() < kMostLostEnds) lost_ends_.push_back(std::move(end));
  }
  WriteLostEnds();
  return status.ok();
}

void Recorder::WriteLostEnds() {
  for (;;) {
    json end;
    {
      const std::lock_guard lock(mutex_);
      if (lost_ends_.empty()) return;
      end = std::move(lost_ends_.front());
      lost_ends_.pop_front();
    }
    if (Append(trace::Kind::kEnd, end).ok()) {
      ++written_;
      continue;
    }
    const std::lock_guard lock(mutex_);
    lost_ends_.push_front(std::move(end));
    return;
  }
}

Status Recorder::Commit() {
  if (!spool_) return Status::Ok();
  WriteLostEnds();
  return CommitSpools();
}

Status Recorder::CommitSpools() {
  const std::lock_guard lock(commit_mutex_);
  Status status;
  if (!committer_) {
    auto committer = trace::Committer::Try(catalog_);
    status = committer.status();
    if (committer.ok()) committer_ = std::move(*committer);
  }
  if (committer_) {
    const auto counts = committer_->Commit();
    status = counts.status();
    if (counts.ok()) {
      committed_ += counts->total();
      Complain(counts->complaints);
    }
  }
  Trouble("committing traces", status);
  std::string kept;
  for (const std::string& path : trace::DamagedSpools(trace::SpoolRoot(*catalog_)))
    kept += (kept.empty() ? "" : ", ") + path;
  const std::lock_guard told(mutex_);
  damaged_ = kept;
  return status;
}

RecorderStats Recorder::stats() const {
  const std::lock_guard lock(mutex_);
  std::string trouble = spool_trouble_;
  if (!commit_trouble_.empty()) trouble += (trouble.empty() ? "" : "; ") + commit_trouble_;
  return {written_, dropped_, committed_, trouble, damaged_};
}

// Whether to commit now, the last time being `since` (monotonic seconds).
bool Recorder::IsDue(double since) {
  if (MonotonicSeconds() - since >= commit_seconds_) return true;
  const std::lock_guard lock(commit_mutex_);
  return committer_ && committer_->waiting() >= kMuchBytes;
}

void Recorder::Run() {
  pthread_setname_np(pthread_self(), "hr-trace");
  (void)CommitSpools();  // of servers that died
  const std::chrono::duration<double> look(std::min(kCommitSeconds, commit_seconds_));
  for (double last = MonotonicSeconds();;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, look, [&] { return stopping_; });
      if (stopping_) return;
    }
    if (!IsDue(last)) continue;
    (void)Commit();
    last = MonotonicSeconds();
  }
}

}  // namespace headrace::serve
