#include "trace/committer.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/hash.h"
#include "store/object_store.h"
#include "trace/tables.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

// Most rows of one note: bounds the commit after a long outage.
constexpr size_t kMostRows = 16 << 10;
constexpr size_t kMostBytes = 256 << 20;  // of a spool's records in one note: a column holds 2 GB at most
constexpr size_t kPointsOfARow = 64;      // take as much memory as a row of other tables
constexpr Position kEnd{INT64_MAX, 0};

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

Result<std::unique_ptr<Committer>> Committer::Try(std::shared_ptr<table::Catalog> catalog,
                                                  CommitterOptions options) {
  std::unique_ptr<Committer> committer(new Committer(std::move(catalog)));
  committer->options_ = std::move(options);
  std::string& root = committer->options_.root;
  if (root.empty()) root = SpoolRoot(*committer->catalog_);
  std::error_code error;
  std::filesystem::create_directories(root, error);
  if (error) return Status::FromErrno(error.value(), "create", root);
  auto lock = FileLock::Take(root + "/committer.lock", {.mode = 0600});
  if (lock.status().Is(Code::kTimeout)) return std::unique_ptr<Committer>();
  if (!lock.ok()) return lock.status();
  committer->lock_.emplace(std::move(lock).value());
  for (const SpoolTable& table : SpoolTables())
    HEADRACE_TRY(CarryOver(committer->catalog_.get(), table.name));
  return committer;
}

Committer::~Committer() = default;

// What the tables have of a spool that no note knows: of version 1, its writer's own commits.
Result<Committer::Source> Committer::Open(const std::string& writer) const {
  Source source;
  source.replay = Replay(writer);
  source.older.assign(SpoolTables().size(), -1);
  if (!IsVersion1(FolderOf(writer))) return source;
  for (size_t t = 0; t < source.older.size(); ++t) {
    const char* name = SpoolTables()[t].name;
    HEADRACE_ASSIGN(const auto view, Newest(*catalog_, name));
    if (!view) continue;
    source.older[t] = LastSequence(*view, writer);
    if (source.older[t] < 0 && view->snapshot().writers_forgotten > 0)
      return Status::Unknown("nobody knows which of its records `" + std::string(name) +
                             "` has: the table has forgotten writers; remove the folder to do without them");
  }
  return source;
}

// Takes the records up to `until`, or as many as one note takes, into `source`; their rows are added to
// `rows`.
Result<bool> Committer::Read(const std::string& writer, Position until, Source* source, Rows* rows) {
  bool full = false;
  size_t bytes = 0;
  bool stopped = false;
  HEADRACE_ASSIGN(
      const ReadReport report, ReadSpool(FolderOf(writer), source->done, [&](const Record& record) {
        stopped = full || record.end > until;
        if (stopped) return Status::Cancelled();
        std::vector<size_t> had;
        for (const auto& table : *rows) had.push_back(table.size());
        source->replay.Take(record, rows);
        for (size_t t = 0; t < had.size(); ++t)
          if (record.end.sequence() <= source->older[t]) (*rows)[t].resize(had[t]);
        source->done = record.end;
        const auto points = static_cast<size_t>(source->replay.points());
        bytes += record.payload.size();
        full = until == kEnd && (Count(*rows) + points / kPointsOfARow >= kMostRows || bytes >= kMostBytes);
        full_ = full_ || full;
        return Status::Ok();
      }));
  source->replay.Flush(rows);
  if (!stopped) source->done = std::max(source->done, std::min(report.end, until));
  for (size_t i = 0; i < report.damaged.size(); ++i)
    if (source->damaged.insert(report.damaged[i]).second) landed_.complaints.push_back(report.complaints[i]);
  return !stopped;
}

// Of version 1, a commit of what never ended has a sequence of one more than its last record's.
void Committer::AddInterrupted(const Source& source, Rows* rows) {
  if (source.older[FindTable(kTraces)] <= source.done.sequence()) source.replay.AddInterrupted(rows);
}

