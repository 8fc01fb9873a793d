#include "table/row_map.h"

#include <arrow/array.h>
#include <arrow/buffer.h>

#include <algorithm>

namespace headrace::table {

std::optional<RowPlace> RowMap::Find(int64_t row_id) const {
  const auto it = std::upper_bound(fragments_.begin(), fragments_.end(), row_id,
                                   [](int64_t id, const Fragment& f) { return id < f.first_row_id; });
  if (it == fragments_.begin() || row_id >= (it - 1)->end_row_id()) return std::nullopt;
  return RowPlace{static_cast<int32_t>(it - 1 - fragments_.begin()),
                  static_cast<int32_t>(row_id - (it - 1)->first_row_id)};
}

Result<std::vector<RowMap::Picks>> RowMap::FindAll(const std::vector<int64_t>& row_ids) const {
  std::vector<Picks> found;
  const Fragment* current = nullptr;
  for (const int64_t id : row_ids) {
    if (current == nullptr || id >= current->end_row_id()) {
      const auto place = Find(id);
      if (!place) return Status::NotFound("no row has the id " + std::to_string(id));
      found.push_back({static_cast<size_t>(place->fragment), {}});
      current = &fragments_[found.back().fragment];
    }
    found.back().rows.push_back(id - current->first_row_id);
  }
  return found;
}

std::shared_ptr<arrow::Array> RowMap::Ids(const Fragment& fragment, const Rows& rows) {
  std::vector<int64_t> ids(static_cast<size_t>(rows.count()));
  for (int64_t i = 0; i < rows.count(); ++i) ids[static_cast<size_t>(i)] = IdOf(fragment, rows.at(i));
  return std::make_shared<arrow::Int64Array>(rows.count(), arrow::Buffer::FromVector(std::move(ids)));
}

FieldStats RowMap::IdStats(const Fragment& fragment, int64_t begin, int64_t end) {
  return FieldStats{IdOf(fragment, begin), IdOf(fragment, end - 1), 0, end - begin, false};
}

const Fragment* RowMap::Same(const Fragment& entry) const {
  const auto it = std::lower_bound(fragments_.begin(), fragments_.end(), entry.first_row_id,
                                   [](const Fragment& f, int64_t id) { return f.first_row_id < id; });
  if (it == fragments_.end() || it->id != entry.id || it->rows != entry.rows) return nullptr;
  return &*it;
}

const Fragment* RowMap::Holding(const Fragment& entry) const {
  const auto place = Find(entry.first_row_id);
  if (!place) return nullptr;
  const Fragment& fragment = fragments_[static_cast<size_t>(place->fragment)];
  return entry.end_row_id() <= fragment.end_row_id() ? &fragment : nullptr;
}

}  // namespace headrace::table
