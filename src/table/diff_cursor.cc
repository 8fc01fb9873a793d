#include "table/diff_cursor.h"

#include <arrow/array.h>
#include <arrow/buffer.h>
#include <arrow/compare.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>

#include <algorithm>

#include "table/arrow_bridge.h"
#include "table/blob_cells.h"
#include "table/row_map.h"
#include "table/row_set_file.h"

namespace headrace::table {
namespace {

constexpr int64_t kChunkRows = 16 << 10;  // whose values are held, of one column at a time

using ArrayPtr = std::shared_ptr<arrow::Array>;

bool SameAt(const arrow::Array& a, const arrow::Array& b, int64_t i) {
  return a.RangeEquals(b, i, i + 1, i, arrow::EqualOptions::Defaults().nans_equal(true));
}

// Where a blob's bytes lie is no part of what it is: compaction moves them.
Result<std::vector<bool>> BlobsDiffer(const ArrayPtr& a, const ArrayPtr& b) {
  HEADRACE_ASSIGN(const BlobCells cells_a, BlobCells::Of(a));
  HEADRACE_ASSIGN(const BlobCells cells_b, BlobCells::Of(b));
  std::vector<bool> differ(static_cast<size_t>(a->length()));
  for (int64_t i = 0; i < a->length(); ++i) {
    if (cells_a.IsNull(i) || cells_b.IsNull(i)) {
      differ[static_cast<size_t>(i)] = cells_a.IsNull(i) != cells_b.IsNull(i);
      continue;
    }
    const bool summed = cells_a.Checksum(i) != 0 && cells_b.Checksum(i) != 0;
    bool same = true;
    for (const auto& field : BlobFields()) {
      const bool place =
          field.name == "pack" || field.name == "offset" || field.name == "uri" || field.name == "inline";
      if (place && summed) continue;
      const auto in_a = cells_a.cells().GetFieldByName(field.name);
      const auto in_b = cells_b.cells().GetFieldByName(field.name);
      same = same && in_a && in_b && SameAt(*in_a, *in_b, i);
    }
    differ[static_cast<size_t>(i)] = !same;
  }
  return differ;
}

Rows RowsOf(const std::vector<int64_t>& places) {
  const auto count = static_cast<int64_t>(places.size());
  return places.back() - places.front() + 1 == count ? Rows::Range(places.front(), places.back() + 1)
                                                     : Rows::Picks(places);
}

bool Contains(const std::shared_ptr<const RowSet>& rows, int64_t row) { return rows && rows->Contains(row); }

// The ids in [begin, end) of a set's rows.
std::vector<int64_t> IdsIn(const RowSet& rows, const RowIds& known, int64_t begin, int64_t end) {
  std::vector<int64_t> ids;
  if (known.ascend()) {
    const int64_t first = known.IdAt(0);
    rows.AppendRange(begin - first, end - first, &ids);
    for (int64_t& id : ids) id += first;
    return ids;
  }
  for (int64_t id = begin; id < end; ++id) {
    if (rows.Contains(known.PlaceOf(id))) ids.push_back(id);
  }
  return ids;
}

// The ids in [begin, end) of the rows that are not in the set.
void AppendLive(const RowIds& known, const std::shared_ptr<const RowSet>& deleted, int64_t begin, int64_t end,
                std::vector<int64_t>* ids) {
  if (deleted && known.ascend()) {
    const int64_t first = known.IdAt(0);
    const size_t before = ids->size();
    deleted->AppendOthers(begin - first, end - first, ids);
    for (size_t i = before; i < ids->size(); ++i) (*ids)[i] += first;
    return;
  }
  for (int64_t id = begin; id < end; ++id) {
    if (!Contains(deleted, known.PlaceOf(id))) ids->push_back(id);
  }
}

// A column of the rows with these ids, in their order.
Result<ArrayPtr> ReadIds(const View& view, const Fragment& fragment, const RowIds& known, const Field& field,
                         const std::vector<int64_t>& ids) {
  std::vector<std::pair<int64_t, int64_t>> places;  // and which of the ids it is
  for (const int64_t id : ids) places.emplace_back(known.PlaceOf(id), static_cast<int64_t>(places.size()));
  if (!known.ascend()) std::sort(places.begin(), places.end());
  std::vector<int64_t> rows, order(places.size());
  for (size_t k = 0; k < places.size(); ++k) {
    rows.push_back(places[k].first);
    order[static_cast<size_t>(places[k].second)] = static_cast<int64_t>(k);
  }
  HEADRACE_ASSIGN(auto array, view.reader().ReadTop(fragment, field, RowsOf(rows)));
  if (known.ascend()) return array;
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);
  const arrow::Int64Array indices(static_cast<int64_t>(order.size()), arrow::Buffer::FromVector(order));
  HEADRACE_ARROW_ASSIGN(array, arrow::compute::Take(*array, indices));
  return array;
}

}  // namespace

