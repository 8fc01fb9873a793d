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
  if (!catalog) return recorder;
  recorder->catalog_ = catalog;
  // The tables are there from the first request on, so that SQL finds their tails.
  for (const char* table : {trace::kTraces, trace::kScores})
    HEADRACE_TRY(trace::OpenOrCreate(catalog.get(), table).status());
  HEADRACE_ASSIGN(recorder->spool_, trace::Spool::Create(trace::SpoolRoot(*catalog)));
  trace::CommitThreadOptions commits;
  commits.seconds = commit_seconds;
  commits.each_look = [raw = recorder.get()] { raw->WriteLostEnds(); };
  commits.outcome = [raw = recorder.get()](const Status& status) {
    raw->Trouble("committing traces", status);
  };
  commits.complaints = [](const std::vector<std::string>& complaints) {
    for (const std::string& complaint : complaints)
      std::fprintf(stderr, "headrace: traces: %s\n", complaint.c_str());
  };
  recorder->commits_ = trace::CommitThread::Start(catalog, std::move(commits));
  return recorder;
}

Recorder::~Recorder() {
  if (!spool_) return;
  if (commits_) commits_->Stop();
  WriteLostEnds();
  spool_.reset();                          // from here on it is a dead writer's
  if (commits_) (void)commits_->Commit();  // what stays is for whoever comes next
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
  Wrote(status);
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

bool Recorder::Write(trace::Kind kind, const std::string& payload) {
  if (!spool_) return true;
  const Status status = spool_->Append(kind, payload);
  Wrote(status);
  WriteLostEnds();
  return status.ok();
}

void Recorder::Wrote(const Status& status) {
  ++(status.ok() ? written_ : dropped_);
  if (!status.ok() || dropped_.load(std::memory_order_relaxed) > 0) Trouble("recording", status);
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
  return commits_->Commit();
}

RecorderStats Recorder::stats() const {
  const std::lock_guard lock(mutex_);
  std::string trouble = spool_trouble_;
  if (!commit_trouble_.empty()) trouble += (trouble.empty() ? "" : "; ") + commit_trouble_;
  return {written_, dropped_, commits_ ? commits_->committed() : 0, trouble,
          commits_ ? commits_->damaged() : ""};
}

}  // namespace headrace::serve
