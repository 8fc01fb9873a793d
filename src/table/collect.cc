#include "table/collect.h"

#include <algorithm>
#include <deque>
#include <future>
#include <set>

#include "base/duration.h"
#include "base/json.h"
#include "table/apply.h"
#include "table/collect_files.h"
#include "table/json_read.h"
#include "table/lease.h"
#include "table/needed_files.h"
#include "table/sealed_json.h"
#include "table/table.h"

namespace headrace::table {
namespace {

using nlohmann::json;

constexpr size_t kReadAhead = 32;  // snapshots that are read beside each other
// On a distant store machines' clocks may differ by this; a local disk has one.
constexpr int64_t kStoreSkewUs = 60'000'000;
constexpr int64_t kMostMarginUs = int64_t{3600} * 1'000'000;

bool IsDamage(const Status& status) { return status.Is(Code::kCorrupt) || status.Is(Code::kNotFound); }

// collected.json: the expired versions that stubs stand for already.
ExpiredVersions ReadStubbed(store::ObjectStore* store, const std::string& folder) {
  const auto bytes = store->Get(CollectedKey(folder));
  ExpiredVersions stubbed;
  if (!bytes.ok()) return stubbed;
  try {
    const json in = ParseJsonOrThrow(bytes->view());
    if (!SealHolds(in)) return stubbed;
    for (const auto& version : in.at("kept")) stubbed.kept.push_back(JsonInt<int64_t>(version));
    stubbed.before = JsonInt<int64_t>(in.at("before"));
  } catch (const std::exception&) {
    return {};  // derived: what it saves is looked at again
  }
  return stubbed;
}

// Expired in one or the other.
ExpiredVersions Both(const ExpiredVersions& a, const ExpiredVersions& b) {
  ExpiredVersions both{std::max(a.before, b.before), {}};
  std::set<int64_t> kept(a.kept.begin(), a.kept.end());
  kept.insert(b.kept.begin(), b.kept.end());
  for (const int64_t version : kept) {
    if (!a.Has(version) && !b.Has(version)) both.kept.push_back(version);
  }
  return both;
}

using ReadingSnapshot = std::future<Result<std::shared_ptr<const Snapshot>>>;

// Reads that use what the caller owns: it waits for them in any case.
struct Readings {
  std::deque<ReadingSnapshot> all;
  ~Readings() {
    for (auto& reading : all) reading.wait();
  }
};

// Nobody knows what the holder of a damaged lease reads.
Status CheckReadable(const std::vector<SeenLease>& leases) {
  for (const auto& lease : leases) {
    if (!lease.damaged) continue;
    return Status::Corrupt("the lease " + LeaseKey(lease.name, lease.epoch) +
                           " is damaged, and its holder may be alive: nothing is deleted. Either it writes "
                           "another within a minute or it lapses: try again then");
  }
  return Status::Ok();
}

}  // namespace

Result<int64_t> StoreNow(store::ObjectStore* store) {
  const std::string key = store::kProbePrefix + Uuid::Random().ToString();
  HEADRACE_TRY(store::PutFresh(store, key, "now"));
  const auto listed = store->List(key, "", 1);
  const Status ignored = store->Delete(key);
  (void)ignored;  // collected later
  HEADRACE_TRY(listed.status());
  if (listed->empty() || listed->front().modified_us == 0) {
    return Status::Unsupported(store->Describe() +
                               " does not say when objects were put: nothing can be collected");
  }
  const int64_t now = listed->front().modified_us;
  return store->is_local() ? now : now - kStoreSkewUs;
}

Result<std::vector<SeenLease>> LiveLeases(store::ObjectStore* store, const std::string& name_prefix,
                                          int64_t now_us, const CollectOptions& collect,
                                          const CommitOptions& options) {
  LeaseWatch watch(collect.monotonic);
  HEADRACE_ASSIGN(auto leases, ListLeases(store, name_prefix));
  watch.See(leases);
  const auto is_silent = [&](const SeenLease& lease) {
    return static_cast<double>(now_us - lease.renewed_us) > lease.terms.ttl_seconds * 1e6;
  };
  std::vector<SeenLease> silent;
  std::copy_if(leases.begin(), leases.end(), std::back_inserter(silent), is_silent);
  if (silent.empty()) {
    HEADRACE_TRY(CheckReadable(leases));
    return leases;
  }
  if (collect.dry_run) {
    std::erase_if(leases, is_silent);
    return leases;
  }
  // Whoever holds them may have been suspended, or a clock set: only time of our own tells.
  for (double left = watch.SecondsLeft(silent); left > 0; left = watch.SecondsLeft(silent)) {
    if (options.progress) options.progress({"watching leases for a sign of life", 0, -1, 0, 0});
    const double step = std::min(left, 1.0);
    if (collect.wait ? !collect.wait(step) : options.stop.WaitFor(step)) return Status::Cancelled();
  }
  HEADRACE_ASSIGN(leases, ListLeases(store, name_prefix));
  for (const auto& lease : leases) {
    if (watch.Lapsed(lease)) HEADRACE_TRY(RemoveLease(store, lease));
  }
  std::erase_if(leases, [&](const SeenLease& lease) { return watch.Lapsed(lease); });
  HEADRACE_TRY(CheckReadable(leases));
  return leases;
}

// One run over one table.
class Collector {
 public:
  Collector(Environment* env, const Table& table, SnapshotLog* log, const CollectOptions& collect,
            const CommitOptions& options)
      : env_(env), table_(table), log_(log), collect_(collect), options_(options) {
    report_.table = table.name();
  }

