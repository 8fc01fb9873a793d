#include "table/view.h"

#include <arrow/array.h>

#include <algorithm>
#include <functional>

#include "table/blob_cells.h"
#include "table/load_manifest.h"
#include "table/row_map.h"

namespace headrace::table {
View::View(std::shared_ptr<Environment> env, std::string prefix, std::shared_ptr<const Snapshot> snapshot)
    : env_(std::move(env)),
      prefix_(std::move(prefix)),
      snapshot_(std::move(snapshot)),
      reader_(env_, prefix_),
      lazy_(std::make_shared<Lazy>()) {
  lazy_->pin = env_->pins->Add({prefix_, snapshot_->version, /*writes=*/false});
}

std::shared_ptr<const void> View::PinWrites() const {
  return env_->pins->Add({prefix_, snapshot_->version, /*writes=*/true});
}

Result<std::shared_ptr<const View::Loaded>> View::Load() const {
  const std::lock_guard lock(lazy_->mutex);
  if (lazy_->loaded) return lazy_->loaded;
  auto loaded = std::make_shared<Loaded>();
  for (const auto& ref : snapshot_->manifests) {
    HEADRACE_ASSIGN(auto manifest, LoadManifest(env_.get(), prefix_, ref));
    loaded->manifests.push_back(std::move(manifest));
  }
  // Every entry in one list, sorted so that those of one fragment lie together.
  struct Source {
    const Fragment* entry;
    size_t list;
    size_t index;
  };
  std::vector<Source> sources;
  for (size_t m = 0; m < loaded->manifests.size(); ++m) {
    const auto& entries = loaded->manifests[m]->entries();
    for (size_t i = 0; i < entries.size(); ++i) sources.push_back({&entries[i], m, i});
    loaded->manifest_targets.emplace_back(entries.size());
  }
  for (size_t i = 0; i < snapshot_->inline_entries.size(); ++i) {
    sources.push_back({&snapshot_->inline_entries[i], SIZE_MAX, i});
  }
  loaded->inline_targets.resize(snapshot_->inline_entries.size());
  std::stable_sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) {
    if (a.entry->first_row_id != b.entry->first_row_id) return a.entry->first_row_id < b.entry->first_row_id;
    return a.entry->id < b.entry->id;
  });
  loaded->fragments.reserve(sources.size());
  for (const auto& source : sources) {
    const Fragment& entry = *source.entry;
    auto& fragments = loaded->fragments;
    if (fragments.empty() || fragments.back().id != entry.id) {
      if (!fragments.empty() && entry.first_row_id < fragments.back().end_row_id()) {
        return Status::Corrupt("the fragments " + std::to_string(fragments.back().id) + " and " +
                               std::to_string(entry.id) + " of version " +
                               std::to_string(snapshot_->version) + " claim the same rows");
      }
      Fragment joined = entry;
      joined.stats.clear();
      fragments.push_back(std::move(joined));
    } else {
      if (fragments.back().rows != entry.rows) {
        return Status::Corrupt("two entries disagree on the rows of fragment " + std::to_string(entry.id));
      }
      JoinEntry(&fragments.back(), entry);
    }
    const size_t target = fragments.size() - 1;
    if (source.list == SIZE_MAX) {
      loaded->inline_targets[source.index] = target;
    } else {
      loaded->manifest_targets[source.list][source.index] = target;
    }
  }
  lazy_->loaded = std::move(loaded);
  return lazy_->loaded;
}

Result<std::shared_ptr<const std::vector<Fragment>>> View::Fragments() const {
  HEADRACE_ASSIGN(const auto loaded, Load());
  return std::shared_ptr<const std::vector<Fragment>>(loaded, &loaded->fragments);
}

Result<std::vector<std::optional<FieldStats>>> View::Stats(const Field& leaf) const {
  HEADRACE_ASSIGN(const auto loaded, Load());
  std::vector<std::optional<FieldStats>> stats(loaded->fragments.size());
  if (leaf.id == kRowIdField || leaf.id == kRowPlaceField) {
    for (size_t i = 0; i < stats.size(); ++i)
      stats[i] = PlaceStats(loaded->fragments[i], 0, loaded->fragments[i].rows);
    return stats;
  }
  const Field* top = snapshot_->schema.TopOf(leaf.id);
  if (top == nullptr) return stats;
  for (size_t i = 0; i < stats.size(); ++i) {
    if (!loaded->fragments[i].Fills(top->id)) stats[i] = HoleStats(leaf, loaded->fragments[i].rows);
  }
  // Of the entries that know the field, the one that brought the file which counts.
  const auto note = [&](size_t target, const Fragment& entry, const FieldStats& known) {
    const DataFile* brought = entry.FileOf(top->id);
    const DataFile* counts = loaded->fragments[target].FileOf(top->id);
    if (brought != nullptr && counts != nullptr && brought->id == counts->id) stats[target] = known;
  };
  for (size_t m = 0; m < loaded->manifests.size(); ++m) {
    HEADRACE_ASSIGN(const auto known, loaded->manifests[m]->LoadStats(leaf.id));
    for (size_t i = 0; i < known.size(); ++i) {
      if (!known[i].known) continue;
      note(loaded->manifest_targets[m][i], loaded->manifests[m]->entries()[i], known[i].stats);
    }
  }
  for (size_t i = 0; i < snapshot_->inline_entries.size(); ++i) {
    const auto& entry = snapshot_->inline_entries[i];
    const auto it = entry.stats.find(leaf.id);
    if (it != entry.stats.end()) note(loaded->inline_targets[i], entry, it->second);
  }
  for (size_t i = 0; i < stats.size(); ++i)
    stats[i] = WithOverlays(loaded->fragments[i], top->id, leaf.id, stats[i]);
  return stats;
}

Result<std::shared_ptr<const RowSet>> View::Deleted(const Fragment& fragment) const {
  if (fragment.deleted.empty()) return std::shared_ptr<const RowSet>();
  return LoadRowSet(env_.get(), prefix_, fragment.deleted, fragment.rows);
}

Result<std::vector<std::optional<store::Bytes>>> View::ReadBlobs(
    const std::shared_ptr<arrow::Array>& blobs) const {
  HEADRACE_ASSIGN(const auto cells, BlobCells::Of(blobs));
  std::vector<std::optional<store::Bytes>> result(static_cast<size_t>(cells.length()));
  std::vector<int64_t> packed;
  for (int64_t i = 0; i < cells.length(); ++i) {
    if (cells.IsNull(i)) continue;
    if (cells.IsInline(i)) {
      result[static_cast<size_t>(i)] = store::Bytes::FromString(std::string(cells.InlineBytes(i)));
    } else if (cells.IsPacked(i)) {
      packed.push_back(i);
    } else if (cells.IsInPlace(i)) {
      return Status::Unsupported("the blob lies in place at " + std::string(cells.Uri(i)) +
                                 "; this version reads packs and inline blobs");
    }
  }
  HEADRACE_ASSIGN(auto bytes, cells.Read(packed, prefix_, [&](const std::string& key) {
    return env_->files.GetOrOpen<store::ObjectReader>(key, [&] { return env_->store->Open(key); });
  }));
  for (size_t k = 0; k < packed.size(); ++k) result[static_cast<size_t>(packed[k])] = std::move(bytes[k]);
  return result;
}

}  // namespace headrace::table
