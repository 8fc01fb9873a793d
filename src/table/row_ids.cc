#include "table/row_ids.h"

#include <arrow/array.h>
#include <arrow/buffer.h>

#include <algorithm>

namespace headrace::table {

namespace {

Field WholeNumber(int32_t id, std::string_view name) {
  Field field;
  field.id = id;
  field.name = std::string(name);
  field.type.kind = Kind::kInt64;
  return field;
}

}  // namespace

Field RowIdField() { return WholeNumber(kRowIdField, kRowIdColumn); }
Field RowPlaceField() { return WholeNumber(kRowPlaceField, kRowPlaceColumn); }

Result<RowIds> RowIds::Of(const Fragment& fragment, const arrow::Int64Array& ids) {
  const auto broken = [&] {
    return Status::Corrupt("the column of row ids of fragment " + std::to_string(fragment.id) +
                           " does not have each of its ids once");
  };
  if (ids.length() != fragment.rows || ids.null_count() > 0) return broken();
  RowIds result(fragment);
  const auto count = static_cast<size_t>(fragment.rows);
  auto sorted = std::make_shared<Sorted>();
  sorted->offsets.resize(count);
  sorted->places.assign(count, UINT32_MAX);
  for (size_t place = 0; place < count; ++place) {
    const int64_t offset = ids.Value(static_cast<int64_t>(place)) - fragment.first_row_id;
    if (offset < 0 || offset >= fragment.rows) return broken();
    uint32_t& slot = sorted->places[static_cast<size_t>(offset)];
    if (slot != UINT32_MAX) return broken();
    slot = static_cast<uint32_t>(place);
    sorted->offsets[place] = static_cast<uint32_t>(offset);
  }
  result.sorted_ = std::move(sorted);
  return result;
}

std::vector<uint32_t> RowIds::PlacesIn(int64_t begin, int64_t end) const {
  begin = std::max(begin, first_);
  end = std::min(end, first_ + rows_);
  std::vector<uint32_t> places;
  for (int64_t id = begin; id < end; ++id) places.push_back(static_cast<uint32_t>(PlaceOf(id)));
  if (!ascend()) std::sort(places.begin(), places.end());
  return places;
}

std::shared_ptr<arrow::Array> PlacesOf(const Fragment& fragment, const Rows& rows) {
  std::vector<int64_t> places(static_cast<size_t>(rows.count()));
  for (int64_t i = 0; i < rows.count(); ++i)
    places[static_cast<size_t>(i)] = fragment.first_row_id + rows.at(i);
  return std::make_shared<arrow::Int64Array>(rows.count(), arrow::Buffer::FromVector(std::move(places)));
}

FieldStats PlaceStats(const Fragment& fragment, int64_t begin, int64_t end) {
  return FieldStats{fragment.first_row_id + begin, fragment.first_row_id + end - 1, 0, end - begin, false};
}

}  // namespace headrace::table