// The note that another process, or this one before an error, left: its rows again.
Status Committer::Recover() {
  HEADRACE_ASSIGN(note_, ReadNote(options_.root));
  sources_.clear();
  next_.clear();
  rows_ = NoRows();
  for (const auto& [writer, span] : note_.spools) {
    if (!std::filesystem::exists(FolderOf(writer))) continue;
    HEADRACE_ASSIGN(Source source, Open(writer));
    Rows before = NoRows();  // are in the tables
    HEADRACE_TRY(Read(writer, span.from, &source, &before).status());
    source.done = span.from;
    source.over = span.over < note_.number ? span.over : 0;
    sources_[writer] = source;
    HEADRACE_TRY(Read(writer, span.to, &source, &rows_).status());
    source.done = span.to;
    if (span.over == note_.number && note_.number > 0) AddInterrupted(source, &rows_);
    source.over = span.over;
    next_[writer] = std::move(source);
  }
  appenders_.clear();
  appenders_.resize(rows_.size());
  had_.assign(rows_.size(), std::nullopt);
  unfinished_ = note_.number > 0 && !note_.finished;
  if (unfinished_) HEADRACE_TRY(DropRepeats());
  if (!unfinished_) sources_ = std::move(next_);
  recovered_ = true;
  return Status::Ok();
}

Result<CommitCounts> Committer::Commit() {
  const Status committed = CommitAll();
  held_.clear();
  HEADRACE_TRY(committed);
  return std::exchange(landed_, {});
}

Status Committer::CommitAll() {
  if (!recovered_) HEADRACE_TRY(Recover());
  HEADRACE_TRY(FinishNote());
  // What comes meanwhile is for the next time: writers that never pause would keep this one for ever, and
  // each round would commit the little that came during the last.
  for (bool more = true; more;) {
    full_ = false;
    HEADRACE_ASSIGN(more, TakeMore());
    HEADRACE_TRY(FinishNote());
    more = more && full_;
  }
  return Status::Ok();
}

// Notes what has come since the last note. False where nothing did.
Result<bool> Committer::TakeMore() {
  Note next{note_.committer, note_.number + 1, {}, {}};
  next_ = sources_;
  rows_ = NoRows();
  for (const std::string& folder : SpoolFolders(options_.root)) {
    if (const Status taken = TakeSpool(folder, &next); !taken.ok()) {
      landed_.complaints.push_back(folder + " cannot be committed now: " + taken.ToString());
      const std::string writer = WriterOf(folder);
      next_.erase(writer);
      if (const auto known = sources_.find(writer); known != sources_.end()) {
        next_[writer] = known->second;
        next.spools[writer] = {known->second.done, known->second.done, known->second.over};
      }
    }
  }
  HEADRACE_TRY(DropRepeats());
  if (Count(rows_) == 0) {  // what was begun, or nothing
    sources_ = std::move(next_);
    HEADRACE_TRY(Clean());
    return full_;  // of repeats
  }
  for (size_t t = 0; t < rows_.size(); ++t) {
    if (rows_[t].empty()) continue;
    HEADRACE_ASSIGN(const auto view, Newest(*catalog_, SpoolTables()[t].name));
    next.since[SpoolTables()[t].name] = view ? view->snapshot().version : 0;
  }
  Step();
  HEADRACE_TRY(WriteNote(options_.root, next));
  note_ = std::move(next);
  appenders_.clear();
  appenders_.resize(rows_.size());
  unfinished_ = true;
  return true;
}

Status Committer::TakeSpool(const std::string& folder, Note* next) {
  const std::string writer = WriterOf(folder);
  auto takeover = Takeover::Try(folder);
  const bool dead = takeover != nullptr;
  // Held until it is gone: a writer that is just beginning would lock it and write what nobody reads.
  if (dead) held_[writer] = std::move(takeover);
  if (!dead && IsVersion1(folder)) return Status::Ok();  // its writer commits it
  if (!next_.contains(writer)) {
    HEADRACE_ASSIGN(next_[writer], Open(writer));
  }
  Source& source = next_[writer];
  const Position from = source.done;
  Rows rows = NoRows();
  bool all = false;
  if (Count(rows_) < kMostRows) {
    HEADRACE_ASSIGN(all, Read(writer, kEnd, &source, &rows));
  }
  full_ = full_ || !all;
  if (dead && all && source.over == 0) {
    AddInterrupted(source, &rows);
    source.over = next->number;
  }
  for (size_t t = 0; t < rows.size(); ++t)
    std::move(rows[t].begin(), rows[t].end(), std::back_inserter(rows_[t]));
  next->spools[writer] = {from, source.done, source.over};
  return Status::Ok();
}

