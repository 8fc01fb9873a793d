#include "trace/run_writer.h"

#include <cmath>
#include <future>

#include "base/clock.h"
#include "table/environment.h"
#include "trace/tables.h"

namespace headrace::trace {
namespace {

// Between commits. Where readers see the spools, nobody waits for a commit, and few commits make long rows.
constexpr double kCommitSeconds = 60;
constexpr int kNice = 10;                     // the training goes first
constexpr double kDistantCommitSeconds = 15;  // where they lie on another machine than the tables

// Readers find what lies in spools as the tail of a table, so the tables are there before anything is logged.
// All at once: each takes some round trips to a distant store.
Status MakeTables(table::Catalog* catalog) {
  std::vector<std::future<Status>> made;
  for (const char* table : {kRuns, kMetrics, kMedia})
    made.push_back(std::async(std::launch::async, [=] { return OpenOrCreate(catalog, table).status(); }));
  Status status;
  for (auto& one : made)
    if (const Status got = one.get(); status.ok()) status = got;
  return status;
}

}  // namespace

Result<std::unique_ptr<RunWriter>> RunWriter::Open(std::shared_ptr<table::Catalog> catalog,
                                                   RunLog::Series series, const Options& options) {
  std::unique_ptr<RunWriter> writer(new RunWriter(std::move(catalog)));
  RunWriter* raw = writer.get();
  HEADRACE_TRY(MakeTables(raw->catalog_.get()));
  HEADRACE_ASSIGN(raw->log_, RunLog::Open(SpoolRoot(*raw->catalog_), std::move(series)));
  CommitThreadOptions commits;
  commits.seconds = raw->catalog_->environment()->store->is_local() ? kCommitSeconds : kDistantCommitSeconds;
  commits.nice = kNice;
  commits.each_look = [raw] { raw->Tell(raw->log_->Sync()); };
  commits.outcome = [raw](const Status& status) { raw->Tell(status); };
  raw->commits_ = CommitThread::Start(raw->catalog_, std::move(commits));
  if (options.system) raw->Sample(0);
  return writer;
}

void RunWriter::Sample(int pid) {
  auto sampled = SystemThread::Start(
      {.disk = log_->spool().folder(), .pid = pid},
      [this](double seconds, const std::vector<SystemFigure>& figures) { Keep(seconds, figures); });
  if (sampled.ok()) system_ = std::move(sampled).value();  // a machine without /proc has no figures
}

RunWriter::~RunWriter() {
  system_.reset();
  commits_.reset();
}

Status RunWriter::Close(bool commit) {
  if (!log_) return Status::Ok();
  if (system_) system_->Stop();
  commits_->Stop();
  const Status synced = log_->Sync();
  log_.reset();
  const Status committed = commit ? commits_->Commit() : Status::Ok();
  return synced.ok() ? committed : synced;
}

// The mean of each figure at a step that counts seconds, with its extremes beside it where they differ.
void RunWriter::Keep(double seconds, const std::vector<SystemFigure>& figures) {
  std::vector<std::string> names;
  std::vector<double> values;
  for (const SystemFigure& figure : figures) {
    const std::string name = "sys/" + figure.key;
    names.push_back(name);
    values.push_back(figure.mean);
    if (figure.min == figure.max) continue;
    names.insert(names.end(), {name + ".min", name + ".max"});
    values.insert(values.end(), {figure.min, figure.max});
  }
  std::vector<std::pair<std::string_view, double>> points;
  for (size_t i = 0; i < names.size(); ++i) points.emplace_back(names[i], values[i]);
  Tell(log_->Log(std::llround(seconds), NowMicros(), points));
}

void RunWriter::Tell(const Status& status) {
  const std::lock_guard lock(mutex_);
  trouble_ = status.ok() ? "" : status.ToString();
}

std::string RunWriter::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

}  // namespace headrace::trace
