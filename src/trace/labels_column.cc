#include "trace/labels_column.h"

#include <arrow/array.h>
#include <arrow/array/builder_binary.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <utility>

#include "table/arrow_bridge.h"

namespace headrace::trace {
namespace {

template <typename Builder, typename Values>
Result<std::shared_ptr<arrow::Array>> Build(const arrow::Int64Array& ids, const Values& values) {
  Builder builder;
  for (int64_t i = 0; i < ids.length(); ++i) {
    const auto found = values.find(ids.Value(i));
    HEADRACE_ARROW_TRY(found == values.end() ? builder.AppendNull() : builder.Append(found->second));
  }
  std::shared_ptr<arrow::Array> array;
  HEADRACE_ARROW_TRY(builder.Finish(&array));
  return array;
}

Result<std::shared_ptr<arrow::RecordBatch>> ColumnOf(const arrow::Array& ids, const Agreed& agreed,
                                                     bool numbers, const std::string& column) {
  const auto& rows = static_cast<const arrow::Int64Array&>(ids);
  HEADRACE_ASSIGN(auto array, numbers ? Build<arrow::DoubleBuilder>(rows, agreed.means)
                                      : Build<arrow::StringBuilder>(rows, agreed.labels));
  const auto schema = arrow::schema({arrow::field(column, array->type())});
  return arrow::RecordBatch::Make(schema, rows.length(), {std::move(array)});
}

Result<arrow::RecordBatchVector> ColumnFor(const table::View& view, const Agreed& agreed, bool numbers,
                                           const std::string& column) {
  HEADRACE_ASSIGN(const auto rows, view.Scan({.columns = {std::string(table::kRowIdColumn)}}));
  arrow::RecordBatchVector batches;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(rows->ReadNext(&batch));
    if (!batch) return batches;
    HEADRACE_ASSIGN(auto made, ColumnOf(*batch->column(0), agreed, numbers, column));
    batches.push_back(std::move(made));
  }
}

}  // namespace

Agreed Agree(const std::vector<Vote>& votes) {
  std::map<int64_t, std::map<std::string, int64_t>> counts;
  std::map<int64_t, std::pair<double, int64_t>> sums;
  for (const Vote& vote : votes) {
    if (!vote.label.empty()) ++counts[vote.row][vote.label];
    if (!vote.value) continue;
    sums[vote.row].first += *vote.value;
    ++sums[vote.row].second;
  }
  Agreed agreed;
  for (const auto& [row, sum] : sums) agreed.means[row] = sum.first / static_cast<double>(sum.second);
  for (const auto& [row, labels] : counts) {
    const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
    const auto most = std::max_element(labels.begin(), labels.end(), less);
    const auto as_many = std::count_if(labels.begin(), labels.end(),
                                       [&](const auto& one) { return one.second == most->second; });
    if (as_many > 1) {
      agreed.ties.push_back(row);
    } else {
      agreed.labels[row] = most->first;
    }
  }
  return agreed;
}

Result<LabelsColumn> WriteLabels(table::Table* table, const Agreed& agreed, bool numbers,
                                 const std::string& column, const table::CommitOptions& options) {
  HEADRACE_ASSIGN(const table::View view, table->At());
  HEADRACE_ASSIGN(auto batches, ColumnFor(view, agreed, numbers, column));
  LabelsColumn result;
  for (const auto& batch : batches) result.filled += batch->num_rows() - batch->column(0)->null_count();
  result.gone = static_cast<int64_t>(numbers ? agreed.means.size() : agreed.labels.size()) - result.filled;
  if (view.schema().Find(column) != nullptr) {
    const auto values = [&](const std::shared_ptr<arrow::RecordBatch>& ids) {
      return ColumnOf(*ids->column(0), agreed, numbers, column);
    };
    HEADRACE_ASSIGN(result.commit,
                    table->Update({"true"}, {std::string(table::kRowIdColumn)}, {column}, values, options));
    return result;
  }
  if (batches.empty()) return Status::Invalid("'" + table->name() + "' has no rows");
  const auto schema = batches[0]->schema();
  HEADRACE_ARROW_ASSIGN(const auto reader, arrow::RecordBatchReader::Make(std::move(batches), schema));
  HEADRACE_ASSIGN(result.commit, table->AddColumns(view, reader.get(), {}, options));
  return result;
}

}  // namespace headrace::trace
