#include "table/repair.h"

#include <algorithm>

#include "base/clock.h"
#include "table/apply.h"
#include "table/collect_files.h"
#include "table/table.h"

namespace headrace::table {
namespace {

// What the versions that cannot be read may have given out: ids are never given twice.
constexpr int32_t kLostFieldIds = 10'000;
constexpr int64_t kLostRowIds = int64_t{1} << 40;
constexpr int64_t kLostFragmentIds = int64_t{1} << 32;

bool IsDerived(const std::string& key) {
  const auto name = ParseKey(key);
  return name && (name->kind == ObjectKind::kSelection || name->kind == ObjectKind::kCollected);
}

// What takes the place of a version that is missing or cannot be read.
std::string LostStub(const Uuid& table, int64_t version, int64_t time_us, std::string who, std::string why) {
  Snapshot lost;
  lost.table = table;
  lost.version = version;
  lost.transaction = Uuid::Random().ToString();
  lost.time_us = time_us;
  lost.is_lost = true;
  lost.operation.kind = OperationKind::kExpire;
  lost.operation.who = std::move(who);
  lost.operation.why = std::move(why);
  return EncodeStub(lost);
}

// Puts stubs for versions between others that have no snapshot at all.
Result<int64_t> FillGaps(store::ObjectStore* store, SnapshotLog* log, const std::string& folder,
                         const Uuid& table, const FolderFiles& files, bool dry_run) {
  int64_t stubs = 0;
  int64_t next = files.snapshots().empty() ? 0 : files.snapshots().front().version;
  for (const auto& file : files.snapshots()) {  // newest first
    for (; next > file.version; --next, ++stubs) {
      if (dry_run) continue;
      const auto after = log->ReadLine(next + 1);
      const int64_t time_us = after.ok() ? (*after)->time_us - 1 : 1;
      const Status put = store->PutIfAbsent(
          SnapshotKey(folder, next),
          LostStub(table, next, time_us, DefaultWho(), "repair: its snapshot was missing"));
      if (!put.ok() && !put.Is(Code::kAlreadyExists)) return put;
    }
    --next;
  }
  return stubs;
}

// A stub for a version that cannot be read, whose bytes are kept under another name.
Status PutLost(store::ObjectStore* store, const std::string& folder, const Snapshot& after, int64_t version) {
  const std::string key = SnapshotKey(folder, version);
  const auto bytes = store->Get(key);
  if (bytes.ok()) HEADRACE_TRY(store->Put(DamagedKey(folder, version), bytes->view()));
  const int64_t time_us = after.time_us - (after.version - version);
  return store->Put(
      key, LostStub(after.table, version, time_us, after.operation.who, "repair: it could not be read"));
}

}  // namespace

Result<RepairReport> Table::Repair(const RepairOptions& repair, const CommitOptions& options) {
  RepairReport report;
  report.table = name_;
  store::ObjectStore* store = env_->store.get();
  HEADRACE_ASSIGN(const auto objects, store->List(prefix_, "", INT64_MAX));
  for (const auto& object : objects) {
    if (!IsDerived(object.key)) continue;
    if (!repair.dry_run) HEADRACE_TRY(store->Delete(object.key));
    ++report.derived;
  }
  HEADRACE_ASSIGN(const auto files, FolderFiles::List(store, prefix_));
  HEADRACE_ASSIGN(report.stubs, FillGaps(store, log_.get(), prefix_, id_, files, repair.dry_run));
  std::shared_ptr<const Snapshot> good;
  for (const auto& file : files.snapshots()) {
    HEADRACE_TRY(options.stop.Check());
    const auto snapshot = log_->Read(file.version);
    if (snapshot.ok()) {
      good = *snapshot;
      break;
    }
    if (!snapshot.status().Is(Code::kCorrupt) && !snapshot.status().Is(Code::kNotFound))
      return snapshot.status();
    if (report.unreadable.empty()) report.why = snapshot.status().ToString();
    report.unreadable.push_back(file.version);
  }
  if (good) report.readable = good->version;
  if (report.unreadable.empty()) report.version = report.readable;
  if (!good || report.unreadable.empty() || !repair.roll_back || repair.dry_run) return report;
  const int64_t newest = report.unreadable.front();
  Snapshot next = *good;
  next.version = newest + 1;
  next.transaction = Uuid::Random().ToString();
  next.time_us = std::max(NowMicros(), good->time_us + 1);
  next.operation = MakeOperation(options);
  next.operation.kind = OperationKind::kRestore;
  next.operation.columns = {"v" + std::to_string(good->version)};
  if (next.operation.why.empty())
    next.operation.why = "repair: version " + std::to_string(newest) + " cannot be read";
  if (next.next_field_id > INT32_MAX - kLostFieldIds || next.next_row_id > INT64_MAX - kLostRowIds)
    return Status::Limit("ids are used up");
  next.next_field_id += kLostFieldIds;
  next.next_row_id += kLostRowIds;
  next.next_fragment_id += kLostFragmentIds;
  // What the lost versions said of expiry and collection is not known, so no more is promised than they may
  // have: who began before them may not commit, and what stubs stand for has expired.
  next.collected = newest + 1;
  int64_t stub = 0;
  for (int64_t version = good->version; version >= good->expired.before && stub == 0; --version) {
    const auto line = log_->ReadLine(version);
    if (line.ok() && (*line)->is_stub && !(*line)->is_lost) stub = version;
  }
  next.expired = ExpiredAfter(next, stub + 1);
  HEADRACE_TRY(log_->Create(next));
  // The bytes of what could not be read stay beside; their numbers are taken.
  for (const int64_t version : report.unreadable) HEADRACE_TRY(PutLost(store, prefix_, next, version));
  report.version = next.version;
  return report;
}

}  // namespace headrace::table
