#include "table/type_arrow.h"

#include <arrow/extension/fixed_shape_tensor.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>

#include <optional>

#include "base/limits.h"
#include "table/blob_cells.h"

namespace headrace::table {
namespace {

constexpr const char* kExtensionName = "ARROW:extension:name";  // of Arrow's C data interface

Status Refuse(const arrow::Field& field, const std::string& cast) {
  return Status::Unsupported("column '" + field.name() + "' has the type " + field.type()->ToString() +
                             ", which tables do not hold; cast it to " + cast);
}

Result<Type> TensorFromList(const arrow::Field& field, const arrow::DataType& element,
                            std::vector<int64_t> shape, bool bfloat16) {
  Type type;
  type.kind = Kind::kTensor;
  switch (element.id()) {
    case arrow::Type::FLOAT:
      type.element = Kind::kFloat32;
      break;
    case arrow::Type::HALF_FLOAT:
      type.element = Kind::kFloat16;
      break;
    case arrow::Type::INT8:
      type.element = Kind::kInt8;
      break;
    case arrow::Type::UINT8:
      type.element = Kind::kUInt8;
      break;
    case arrow::Type::UINT16:
      if (bfloat16) {
        type.element = Kind::kBFloat16;
        break;
      }
      [[fallthrough]];
    default:
      return Refuse(field, "a fixed-size list of float32, float16, int8 or uint8, or to a list");
  }
  type.shape = std::move(shape);
  const int64_t elements = type.tensor_elements();
  if (elements < 1 || elements > limits::kMaxTensorElements) {
    return Status::Limit("column '" + field.name() + "': a tensor cell holds 1 to " +
                         std::to_string(limits::kMaxTensorElements) + " elements");
  }
  return type;
}

std::vector<int64_t> ShapeFromMetadata(const arrow::Field& field, int64_t elements) {
  if (field.metadata()) {
    const auto text = field.metadata()->Get("headrace.shape");
    if (text.ok()) {
      const auto parsed = ParseType("tensor<uint8>[" + *text + "]");
      if (parsed.ok() && parsed->tensor_elements() == elements) return parsed->shape;
    }
  }
  return {elements};
}

Result<Type> Nested(const arrow::Field& field, Kind kind, int depth);

// The extension that a field names beside its plain type, "" if none.
std::string ExtensionOf(const arrow::Field& field) {
  return field.metadata() ? field.metadata()->Get(kExtensionName).ValueOr("") : "";
}

Result<Type> DecimalFromArrow(const arrow::Field& field) {
  const auto& decimal = static_cast<const arrow::DecimalType&>(*field.type());
  if (decimal.scale() < 0 || decimal.scale() > decimal.precision())
    return Refuse(field, "a decimal whose scale is from 0 to its precision");
  Type type;
  type.kind = Kind::kDecimal;
  type.precision = decimal.precision();
  type.scale = decimal.scale();
  return type;
}

Result<Type> FixedBinaryFromArrow(const arrow::Field& field) {
  Type type;
  type.kind = ExtensionOf(field) == "arrow.uuid" ? Kind::kUuid : Kind::kFixedBinary;
  type.width = static_cast<const arrow::FixedSizeBinaryType&>(*field.type()).byte_width();
  if (type.width == 0) return Refuse(field, "binary: its values have no bytes");
  if (type.kind == Kind::kUuid) {
    if (type.width != KindBytes(Kind::kUuid)) return Refuse(field, "fixed-size binary of 16 bytes");
    type.width = 0;
  }
  return type;
}

Result<Type> ExtensionFromArrow(const arrow::Field& field, int depth);

// Of types that are told by their id alone.
std::optional<Kind> KindOfId(arrow::Type::type id) {
  using A = arrow::Type;
  switch (id) {
    case A::BOOL:
      return Kind::kBool;
    case A::INT8:
      return Kind::kInt8;
    case A::INT16:
      return Kind::kInt16;
    case A::INT32:
      return Kind::kInt32;
    case A::INT64:
      return Kind::kInt64;
    case A::UINT8:
      return Kind::kUInt8;
    case A::UINT16:
      return Kind::kUInt16;
    case A::UINT32:
      return Kind::kUInt32;
    case A::UINT64:
      return Kind::kUInt64;
    case A::HALF_FLOAT:
      return Kind::kFloat16;
    case A::FLOAT:
      return Kind::kFloat32;
    case A::DOUBLE:
      return Kind::kFloat64;
    case A::BINARY:
    case A::LARGE_BINARY:
    case A::BINARY_VIEW:
      return Kind::kBinary;
    case A::DATE32:
    case A::DATE64:  // whole days, by its definition; others are refused when they come
      return Kind::kDate;
    case A::INTERVAL_MONTH_DAY_NANO:  // of SQL; those with months are refused when they come
      return Kind::kDuration;
    default:
      return std::nullopt;
  }
}

Result<Type> FromArrowAt(const arrow::Field& field, int depth) {
  if (depth > limits::kMaxNesting) {
    return Status::Limit("column '" + field.name() + "' nests deeper than " +
                         std::to_string(limits::kMaxNesting));
  }
  Type type;
  const auto& source = *field.type();
  if (const auto kind = KindOfId(source.id())) {
    type.kind = *kind;
    return type;
  }
  using A = arrow::Type;
  switch (source.id()) {
    case A::STRING:
    case A::LARGE_STRING:
    case A::STRING_VIEW:
      type.kind = ExtensionOf(field) == "arrow.json" ? Kind::kJson : Kind::kString;
      return type;
    case A::TIME32:
    case A::TIME64:
      type.kind = Kind::kTime;
      type.unit = static_cast<TimeUnit>(static_cast<const arrow::TimeType&>(source).unit());
      return type;
    case A::DURATION:
      type.kind = Kind::kDuration;
      type.unit = static_cast<TimeUnit>(static_cast<const arrow::DurationType&>(source).unit());
      return type;
    case A::DECIMAL32:
    case A::DECIMAL64:
    case A::DECIMAL128:
    case A::DECIMAL256:
      return DecimalFromArrow(field);
    case A::FIXED_SIZE_BINARY:
      return FixedBinaryFromArrow(field);
    case A::MAP:
      return Nested(field, Kind::kMap, depth);
    case A::TIMESTAMP: {
      const auto& timestamp = static_cast<const arrow::TimestampType&>(source);
      type.kind = Kind::kTimestamp;
      type.unit = static_cast<TimeUnit>(timestamp.unit());
      type.zone = timestamp.timezone();
      return type;
    }
    case A::NA:
      return Refuse(field, "the type that it should have: all its values are null");
    case A::DICTIONARY:
      return FromArrowAt(*field.WithType(static_cast<const arrow::DictionaryType&>(source).value_type()),
                         depth);
    case A::LIST:
    case A::LARGE_LIST:
    case A::LIST_VIEW:
    case A::LARGE_LIST_VIEW:
      return Nested(field, Kind::kList, depth);
    case A::STRUCT:
      return Nested(field, Kind::kStruct, depth);
    case A::FIXED_SIZE_LIST: {
      const auto& list = static_cast<const arrow::FixedSizeListType&>(source);
      if (depth > 0)
        return Refuse(field, "a list: tensors are columns of their own, not parts of structs or lists");
      const bool bfloat16 =
          field.metadata() && field.metadata()->Get("headrace.element").ValueOr("") == "bfloat16";
      return TensorFromList(field, *list.value_type(), ShapeFromMetadata(field, list.list_size()), bfloat16);
    }
    case A::EXTENSION:
      return ExtensionFromArrow(field, depth);
    default:
      return Refuse(field, "one of the types in docs/guide/types.md");
  }
}

Result<Type> ExtensionFromArrow(const arrow::Field& field, int depth) {
  const auto& extension = static_cast<const arrow::ExtensionType&>(*field.type());
  const std::string name = extension.extension_name();
  if (name == "arrow.fixed_shape_tensor") {
    const auto& tensor = static_cast<const arrow::extension::FixedShapeTensorType&>(extension);
    for (size_t i = 0; i < tensor.permutation().size(); ++i) {
      if (tensor.permutation()[i] != static_cast<int64_t>(i))
        return Refuse(field, "row-major order (it has a permutation)");
    }
    return TensorFromList(field, *tensor.value_type(), tensor.shape(), false);
  }
  const auto plain = field.WithType(extension.storage_type());
  if (name != "arrow.json" && name != "arrow.uuid") return FromArrowAt(*plain, depth);
  return FromArrowAt(*plain->WithMergedMetadata(arrow::key_value_metadata({kExtensionName}, {name})), depth);
}

Result<Type> Nested(const arrow::Field& field, Kind kind, int depth) {
  Type type;
  type.kind = kind;
  const auto meta = field.metadata();
  // By its shape too: SQL and other libraries drop the metadata, and a blob that became a plain struct would
  // be a reference without its bytes.
  if (kind == Kind::kStruct &&
      ((meta && meta->Get("headrace.type").ValueOr("") == "blob") || HasBlobShape(*field.type()))) {
    type.kind = Kind::kBlob;
    if (depth > 0) return Refuse(field, "a column of its own: a blob may not lie inside a list or a struct");
    type.children = BlobFields();
    return type;
  }
  if (kind == Kind::kMap) {
    const auto& map = static_cast<const arrow::MapType&>(*field.type());
    Field key{-1, "key", {}, "", false}, value{-1, "value", {}, "", false};
    HEADRACE_ASSIGN(key.type, FromArrowAt(*map.key_field(), depth + 1));
    HEADRACE_ASSIGN(value.type, FromArrowAt(*map.item_field(), depth + 1));
    type.children = {std::move(key), std::move(value)};
    return type;
  }
  for (const auto& child : field.type()->fields()) {
    Field nested;
    nested.name = kind == Kind::kList ? "item" : child->name();
    HEADRACE_ASSIGN(nested.type, FromArrowAt(*child, depth + 1));
    type.children.push_back(std::move(nested));
  }
  if (type.kind == Kind::kStruct && type.children.empty())
    return Refuse(field, "a struct with at least one field");
  return type;
}

}  // namespace

Result<Type> TypeFromArrow(const arrow::Field& field) { return FromArrowAt(field, 0); }

std::shared_ptr<arrow::DataType> ToArrow(const Type& type) {
  switch (type.kind) {
    case Kind::kBool:
      return arrow::boolean();
    case Kind::kInt8:
      return arrow::int8();
    case Kind::kInt16:
      return arrow::int16();
    case Kind::kInt32:
      return arrow::int32();
    case Kind::kInt64:
      return arrow::int64();
    case Kind::kUInt8:
      return arrow::uint8();
    case Kind::kUInt16:
      return arrow::uint16();
    case Kind::kUInt32:
      return arrow::uint32();
    case Kind::kUInt64:
      return arrow::uint64();
    case Kind::kFloat16:
      return arrow::float16();
    case Kind::kFloat32:
      return arrow::float32();
    case Kind::kFloat64:
      return arrow::float64();
    case Kind::kBFloat16:
      return arrow::uint16();
    case Kind::kString:
      return arrow::utf8();
    case Kind::kBinary:
      return arrow::binary();
    case Kind::kDate:
      return arrow::date32();
    case Kind::kTimestamp:
      return arrow::timestamp(static_cast<arrow::TimeUnit::type>(type.unit), type.zone);
    case Kind::kTime:
      return type.unit < TimeUnit::kMicro ? arrow::time32(static_cast<arrow::TimeUnit::type>(type.unit))
                                          : arrow::time64(static_cast<arrow::TimeUnit::type>(type.unit));
    case Kind::kDuration:
      return arrow::duration(static_cast<arrow::TimeUnit::type>(type.unit));
    case Kind::kDecimal:
      return type.precision <= arrow::Decimal128Type::kMaxPrecision
                 ? arrow::decimal128(type.precision, type.scale)
                 : arrow::decimal256(type.precision, type.scale);
    case Kind::kFixedBinary:
      return arrow::fixed_size_binary(type.width);
    case Kind::kUuid:
      return arrow::fixed_size_binary(KindBytes(Kind::kUuid));
    case Kind::kJson:
      return arrow::utf8();
    case Kind::kList:
      return arrow::list(ToArrow(type.children[0]));
    case Kind::kStruct:
    case Kind::kBlob: {
      arrow::FieldVector fields;
      for (const auto& child : type.children) fields.push_back(ToArrow(child));
      return arrow::struct_(fields);
    }
    case Kind::kMap:
      return std::make_shared<arrow::MapType>(ToArrow(type.children[0])->WithNullable(false),
                                              ToArrow(type.children[1]));
    case Kind::kTensor: {
      Type element;
      element.kind = type.element;
      return arrow::fixed_size_list(arrow::field("item", ToArrow(element), /*nullable=*/false),
                                    static_cast<int32_t>(type.tensor_elements()));
    }
  }
  return nullptr;
}

std::shared_ptr<arrow::Field> ToArrow(const Field& field) {
  auto metadata = std::make_shared<arrow::KeyValueMetadata>();
  if (field.id >= 0) metadata->Append("PARQUET:field_id", std::to_string(field.id));
  if (field.type.kind == Kind::kBlob) metadata->Append("headrace.type", "blob");
  if (field.type.kind == Kind::kJson) metadata->Append(kExtensionName, "arrow.json");
  if (field.type.kind == Kind::kUuid) metadata->Append(kExtensionName, "arrow.uuid");
  if (field.type.kind == Kind::kTensor) {
    if (field.type.shape.size() > 1) {
      std::string shape;
      for (const int64_t extent : field.type.shape)
        shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
      metadata->Append("headrace.shape", shape);
    }
    if (field.type.element == Kind::kBFloat16) metadata->Append("headrace.element", "bfloat16");
  }
  return arrow::field(field.name, ToArrow(field.type), /*nullable=*/true,
                      metadata->size() ? metadata : nullptr);
}

}  // namespace headrace::table