// Where the table has the note already, all of its spans are repeats: there is nothing left to commit.
Status Committer::DropRepeats() {
  repeats_.DropMedia(&rows_[FindTable(kMedia)]);
  std::vector<json>& rows = rows_[FindTable(kTraces)];
  if (!Repeats::AnySpans(rows)) return Status::Ok();
  HEADRACE_ASSIGN(const auto view, Newest(*catalog_, kTraces));
  return repeats_.Drop(view, &rows);
}

// Every table has the note's rows, and what they were made from may go.
Status Committer::FinishNote() {
  if (!unfinished_) return Status::Ok();
  for (size_t t = 0; t < rows_.size(); ++t) HEADRACE_TRY(CommitTable(t));
  unfinished_ = false;
  repeats_.Keep();
  sources_ = std::move(next_);
  HEADRACE_TRY(Clean());
  Step();
  Note finished = note_;
  finished.finished = true;
  // What it saves whoever comes next is a look at the tables, while they know this committer.
  if (WriteNote(options_.root, finished).ok()) note_ = std::move(finished);
  return Status::Ok();
}

Status Committer::CommitTable(size_t t) {
  std::vector<json>& rows = rows_[t];
  if (rows.empty()) return Status::Ok();
  auto& appender = appenders_[t];
  if (!appender) {
    const SpoolTable& facts = SpoolTables()[t];
    Step();
    HEADRACE_ASSIGN(const auto table, OpenOrCreate(catalog_.get(), facts.name));
    table::CommitOptions options;
    options.why = "filled from spools";
    options.how = "headrace";
    options.writer = note_.committer;
    options.sequence = note_.number;
    options.since = note_.since[facts.name];
    if (!had_[t]) {
      HEADRACE_ASSIGN(const table::View view, table->At());
      had_[t] = LastSequence(view, note_.committer);
    }
    options.after = *had_[t];
    if (options.after >= note_.number) {  // an earlier try had landed
      rows.clear();
      return Status::Ok();
    }
    HEADRACE_ASSIGN(const auto batch, ToBatch(facts.columns(), rows));
    HEADRACE_ASSIGN(auto opened, table->StartAppend(batch->schema()->field_names(), options));
    HEADRACE_TRY(opened->Write(*batch));
    appender = std::move(opened);
  }
  Step();
  const Status committed = appender->Commit().status();
  if (committed.ok()) {
    had_[t] = note_.number;
    landed_.rows[SpoolTables()[t].name] += static_cast<int64_t>(rows.size());
    rows.clear();
    appender.reset();
    return committed;
  }
  // The files stay for the next attempt, so that a full disk does not get fuller. Those that can never be
  // committed are written again, unless the table has their rows by then.
  if (committed.Is(Code::kConflict) || !appender->can_retry()) {
    appender.reset();
    had_[t].reset();
  }
  return committed;
}

// Removes segments that are no longer needed, and folders of dead writers whose records are all committed.
Status Committer::Clean() {
  for (auto& [writer, source] : sources_) {
    const std::string folder = FolderOf(writer);
    Step();
    if (source.over == 0) {
      HEADRACE_TRY(DropSegments(folder, source.replay.Oldest(source.done), source.damaged));
      continue;
    }
    auto& takeover = held_[writer];
    if (!takeover) takeover = Takeover::Try(folder);
    if (!takeover) continue;  // somebody reads it: the next time
    HEADRACE_TRY(DropSegments(folder, kEnd, source.damaged));
    Step();
    if (const std::string kept = takeover->Remove(); !kept.empty())
      landed_.complaints.push_back("what could not be read of a server that died is kept in " + kept);
  }
  std::erase_if(sources_,
                [&](const auto& source) { return !std::filesystem::exists(FolderOf(source.first)); });
  return Status::Ok();
}

int64_t Committer::waiting() const {
  int64_t bytes = 0;
  for (const std::string& folder : SpoolFolders(options_.root)) {
    const auto known = sources_.find(WriterOf(folder));
    bytes += SpoolBytes(folder, known == sources_.end() ? Position() : known->second.done);
  }
  return bytes;
}

Result<CommitCounts> CommitSpools(const std::shared_ptr<table::Catalog>& catalog) {
  HEADRACE_ASSIGN(const auto committer, Committer::Try(catalog));
  if (!committer) return CommitCounts();
  return committer->Commit();
}

}  // namespace headrace::trace
