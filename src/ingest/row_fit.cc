#include "ingest/row_fit.h"

#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <set>

#include "table/arrow_bridge.h"

namespace headrace::ingest {
namespace {

Result<std::shared_ptr<arrow::RecordBatch>> Without(const std::set<int64_t>& bad,
                                                    const std::shared_ptr<arrow::RecordBatch>& rows) {
  if (bad.empty()) return rows;
  static const arrow::Status initialized = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(initialized);
  arrow::Int64Builder picks;
  for (int64_t i = 0; i < rows->num_rows(); ++i) {
    if (!bad.contains(i)) HEADRACE_ARROW_TRY(picks.Append(i));
  }
  HEADRACE_ARROW_ASSIGN(const auto indices, picks.Finish());
  arrow::ArrayVector columns;
  for (const auto& column : rows->columns()) {
    HEADRACE_ARROW_ASSIGN(auto taken, arrow::compute::Take(*column, *indices));
    columns.push_back(std::move(taken));
  }
  return arrow::RecordBatch::Make(rows->schema(), indices->length(), std::move(columns));
}

}  // namespace

Result<Batches> RowsThatFit(const Batches& batches, int64_t first, const std::vector<table::Field>& fields,
                            Refused* refused) {
  Batches conformed;
  for (const auto& batch : batches) {
    arrow::ArrayVector columns;
    arrow::FieldVector named;
    std::vector<table::RowFault> faults;
    for (const auto& field : fields) {
      HEADRACE_ASSIGN(auto column, table::ConformRows(batch->GetColumnByName(field.name), field, &faults));
      named.push_back(arrow::field(field.name, column->type()));
      columns.push_back(std::move(column));
    }
    auto rows = arrow::RecordBatch::Make(arrow::schema(named), batch->num_rows(), columns);
    std::set<int64_t> bad;
    for (auto& fault : faults) {
      bad.insert(fault.row);
      refused->emplace(first + fault.row, std::move(fault));
    }
    first += batch->num_rows();
    HEADRACE_ASSIGN(rows, Without(bad, rows));
    if (rows->num_rows() > 0) conformed.push_back(std::move(rows));
  }
  return conformed;
}

std::string TensorOf(const Batches& rows, const std::string& column) {
  int64_t length = -1;
  std::shared_ptr<arrow::DataType> element;
  for (const auto& batch : rows) {
    const auto array = batch->GetColumnByName(column);
    if (!array || array->type_id() != arrow::Type::LIST) return "";
    const auto& lists = static_cast<const arrow::ListArray&>(*array);
    element = lists.value_type();
    const auto id = element->id();
    if ((id != arrow::Type::FLOAT && id != arrow::Type::HALF_FLOAT) || lists.values()->null_count() > 0)
      return "";
    for (int64_t i = 0; i < lists.length(); ++i) {
      if (lists.IsNull(i)) continue;
      if (length >= 0 && lists.value_length(i) != length) return "";
      length = lists.value_length(i);
    }
  }
  if (length <= 1) return "";
  return std::string("tensor<") + (element->id() == arrow::Type::FLOAT ? "float32" : "float16") + ">[" +
         std::to_string(length) + "]";
}

}  // namespace headrace::ingest
