#include "table/verify.h"

#include <arrow/array.h>

#include <algorithm>
#include <deque>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "store/cached_store.h"
#include "store/read_ahead.h"
#include "table/blob_cells.h"
#include "table/catalog.h"
#include "table/collect_files.h"
#include "table/load_manifest.h"
#include "table/needed_files.h"
#include "table/parquet_tail.h"
#include "table/parquet_verify.h"
#include "table/table.h"
#include "table/tensor_file.h"

namespace headrace::table {
namespace {

constexpr int64_t kBlobBytes = 32 << 20;  // that are read at once
constexpr int64_t kRows = 16'384;         // of a column that are read at once

bool TellsOfDamage(const Status& status) {
  return status.Is(Code::kCorrupt) || status.Is(Code::kNotFound) || status.Is(Code::kInvalid);
}

}  // namespace

// One run over one table. Reads with an environment of its own, so that nothing counts as checked already.
class Verifier {
 public:
  Verifier(const Table& table, const VerifyOptions& verify, const CommitOptions& options)
      : env_(std::make_shared<Environment>(store::BelowCache(table.environment()->store),
                                           table.environment()->pool.threads())),
        prefix_(table.prefix()),
        verify_(verify),
        options_(options),
        log_(env_, prefix_) {
    report_.table = table.name();
  }
  Result<VerifyReport> Run();

 private:
  struct Checking {
    std::string key;
    int64_t version;
    std::future<Result<int64_t>> bytes;
  };
  // Notes damage; every other failure is an error.
  Status Note(const Status& status, const std::string& key, int64_t version);
  Status CheckSnapshot(int64_t version);
  Status CheckLists(const Snapshot& snapshot);
  Status CheckFragment(const View& view, const Fragment& fragment);
  // Files of a fragment, or of an overlay of it, in which its rows are those from `first` on.
  Status CheckFiles(const View& view, const Fragment& fragment, const std::vector<DataFile>& files,
                    int64_t first, int64_t rows);
  // With VerifyOptions::absent: which bytes the cells of a file speak of, and what is known when all is read.
  Status NoteCells(const BlobCells& cells, const DataFile& file) const;
  Status NotePresent();
  Status CheckRowSet(const View& view, const Fragment& fragment, const RowSetRef& rows);
  // Checks on a thread of the pool, some at a time; gives the bytes that it read.
  Status Start(std::string key, int64_t version, std::function<Result<int64_t>()> check);
  Status Finish();
  Result<int64_t> CheckFile(const DataFile& file) const;
  // Reads a column as everybody does; blobs that lie in packs against the checksums of their cells. The bytes
  // of these.
  Result<int64_t> CheckColumn(const Fragment& alone, const Field& field, int64_t first, int64_t rows) const;
  Status Progress() const {
    if (options_.progress)
      options_.progress({"checking", report_.checked.objects, total_.objects, report_.checked.bytes, 0});
    return options_.stop.Check();
  }

