#include "query/diff_function.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <duckdb/catalog/catalog.hpp>
#include <duckdb/function/function_set.hpp>
#include <duckdb/parser/parsed_data/create_table_function_info.hpp>

#include <algorithm>
#include <string>

#include "table/arrow_bridge.h"
#include "table/diff.h"

namespace headrace::query {
namespace {

[[noreturn]] void ThrowDiff(Session* session, const Status& status) {
  session->Fail(status);
  if (status.Is(Code::kCancelled)) throw duckdb::InterruptException();
  throw duckdb::InvalidInputException(status.ToString());
}

struct DiffInfo : public duckdb::TableFunctionInfo {
  explicit DiffInfo(std::shared_ptr<Session> s) : session(std::move(s)) {}
  std::shared_ptr<Session> session;
};

struct DiffData : public duckdb::TableFunctionData {
  std::shared_ptr<Session> session;
  std::shared_ptr<const table::Diff> diff;
};

struct DiffState : public duckdb::GlobalTableFunctionState {
  std::shared_ptr<arrow::RecordBatchReader> reader;
  std::shared_ptr<arrow::RecordBatch> batch;
  int64_t at = 0;  // of the batch
};

duckdb::unique_ptr<duckdb::FunctionData> BindDiff(duckdb::ClientContext&,
                                                  duckdb::TableFunctionBindInput& input,
                                                  duckdb::vector<duckdb::LogicalType>& types,
                                                  duckdb::vector<std::string>& names) {
  auto data = duckdb::make_uniq<DiffData>();
  data->session = input.info->Cast<DiffInfo>().session;
  for (const auto& word : input.inputs) {
    if (word.IsNull())
      throw duckdb::BinderException("diff() takes a table and two of its versions, not null");
  }
  const std::string name = input.inputs[0].GetValue<std::string>();
  const auto view = [&](size_t version) {
    const std::string at =
        version < input.inputs.size() ? "@" + input.inputs[version].GetValue<std::string>() : "";
    auto resolved = data->session->Resolve(name + at);
    if (!resolved.ok()) ThrowDiff(data->session.get(), resolved.status());
    return *resolved;
  };
  const auto before = view(1);
  auto diff = table::Diff::Between(*before, *view(2));
  if (!diff.ok()) ThrowDiff(data->session.get(), diff.status());
  data->diff = std::make_shared<const table::Diff>(std::move(diff).value());
  names = {"row_id", "change", "columns"};
  types = {duckdb::LogicalType::BIGINT, duckdb::LogicalType::VARCHAR,
           duckdb::LogicalType::LIST(duckdb::LogicalType::VARCHAR)};
  return data;
}

duckdb::unique_ptr<duckdb::GlobalTableFunctionState> StartDiff(duckdb::ClientContext&,
                                                               duckdb::TableFunctionInitInput& input) {
  const auto& data = input.bind_data->Cast<DiffData>();
  auto state = duckdb::make_uniq<DiffState>();
  auto reader = data.diff->Rows(data.session->stop());
  if (!reader.ok()) ThrowDiff(data.session.get(), reader.status());
  state->reader = std::move(reader).value();
  return state;
}

duckdb::string_t AddText(duckdb::Vector* vector, std::string_view text) {
  return duckdb::StringVector::AddString(*vector, text.data(), text.size());
}

void RunDiff(duckdb::ClientContext&, duckdb::TableFunctionInput& input, duckdb::DataChunk& output) {
  const auto& data = input.bind_data->Cast<DiffData>();
  auto& state = input.global_state->Cast<DiffState>();
  while (!state.batch || state.at == state.batch->num_rows()) {
    state.at = 0;
    const auto read = state.reader->ReadNext(&state.batch);
    if (!read.ok()) ThrowDiff(data.session.get(), table::FromArrow(read));
    if (!state.batch) return;
  }
  const int64_t rows = std::min<int64_t>(STANDARD_VECTOR_SIZE, state.batch->num_rows() - state.at);
  const auto& ids = static_cast<const arrow::Int64Array&>(*state.batch->column(0));
  const auto& changes = static_cast<const arrow::StringArray&>(*state.batch->column(1));
  const auto& lists = static_cast<const arrow::ListArray&>(*state.batch->column(2));
  const auto& columns = static_cast<const arrow::StringArray&>(*lists.values());
  duckdb::Vector& names = duckdb::ListVector::GetEntry(output.data[2]);
  duckdb::idx_t listed = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = state.at + i;
    const auto out = static_cast<duckdb::idx_t>(i);
    duckdb::FlatVector::GetData<int64_t>(output.data[0])[out] = ids.Value(row);
    duckdb::FlatVector::GetData<duckdb::string_t>(output.data[1])[out] =
        AddText(&output.data[1], changes.GetView(row));
    if (lists.IsNull(row)) duckdb::FlatVector::SetNull(output.data[2], out, true);
    const auto count = static_cast<duckdb::idx_t>(lists.value_length(row));
    duckdb::FlatVector::GetData<duckdb::list_entry_t>(output.data[2])[out] = {listed, count};
    duckdb::ListVector::Reserve(output.data[2], listed + count);
    for (int64_t v = lists.value_offset(row); v < lists.value_offset(row + 1); ++v)
      duckdb::FlatVector::GetData<duckdb::string_t>(names)[listed++] = AddText(&names, columns.GetView(v));
  }
  duckdb::ListVector::SetListSize(output.data[2], listed);
  state.at += rows;
  output.SetCardinality(static_cast<duckdb::idx_t>(rows));
}

}  // namespace

void RegisterDiff(duckdb::Connection* connection, std::shared_ptr<Session> session) {
  const auto text = duckdb::LogicalType::VARCHAR;
  const auto info = duckdb::make_shared_ptr<DiffInfo>(std::move(session));
  duckdb::TableFunctionSet set("diff");
  for (const duckdb::vector<duckdb::LogicalType>& arguments :
       {duckdb::vector<duckdb::LogicalType>{text, text},
        duckdb::vector<duckdb::LogicalType>{text, text, text}}) {
    duckdb::TableFunction function(arguments, RunDiff, BindDiff, StartDiff);
    function.function_info = info;
    set.AddFunction(function);
  }
  duckdb::CreateTableFunctionInfo create(set);
  auto& context = *connection->context;
  context.RunFunctionInTransaction([&] {
    auto& catalog = duckdb::Catalog::GetSystemCatalog(context);
    catalog.CreateTableFunction(context, create);
  });
}

}  // namespace headrace::query
