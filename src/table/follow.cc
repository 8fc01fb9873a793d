#include "table/follow.h"

#include "base/check.h"
#include "table/row_map.h"
#include "table/row_set_file.h"

namespace headrace::table {
namespace {

// The entry of a fill, as it is said of the fragment `now`, which has its rows and others.
Fragment Moved(const Fragment& entry, const Fragment& now, int64_t version, RowSetWriter* sets) {
  Fragment moved;
  moved.id = now.id;
  moved.first_row_id = now.first_row_id;
  moved.rows = now.rows;
  moved.packs = entry.packs;
  const int64_t begin = entry.first_row_id - now.first_row_id;
  Overlay overlay;
  overlay.version = version;
  overlay.rows = sets->Add(*RowSet::Range(begin, begin + entry.rows));
  overlay.files = entry.files;
  overlay.stats = entry.stats;
  overlay.fill = true;
  moved.overlays.push_back(std::move(overlay));
  return moved;
}

}  // namespace

Result<bool> SameValuesGathered(const View& head, const Fragment& before, const Fragment& now, int32_t field,
                                int64_t base) {
  // Compaction writes what there is to a file, and leaves holes.
  const DataFile* file = now.FileOf(field);
  const bool had_values = before.Fills(field) || before.Overlaid(field);
  if (had_values != (file != nullptr)) return false;
  const auto gathered = now.gathered.find(field);
  if (gathered != now.gathered.end() && gathered->second > base) return false;
  if (file != nullptr && file->version > base) return false;
  if (IsSorted(now) && now.id != before.id) return false;  // its rows are others, place by place
  const int64_t begin = before.first_row_id - now.first_row_id;
  for (const auto& overlay : now.overlays) {
    if (overlay.FileOf(field) == nullptr || (overlay.version <= base && !overlay.fill)) continue;
    HEADRACE_ASSIGN(const auto rows,
                    LoadRowSet(head.environment().get(), head.prefix(), overlay.rows, now.rows));
    if (rows->Rank(begin + before.rows) > rows->Rank(begin)) return false;
  }
  return true;
}

Status WriteFills(const FillColumns& fill, const View& head, Snapshot* next,
                  std::vector<std::string>* written) {
  if (fill.entries.empty()) return Status::Ok();
  HEADRACE_ASSIGN(const auto fragments, head.Fragments());
  const RowMap rows(*fragments);
  RowSetWriter sets(*head.environment());
  for (const auto& filled : fill.entries) {
    const Fragment* now = rows.Holding(filled);
    HEADRACE_CHECK(now != nullptr);
    Fragment entry = rows.Same(filled) == now ? filled : Moved(filled, *now, next->version, &sets);
    entry.version = next->version;
    next->inline_entries.push_back(std::move(entry));
  }
  return sets.Finish(head.environment().get(), head.prefix(), written);
}

}  // namespace headrace::table