  Result<CollectReport> Run(const Operation& operation);

 private:
  // Takes deleted rows out of the newest version's files where they are to be erased.
  Status Erase();
  // Which versions expire, and the commit that says so.
  Status Expire(const Operation& operation);
  // Whether these versions are but earlier runs' commits: each run would expire those of the one before.
  bool OnlyOurCommits(int64_t begin, int64_t end) const;
  // From when on files are young, and the first version whose writers go on.
  Status ChooseCut();
  Status Mark();
  // Goes through these versions: files that they need, and none before did, are the holder's. Damage is
  // noted.
  Status Hold(Holder holder, const std::vector<int64_t>& versions);
  Status MarkVersion(int64_t version, const std::shared_ptr<const Snapshot>& snapshot, ObjectCount* held);
  // Afterwards no writer that began before the cut can commit.
  Status Fence(const Operation& operation);
  Status DeleteAll(const std::vector<std::string>& keys);
  Status WriteStubs();
  Status Progress(const char* what, int64_t done, int64_t total, int64_t bytes = 0) const {
    if (options_.progress) options_.progress({what, done, total, bytes, 0});
    return options_.stop.Check();
  }
  bool HoldsExpired(const SeenLease& lease) const {
    return !lease.terms.writes && lease.terms.version >= 1 && expired_.Has(lease.terms.version);
  }