Result<std::unique_ptr<DiffCursor>> DiffCursor::Open(const Diff& diff, const StopToken& stop) {
  std::unique_ptr<DiffCursor> cursor(new DiffCursor(diff, stop));
  HEADRACE_ASSIGN(cursor->before_, diff.before().Fragments());
  HEADRACE_ASSIGN(cursor->after_, diff.after().Fragments());
  cursor->CutSegments();
  return cursor;
}

void DiffCursor::CutSegments() {
  std::vector<int64_t> cuts;
  for (const auto* list : {before_.get(), after_.get()}) {
    for (const Fragment& fragment : *list) {
      cuts.push_back(fragment.first_row_id);
      cuts.push_back(fragment.end_row_id());
    }
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  const auto covering = [](const std::vector<Fragment>& list, size_t* next, int64_t id) -> const Fragment* {
    while (*next < list.size() && list[*next].end_row_id() <= id) ++*next;
    return *next < list.size() && list[*next].first_row_id <= id ? &list[*next] : nullptr;
  };
  size_t in_before = 0;
  size_t in_after = 0;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    const Segment segment{cuts[i], cuts[i + 1], covering(*before_, &in_before, cuts[i]),
                          covering(*after_, &in_after, cuts[i])};
    if (segment.before != nullptr || segment.after != nullptr) segments_.push_back(segment);
  }
}

// Of one fragment at two versions: the rows that an overlay of only one of them has a value for.
Result<std::shared_ptr<const RowSet>> DiffCursor::OverlaidApart(const Fragment& a, const Fragment& b,
                                                                int32_t field) const {
  auto apart = RowSet::Of({});
  for (const auto& [mine, theirs] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    for (const Overlay& overlay : mine->overlays) {
      const DataFile* file = overlay.FileOf(field);
      const bool in_both =
          std::any_of(theirs->overlays.begin(), theirs->overlays.end(), [&](const Overlay& other) {
            return other.version == overlay.version && other.rows == overlay.rows &&
                   other.FileOf(field) != nullptr;
          });
      if (file == nullptr || in_both) continue;
      const View& view = diff_.after();
      HEADRACE_ASSIGN(const auto rows,
                      LoadRowSet(view.environment().get(), view.prefix(), overlay.rows, mine->rows));
      apart = apart->Union(*rows);
    }
  }
  return apart;
}

Status DiffCursor::Enter() {
  const Segment& segment = segments_[segment_];
  at_ = segment.begin;
  candidates_.clear();
  deleted_before_ = deleted_after_ = nullptr;
  ids_before_.reset();
  ids_after_.reset();
  const Fragment* a = segment.before;
  const Fragment* b = segment.after;
  const bool same_fragment = a != nullptr && b != nullptr && a->id == b->id &&
                             a->first_row_id == b->first_row_id && a->rows == b->rows;
  for (size_t i = 0; i < diff_.columns().size() && a != nullptr && b != nullptr; ++i) {
    const DiffColumn& column = diff_.columns()[i];
    const int32_t field = column.field.id;
    if (column.added() || column.dropped() || !column.compared) continue;
    if (same_fragment && SameValues(*a, *b, field)) continue;
    if (!a->Fills(field) && !b->Fills(field) && !a->Overlaid(field) && !b->Overlaid(field)) continue;
    const DataFile* in_a = a->FileOf(field);
    const DataFile* in_b = b->FileOf(field);
    const bool same_file = in_a == nullptr ? in_b == nullptr : in_b != nullptr && in_a->id == in_b->id;
    std::shared_ptr<const RowSet> rows;
    if (same_fragment && same_file) {
      HEADRACE_ASSIGN(rows, OverlaidApart(*a, *b, field));
    }
    candidates_.push_back({i, std::move(rows)});
  }
  if (same_fragment && a->deleted == b->deleted && candidates_.empty()) {
    at_ = segment.end;  // nothing differs
    return Status::Ok();
  }
  if (a != nullptr) {
    HEADRACE_ASSIGN(deleted_before_, diff_.before().Deleted(*a));
    HEADRACE_ASSIGN(ids_before_, diff_.before().reader().Ids(*a));
  }
  if (b != nullptr) {
    HEADRACE_ASSIGN(deleted_after_, diff_.after().Deleted(*b));
    HEADRACE_ASSIGN(ids_after_, diff_.after().reader().Ids(*b));
  }
  return Status::Ok();
}

