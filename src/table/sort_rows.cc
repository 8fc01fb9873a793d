#include "table/sort_rows.h"

#include <arrow/array.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include <algorithm>
#include <iterator>

#include "table/arrow_bridge.h"
#include "table/table.h"

namespace headrace::table {
namespace {

Status ReadyToCompute() {
  static const arrow::Status ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(ready);
  return Status::Ok();
}

}  // namespace

int64_t DecodedBytes(const Fragment& fragment) {
  int64_t bytes = 0;
  for (const auto& file : fragment.files) bytes += file.decoded_bytes();
  for (const auto& overlay : fragment.overlays) {
    for (const auto& file : overlay.files) bytes += file.decoded_bytes();
  }
  return bytes;
}

std::vector<int32_t> KeyAmong(const std::vector<int32_t>& sort_by, const std::vector<int32_t>& filled) {
  std::vector<int32_t> key;
  std::copy_if(sort_by.begin(), sort_by.end(), std::back_inserter(key),
               [&](int32_t id) { return std::find(filled.begin(), filled.end(), id) != filled.end(); });
  return key;
}

Status CheckSortable(const Field& field) {
  switch (field.type.kind) {
    case Kind::kFloat16:
    case Kind::kBFloat16:
    case Kind::kJson:
    case Kind::kList:
    case Kind::kStruct:
    case Kind::kMap:
    case Kind::kTensor:
    case Kind::kBlob:
      return Status::Invalid("rows are not sorted by '" + field.name + "', which is " +
                             field.type.ToString() +
                             ": name columns of numbers, text, bytes, dates, times or uuids");
    default:
      return Status::Ok();
  }
}

Result<std::shared_ptr<arrow::Array>> SortedOrder(const arrow::RecordBatch& keys) {
  HEADRACE_TRY(ReadyToCompute());
  std::vector<arrow::compute::SortKey> by;
  arrow::FieldVector names;
  for (int c = 0; c < keys.num_columns(); ++c) {  // by number: names may hold dots
    by.emplace_back(arrow::FieldRef(c), arrow::compute::SortOrder::Ascending,
                    arrow::compute::NullPlacement::AtEnd);
    names.push_back(keys.schema()->field(c));
  }
  const auto plain =
      arrow::RecordBatch::Make(arrow::schema(std::move(names)), keys.num_rows(), keys.columns());
  std::shared_ptr<arrow::Array> order;
  HEADRACE_ARROW_ASSIGN(order,
                        arrow::compute::SortIndices(plain, arrow::compute::SortOptions(std::move(by))));
  return order;
}

std::vector<std::string> SortKey(const Snapshot& snapshot) {
  std::vector<std::string> names;
  for (const int32_t id : snapshot.sort_by) {
    if (const Field* field = snapshot.schema.FindId(id)) names.push_back(field->name);
  }
  return names;
}

bool IsIdentity(const arrow::Array& order) {
  const auto& indexes = static_cast<const arrow::UInt64Array&>(order);
  for (int64_t i = 0; i < indexes.length(); ++i) {
    if (indexes.Value(i) != static_cast<uint64_t>(i)) return false;
  }
  return true;
}

Result<std::shared_ptr<arrow::RecordBatch>> TakeRows(const arrow::RecordBatch& batch,
                                                     const arrow::Array& indexes) {
  HEADRACE_TRY(ReadyToCompute());
  arrow::ArrayVector columns;
  for (const auto& column : batch.columns()) {
    HEADRACE_ARROW_ASSIGN(auto taken, arrow::compute::Take(*column, indexes));
    columns.push_back(std::move(taken));
  }
  return arrow::RecordBatch::Make(batch.schema(), indexes.length(), std::move(columns));
}

Result<CommitResult> Table::SortBy(const std::vector<std::string>& columns, const CommitOptions& options) {
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  Operation operation = MakeOperation(options);
  SortRows sort;
  std::vector<Field> used;
  for (const auto& name : columns) {
    HEADRACE_ASSIGN(const Field* field, head->schema.Get(name));
    HEADRACE_TRY(CheckSortable(*field));
    if (std::find(sort.fields.begin(), sort.fields.end(), field->id) != sort.fields.end())
      return Status::Invalid("the sort key names '" + name + "' twice");
    sort.fields.push_back(field->id);
    used.push_back(*field);
    operation.columns.push_back(name);
  }
  operation.field_ids = sort.fields;
  return CommitSmall({std::move(sort), std::move(operation), {}, std::move(used)}, options);
}

}  // namespace headrace::table