  Environment* env_;
  const Table& table_;
  SnapshotLog* log_;
  const CollectOptions& collect_;
  const CommitOptions& options_;
  CollectReport report_;
  int64_t now_us_ = 0;
  std::shared_ptr<const Snapshot> head_;
  ExpiredVersions expired_;  // as the head says, or would after this run
  ExpiredVersions gone_;     // for longer than the grace period: their files may go
  ExpiredVersions stubbed_;
  std::vector<SeenLease> leases_;
  FolderFiles files_;
  int64_t cut_us_ = 0;       // files put before this may go
  int64_t cut_version_ = 0;  // writers that began before it may not commit
};

Status Collector::Erase() {
  report_.erased = head_->erase;
  if (head_->erase == 0 || collect_.dry_run) return Status::Ok();
  Table table = table_;
  CompactOptions compact;
  compact.deleted_share = 0;
  compact.pack_share = 1;
  // Which bytes of a pack are used is known once the values of deleted rows are gone: the second time. Others
  // may change the same fragments meanwhile.
  constexpr int kMostPasses = 8;
  bool erased = false;
  for (int pass = 0; pass < kMostPasses && !erased; ++pass) {
    HEADRACE_ASSIGN(const auto done, table.Compact(compact, options_));
    erased = done.commits == 0;
  }
  if (!erased) report_.erased = 0;  // the next run goes on
  HEADRACE_ASSIGN(head_, log_->Latest());
  return Status::Ok();
}

Status Collector::Expire(const Operation& operation) {
  const int64_t keep_us = collect_.keep_us.value_or(head_->keep_us);
  report_.keep_us = keep_us;
  expired_ = head_->expired;
  report_.expired_before = expired_.before - 1 - static_cast<int64_t>(expired_.kept.size());
  // The newest version that was the newest for so long ago, and all later ones, are kept.
  int64_t low = head_->expired.before;
  if (keep_us > 0) {
    HEADRACE_ASSIGN(const auto snapshots, env_->store->List(SnapshotFolder(table_.prefix()), "", INT64_MAX));
    for (const auto& object : snapshots) {  // newest first; by the store's clock, not by those of writers
      const auto key = ParseKey(object.key);
      if (!key || key->kind != ObjectKind::kSnapshot || object.modified_us > now_us_ - keep_us) continue;
      low = std::clamp(key->number, low, head_->version);
      break;
    }
  }
  const bool only_ours = OnlyOurCommits(head_->expired.before, low);
  if (only_ours) low = head_->expired.before;
  const bool erases = report_.erased > 0;
  if (erases) low = head_->version;
  const ExpiredVersions planned = ExpiredAfter(*head_, low);
  if (planned == expired_ && !erases) return Status::Ok();
  if (!collect_.dry_run) {
    Change change{ExpireVersions{low, head_->collected, report_.erased}, operation, {}, {}};
    change.operation.columns = {"versions before v" + std::to_string(low)};
    HEADRACE_TRY(log_->Commit(change, options_.stop).status());
    HEADRACE_ASSIGN(head_, log_->Latest());
    HEADRACE_ASSIGN(now_us_, StoreNow(env_->store.get()));
  }
  expired_ = collect_.dry_run ? planned : head_->expired;
  report_.expired = expired_.before - 1 - static_cast<int64_t>(expired_.kept.size()) - report_.expired_before;
  return Status::Ok();
}

bool Collector::OnlyOurCommits(int64_t begin, int64_t end) const {
  if (end - begin > 4) return false;
  for (int64_t version = begin; version < end; ++version) {
    const auto line = log_->ReadLine(version);
    if (!line.ok() || (*line)->operation.kind != OperationKind::kExpire) return false;
  }
  return true;
}

Status Collector::ChooseCut() {
  gone_ = stubbed_;
  for (const auto& snapshot : files_.snapshots()) {
    if (snapshot.put_us > now_us_ - collect_.grace_us) continue;
    cut_version_ = snapshot.version;
    break;
  }
  for (const auto& lease : leases_) {
    if (lease.terms.writes) cut_version_ = std::min(cut_version_, lease.terms.version);
  }
  if (cut_version_ <= 0) return Status::Ok();
  HEADRACE_ASSIGN(const auto cut, log_->ReadLine(cut_version_));
  if (!cut->is_stub) gone_ = Both(gone_, cut->expired);
  if (collect_.dry_run && collect_.grace_us == 0) gone_ = expired_;
  // Where a clock was set back, later versions seem older: their writers' files do too.
  cut_us_ = INT64_MAX;
  for (const auto& snapshot : files_.snapshots()) {
    if (snapshot.version >= cut_version_) cut_us_ = std::min(cut_us_, snapshot.put_us);
  }
  // Machines of one store, and one machine after a small step back, do not agree on a moment.
  cut_us_ -= std::min(collect_.grace_us / 2, kMostMarginUs);
  if (!env_->store->is_local()) cut_us_ -= kStoreSkewUs;
  // A stub is younger than the version that it stands for, whose writers may have begun before it was put.
  for (; cut_version_ < head_->version; ++cut_version_) {
    HEADRACE_ASSIGN(const auto line, log_->ReadLine(cut_version_));
    if (!line->is_stub) break;
  }
  return Status::Ok();
}

Status Collector::MarkVersion(int64_t version, const std::shared_ptr<const Snapshot>& snapshot,
                              ObjectCount* held) {
  const auto need = [&](ObjectKind kind, const Uuid& id) { files_.Need(kind, id, held); };
  ForEachListFile(*snapshot, need);
  if (!files_.AnyUnneeded(/*lists_only=*/false)) return Status::Ok();
  const View view(table_.environment(), table_.prefix(), snapshot);
  const Status status = ForEachDataFile(view, need);
  if (!IsDamage(status)) return status;
  if (!expired_.Has(version))
    report_.damaged.push_back("version " + std::to_string(version) + ": " + status.ToString());
  return Status::Ok();
}

Status Collector::Hold(Holder holder, const std::vector<int64_t>& versions) {
  if (versions.empty() && holder.held.objects == 0) return Status::Ok();
  holder.versions = static_cast<int64_t>(versions.size());
  for (const int64_t version : versions) holder.version = std::max(holder.version, version);
  Readings readings;
  auto& reading = readings.all;
  size_t asked = 0;
  for (size_t i = 0; i < versions.size(); ++i) {
    HEADRACE_TRY(Progress("going through versions", static_cast<int64_t>(i), holder.versions));
    if (!files_.AnyUnneeded(false) && !files_.AnyUnneeded(true)) break;  // every file has its holder
    for (; asked < versions.size() && reading.size() < kReadAhead; ++asked)
      reading.push_back(
          env_->pool.Submit([this, version = versions[asked]] { return log_->ReadLine(version); }));
    const auto snapshot = reading.front().get();
    reading.pop_front();
    // Of one that has expired an earlier run may have deleted anything.
    if (IsDamage(snapshot.status()) && expired_.Has(versions[i])) continue;
    if (IsDamage(snapshot.status())) {
      report_.damaged.push_back("version " + std::to_string(versions[i]) + ": " +
                                snapshot.status().ToString());
      continue;
    }
    HEADRACE_TRY(snapshot.status());
    if ((*snapshot)->is_stub) continue;  // nothing of it is left to be held
    HEADRACE_TRY(MarkVersion(versions[i], *snapshot, &holder.held));
  }
  for (auto& other : report_.holders) {
    if (other.kind != holder.kind || other.name != holder.name) continue;
    other.versions += holder.versions;
    other.version = std::max(other.version, holder.version);
    other.held.Add(holder.held);
    return Status::Ok();
  }
  report_.holders.push_back(std::move(holder));
  return Status::Ok();
}

Status Collector::Mark() {
  HEADRACE_TRY(Hold({Holder::Kind::kNewest}, {head_->version}));
  std::vector<int64_t> kept;
  for (int64_t version = head_->version - 1; version >= expired_.before; --version) kept.push_back(version);
  HEADRACE_TRY(Hold({Holder::Kind::kRetention}, kept));
  std::set<int64_t> done(expired_.kept.begin(), expired_.kept.end());
  for (const auto& [tag, version] : head_->tags) {
    if (done.erase(version) > 0) HEADRACE_TRY(Hold({Holder::Kind::kTag, tag}, {version}));
  }
  // In a dry run tags may go with the versions that they keep today.
  HEADRACE_TRY(Hold({Holder::Kind::kRetention}, {done.begin(), done.end()}));
  for (const auto& lease : leases_) {
    if (HoldsExpired(lease))
      HEADRACE_TRY(Hold({Holder::Kind::kLease, lease.terms.holder}, {lease.terms.version}));
  }
  std::vector<int64_t> in_grace;
  for (int64_t version = expired_.before - 1; version >= 1; --version) {
    if (expired_.Has(version) && !gone_.Has(version)) in_grace.push_back(version);
  }
  return Hold({Holder::Kind::kGrace}, in_grace);
}

Status Collector::Fence(const Operation& operation) {
  const int64_t seen = head_->version;
  if (head_->collected < cut_version_) {
    Change change{ExpireVersions{head_->expired.before, cut_version_}, operation, {}, {}};
    change.operation.columns = {"collect " + std::to_string(report_.deleted.objects) + " files"};
    change.operation.bytes = report_.deleted.bytes;
    HEADRACE_TRY(log_->Commit(change, options_.stop).status());
  }
  // What came meanwhile, for the last time: whatever comes now began at the cut or later.
  HEADRACE_ASSIGN(head_, log_->Latest());
  std::vector<int64_t> versions;
  for (int64_t version = seen + 1; version <= head_->version; ++version) versions.push_back(version);
  HEADRACE_TRY(Hold({Holder::Kind::kNewest}, versions));
  HEADRACE_ASSIGN(const auto leases, ListLeases(env_->store.get(), table_.id().ToString() + "-"));
  HEADRACE_TRY(CheckReadable(leases));
  for (const auto& lease : leases) {
    if (HoldsExpired(lease))
      HEADRACE_TRY(Hold({Holder::Kind::kLease, lease.terms.holder}, {lease.terms.version}));
  }
  leases_ = leases;
  return Status::Ok();
}

Status Collector::DeleteAll(const std::vector<std::string>& keys) {
  std::deque<std::future<Status>> running;
  Status first;
  int64_t done = 0;
  const auto finish = [&] {
    const Status status = running.front().get();
    running.pop_front();
    done += status.ok();
    if (first.ok()) first = status;
  };
  for (const auto& key : keys) {
    if (first.ok()) first = Progress("deleting files", done, static_cast<int64_t>(keys.size()));
    if (!first.ok()) break;
    if (running.size() >= kReadAhead) finish();
    running.push_back(env_->pool.Submit([this, &key] { return env_->store->Delete(key); }));
  }
  while (!running.empty()) finish();
  if (first.ok() || first.Is(Code::kCancelled)) return first;
  return first.Wrap("after " + std::to_string(done) + " of " + std::to_string(keys.size()) +
                    " files were deleted; collect again to go on");
}

Status Collector::WriteStubs() {
  std::set<int64_t> leased;
  for (const auto& lease : leases_) {
    if (HoldsExpired(lease)) leased.insert(lease.terms.version);
  }
  ExpiredVersions stubbed = gone_;
  std::set<int64_t> kept(gone_.kept.begin(), gone_.kept.end());
  for (const auto& file : files_.snapshots()) {
    if (!gone_.Has(file.version) || stubbed_.Has(file.version)) continue;
    if (leased.contains(file.version)) {
      kept.insert(file.version);
      continue;
    }
    report_.stubs += 1;
    if (collect_.dry_run) continue;
    HEADRACE_TRY(Progress("writing stubs", report_.stubs, -1));
    auto line = log_->ReadLine(file.version);
    if (IsDamage(line.status())) {
      kept.insert(file.version);
      continue;
    }
    HEADRACE_TRY(line.status());
    if ((*line)->is_stub) continue;
    HEADRACE_TRY(env_->store->Put(SnapshotKey(table_.prefix(), file.version), EncodeStub(**line)));
  }
  stubbed.kept.assign(kept.begin(), kept.end());
  if (collect_.dry_run || stubbed == stubbed_) return Status::Ok();
  json out = {{"before", stubbed.before}, {"kept", stubbed.kept}};
  Seal(&out);
  return env_->store->Put(CollectedKey(table_.prefix()), out.dump());
}

Result<CollectReport> Collector::Run(const Operation& operation) {
  HEADRACE_ASSIGN(now_us_, StoreNow(env_->store.get()));
  HEADRACE_ASSIGN(head_, log_->Latest());
  stubbed_ = ReadStubbed(env_->store.get(), table_.prefix());
  HEADRACE_TRY(Erase());
  HEADRACE_TRY(Expire(operation));
  HEADRACE_ASSIGN(leases_,
                  LiveLeases(env_->store.get(), table_.id().ToString() + "-", now_us_, collect_, options_));
  HEADRACE_ASSIGN(files_, FolderFiles::List(env_->store.get(), table_.prefix()));
  HEADRACE_TRY(ChooseCut());
  HEADRACE_TRY(Mark());
  report_.deleted = files_.Unneeded(cut_us_);
  report_.unknown = files_.unknown();
  if (report_.damaged.empty() && report_.deleted.objects > 0 && !collect_.dry_run) {
    HEADRACE_TRY(Fence(operation));
    report_.deleted = report_.damaged.empty() ? files_.Unneeded(cut_us_) : ObjectCount{};
    if (report_.damaged.empty()) HEADRACE_TRY(DeleteAll(files_.KeysUnneeded(table_.prefix(), cut_us_)));
  }
  if (report_.damaged.empty()) HEADRACE_TRY(WriteStubs());
  HEADRACE_TRY(Hold({Holder::Kind::kGrace, "", 0, 0, files_.Young(cut_us_)}, {}));
  report_.version = head_->version;
  report_.versions = head_->version;
  return std::move(report_);
}

const char* HolderName(Holder::Kind kind) {
  constexpr const char* kNames[] = {"newest", "retention", "tag", "lease", "grace"};
  return kNames[static_cast<int>(kind)];
}

Result<CollectReport> Table::Collect(const CollectOptions& collect, const CommitOptions& options) {
  auto report = Collector(env_.get(), *this, log_.get(), collect, options).Run(MakeOperation(options));
  if (!report.ok()) return report.status().Wrap("cannot collect '" + name_ + "'");
  return report;
}

Result<CommitResult> Table::SetRetention(int64_t keep_us, const CommitOptions& options) {
  if (keep_us < 0) return Status::Invalid("versions cannot be kept for less than no time");
  Operation operation = MakeOperation(options);
  operation.columns = {keep_us == 0   ? "all versions"
                       : keep_us == 1 ? "the newest version"
                                      : "versions of " + FormatDuration(keep_us)};
  return CommitSmall({KeepVersions{keep_us}, std::move(operation), {}, {}}, options);
}

Result<CommitResult> Table::ChangeWriter(const WriterChange& writer, const CommitOptions& options) {
  if (writer.writer.empty()) return Status::Invalid("a writer has a name");
  Operation operation = MakeOperation(options);
  operation.columns = {(writer.kind == WriterChange::Kind::kKeep ? "writer '" : "no longer writer '") +
                       writer.writer + "'"};
  return CommitSmall({KeepVersions{{}, {writer}}, std::move(operation), {}, {}}, options);
}

}  // namespace headrace::table