  std::shared_ptr<Environment> env_;
  std::string prefix_;
  const VerifyOptions& verify_;
  const CommitOptions& options_;
  SnapshotLog log_;
  VerifyReport report_;
  FolderFiles files_;
  ObjectCount total_;
  std::set<std::string> named_;                                // keys of what is damaged
  std::set<Uuid> seen_;                                        // files
  std::set<std::tuple<Uuid, int32_t, int64_t>> seen_columns_;  // by file, field and first row
  std::map<std::pair<Uuid, int32_t>, std::string> unread_;     // columns that no version has any more
  std::set<std::pair<Uuid, int64_t>> seen_sets_;               // of rows, by file and offset
  mutable std::mutex cells_mutex_;
  mutable std::set<std::string> holds_;                                // keys of files
  mutable std::map<std::string, std::map<int64_t, int64_t>> covered_;  // of each pack: offset → bytes
  std::deque<Checking> checking_;
};

Status Verifier::Note(const Status& status, const std::string& key, int64_t version) {
  if (!TellsOfDamage(status)) return status;
  if (named_.insert(key).second) report_.damaged.push_back({key, status.ToString(), version});
  return Status::Ok();
}

Status Verifier::Start(std::string key, int64_t version, std::function<Result<int64_t>()> check) {
  while (checking_.size() > 2 * static_cast<size_t>(env_->pool.threads())) HEADRACE_TRY(Finish());
  checking_.push_back({std::move(key), version, env_->pool.Submit(std::move(check))});
  return Progress();
}

Status Verifier::Finish() {
  Checking first = std::move(checking_.front());
  checking_.pop_front();
  const auto bytes = first.bytes.get();
  if (!bytes.ok()) return Note(bytes.status(), first.key, first.version);
  report_.checked.Add(*bytes);
  return Progress();
}

Result<int64_t> Verifier::CheckFile(const DataFile& file) const {
  const std::string key = DataKey(prefix_, file.id, file.column_group->kind);
  if (file.column_group->kind == FileKind::kTensor) {
    HEADRACE_ASSIGN(const auto tensor, TensorFile::Open(env_->store.get(), prefix_, file.id));
    HEADRACE_TRY(tensor->VerifyAll(options_.stop));
    return file.bytes;
  }
  HEADRACE_ASSIGN(auto reader, env_->store->Open(key));
  if (reader->size() != file.bytes) {
    return Status::Corrupt("it has " + std::to_string(reader->size()) + " bytes, and its manifest says " +
                           std::to_string(file.bytes));
  }
  HEADRACE_ASSIGN(reader, CheckTail(store::ReadAhead(std::move(reader), env_->blocks), file.tail));
  HEADRACE_TRY(VerifyParquet(std::move(reader), file.tail.bytes > 0, options_.stop));
  return file.bytes;
}

Result<int64_t> Verifier::CheckColumn(const Fragment& alone, const Field& field, int64_t first,
                                      int64_t rows) const {
  const FragmentReader reader(env_, prefix_);
  int64_t bytes = 0;
  for (int64_t begin = first; begin < first + rows; begin += kRows) {
    HEADRACE_TRY(options_.stop.Check());
    const auto range = Rows::Range(begin, std::min(first + rows, begin + kRows));
    HEADRACE_ASSIGN(const auto array, reader.ReadTop(alone, field, range));
    if (field.type.kind != Kind::kBlob) continue;
    HEADRACE_ASSIGN(const auto cells, BlobCells::Of(array));
    std::vector<int64_t> packed;
    int64_t ahead = 0;
    const auto read = [&]() -> Status {
      const auto got = cells.Read(packed, prefix_, [&](const std::string& key) {
        return env_->files.GetOrOpen<store::ObjectReader>(key, [&] { return env_->store->Open(key); });
      });
      HEADRACE_TRY(got.status());
      bytes += ahead;
      packed.clear();
      ahead = 0;
      return Status::Ok();
    };
    HEADRACE_TRY(NoteCells(cells, alone.files[0]));
    for (int64_t i = 0; i < cells.length(); ++i) {
      if (cells.IsNull(i) || !cells.IsPacked(i)) continue;
      packed.push_back(i);
      ahead += cells.PackedBytes(i);
      if (ahead >= kBlobBytes) HEADRACE_TRY(read());
    }
    HEADRACE_TRY(read());
  }
  return bytes;
}

Status Verifier::NoteCells(const BlobCells& cells, const DataFile& file) const {
  if (!verify_.absent) return Status::Ok();
  const std::lock_guard lock(cells_mutex_);
  for (int64_t i = 0; i < cells.length(); ++i) {
    if (cells.IsNull(i)) continue;
    if (cells.Checksum(i) == *verify_.absent)
      holds_.insert(DataKey(prefix_, file.id, file.column_group->kind));
    if (!cells.IsPacked(i)) continue;
    HEADRACE_ASSIGN(const std::string key, cells.KeyOf(i, prefix_));
    covered_[key][cells.Offset(i)] = cells.PackedBytes(i);
  }
  return Status::Ok();
}

Status Verifier::NotePresent() {
  if (!verify_.absent) return Status::Ok();
  for (const auto& key : holds_) report_.present.push_back({key, "it holds a cell with these bytes", 0});
  HEADRACE_ASSIGN(const auto packs, env_->store->List(PacksFolder(prefix_), "", INT64_MAX));
  for (const auto& pack : packs) {
    int64_t known = 0;
    for (const auto& [offset, bytes] : covered_[pack.key]) known += bytes;
    if (known < pack.size)
      report_.present.push_back(
          {pack.key,
           std::to_string(pack.size - known) +
               " bytes of it belong to no row of a version that is kept, and may be these",
           0});
  }
  for (const auto& [column, key] : unread_)
    report_.present.push_back(
        {key, "it holds a dropped column, which may hold them; headrace compact leaves it out", 0});
  if (report_.orphans.objects > 0)
    report_.present.push_back({prefix_,
                               std::to_string(report_.orphans.objects) +
                                   " files that no version needs are still there; headrace gc deletes them",
                               0});
  return Status::Ok();
}

Status Verifier::CheckFiles(const View& view, const Fragment& fragment, const std::vector<DataFile>& files,
                            int64_t first, int64_t rows) {
  const int64_t version = view.snapshot().version;
  for (const auto& file : files) {
    const std::string key = DataKey(prefix_, file.id, file.column_group->kind);
    if (seen_.insert(file.id).second)
      HEADRACE_TRY(Start(key, version, [this, file] { return CheckFile(file); }));
    for (const int32_t id : file.column_group->fields) {
      const Field* field = view.schema().FindId(id);
      if (field == nullptr) {  // dropped: an earlier version may know it
        if (!seen_columns_.contains({file.id, id, first})) unread_[{file.id, id}] = key;
        continue;
      }
      unread_.erase({file.id, id});
      if (!seen_columns_.insert({file.id, id, first}).second) continue;
      Fragment alone;
      alone.id = fragment.id;
      alone.rows = first + rows;
      alone.files = {file};
      HEADRACE_TRY(Start(key, version, [this, alone, column = *field, first, rows] {
        return CheckColumn(alone, column, first, rows);
      }));
    }
  }
  return Status::Ok();
}

Status Verifier::CheckRowSet(const View& view, const Fragment& fragment, const RowSetRef& rows) {
  if (rows.empty()) return Status::Ok();
  if (rows.inside.empty() && !seen_sets_.insert({rows.file, rows.offset}).second) return Status::Ok();
  const auto set = LoadRowSet(env_.get(), prefix_, rows, fragment.rows);
  const std::string key =
      rows.inside.empty() ? RowSetKey(prefix_, rows.file) : SnapshotKey(prefix_, view.snapshot().version);
  if (!set.ok()) return Note(set.status(), key, view.snapshot().version);
  if (rows.inside.empty()) report_.checked.Add({seen_.insert(rows.file).second ? 1 : 0, rows.bytes});
  return Status::Ok();
}

Status Verifier::CheckFragment(const View& view, const Fragment& fragment) {
  HEADRACE_TRY(CheckRowSet(view, fragment, fragment.deleted));
  HEADRACE_TRY(CheckFiles(view, fragment, fragment.files, 0, fragment.rows));
  for (const auto& overlay : fragment.overlays) {
    HEADRACE_TRY(CheckRowSet(view, fragment, overlay.rows));
    HEADRACE_TRY(CheckFiles(view, fragment, overlay.files, overlay.first, overlay.rows.count));
  }
  for (const auto& pack : fragment.packs) {
    if (!seen_.insert(pack.id).second) continue;
    const std::string key = PackKey(prefix_, pack.id);
    HEADRACE_ASSIGN(const bool there, env_->store->Exists(key));
    if (!there) HEADRACE_TRY(Note(Status::NotFound("the pack is not there"), key, view.snapshot().version));
    if (there) report_.checked.Add(int64_t{0});  // its bytes are counted blob by blob
  }
  return Status::Ok();
}

Status Verifier::CheckLists(const Snapshot& snapshot) {
  for (const auto& ref : snapshot.manifests) {
    if (!seen_.insert(ref.id).second) continue;
    const auto manifest = LoadManifest(env_.get(), prefix_, ref);
    if (!manifest.ok()) {
      HEADRACE_TRY(Note(manifest.status(), ManifestKey(prefix_, ref.id), snapshot.version));
      continue;
    }
    // With all statistics.
    const auto all = (*manifest)->LoadAll();
    if (!all.ok()) HEADRACE_TRY(Note(all.status(), ManifestKey(prefix_, ref.id), snapshot.version));
    report_.checked.Add(ref.bytes);
  }
  for (const auto& ref : snapshot.taken) {
    if (!seen_.insert(ref.id).second) continue;
    Snapshot alone;
    alone.taken = {ref};
    const auto taken = LoadTaken(env_.get(), prefix_, alone);
    if (!taken.ok()) HEADRACE_TRY(Note(taken.status(), TakenKey(prefix_, ref.id), snapshot.version));
    if (taken.ok()) report_.checked.Add(ref.bytes);
  }
  return Status::Ok();
}

Status Verifier::CheckSnapshot(int64_t version) {
  const std::string key = SnapshotKey(prefix_, version);
  const auto snapshot = log_.ReadLine(version);
  if (!snapshot.ok()) return Note(snapshot.status(), key, version);
  ++report_.versions;
  if ((*snapshot)->is_stub) {
    HEADRACE_ASSIGN(const auto now, log_.Latest());
    if ((*snapshot)->is_lost || now->expired.Has(version)) return Status::Ok();  // meanwhile
    return Note(Status::Corrupt("only a stub is left, and the version has not expired"), key, version);
  }
  ForEachListFile(**snapshot, [&](ObjectKind kind, const Uuid& id) { files_.Need(kind, id, &total_); });
  HEADRACE_TRY(CheckLists(**snapshot));
  const View view(env_, prefix_, *snapshot);
  const auto fragments = view.Fragments();
  if (!fragments.ok()) return Note(fragments.status(), key, version);
  HEADRACE_TRY(
      ForEachDataFile(view, [&](ObjectKind kind, const Uuid& id) { files_.Need(kind, id, &total_); }));
  for (const auto& fragment : **fragments) HEADRACE_TRY(CheckFragment(view, fragment));
  return Progress();
}

Result<VerifyReport> Verifier::Run() {
  HEADRACE_ASSIGN(files_, FolderFiles::List(env_->store.get(), prefix_));
  report_.unknown = files_.unknown();
  for (const auto& file : files_.snapshots()) report_.checked.Add(file.bytes);
  if (files_.snapshots().empty()) {
    HEADRACE_TRY(Note(Status::NotFound("the table has no snapshots"), prefix_, 0));
    return std::move(report_);
  }
  // The listing's newest: where a version is missing, a search would stop there.
  const int64_t newest = files_.snapshots().front().version;
  const auto head = log_.Read(newest);
  if (!head.ok()) {
    HEADRACE_TRY(Note(head.status(), SnapshotKey(prefix_, newest), newest));
    return std::move(report_);
  }
  const ExpiredVersions& expired = (*head)->expired;
  // Whatever happens below: what runs on the pool uses this.
  struct Wait {
    std::deque<Checking>& all;
    ~Wait() {
      for (auto& one : all) one.bytes.wait();
    }
  } wait{checking_};
  for (int64_t version = (*head)->version; version >= 1; --version) {
    if (verify_.newest_only && version < (*head)->version) break;
    if (!expired.Has(version)) {
      HEADRACE_TRY(CheckSnapshot(version));
      continue;
    }
    const auto line = log_.ReadLine(version);  // a stub, or about to be one
    if (!line.ok()) HEADRACE_TRY(Note(line.status(), SnapshotKey(prefix_, version), version));
  }
  while (!checking_.empty()) HEADRACE_TRY(Finish());
  if (verify_.newest_only) return std::move(report_);
  report_.orphans = files_.Unneeded(INT64_MAX);
  report_.orphan_keys = files_.KeysUnneeded(prefix_, INT64_MAX);
  std::sort(report_.orphan_keys.begin(), report_.orphan_keys.end());
  if (report_.orphan_keys.size() > kMostOrphanKeys) report_.orphan_keys.resize(kMostOrphanKeys);
  HEADRACE_TRY(NotePresent());
  return std::move(report_);
}

Result<VerifyReport> Table::Verify(const VerifyOptions& verify, const CommitOptions& options) const {
  auto report = Verifier(*this, verify, options).Run();
  if (!report.ok()) return report.status().Wrap("cannot verify '" + name_ + "'");
  return report;
}

Status Catalog::Verify(const VerifyOptions& verify, const CommitOptions& options,
                       const VerifiedFn& done) const {
  VerifyReport all;
  const auto note = [&](const Status& status, const std::string& key) {
    if (!TellsOfDamage(status)) return status;
    all.damaged.push_back({key, status.ToString(), 0});
    return Status::Ok();
  };
  HEADRACE_ASSIGN(const auto files, env_->store->List(kRefsFolder, "", INT64_MAX));
  std::string last;
  for (const auto& file : files) {  // ascending keys: newest first in each folder
    HEADRACE_TRY(options.stop.Check());
    const auto key = ParseKey(file.key);
    if (!key || key->kind != ObjectKind::kRef) {
      all.unknown.Add(file.size);
      continue;
    }
    const auto value = refs().At(key->name, key->number);
    if (!value.ok()) HEADRACE_TRY(note(value.status(), file.key));
    if (value.ok()) all.checked.Add(file.size);
    const bool newest = key->name != last;
    last = key->name;
    if (!newest || !value.ok()) continue;
    if (value->kind == RefKind::kSnapshot) {
      const auto view = Resolve(value->name);
      if (!view.ok()) HEADRACE_TRY(note(view.status(), file.key));
    }
    if (value->kind != RefKind::kTable) continue;
    const auto table = OpenTable(value->name);
    if (table.status().Is(Code::kNotFound)) continue;  // dropped meanwhile
    HEADRACE_TRY(table.status());
    HEADRACE_ASSIGN(const auto report, (*table)->Verify(verify, options));
    done(report);
  }
  done(all);
  return Status::Ok();
}

}  // namespace headrace::table
