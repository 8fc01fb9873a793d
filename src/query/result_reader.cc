#include "query/result_reader.h"

#include <arrow/array.h>
#include <arrow/array/builder_binary.h>
#include <arrow/compute/api.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>

#include <set>

#include "base/ids.h"
#include "table/arrow_bridge.h"

namespace headrace::query {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;
using FieldPtr = std::shared_ptr<arrow::Field>;

constexpr const char* kExtensionName = "ARROW:extension:name";
constexpr const char* kSourceType = "headrace.sql_type";  // of a field whose Arrow type does not say it
constexpr int32_t kUuidBytes = 16;

FieldPtr Marked(const FieldPtr& field, const char* key, const char* value) {
  return field->WithMergedMetadata(arrow::key_value_metadata({key}, {value}));
}

// The field with the types that only DuckDB's type says.
FieldPtr Restored(const FieldPtr& field, const duckdb::LogicalType& type) {
  using A = arrow::Type;
  if (type.IsJSONType()) return Marked(field, kExtensionName, "arrow.json");
  switch (type.id()) {
    case duckdb::LogicalTypeId::UUID:
      if (field->type()->id() != A::STRING) return field;
      return Marked(field->WithType(arrow::fixed_size_binary(kUuidBytes)), kExtensionName, "arrow.uuid");
    case duckdb::LogicalTypeId::HUGEINT:
      return Marked(field, kSourceType, "HUGEINT");
    case duckdb::LogicalTypeId::LIST: {
      if (field->type()->id() != A::LIST) return field;
      const auto& list = static_cast<const arrow::ListType&>(*field->type());
      return field->WithType(arrow::list(Restored(list.value_field(), duckdb::ListType::GetChildType(type))));
    }
    case duckdb::LogicalTypeId::STRUCT: {
      if (field->type()->id() != A::STRUCT) return field;
      arrow::FieldVector children = field->type()->fields();
      const auto& types = duckdb::StructType::GetChildTypes(type);
      for (size_t i = 0; i < children.size() && i < types.size(); ++i)
        children[i] = Restored(children[i], types[i].second);
      return field->WithType(arrow::struct_(children));
    }
    case duckdb::LogicalTypeId::MAP: {
      if (field->type()->id() != A::MAP) return field;
      const auto& map = static_cast<const arrow::MapType&>(*field->type());
      return field->WithType(
          std::make_shared<arrow::MapType>(Restored(map.key_field(), duckdb::MapType::KeyType(type)),
                                           Restored(map.item_field(), duckdb::MapType::ValueType(type))));
    }
    default:
      return field;
  }
}

arrow::Result<ArrayPtr> UuidsOf(const arrow::StringArray& texts) {
  arrow::FixedSizeBinaryBuilder out(arrow::fixed_size_binary(kUuidBytes));
  for (int64_t i = 0; i < texts.length(); ++i) {
    if (texts.IsNull(i)) {
      ARROW_RETURN_NOT_OK(out.AppendNull());
      continue;
    }
    const auto uuid = Uuid::ParseWritten(texts.GetView(i));
    if (!uuid) return arrow::Status::Invalid("'", texts.GetView(i), "' is not a UUID");
    ARROW_RETURN_NOT_OK(out.Append(uuid->bytes.data()));
  }
  return out.Finish();
}

// The array in the type that Restored gives: texts of UUIDs as their bytes, at any depth.
arrow::Result<ArrayPtr> Converted(const ArrayPtr& array, const std::shared_ptr<arrow::DataType>& type) {
  if (array->type()->Equals(*type)) return table::WithType(array, type);
  if (array->type_id() == arrow::Type::STRING) return UuidsOf(static_cast<const arrow::StringArray&>(*array));
  const auto data = array->data()->Copy();
  data->type = type;
  for (size_t i = 0; i < data->child_data.size(); ++i) {
    const auto child_type = type->id() == arrow::Type::MAP
                                ? static_cast<const arrow::MapType&>(*type).value_type()
                                : type->field(static_cast<int>(i))->type();
    ARROW_ASSIGN_OR_RAISE(const auto child, Converted(arrow::MakeArray(data->child_data[i]), child_type));
    data->child_data[i] = child->data();
  }
  return arrow::MakeArray(data);
}

std::shared_ptr<arrow::Schema> WithDistinctNames(const arrow::FieldVector& given) {
  std::set<std::string> taken;
  for (const auto& field : given) taken.insert(field->name());
  std::set<std::string> used;
  arrow::FieldVector fields;
  for (const auto& field : given) {
    std::string name = field->name();
    for (int k = 1; used.contains(name); ++k) {
      const std::string other = field->name() + "_" + std::to_string(k);
      if (!taken.contains(other)) name = other;
    }
    taken.insert(name);
    used.insert(name);
    fields.push_back(field->WithName(name));
  }
  return arrow::schema(fields);
}

// "Out of Memory Error: …": all that is left of the kind of an error that comes while rows stream.
Status DuckDbStatus(const std::string& text) {
  const size_t at = text.find("Error: ");
  const bool prefixed = at != std::string::npos && at < 40;
  const std::string plain = prefixed ? text.substr(at + 7) : text;
  const std::string kind = prefixed ? text.substr(0, at) : "";
  if (kind.starts_with("Out of Memory")) return Status::Limit(plain);
  if (kind.starts_with("IO")) return Status::Io(plain);
  if (kind.starts_with("Not implemented")) return Status::Unsupported(plain);
  return Status::Invalid(plain);
}

class ResultReader final : public arrow::RecordBatchReader {
 public:
  ResultReader(std::shared_ptr<arrow::RecordBatchReader> inner,
               const duckdb::vector<duckdb::LogicalType>& types, std::shared_ptr<Session> session,
               std::shared_ptr<void> held, StopToken stop)
      : inner_(std::move(inner)),
        session_(std::move(session)),
        held_(std::move(held)),
        stop_(std::move(stop)) {
    arrow::FieldVector fields = inner_->schema()->fields();
    for (size_t i = 0; i < fields.size() && i < types.size(); ++i) fields[i] = Restored(fields[i], types[i]);
    schema_ = WithDistinctNames(fields);
  }
  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* batch) override {
    const arrow::Status status = inner_->ReadNext(batch);
    if (status.ok()) {
      if (*batch) ARROW_RETURN_NOT_OK(Convert(batch));
      return table::ToArrow(session_->CheckFiles());
    }
    if (!status.ok() && stop_.stopped()) return table::ToArrow(Status::Cancelled());
    const Status ours = session_->FailureIn(status.message());
    return table::ToArrow(ours.ok() ? DuckDbStatus(status.message()) : ours);
  }

