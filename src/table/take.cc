// Rows by id: any of a view, in any order.
#include <arrow/array.h>
#include <arrow/array/concatenate.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <numeric>

#include "table/arrow_bridge.h"
#include "table/row_map.h"
#include "table/view.h"

namespace headrace::table {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;

// One column of all parts, in their order.
Result<ArrayPtr> ReadParts(const FragmentReader& reader, const std::vector<Fragment>& fragments,
                           const std::vector<RowMap::Picks>& parts, const Projection& column,
                           const arrow::DataType& type) {
  arrow::ArrayVector pieces;
  for (const auto& part : parts) {
    HEADRACE_ASSIGN(auto piece, reader.Read(fragments[part.fragment], column, Rows::Picks(part.rows)));
    pieces.push_back(std::move(piece));
  }
  if (pieces.size() == 1) return pieces[0];
  ArrayPtr joined;
  if (pieces.empty()) {
    HEADRACE_ARROW_ASSIGN(joined, arrow::MakeArrayOfNull(type.GetSharedPtr(), 0));
  } else {
    HEADRACE_ARROW_ASSIGN(joined, arrow::Concatenate(pieces));
  }
  return joined;
}

}  // namespace

Result<std::shared_ptr<arrow::RecordBatch>> View::Take(const std::vector<int64_t>& row_ids,
                                                       const std::vector<std::string>& columns) const {
  HEADRACE_ASSIGN(const auto projections, ProjectColumns(schema(), columns));
  HEADRACE_ASSIGN(const auto fragments, Fragments());
  std::vector<size_t> order(row_ids.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return row_ids[a] < row_ids[b]; });
  std::vector<int64_t> ascending(order.size());
  std::vector<int64_t> position(order.size());  // of each asked-for row among the ascending ones
  for (size_t k = 0; k < order.size(); ++k) {
    ascending[k] = row_ids[order[k]];
    position[order[k]] = static_cast<int64_t>(k);
  }
  const auto parts = RowMap(*fragments).FindAll(ascending);
  if (!parts.ok()) {
    return Status::NotFound(parts.status().message() + " in version " + std::to_string(snapshot_->version) +
                            "; ids run from 0 to " + std::to_string(snapshot_->next_row_id - 1));
  }

  const bool sorted = std::is_sorted(position.begin(), position.end());
  const auto indices = std::make_shared<arrow::Int64Array>(
      static_cast<int64_t>(position.size()), arrow::Buffer::Wrap(position.data(), position.size()));
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);

  const auto result_schema = table::ToArrow(projections);
  arrow::ArrayVector arrays;
  for (size_t c = 0; c < projections.size(); ++c) {
    const auto& type = *result_schema->field(static_cast<int>(c))->type();
    HEADRACE_ASSIGN(auto joined, ReadParts(reader_, *fragments, *parts, projections[c], type));
    if (!sorted) {
      HEADRACE_ARROW_ASSIGN(joined, arrow::compute::Take(*joined, *indices));
    }
    arrays.push_back(std::move(joined));
  }
  return arrow::RecordBatch::Make(result_schema, static_cast<int64_t>(row_ids.size()), std::move(arrays));
}

}  // namespace headrace::table
