#include "table/row_map.h"

#include <algorithm>

namespace headrace::table {

std::optional<size_t> RowMap::Find(int64_t row_id) const {
  const auto it = std::upper_bound(fragments_.begin(), fragments_.end(), row_id,
                                   [](int64_t id, const Fragment& f) { return id < f.first_row_id; });
  if (it == fragments_.begin() || row_id >= (it - 1)->end_row_id()) return std::nullopt;
  return static_cast<size_t>(it - 1 - fragments_.begin());
}

Result<std::vector<FragmentIds>> RowMap::FindAll(const std::vector<int64_t>& row_ids) const {
  std::vector<FragmentIds> found;
  for (const int64_t id : row_ids) {
    if (found.empty() || id >= fragments_[found.back().fragment].end_row_id()) {
      const auto fragment = Find(id);
      if (!fragment) return Status::NotFound("no row has the id " + std::to_string(id));
      found.push_back({*fragment, {}});
    }
    found.back().ids.push_back(id);
  }
  return found;
}

const Fragment* RowMap::Same(const Fragment& entry) const {
  const auto it = std::lower_bound(fragments_.begin(), fragments_.end(), entry.first_row_id,
                                   [](const Fragment& f, int64_t id) { return f.first_row_id < id; });
  if (it == fragments_.end() || it->id != entry.id || it->rows != entry.rows) return nullptr;
  return &*it;
}

const Fragment* RowMap::Holding(const Fragment& entry) const {
  const auto found = Find(entry.first_row_id);
  if (!found) return nullptr;
  const Fragment& fragment = fragments_[*found];
  if (fragment.id != entry.id && IsSorted(fragment)) return nullptr;
  return entry.end_row_id() <= fragment.end_row_id() ? &fragment : nullptr;
}

}  // namespace headrace::table
