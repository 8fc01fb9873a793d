#include "table/fragment_reader.h"

#include <arrow/array.h>

#include <algorithm>

#include "table/arrow_bridge.h"
#include "table/blob_cells.h"
#include "table/conform.h"
#include "table/keys.h"
#include "table/open_parquet.h"
#include "table/parquet_file.h"
#include "table/replace_rows.h"
#include "table/row_map.h"
#include "table/tensor_file.h"

namespace headrace::table {

FieldStats HoleStats(const Field& leaf, int64_t rows) {
  FieldStats stats;
  if (!leaf.has_default) {
    stats.nulls = rows;
    return stats;
  }
  stats.values = rows;
  stats.has_nan = true;  // no bounds are known; defaults are rare
  return stats;
}

namespace {

bool BoundsUnknown(const FieldStats& stats) { return stats.values > 0 && IsNull(stats.min); }

}  // namespace

std::optional<FieldStats> WithOverlays(const Fragment& fragment, int32_t top, int32_t leaf,
                                       std::optional<FieldStats> file) {
  for (const auto& overlay : fragment.overlays) {
    if (overlay.FileOf(top) == nullptr || !file) continue;
    const auto it = overlay.stats.find(leaf);
    if (it == overlay.stats.end()) return std::nullopt;
    const bool unknown = BoundsUnknown(*file) || BoundsUnknown(it->second);
    file = MergeStats(*file, it->second);
    if (unknown) file->min = file->max = Value();
  }
  return file;
}

Result<std::shared_ptr<ParquetFile>> FragmentReader::OpenParquet(const DataFile& file) const {
  return table::OpenParquet(env_.get(), prefix_, file);
}

Result<std::shared_ptr<arrow::Array>> FragmentReader::ReadFile(const DataFile& file, const Field& top,
                                                               const Rows& rows) const {
  if (file.column_group->kind == FileKind::kTensor) {
    const std::string key = DataKey(prefix_, file.id, FileKind::kTensor);
    HEADRACE_ASSIGN(const auto tensors, env_->files.GetOrOpen<TensorFile>(key, [&] {
      return TensorFile::Open(env_->store.get(), prefix_, file.id);
    }));
    *bytes_read_ += rows.count() * top.type.tensor_bytes();
    if (rows.is_range()) {
      const std::lock_guard lock(views_->mutex);
      views_->files.try_emplace(tensors.get(), tensors);
    }
    return tensors->Read(top, rows);
  }
  HEADRACE_ASSIGN(const auto parquet, OpenParquet(file));
  // Where most rows of a run are wanted (few were deleted), whole pages are copied, and the others left out.
  if (!rows.is_range() && rows.count() * 2 > rows.end() - rows.begin()) {
    HEADRACE_ASSIGN(auto all, parquet->Read(top, Rows::Range(rows.begin(), rows.end()), bytes_read_.get()));
    return Picked(std::move(all), rows);
  }
  return parquet->Read(top, rows, bytes_read_.get());
}

Status FragmentReader::CheckViews() const {
  const std::lock_guard lock(views_->mutex);
  for (auto it = views_->files.begin(); it != views_->files.end();) {
    const auto file = it->second.lock();
    if (file) HEADRACE_TRY(file->CheckWhole());
    it = file ? std::next(it) : views_->files.erase(it);
  }
  return Status::Ok();
}

Result<std::shared_ptr<arrow::Array>> FragmentReader::LayOver(std::shared_ptr<arrow::Array> base,
                                                              const Fragment& fragment,
                                                              const Overlay& overlay, const Field& top,
                                                              const Rows& rows) const {
  const DataFile* file = overlay.FileOf(top.id);
  if (file == nullptr || rows.count() == 0) return base;
  HEADRACE_ASSIGN(const auto changed, LoadRowSet(env_.get(), prefix_, overlay.rows, fragment.rows));
  std::vector<int64_t> places;  // in `base`
  std::vector<int64_t> picks;   // in the overlay's file
  if (rows.is_range()) {
    changed->AppendRange(rows.begin(), rows.end(), &places);
    const int64_t first = overlay.first + changed->Rank(rows.begin());
    for (auto& place : places) {
      place -= rows.begin();
      picks.push_back(first + static_cast<int64_t>(picks.size()));
    }
  } else {
    std::vector<int64_t> near;
    changed->AppendRange(rows.begin(), rows.end(), &near);
    const int64_t first = overlay.first + changed->Rank(rows.begin());
    size_t k = 0;
    for (int64_t i = 0; i < rows.count(); ++i) {
      while (k < near.size() && near[k] < rows.at(i)) ++k;
      if (k == near.size()) break;
      if (near[k] != rows.at(i)) continue;
      places.push_back(i);
      picks.push_back(first + static_cast<int64_t>(k));
    }
  }
  if (places.empty()) return base;
  // A row may be asked for more than once: three picks from 3 to 5 are a run only if they differ.
  const bool run = picks.back() - picks.front() + 1 == static_cast<int64_t>(picks.size()) &&
                   std::adjacent_find(picks.begin(), picks.end()) == picks.end();
  HEADRACE_ASSIGN(
      const auto values,
      ReadFile(*file, top, run ? Rows::Range(picks.front(), picks.back() + 1) : Rows::Picks(picks)));
  return Replaced(std::move(base), places, values);
}

Result<std::shared_ptr<arrow::Array>> FragmentReader::ReadTop(const Fragment& fragment, const Field& top,
                                                              const Rows& rows) const {
  if (top.id == kRowPlaceField || (top.id == kRowIdField && !IsSorted(fragment)))
    return PlacesOf(fragment, rows);
  const DataFile* file = fragment.FileOf(top.id);
  HEADRACE_ASSIGN(auto array, file == nullptr ? HoleArray(top, rows.count()) : ReadFile(*file, top, rows));
  for (const auto& overlay : fragment.overlays) {
    HEADRACE_ASSIGN(array, LayOver(std::move(array), fragment, overlay, top, rows));
  }
  return array;
}

Result<std::shared_ptr<arrow::Array>> FragmentReader::ReadPath(const Fragment& fragment,
                                                               const Projection& projection,
                                                               const Rows& rows) const {
  HEADRACE_ASSIGN(auto array, ReadTop(fragment, projection.top, rows));
  for (size_t level = 1; level < projection.path.size(); ++level) {
    HEADRACE_ARROW_ASSIGN(array, static_cast<const arrow::StructArray&>(*array).GetFlattenedField(0));
  }
  return array;
}

Result<std::shared_ptr<arrow::Array>> FragmentReader::Read(const Fragment& fragment,
                                                           const Projection& projection,
                                                           const Rows& rows) const {
  HEADRACE_ASSIGN(auto array, ReadPath(fragment, projection, rows));
  if (projection.leaf.type.kind == Kind::kBlob) return WithTable(array, prefix_);
  if (projection.pack) return PacksWithTable(*array, prefix_);
  return array;
}

Result<RowIds> FragmentReader::Ids(const Fragment& fragment) const {
  const DataFile* file = fragment.FileOf(kRowIdField);
  if (file == nullptr) return RowIds(fragment);
  const auto load = [&]() -> Result<std::shared_ptr<const RowIds>> {
    HEADRACE_ASSIGN(const auto ids, ReadFile(*file, RowIdField(), Rows::Range(0, fragment.rows)));
    auto loaded = RowIds::Of(fragment, static_cast<const arrow::Int64Array&>(*ids));
    if (!loaded.ok()) return loaded.status().Wrap(DataKey(prefix_, file->id, FileKind::kParquet));
    return std::make_shared<const RowIds>(std::move(loaded).value());
  };
  const std::string key = "row ids of " + DataKey(prefix_, file->id, FileKind::kParquet);
  HEADRACE_ASSIGN(const auto ids, env_->files.GetOrOpen<const RowIds>(key, load));
  return *ids;
}

Result<std::optional<FieldStats>> FragmentReader::PageStats(const Fragment& fragment,
                                                            const Projection& projection, int64_t begin,
                                                            int64_t end) const {
  const Field& leaf = projection.leaf;
  if (leaf.id == kRowPlaceField || (leaf.id == kRowIdField && !IsSorted(fragment)))
    return std::optional(PlaceStats(fragment, begin, end));
  const DataFile* file = fragment.FileOf(projection.top.id);
  std::optional<FieldStats> known;
  if (file == nullptr) {
    known = HoleStats(leaf, end - begin);
  } else if (file->column_group->kind == FileKind::kParquet) {
    HEADRACE_ASSIGN(const auto parquet, OpenParquet(*file));
    HEADRACE_ASSIGN(known, parquet->PageStats(leaf, begin, end));
  }
  return WithOverlays(fragment, projection.top.id, leaf.id, std::move(known));
}

}  // namespace headrace::table
