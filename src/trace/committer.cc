#include "trace/committer.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/hash.h"
#include "store/object_store.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

// Rows of one commit at most, so that a long-dead catalog does not make one of endless size.
constexpr size_t kMostRows = 16 << 10;

int64_t LastSequence(const table::View& view, const std::string& writer) {
  const auto& writers = view.snapshot().writers;
  const auto found = writers.find(writer);
  return found == writers.end() ? -1 : found->second.sequence;
}

Result<int64_t> LastSequence(const table::Catalog& catalog, const char* name, const std::string& writer) {
  const auto table = catalog.OpenTable(name);
  if (!table.ok() && table.status().Is(Code::kNotFound)) return -1;
  if (!table.ok()) return table.status();
  HEADRACE_ASSIGN(const table::View view, (*table)->At());
  return LastSequence(view, writer);
}

std::string WriterOf(const std::string& folder) { return std::filesystem::path(folder).filename(); }

}  // namespace

std::string SpoolRoot(const table::Catalog& catalog) {
  if (const auto local = catalog.environment()->store->LocalPath("spool")) return *local;
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  const std::string root = state != nullptr && *state != '\0' ? std::string(state)
                           : home != nullptr                  ? std::string(home) + "/.local/state"
                                                              : "/var/tmp";
  return root + "/headrace/spool/" + Hex64(Xxh3(catalog.Describe()));
}

void Replay::Take(const Record& record, std::vector<json>* traces, std::vector<json>* scores) {
  json value = json::parse(record.payload, nullptr, false);
  if (!value.is_object()) {
    ++unreadable_;
    return;
  }
  if (record.kind == Kind::kScore) {
    scores->push_back(std::move(value));
    return;
  }
  const auto id = value.find("id");
  if (id == value.end() || !id->is_string()) {
    ++unreadable_;
    return;
  }
  const std::string name = *id;
  if (record.kind == Kind::kStart) {
    open_[name] = {std::move(value), record.end};
  } else if (record.kind == Kind::kEnd) {
    const auto begun = open_.find(name);
    if (begun == open_.end()) {
      traces->push_back(std::move(value));  // its start could not be written: the disk was full
      return;
    }
    json row = std::move(begun->second.start);
    row.update(value);
    traces->push_back(std::move(row));
    open_.erase(begun);
  } else {
    ++unreadable_;
  }
}

std::vector<json> Replay::Interrupted() const {
  std::vector<json> rows;
  for (const auto& [id, begun] : open_) {
    rows.push_back(begun.start);
    rows.back()["finish"] = "interrupted";
    rows.back()["why"] = "the server ended before the answer did";
  }
  return rows;
}

Position Replay::Oldest(Position otherwise) const {
  for (const auto& [id, begun] : open_) otherwise = std::min(otherwise, begun.end);
  return otherwise;
}

Result<std::shared_ptr<table::Table>> OpenOrCreate(table::Catalog* catalog, const char* name,
                                                   std::span<const Column> columns) {
  HEADRACE_ASSIGN(const table::Schema schema, table::SchemaFromArrow(*ArrowSchema(columns)));
  const table::CommitOptions options{.why = "filled by serving", .how = "headrace serve"};
  HEADRACE_ASSIGN(auto opened, catalog->OpenOrCreateTable(name, schema, options));
  // A table that an earlier program made lacks the columns that came later.
  HEADRACE_ASSIGN(const table::View view, opened->At());
  std::vector<table::Field> missing;
  for (const table::Field& field : schema.fields) {
    if (view.schema().Find(field.name) == nullptr) missing.push_back(field);
  }
  if (missing.empty()) return opened;
  const Status grown = opened->AddEmptyColumns(missing, options).status();
  if (!grown.ok() && !grown.Is(Code::kConflict)) return grown;  // Conflict: another was faster
  return opened;
}

Committer::Committer(std::shared_ptr<table::Catalog> catalog, std::string folder)
    : catalog_(std::move(catalog)), folder_(std::move(folder)), writer_(WriterOf(folder_)) {}