Result<bool> DiffCursor::Next(DiffChunk* chunk) {
  *chunk = {};
  HEADRACE_TRY(stop_.Check());
  while (segment_ < segments_.size() && at_ >= segments_[segment_].end) {
    ++segment_;
    at_ = -1;
  }
  if (segment_ == segments_.size()) return false;
  if (at_ < 0) HEADRACE_TRY(Enter());
  const int64_t begin = at_;
  const int64_t end = std::min(begin + kChunkRows, segments_[segment_].end);
  at_ = std::max(at_, end);
  if (begin >= end) return true;
  ListRows(begin, end, chunk);
  HEADRACE_TRY(CompareRows(begin, end, chunk));
  return true;
}

void DiffCursor::ListRows(int64_t begin, int64_t end, DiffChunk* chunk) const {
  const Segment& segment = segments_[segment_];
  if (segment.before == nullptr) return AppendLive(*ids_after_, deleted_after_, begin, end, &chunk->added);
  if (segment.after == nullptr) return AppendLive(*ids_before_, deleted_before_, begin, end, &chunk->deleted);
  // The ids in one set of deleted rows that are not in the other.
  const auto apart = [&](const RowIds& known, const std::shared_ptr<const RowSet>& deleted,
                         const RowIds& known_too, const std::shared_ptr<const RowSet>& others,
                         std::vector<int64_t>* ids) {
    if (!deleted) return;
    for (const int64_t id : IdsIn(*deleted, known, begin, end)) {
      if (!Contains(others, known_too.PlaceOf(id))) ids->push_back(id);
    }
  };
  apart(*ids_after_, deleted_after_, *ids_before_, deleted_before_, &chunk->deleted);
  apart(*ids_before_, deleted_before_, *ids_after_, deleted_after_, &chunk->added);
}

Status DiffCursor::CompareRows(int64_t begin, int64_t end, DiffChunk* chunk) const {
  std::vector<std::pair<int64_t, size_t>> changed;
  for (const Candidate& candidate : candidates_) {
    std::vector<int64_t> ids;
    if (candidate.rows)
      ids = IdsIn(*candidate.rows, *ids_after_, begin, end);
    else
      AppendLive(*ids_after_, deleted_after_, begin, end, &ids);
    std::erase_if(ids, [&](int64_t id) {
      return Contains(deleted_before_, ids_before_->PlaceOf(id)) ||
             Contains(deleted_after_, ids_after_->PlaceOf(id));
    });
    if (ids.empty()) continue;
    HEADRACE_ASSIGN(const auto differ, ValuesDiffer(diff_.columns()[candidate.column], ids));
    for (size_t i = 0; i < ids.size(); ++i) {
      if (differ[i]) changed.emplace_back(ids[i], candidate.column);
    }
  }
  std::sort(changed.begin(), changed.end());
  for (const auto& [id, column] : changed) {
    if (chunk->changed.empty() || chunk->changed.back().row_id != id) chunk->changed.push_back({id, {}});
    chunk->changed.back().columns.push_back(column);
  }
  return Status::Ok();
}

Result<std::vector<bool>> DiffCursor::ValuesDiffer(const DiffColumn& column,
                                                   const std::vector<int64_t>& ids) const {
  const Segment& segment = segments_[segment_];
  const auto read = [&](const View& view, const Fragment& fragment, const RowIds& known) {
    const Field* field = column.retyped ? &column.field : view.schema().TopOf(column.field.id);
    return ReadIds(view, fragment, known, *field, ids);
  };
  HEADRACE_ASSIGN(const ArrayPtr a, read(diff_.before(), *segment.before, *ids_before_));
  HEADRACE_ASSIGN(const ArrayPtr b, read(diff_.after(), *segment.after, *ids_after_));
  std::vector<bool> differ(ids.size());
  if (a->Equals(*b, arrow::EqualOptions::Defaults().nans_equal(true))) return differ;
  if (column.field.type.kind == Kind::kBlob) return BlobsDiffer(a, b);
  for (size_t i = 0; i < ids.size(); ++i) differ[i] = !SameAt(*a, *b, static_cast<int64_t>(i));
  return differ;
}

}  // namespace headrace::table
