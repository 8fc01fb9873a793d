#include "query/held_rows.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <duckdb.hpp>
#include <duckdb/main/appender.hpp>

#include "query/errors.h"

namespace headrace::query {
namespace {

using duckdb::LogicalType;
using duckdb::Value;

// INVALID for a type that CellOf() does not know.
LogicalType TypeOf(const arrow::DataType& type) {
  switch (type.id()) {
    case arrow::Type::BOOL:
      return LogicalType::BOOLEAN;
    case arrow::Type::INT8:
      return LogicalType::TINYINT;
    case arrow::Type::INT32:
      return LogicalType::INTEGER;
    case arrow::Type::INT64:
      return LogicalType::BIGINT;
    case arrow::Type::UINT64:
      return LogicalType::UBIGINT;
    case arrow::Type::FLOAT:
      return LogicalType::FLOAT;
    case arrow::Type::DOUBLE:
      return LogicalType::DOUBLE;
    case arrow::Type::TIMESTAMP:
      return LogicalType::TIMESTAMP_TZ;
    case arrow::Type::STRING:
      return LogicalType::VARCHAR;
    case arrow::Type::BINARY:
      return LogicalType::BLOB;
    case arrow::Type::LIST: {
      const LogicalType item = TypeOf(*static_cast<const arrow::ListType&>(type).value_type());
      return item == LogicalType::INVALID ? item : LogicalType::LIST(item);
    }
    case arrow::Type::STRUCT: {
      duckdb::child_list_t<LogicalType> fields;
      for (const auto& field : type.fields()) {
        fields.emplace_back(field->name(), TypeOf(*field->type()));
        if (fields.back().second == LogicalType::INVALID) return LogicalType::INVALID;
      }
      return LogicalType::STRUCT(std::move(fields));
    }
    default:
      return LogicalType::INVALID;
  }
}

template <typename Array>
auto At(const arrow::Array& array, int64_t row) {
  return static_cast<const Array&>(array).GetView(row);
}

Value CellOf(const arrow::Array& array, int64_t row) {
  const LogicalType type = TypeOf(*array.type());
  if (array.IsNull(row)) return Value(type);
  switch (array.type_id()) {
    case arrow::Type::BOOL:
      return Value::BOOLEAN(At<arrow::BooleanArray>(array, row));
    case arrow::Type::INT8:
      return Value::TINYINT(At<arrow::Int8Array>(array, row));
    case arrow::Type::INT32:
      return Value::INTEGER(At<arrow::Int32Array>(array, row));
    case arrow::Type::INT64:
      return Value::BIGINT(At<arrow::Int64Array>(array, row));
    case arrow::Type::UINT64:
      return Value::UBIGINT(At<arrow::UInt64Array>(array, row));
    case arrow::Type::FLOAT:
      return Value::FLOAT(At<arrow::FloatArray>(array, row));
    case arrow::Type::DOUBLE:
      return Value::DOUBLE(At<arrow::DoubleArray>(array, row));
    case arrow::Type::TIMESTAMP:
      return Value::TIMESTAMPTZ(duckdb::timestamp_tz_t(At<arrow::TimestampArray>(array, row)));
    case arrow::Type::STRING:
      return Value(std::string(At<arrow::StringArray>(array, row)));
    case arrow::Type::BINARY: {
      const std::string_view bytes = At<arrow::BinaryArray>(array, row);
      return Value::BLOB(reinterpret_cast<duckdb::const_data_ptr_t>(bytes.data()), bytes.size());
    }
    case arrow::Type::LIST: {
      const auto& lists = static_cast<const arrow::ListArray&>(array);
      duckdb::vector<Value> items;
      items.reserve(static_cast<size_t>(lists.value_length(row)));
      for (int64_t i = lists.value_offset(row); i < lists.value_offset(row + 1); ++i) {
        items.push_back(CellOf(*lists.values(), i));
      }
      return Value::LIST(duckdb::ListType::GetChildType(type), std::move(items));
    }
    default: {
      const auto& structs = static_cast<const arrow::StructArray&>(array);
      duckdb::vector<Value> fields;
      for (int i = 0; i < structs.num_fields(); ++i) fields.push_back(CellOf(*structs.field(i), row));
      return Value::STRUCT(type, std::move(fields));
    }
  }
}

}  // namespace

Status HoldRows(duckdb::Connection* connection, const Session& session, const std::string& name,
                const arrow::RecordBatch& rows) {
  std::string columns;
  for (const auto& field : rows.schema()->fields()) {
    const LogicalType type = TypeOf(*field->type());
    if (type == LogicalType::INVALID) {
      return Status::Unsupported("rows with a " + field->type()->ToString() + " ('" + field->name() +
                                 "') cannot be read before they are in the table");
    }
    columns += (columns.empty() ? "\"" : ", \"") + field->name() + "\" " + type.ToString();
  }
  const auto made = connection->Query("create or replace temp table " + name + " (" + columns + ")");
  if (made->HasError()) return FromDuckDb(made->GetErrorObject(), session, "");
  duckdb::Appender appender(*connection, name);
  for (int64_t i = 0; i < rows.num_rows(); ++i) {
    appender.BeginRow();
    for (const auto& column : rows.columns()) appender.Append<Value>(CellOf(*column, i));
    appender.EndRow();
  }
  appender.Close();
  return Status::Ok();
}

}  // namespace headrace::query