// What the tables have of this writer, and what of it has begun and not ended by then.
Status Committer::Recover() {
  HEADRACE_ASSIGN(traces_done_, LastSequence(*catalog_, kTraces, writer_));
  HEADRACE_ASSIGN(scores_done_, LastSequence(*catalog_, kScores, writer_));
  recovered_ = true;
  return Status::Ok();
}

// `*done`: the sequence that the table has, and will have. `*count`: grows by the rows.
Status Committer::CommitRows(const char* name, std::span<const Column> columns, const std::vector<json>& rows,
                             int64_t sequence, int64_t* done, int64_t* count) {
  if (rows.empty()) return Status::Ok();
  HEADRACE_ASSIGN(const auto table, OpenOrCreate(catalog_.get(), name, columns));
  HEADRACE_ASSIGN(const auto batch, ToBatch(columns, rows));
  table::CommitOptions options;
  options.why = "serving";
  options.how = "headrace serve";
  options.writer = writer_;
  options.sequence = sequence;
  options.after = *done;
  HEADRACE_ASSIGN(auto appender, table->StartAppend(batch->schema()->field_names(), options));
  HEADRACE_TRY(appender->Write(*batch));
  pending_ = Pending{std::move(appender), sequence, done, count};
  return CommitPending();
}

Status Committer::CommitPending() {
  if (!pending_) return Status::Ok();
  const int64_t rows = pending_->appender->rows();
  const Status committed = pending_->appender->Commit().status();
  if (committed.ok()) {
    *pending_->done = pending_->sequence;
    *pending_->count += rows;
    pending_.reset();
    return committed;
  }
  // A full disk gets no fuller: the files stay for the next try. What can never land is made anew.
  if (committed.Is(Code::kConflict) || !pending_->appender->can_retry()) pending_.reset();
  // A commit that failed may yet have landed: what the tables have is asked again.
  if (!pending_) recovered_ = false;
  return committed;
}

Result<CommitCounts> Committer::Commit(bool over) {
  HEADRACE_TRY(CommitAll(over));
  return std::exchange(landed_, {});
}

Status Committer::CommitAll(bool over) {
  HEADRACE_TRY(CommitPending());
  if (!recovered_) HEADRACE_TRY(Recover());
  for (bool more = true; more;) {
    Replay replay = replay_;
    std::vector<json> traces, scores;
    std::vector<std::string> complaints;
    Position end = done_;
    more = false;
    const auto report = ReadSpool(folder_, done_, [&](const Record& record) {
      if (more) return Status::Cancelled();
      const size_t had = traces.size(), had_scores = scores.size();
      replay.Take(record, &traces, &scores);
      if (record.end.sequence() <= traces_done_) traces.resize(had);
      if (record.end.sequence() <= scores_done_) scores.resize(had_scores);
      end = record.end;
      more = traces.size() + scores.size() >= kMostRows;
      return Status::Ok();
    });
    if (report.ok()) {
      more = false;
      end = std::max(end, report->end);
      complaints = report->complaints;
      damaged_.insert(report->damaged.begin(), report->damaged.end());
    } else if (!more) {
      return report.status();
    }
    int64_t sequence = end.sequence();
    if (over && !more && sequence >= traces_done_) {
      std::vector<json> interrupted = replay.Interrupted();
      traces.insert(traces.end(), interrupted.begin(), interrupted.end());
      if (!interrupted.empty()) ++sequence;  // told from a commit of all but them
    }
    HEADRACE_TRY(CommitRows(kTraces, TraceColumns(), traces, sequence, &traces_done_, &landed_.traces));
    HEADRACE_TRY(CommitRows(kScores, ScoreColumns(), scores, end.sequence(), &scores_done_, &landed_.scores));
    landed_.complaints.insert(landed_.complaints.end(), complaints.begin(), complaints.end());
    replay_ = std::move(replay);
    done_ = end;
    HEADRACE_TRY(DropSegments(folder_, replay_.Oldest(done_), damaged_));
  }
  return Status::Ok();
}

std::string Committer::Remove(Takeover* takeover) {
  (void)DropSegments(folder_, {INT64_MAX, 0}, damaged_);
  return takeover->Remove();
}

