#include "table/commit.h"

#include <set>

#include "base/limits.h"
#include "table/apply.h"
#include "table/compact.h"
#include "table/conflict.h"
#include "table/follow.h"
#include "table/keys.h"
#include "table/merge_manifests.h"
#include "table/settle.h"
#include "table/taken.h"
#include "table/write_deletes.h"

namespace headrace::table {

Result<std::shared_ptr<const Snapshot>> SnapshotLog::Read(int64_t version) {
  HEADRACE_ASSIGN(auto snapshot, ReadLine(version));
  if (snapshot->is_stub) return Status::NotFound("version " + std::to_string(version) + " has expired");
  return snapshot;
}

Result<std::shared_ptr<const Snapshot>> SnapshotLog::ReadLine(int64_t version) {
  {
    const std::lock_guard lock(mutex_);
    if (newest_ && newest_->version == version) return newest_;
  }
  const std::string key = SnapshotKey(prefix_, version);
  auto bytes = env_->store->Get(key);
  if (bytes.status().Is(Code::kNotFound)) {
    return Status::NotFound("there is no version " + std::to_string(version) + " of this table");
  }
  if (!bytes.ok()) return bytes.status();
  HEADRACE_ASSIGN(Snapshot snapshot, DecodeSnapshot(bytes->view(), key));
  if (snapshot.version != version)
    return Status::Corrupt(key + " says that it is version " + std::to_string(snapshot.version));
  return std::make_shared<const Snapshot>(std::move(snapshot));
}

Result<int64_t> SnapshotLog::FindLatest(int64_t known) {
  if (!env_->store->is_local()) {
    HEADRACE_ASSIGN(const auto first, env_->store->List(SnapshotFolder(prefix_), "", 1));
    if (first.empty()) return int64_t{0};
    const auto name = ParseKey(first[0].key);
    if (!name || name->kind != ObjectKind::kSnapshot)
      return Status::Corrupt("'" + first[0].key + "' is not a snapshot's name");
    return name->number;
  }
  // Versions are dense: gallop up, then halve.
  int64_t have = known;
  int64_t step = 1;
  for (;;) {
    HEADRACE_ASSIGN(const bool there, env_->store->Exists(SnapshotKey(prefix_, have + step)));
    if (!there) break;
    have += step;
    step *= 2;
  }
  int64_t missing = have + step;
  while (missing - have > 1) {
    const int64_t middle = have + (missing - have) / 2;
    HEADRACE_ASSIGN(const bool there, env_->store->Exists(SnapshotKey(prefix_, middle)));
    (there ? have : missing) = middle;
  }
  return have;
}

Result<std::shared_ptr<const Snapshot>> SnapshotLog::Latest() {
  int64_t known = 0;
  {
    const std::lock_guard lock(mutex_);
    if (newest_) known = newest_->version;
  }
  std::shared_ptr<const Snapshot> snapshot;
  for (int64_t version = known; snapshot == nullptr;) {
    const int64_t before = version;
    HEADRACE_ASSIGN(version, FindLatest(version));
    if (version == 0) return Status::NotFound("the table has no snapshots");
    HEADRACE_ASSIGN(auto line, ReadLine(version));
    // A stub was the newest a moment ago: another has come since.
    if (line->is_stub && version == before) return Status::NotFound("the newest version has expired");
    if (!line->is_stub) snapshot = std::move(line);
  }
  const int64_t version = snapshot->version;
  const std::lock_guard lock(mutex_);
  if (!newest_ || newest_->version < version) newest_ = snapshot;
  return snapshot;
}

Result<int64_t> SnapshotLog::PutTime(int64_t version) {
  const std::string key = SnapshotKey(prefix_, version);
  HEADRACE_ASSIGN(const auto listed, env_->store->List(key, "", 1));
  return listed.empty() || listed[0].key != key ? 0 : listed[0].modified_us;
}

Result<bool> SnapshotLog::PutSnapshot(const Snapshot& next) {
  const std::string key = SnapshotKey(prefix_, next.version);
  const std::string text = EncodeSnapshot(next);
  if (static_cast<int64_t>(text.size()) > limits::kMaxSnapshotBytes) {
    return Status::Limit("the snapshot would have " + std::to_string(text.size()) + " bytes");
  }
  return PutSettled(
      env_->store.get(), key, text,
      [&](std::string_view there) -> Result<bool> {
        HEADRACE_ASSIGN(const Snapshot theirs, DecodeSnapshot(there, key));
        return theirs.transaction == next.transaction;
      },
      "the store never said whether transaction " + next.transaction + " became version " +
          std::to_string(next.version) + "; look at the table's log before trying again");
}

Status SnapshotLog::Create(const Snapshot& first) {
  HEADRACE_ASSIGN(const bool ours, PutSnapshot(first));
  return ours ? Status::Ok() : Status::AlreadyExists("the table exists already");
}

Result<std::shared_ptr<const Snapshot>> SnapshotLog::Settle(const std::shared_ptr<const Snapshot>& head,
                                                            Attempt* attempt) {
  // Where its place is still free it may yet arrive there; the next put then finds out.
  if (attempt->unsettled == 0 || head->version < attempt->unsettled) return std::shared_ptr<const Snapshot>();
  auto there = head;
  if (head->version > attempt->unsettled) {
    HEADRACE_ASSIGN(there, ReadLine(attempt->unsettled));
  }
  attempt->unsettled = 0;
  if (there->transaction == attempt->transaction) return there;
  Sweep(nullptr, attempt);
  return std::shared_ptr<const Snapshot>();
}

void SnapshotLog::Sweep(const Snapshot* kept, Attempt* attempt) {
  std::set<std::string> named;
  if (kept != nullptr && kept->is_stub) {
    attempt->written.clear();  // later versions may name them
    return;
  }
  if (kept != nullptr) {
    // A manifest may name them by now: only those of tries that lost are known to be of no use, and those are
    // swept when they lose.
    for (const auto& key : attempt->written) {
      const auto name = ParseKey(key);
      if (name && name->kind == ObjectKind::kRowSets) named.insert(key);
    }
    for (const auto& manifest : kept->manifests) named.insert(ManifestKey(prefix_, manifest.id));
    for (const auto& list : kept->taken) named.insert(TakenKey(prefix_, list.id));
  }
  std::erase_if(attempt->written,
                [&](const std::string& key) { return named.contains(key) || env_->store->Delete(key).ok(); });
}

Result<Committed> SnapshotLog::Commit(const Change& change, const StopToken& stop, Attempt* attempt) {
  if (attempt->transaction.empty()) attempt->transaction = Uuid::Random().ToString();
  Result<Committed> committed = TryCommit(change, stop, attempt);
  if (attempt->unsettled == 0)
    Sweep(committed.ok() && !committed->repeated ? committed->snapshot.get() : nullptr, attempt);
  return committed;
}

Status SnapshotLog::WriteLists(const Change& change, const View& head, Snapshot* next,
                               std::vector<std::string>* written) {
  if (const DeleteRows* deletes = DeletesOf(change)) {
    HEADRACE_TRY(WriteDeletes(*deletes, head, next, written));
  }
  if (const auto* fill = std::get_if<FillColumns>(&change.what)) {
    HEADRACE_TRY(WriteFills(*fill, head, next, written));
  }
  if (const auto* compact = std::get_if<CompactFragments>(&change.what)) {
    HEADRACE_TRY(WriteCompaction(*compact, head, next, written));
  }
  HEADRACE_TRY(MergeManifests(env_.get(), prefix_, next, written));
  const AppendRows* append = AppendOf(change);
  if (append == nullptr || append->taken.empty()) return Status::Ok();
  return AddTaken(env_.get(), prefix_, head.snapshot(), append->taken, next, written);
}

Result<Committed> SnapshotLog::TryCommit(const Change& change, const StopToken& stop, Attempt* attempt) {
  const auto turn = env_->store->CourtesyLock(CommitLockKey(prefix_));
  for (int64_t tries = 0; tries < limits::kMaxCommitAttempts; ++tries) {
    HEADRACE_TRY(stop.Check());
    HEADRACE_ASSIGN(const auto head, Latest());
    HEADRACE_ASSIGN(const auto landed, Settle(head, attempt));
    if (landed) return Committed{landed->version, false, landed};
    if (const auto version = FindCommitted(*head, change.claim)) return Committed{*version, true, head};
    HEADRACE_TRY(CheckClaim(*head, change.claim));
    const View view(env_, prefix_, head);
    HEADRACE_TRY(CheckConflicts(change, view));
    HEADRACE_ASSIGN(Snapshot next, Apply(change, *head));
    next.transaction = attempt->transaction;
    HEADRACE_TRY(MakeRoom(
        change.claim.writer, [&](int64_t version) { return PutTime(version); }, &next));
    HEADRACE_TRY(WriteLists(change, view, &next, &attempt->written));
    const Result<bool> ours = PutSnapshot(next);
    if (ours.status().Is(Code::kUnknown)) attempt->unsettled = next.version;
    if (!ours.ok()) return ours.status();
    if (*ours && attempt->unsettled == 0) {
      auto committed = std::make_shared<const Snapshot>(std::move(next));
      if (env_->upkeep) env_->upkeep->Committed(*committed);
      const std::lock_guard lock(mutex_);
      newest_ = committed;
      return Committed{committed->version, false, committed};
    }
    // Another's stands there, or ours of an earlier call, whose bytes are not these: it is read.
    if (attempt->unsettled == 0) Sweep(nullptr, attempt);
    if (!*ours) Backoff(tries);
  }
  return Status::Conflict("lost " + std::to_string(limits::kMaxCommitAttempts) +
                          " races for the next version; nothing was committed");
}

}  // namespace headrace::table
