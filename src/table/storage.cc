#include "table/storage.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/limits.h"
#include "table/keys.h"
#include "table/load_manifest.h"
#include "table/open_parquet.h"
#include "table/parquet_file.h"

namespace headrace::table {
namespace {

constexpr int64_t kListed = 1'000;  // objects of one request

// Calls take(object) for every object whose key begins with `prefix`.
template <typename Take>
Status ForEachObject(const Environment& env, const std::string& prefix, const StopToken& stop, Take take) {
  std::string after;
  for (;;) {
    HEADRACE_TRY(stop.Check());
    HEADRACE_ASSIGN(const auto page, env.store->List(prefix, after, kListed));
    for (const auto& object : page) take(object);
    if (static_cast<int64_t>(page.size()) < kListed) return Status::Ok();
    after = page.back().key;
  }
}

using Sizes = std::map<std::string, int64_t>;  // of objects, by key

Result<Sizes> ListSizes(const View& view, const StopToken& stop) {
  Sizes sizes;
  HEADRACE_TRY(ForEachObject(*view.environment(), view.prefix(), stop,
                             [&](const store::ObjectInfo& object) { sizes[object.key] = object.size; }));
  return sizes;
}

class ColumnMeasure {
 public:
  ColumnMeasure(const View& view, const Sizes& sizes, const StopToken& stop)
      : view_(view), sizes_(sizes), stop_(stop) {}

  Result<ColumnStorage> Run() {
    for (const Field& field : view_.schema().fields) storage_.columns.push_back({field, {}, {}, 0, 0});
    for (auto& column : storage_.columns) columns_[column.field.id] = &column;
    HEADRACE_ASSIGN(const auto fragments, view_.Fragments());
    for (const Fragment& fragment : *fragments) {
      HEADRACE_TRY(stop_.Check());
      HEADRACE_TRY(AddFragment(fragment));
    }
    // Bytes that several rows share count for each of them.
    for (const auto& [key, live] : packs_) storage_.packs_live += std::min(live, SizeOf(key));
    return std::move(storage_);
  }

 private:
  int64_t SizeOf(const std::string& key) const {
    const auto found = sizes_.find(key);
    return found == sizes_.end() ? 0 : found->second;
  }

  Status AddFragment(const Fragment& fragment) {
    for (const auto& file : fragment.files) HEADRACE_TRY(AddFile(file, /*overlay=*/false));
    for (const auto& overlay : fragment.overlays) {
      for (const auto& file : overlay.files) HEADRACE_TRY(AddFile(file, /*overlay=*/true));
    }
    for (const auto& pack : fragment.packs) {
      const std::string key = PackKey(view_.prefix(), pack.id);
      const auto [live, first] = packs_.try_emplace(key, 0);
      if (first) storage_.packs.Add(SizeOf(key));
      live->second += pack.live_bytes;
    }
    for (auto& column : storage_.columns) {
      if (fragment.Fills(column.field.id)) column.filled += fragment.rows;
      for (const auto& overlay : fragment.overlays) {
        if (overlay.FileOf(column.field.id) == nullptr) continue;
        (overlay.fill ? column.filled : column.overlaid) += overlay.rows.count;
      }
    }
    return Status::Ok();
  }

  // A file's bytes for the columns that it holds; once, however many fragments share it.
  Status AddFile(const DataFile& file, bool overlay) {
    if (!measured_.insert(file.id).second) return Status::Ok();
    std::map<int32_t, int64_t> parts;
    int64_t rest = file.bytes;
    if (file.column_group->kind == FileKind::kParquet) {
      HEADRACE_ASSIGN(const auto opened, OpenParquet(view_.environment().get(), view_.prefix(), file));
      parts = opened->BytesByField();
    } else {
      rest += SizeOf(SumsKey(view_.prefix(), file.id));
      for (const int32_t field : file.column_group->fields)
        parts[field] = file.bytes / static_cast<int64_t>(file.column_group->fields.size());
    }
    for (const auto& [field, bytes] : parts) {
      rest -= bytes;
      const auto column = columns_.find(field);
      const auto& held = file.column_group->fields;  // without those that a newer file stands for
      if (column == columns_.end() || !std::binary_search(held.begin(), held.end(), field)) {
        storage_.left_in_files += bytes;
      } else {
        (overlay ? column->second->overlays : column->second->files).Add(bytes);
      }
    }
    storage_.overhead += rest;
    return Status::Ok();
  }

  const View& view_;
  const Sizes& sizes_;
  const StopToken& stop_;
  ColumnStorage storage_;
  std::map<int32_t, ColumnBytes*> columns_;
  std::set<Uuid> measured_;
  std::map<std::string, int64_t> packs_;  // the bytes that rows speak of, by key
};

class Measure {
 public:
  Measure(const View& newest, StopToken stop)
      : newest_(newest), prefix_(newest.prefix()), stop_(std::move(stop)) {}

  Result<Storage> Run() {
    storage_.version = newest_.snapshot().version;
    storage_.rows = newest_.snapshot().rows;
    HEADRACE_ASSIGN(const Sizes sizes, ListSizes(newest_, stop_));
    HEADRACE_TRY(ReadVersions());
    HEADRACE_ASSIGN(storage_.newest_columns, ColumnMeasure(newest_, sizes, stop_).Run());
    for (const auto& [key, bytes] : sizes) Count(key, bytes);
    for (auto& version : storage_.versions) {
      const auto found = last_.find(version.version);
      if (found != last_.end()) version.last = found->second;
    }
    return std::move(storage_);
  }