Result<CommitCounts> CommitDead(const std::shared_ptr<table::Catalog>& catalog) {
  CommitCounts all;
  for (const std::string& folder : SpoolFolders(SpoolRoot(*catalog))) {
    const auto takeover = Takeover::Try(folder);
    if (!takeover) continue;
    Committer committer(catalog, folder);
    const auto counts = committer.Commit(true);
    if (!counts.ok()) {
      all.complaints.push_back(folder + " cannot be committed now: " + counts.status().ToString());
      continue;
    }
    all.traces += counts->traces;
    all.scores += counts->scores;
    all.complaints.insert(all.complaints.end(), counts->complaints.begin(), counts->complaints.end());
    if (const std::string kept = committer.Remove(takeover.get()); !kept.empty())
      all.complaints.push_back("what could not be read of a server that died is kept in " + kept);
  }
  return all;
}

namespace {

// Rows of one folder beyond sequence `done` of the table.
Status FolderTail(const std::string& folder, bool of_traces, int64_t done, std::vector<json>* rows) {
  const auto takeover = Takeover::Try(folder);
  Replay replay;
  std::vector<json> traces, scores;
  std::vector<json>& wanted = of_traces ? traces : scores;
  const auto report = ReadSpool(folder, {}, [&](const Record& record) {
    replay.Take(record, &traces, &scores);
    if (record.end.sequence() > done && !wanted.empty()) rows->push_back(std::move(wanted.back()));
    traces.clear();
    scores.clear();
    return Status::Ok();
  });
  if (!report.ok()) return report.status();
  if (!of_traces || done > report->end.sequence()) return Status::Ok();
  for (json& row : replay.Interrupted()) {
    if (!takeover) {
      row["finish"] = nullptr;
      row["why"] = "running";
    }
    rows->push_back(std::move(row));
  }
  return Status::Ok();
}

}  // namespace

Result<std::shared_ptr<arrow::RecordBatch>> Tail(const table::Catalog& catalog, const std::string& name,
                                                 const table::View& view) {
  const bool of_traces = name == kTraces;
  std::vector<json> rows;
  for (const std::string& folder : SpoolFolders(SpoolRoot(catalog)))
    HEADRACE_TRY(FolderTail(folder, of_traces, LastSequence(view, WriterOf(folder)), &rows));
  // What was committed meanwhile may be gone from the spools, and is not in this version.
  HEADRACE_ASSIGN(const auto table, catalog.OpenTable(name));
  HEADRACE_ASSIGN(const table::View now, table->At());
  if (now.snapshot().version != view.snapshot().version)
    return Status::Conflict("'" + name + "' has a newer version now");
  return ToBatch(of_traces ? TraceColumns() : ScoreColumns(), rows);
}

std::function<Result<std::shared_ptr<arrow::RecordBatch>>(const std::string&, const table::View&)> TailOf(
    std::shared_ptr<table::Catalog> catalog) {
  return [catalog = std::move(catalog)](const std::string& name, const table::View& view) {
    return Tail(*catalog, name, view);
  };
}

std::vector<std::string> TailedTables() { return {kTraces, kScores}; }

namespace {

Result<table::CommitResult> CommitOnce(table::Catalog* catalog, const char* name,
                                       std::span<const Column> columns, const std::vector<json>& rows,
                                       const table::CommitOptions& options) {
  HEADRACE_ASSIGN(const auto table, OpenOrCreate(catalog, name, columns));
  HEADRACE_ASSIGN(const auto batch, ToBatch(columns, rows));
  HEADRACE_ASSIGN(const auto appender, table->StartAppend(batch->schema()->field_names(), options));
  HEADRACE_TRY(appender->Write(*batch));
  return appender->Commit();
}

}  // namespace

Result<table::CommitResult> CommitTraces(table::Catalog* catalog, const std::string& rows) {
  const json list = json::parse(rows, nullptr, false);
  if (!list.is_array()) return Status::Invalid("the rows of `traces` are not a JSON list");
  return CommitOnce(catalog, kTraces, TraceColumns(), list.get<std::vector<json>>(),
                    {.why = "answers in a program", .how = "python"});
}

Result<table::CommitResult> CommitScore(table::Catalog* catalog, const json& score) {
  return CommitOnce(catalog, kScores, ScoreColumns(), {score}, {.why = "a score", .how = "headrace score"});
}

}  // namespace headrace::trace