 private:
  arrow::Status Convert(std::shared_ptr<arrow::RecordBatch>* batch) const {
    arrow::ArrayVector columns = (*batch)->columns();
    for (size_t i = 0; i < columns.size(); ++i) {
      ARROW_ASSIGN_OR_RAISE(columns[i], Converted(columns[i], schema_->field(static_cast<int>(i))->type()));
    }
    *batch = arrow::RecordBatch::Make(schema_, (*batch)->num_rows(), std::move(columns));
    return arrow::Status::OK();
  }

  std::shared_ptr<arrow::RecordBatchReader> inner_;
  std::shared_ptr<Session> session_;
  std::shared_ptr<arrow::Schema> schema_;
  std::shared_ptr<void> held_;
  StopToken stop_;
};

bool IsHuge(const arrow::Field& field) {
  return field.metadata() && field.metadata()->Get(kSourceType).ValueOr("") == "HUGEINT";
}

class TableReader final : public arrow::RecordBatchReader {
 public:
  explicit TableReader(std::shared_ptr<arrow::RecordBatchReader> inner) : inner_(std::move(inner)) {
    arrow::FieldVector fields;
    for (const auto& field : inner_->schema()->fields())
      fields.push_back(IsHuge(*field) ? arrow::field(field->name(), arrow::int64()) : field);
    schema_ = arrow::schema(fields);
  }
  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* out) override {
    std::shared_ptr<arrow::RecordBatch> batch;
    ARROW_RETURN_NOT_OK(inner_->ReadNext(&batch));
    *out = nullptr;
    if (!batch) return arrow::Status::OK();
    arrow::ArrayVector columns = batch->columns();
    for (size_t i = 0; i < columns.size(); ++i) {
      if (!IsHuge(*inner_->schema()->field(static_cast<int>(i)))) continue;
      ARROW_ASSIGN_OR_RAISE(columns[i], arrow::compute::Cast(*columns[i], arrow::int64()));
    }
    *out = arrow::RecordBatch::Make(schema_, batch->num_rows(), columns);
    return arrow::Status::OK();
  }

 private:
  std::shared_ptr<arrow::RecordBatchReader> inner_;
  std::shared_ptr<arrow::Schema> schema_;
};

}  // namespace

std::shared_ptr<arrow::RecordBatchReader> ReadResult(std::shared_ptr<arrow::RecordBatchReader> inner,
                                                     const duckdb::vector<duckdb::LogicalType>& types,
                                                     std::shared_ptr<Session> session,
                                                     std::shared_ptr<void> held, StopToken stop) {
  return std::make_shared<ResultReader>(std::move(inner), types, std::move(session), std::move(held),
                                        std::move(stop));
}

std::shared_ptr<arrow::RecordBatchReader> ForTable(std::shared_ptr<arrow::RecordBatchReader> rows) {
  return std::make_shared<TableReader>(std::move(rows));
}

}  // namespace headrace::query