 private:
  // Notes the newest version that names each object.
  Status ReadVersions() {
    SnapshotLog log(newest_.environment(), prefix_);
    for (int64_t number = 1; number <= storage_.version; ++number) {
      HEADRACE_TRY(stop_.Check());
      if (newest_.snapshot().expired.Has(number)) continue;
      const auto read = log.Read(number);
      HEADRACE_TRY(read.status());
      const Snapshot& snapshot = **read;
      VersionBytes version{number, snapshot.time_us, snapshot.operation, {}, {}};
      for (const auto& [tag, at] : newest_.snapshot().tags) {
        if (at == number) version.tags.push_back(tag);
      }
      storage_.versions.push_back(std::move(version));
      for (const auto& entry : snapshot.inline_entries) Name(entry, number);
      for (const auto& manifest : snapshot.manifests) manifests_[manifest.id] = {manifest, number};
      for (const auto& list : snapshot.taken) Name(TakenKey(prefix_, list.id), number);
    }
    for (const auto& [id, known] : manifests_) {
      HEADRACE_TRY(stop_.Check());
      Name(ManifestKey(prefix_, id), known.second);
      HEADRACE_ASSIGN(const auto manifest, LoadManifest(newest_.environment().get(), prefix_, known.first));
      for (const auto& entry : manifest->entries()) Name(entry, known.second);
    }
    return Status::Ok();
  }

  void Name(const std::string& key, int64_t version) {
    int64_t& newest = named_[key];
    newest = std::max(newest, version);
  }
  void Name(const DataFile& file, int64_t version) {
    Name(DataKey(prefix_, file.id, file.column_group->kind), version);
    if (file.column_group->kind == FileKind::kTensor) Name(SumsKey(prefix_, file.id), version);
  }
  void Name(const RowSetRef& rows, int64_t version) {
    if (!rows.empty() && rows.inside.empty()) Name(RowSetKey(prefix_, rows.file), version);
  }
  void Name(const Fragment& entry, int64_t version) {
    for (const auto& file : entry.files) Name(file, version);
    for (const auto& pack : entry.packs) Name(PackKey(prefix_, pack.id), version);
    Name(entry.deleted, version);
    for (const auto& overlay : entry.overlays) {
      Name(overlay.rows, version);
      for (const auto& file : overlay.files) Name(file, version);
    }
  }

  void Count(const std::string& key, int64_t bytes) {
    const auto name = ParseKey(key);
    const auto found = named_.find(key);
    if (name && name->kind == ObjectKind::kSnapshot) return storage_.history.Add(bytes);
    if (name && (name->kind == ObjectKind::kSelection || name->kind == ObjectKind::kLock ||
                 name->kind == ObjectKind::kCollected))
      return storage_.derived.Add(bytes);
    if (found == named_.end()) return storage_.unnamed.Add(bytes);
    last_[found->second].Add(bytes);
    (found->second == storage_.version ? storage_.newest : storage_.older).Add(bytes);
  }

  const View& newest_;
  const std::string prefix_;
  StopToken stop_;
  Storage storage_;
  std::map<std::string, int64_t> named_;  // the newest version that names the object
  std::map<Uuid, std::pair<ManifestRef, int64_t>> manifests_;
  std::map<int64_t, Amount> last_;
};

}  // namespace

Result<Storage> MeasureStorage(const Table& table, const StopToken& stop) {
  HEADRACE_ASSIGN(const View newest, table.At());
  return Measure(newest, stop).Run();
}

Result<BesideTables> MeasureBeside(const Catalog& catalog, const StopToken& stop) {
  std::set<Uuid> tables;
  HEADRACE_ASSIGN(const auto refs, catalog.refs().All());
  for (const auto& ref : refs) {  // to a table, or to one of its versions: <id>@<version>
    const auto id = Uuid::Parse(std::string_view(ref.target).substr(0, ref.target.find('@')));
    if (ref.kind != RefKind::kModel && id.ok()) tables.insert(*id);
  }
  BesideTables beside;
  HEADRACE_TRY(ForEachObject(*catalog.environment(), "", stop, [&](const store::ObjectInfo& object) {
    const auto name = ParseKey(object.key);
    if (!name) return;
    if (name->kind == ObjectKind::kModelWeights || name->kind == ObjectKind::kModelManifest) {
      beside.models.Add(object.size);
    } else if (name->kind == ObjectKind::kArtifact || name->kind == ObjectKind::kCheckpointFile) {
      beside.artifacts.Add(object.size);
    } else if (name->table != Uuid() && !tables.contains(name->table)) {
      beside.dropped.Add(object.size);
    }
  }));
  return beside;
}

Result<ColumnStorage> MeasureColumns(const View& view, const StopToken& stop) {
  HEADRACE_ASSIGN(const Sizes sizes, ListSizes(view, stop));
  return ColumnMeasure(view, sizes, stop).Run();
}

Result<Layout> LayoutOf(const View& view) {
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  Layout layout;
  layout.fragments = static_cast<int64_t>(fragments->size());
  layout.manifests = static_cast<int64_t>(view.snapshot().manifests.size());
  layout.inline_entries = static_cast<int64_t>(view.snapshot().inline_entries.size());
  std::vector<int64_t> rows;
  for (const Fragment& fragment : *fragments) {
    rows.push_back(fragment.live_rows());
    layout.small += fragment.live_rows() < limits::kSmallFragmentRows;
    layout.deleted += fragment.deleted.count;
    layout.erased += fragment.deleted.erased;
    layout.overlays += static_cast<int64_t>(fragment.overlays.size());
  }
  std::sort(rows.begin(), rows.end());
  if (rows.empty()) return layout;
  layout.least_rows = rows.front();
  layout.median_rows = rows[rows.size() / 2];
  layout.most_rows = rows.back();
  return layout;
}

}  // namespace headrace::table
