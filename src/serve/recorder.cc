#include "serve/recorder.h"

#include <cstdio>

#include "base/hash.h"

namespace headrace::serve {

using nlohmann::json;

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
  // Both tables are there from the first request on, so that SQL finds their tails.
  HEADRACE_TRY(trace::OpenOrCreate(catalog.get(), trace::kTraces, trace::TraceColumns()).status());
  HEADRACE_TRY(trace::OpenOrCreate(catalog.get(), trace::kScores, trace::ScoreColumns()).status());
  HEADRACE_ASSIGN(recorder->spool_, trace::Spool::Create(trace::SpoolRoot(*catalog)));
  recorder->committer_ = std::make_unique<trace::Committer>(catalog, recorder->spool_->folder());
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
  const bool all = Commit().ok();
  const std::string folder = spool_->folder();
  spool_.reset();
  if (!all) return;  // stays for whoever comes next
  if (const auto takeover = trace::Takeover::Try(folder))
    if (trace::Committer(catalog_, folder).Commit(true).ok()) takeover->Remove();
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

void Recorder::Write(trace::Kind kind, const json& row) {
  if (!spool_) return;
  const Status status = spool_->Append(kind, row.dump(-1, ' ', false, json::error_handler_t::replace));
  ++(status.ok() ? written_ : dropped_);
  if (!status.ok() || dropped_.load(std::memory_order_relaxed) > 0) Trouble("recording", status);
}

Status Recorder::Commit() {
  if (!spool_) return Status::Ok();
  const std::lock_guard lock(commit_mutex_);
  const auto counts = committer_->Commit();
  if (counts.ok()) {
    committed_ += counts->traces + counts->scores;
    for (const std::string& complaint : counts->complaints)
      std::fprintf(stderr, "headrace: %s\n", complaint.c_str());
  }
  Trouble("committing traces", counts.status());
  return counts.status();
}

RecorderStats Recorder::stats() const {
  const std::lock_guard lock(mutex_);
  std::string trouble = spool_trouble_;
  if (!commit_trouble_.empty()) trouble += (trouble.empty() ? "" : "; ") + commit_trouble_;
  return {written_, dropped_, committed_, trouble};
}

void Recorder::Run() {
  pthread_setname_np(pthread_self(), "hr-trace");
  (void)trace::CommitDead(catalog_);  // what it cannot commit now, the next server will
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, std::chrono::duration<double>(commit_seconds_), [&] { return stopping_; });
      if (stopping_) return;
    }
    (void)Commit();
  }
}

}  // namespace headrace::serve
