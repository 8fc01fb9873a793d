#include "ingest/json_values.h"

#include <arrow/array/builder_binary.h>
#include <arrow/array/builder_decimal.h>
#include <arrow/array/builder_nested.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/array/builder_time.h>
#include <arrow/type.h>
#include <arrow/util/decimal.h>
#include <arrow/util/float16.h>
#include <arrow/util/value_parsing.h>

#include <cmath>

#include "base/ids.h"
#include "ingest/csv_types.h"
#include "ingest/exact_numbers.h"
#include "table/type_arrow.h"

namespace headrace::ingest {
namespace {

using table::Kind;

constexpr size_t kShown = 100;  // characters of a value in a message

std::string Shown(const JsonTape& tape, uint32_t value) {
  const std::string_view raw = tape.Raw(value);
  return std::string(raw.substr(0, kShown)) + (raw.size() > kShown ? "…" : "");
}

bool IsNumber(const JsonValue& value) { return value.kind == JsonKind::kNumber; }

template <typename T>
bool IsInteger(const JsonTape& tape, uint32_t value) {
  T number{};
  return IsNumber(tape[value]) && tape[value].whole && ParseInteger(tape.Inner(value), &number);
}

double Narrowed(double value, Kind kind) {
  if (kind == Kind::kFloat32) return static_cast<float>(value);
  if (kind == Kind::kFloat16) return arrow::util::Float16::FromDouble(value).ToDouble();
  return value;
}

// Digits that a float64 holds; a narrower float rounds them, but neither integers nor to infinity.
bool IsFloat(const JsonTape& tape, uint32_t value, Kind kind) {
  const JsonValue& node = tape[value];
  if (!IsNumber(node) || !node.finite) return IsNumber(node);
  if (!IsExactDouble(tape.Inner(value))) return false;
  if (kind == Kind::kFloat64) return true;
  const double number = DoubleOf(tape.Inner(value));
  const double narrow = Narrowed(number, kind);
  return std::isfinite(narrow) && (!node.whole || narrow == number);
}

bool ParseDecimal(const JsonTape& tape, uint32_t value, const table::Type& type, arrow::Decimal256* out) {
  const JsonKind kind = tape[value].kind;
  if ((kind != JsonKind::kNumber && kind != JsonKind::kString) || tape[value].escaped) return false;
  return ingest::ParseDecimal(tape.Inner(value), type.precision, type.scale, out);
}

std::string WhyNotText(const JsonTape& tape, uint32_t value, const table::Type& type) {
  if (tape[value].kind != JsonKind::kString)
    return Shown(tape, value) + " is no value of " + type.ToString() + ", which JSON has as text";
  return WhyNot(tape.Text(value), *table::ToArrow(type));
}

bool ScalarFits(const JsonTape& tape, uint32_t value, const table::Type& type) {
  const JsonKind kind = tape[value].kind;
  arrow::Decimal256 decimal;
  switch (type.kind) {
    case Kind::kBool:
      return kind == JsonKind::kTrue || kind == JsonKind::kFalse;
    case Kind::kInt8:
      return IsInteger<int8_t>(tape, value);
    case Kind::kInt16:
      return IsInteger<int16_t>(tape, value);
    case Kind::kInt32:
      return IsInteger<int32_t>(tape, value);
    case Kind::kInt64:
      return IsInteger<int64_t>(tape, value);
    case Kind::kUInt8:
      return IsInteger<uint8_t>(tape, value);
    case Kind::kUInt16:
      return IsInteger<uint16_t>(tape, value);
    case Kind::kUInt32:
      return IsInteger<uint32_t>(tape, value);
    case Kind::kUInt64:
      return IsInteger<uint64_t>(tape, value);
    case Kind::kFloat16:
    case Kind::kFloat32:
    case Kind::kFloat64:
      return IsFloat(tape, value, type.kind);
    case Kind::kDecimal:
      return ParseDecimal(tape, value, type, &decimal);
    case Kind::kString:
    case Kind::kBinary:
      return kind == JsonKind::kString;
    case Kind::kUuid:
      return kind == JsonKind::kString && Uuid::ParseWritten(tape.Inner(value)).has_value();
    default:
      return false;
  }
}

table::Type ElementOf(const table::Type& tensor) {
  table::Type type;
  type.kind = tensor.element;
  return type;
}

std::string WhyNotTensor(const JsonTape& tape, uint32_t value, const table::Type& type,
                         const std::string& path, size_t axis) {
  if (axis == type.shape.size()) {
    if (tape.IsNull(value)) return path + ": a tensor's elements may not be null";
    return WhyNot(tape, value, ElementOf(type), path);
  }
  int64_t count = 0;
  if (tape[value].kind == JsonKind::kArray) {
    for (uint32_t i = value + 1; i < tape[value].next; i = tape[i].next, ++count) {
      std::string why = WhyNotTensor(tape, i, type, path, axis + 1);
      if (!why.empty()) return why;
    }
  }
  if (tape[value].kind != JsonKind::kArray || count != type.shape[axis])
    return path + ": " + Shown(tape, value) + " has not the shape of " + type.ToString();
  return "";
}

const table::Field* ChildNamed(const table::Type& type, std::string_view name, size_t hint) {
  if (hint < type.children.size() && type.children[hint].name == name) return &type.children[hint];
  for (const auto& child : type.children) {
    if (child.name == name) return &child;
  }
  return nullptr;
}

std::string WhyNotStruct(const JsonTape& tape, uint32_t value, const table::Type& type,
                         const std::string& path) {
  size_t hint = 0;
  for (uint32_t i = value + 1; i < tape[value].next; i = tape[i + 1].next, ++hint) {
    const std::string key = tape.Text(i);
    const table::Field* child = ChildNamed(type, key, hint);
    if (child == nullptr) return path + ": its type " + type.ToString() + " has no field '" + key + "'";
    std::string why = WhyNot(tape, i + 1, child->type, path + "." + key);
    if (!why.empty()) return why;
  }
  return "";
}

std::string WhyNotJsonIn(const JsonTape& tape, uint32_t value, const std::string& path) {
  if (tape.finite()) return "";
  for (uint32_t i = value; i < tape[value].next; ++i) {
    if (IsNumber(tape[i]) && !tape[i].finite)
      return path + ": " + std::string(tape.Inner(i)) + " is no JSON, and the column holds JSON as it was";
  }
  return "";
}

template <typename Builder, typename T>
arrow::Status AppendInteger(const JsonTape& tape, uint32_t value, arrow::ArrayBuilder* builder) {
  T number{};
  if (!ParseInteger(tape.Inner(value), &number)) return arrow::Status::Invalid("not an integer");
  return static_cast<Builder*>(builder)->Append(number);
}

arrow::Status AppendText(const JsonTape& tape, uint32_t value, arrow::BinaryBuilder* builder) {
  if (tape[value].escaped) return builder->Append(tape.Text(value));
  return builder->Append(tape.Inner(value));
}

template <typename T>
arrow::Status AppendParsed(const T& type, const JsonTape& tape, uint32_t value,
                           arrow::ArrayBuilder* builder) {
  const std::string text = tape.Text(value);
  typename arrow::internal::StringConverter<T>::value_type parsed{};
  if (!arrow::internal::ParseValue(type, text.data(), text.size(), &parsed))
    return arrow::Status::Invalid("not a ", type.ToString());
  return static_cast<typename arrow::TypeTraits<T>::BuilderType*>(builder)->Append(parsed);
}

arrow::Status AppendDecimal(const JsonTape& tape, uint32_t value, const table::Type& type,
                            arrow::ArrayBuilder* builder) {
  arrow::Decimal256 number;
  if (!ParseDecimal(tape, value, type, &number)) return arrow::Status::Invalid("not a decimal");
  if (builder->type()->id() == arrow::Type::DECIMAL256)
    return static_cast<arrow::Decimal256Builder*>(builder)->Append(number);
  const auto words = number.little_endian_array();
  return static_cast<arrow::Decimal128Builder*>(builder)->Append(
      arrow::Decimal128(static_cast<int64_t>(words[1]), words[0]));
}

arrow::Status AppendScalar(const JsonTape& tape, uint32_t value, const table::Type& type,
                           arrow::ArrayBuilder* to) {
  switch (type.kind) {
    case Kind::kBool:
      return static_cast<arrow::BooleanBuilder*>(to)->Append(tape[value].kind == JsonKind::kTrue);
    case Kind::kInt8:
      return AppendInteger<arrow::Int8Builder, int8_t>(tape, value, to);
    case Kind::kInt16:
      return AppendInteger<arrow::Int16Builder, int16_t>(tape, value, to);
    case Kind::kInt32:
      return AppendInteger<arrow::Int32Builder, int32_t>(tape, value, to);
    case Kind::kInt64:
      return AppendInteger<arrow::Int64Builder, int64_t>(tape, value, to);
    case Kind::kUInt8:
      return AppendInteger<arrow::UInt8Builder, uint8_t>(tape, value, to);
    case Kind::kUInt16:
      return AppendInteger<arrow::UInt16Builder, uint16_t>(tape, value, to);
    case Kind::kUInt32:
      return AppendInteger<arrow::UInt32Builder, uint32_t>(tape, value, to);
    case Kind::kUInt64:
      return AppendInteger<arrow::UInt64Builder, uint64_t>(tape, value, to);
    case Kind::kFloat16:
      return static_cast<arrow::HalfFloatBuilder*>(to)->Append(
          arrow::util::Float16::FromDouble(DoubleOf(tape.Inner(value))).bits());
    case Kind::kFloat32:
      return static_cast<arrow::FloatBuilder*>(to)->Append(static_cast<float>(DoubleOf(tape.Inner(value))));
    case Kind::kFloat64:
      return static_cast<arrow::DoubleBuilder*>(to)->Append(DoubleOf(tape.Inner(value)));
    case Kind::kDecimal:
      return AppendDecimal(tape, value, type, to);
    case Kind::kString:
    case Kind::kBinary:
      return AppendText(tape, value, static_cast<arrow::BinaryBuilder*>(to));
    case Kind::kJson:
      return static_cast<arrow::BinaryBuilder*>(to)->Append(tape.Raw(value));
    case Kind::kDate:
      return AppendParsed(static_cast<const arrow::Date32Type&>(*to->type()), tape, value, to);
    case Kind::kTimestamp:
      return AppendParsed(static_cast<const arrow::TimestampType&>(*to->type()), tape, value, to);
    case Kind::kTime:
      if (to->type()->id() == arrow::Type::TIME32)
        return AppendParsed(static_cast<const arrow::Time32Type&>(*to->type()), tape, value, to);
      return AppendParsed(static_cast<const arrow::Time64Type&>(*to->type()), tape, value, to);
    case Kind::kUuid: {
      const auto uuid = Uuid::ParseWritten(tape.Inner(value));
      if (!uuid) return arrow::Status::Invalid("not a UUID");
      return static_cast<arrow::FixedSizeBinaryBuilder*>(to)->Append(uuid->bytes.data());
    }
    default:
      return arrow::Status::Invalid("JSON does not hold ", type.ToString());
  }
}

arrow::Status AppendStruct(const JsonTape& tape, uint32_t value, const table::Type& type,
                           arrow::StructBuilder* builder) {
  ARROW_RETURN_NOT_OK(builder->Append());
  uint32_t next = value + 1;  // in most objects the keys come in the type's order
  for (size_t i = 0; i < type.children.size(); ++i) {
    const auto& child = type.children[i];
    const auto is_it = [&](uint32_t key) {
      return tape[key].escaped ? tape.Text(key) == child.name : tape.Inner(key) == child.name;
    };
    uint32_t key = next < tape[value].next && is_it(next) ? next : value + 1;
    while (key < tape[value].next && !is_it(key)) key = tape[key + 1].next;
    arrow::ArrayBuilder* to = builder->field_builder(static_cast<int>(i));
    if (key >= tape[value].next) {
      ARROW_RETURN_NOT_OK(to->AppendNull());
      continue;
    }
    ARROW_RETURN_NOT_OK(Append(tape, key + 1, child.type, to));
    next = tape[key + 1].next;
  }
  return arrow::Status::OK();
}

arrow::Status AppendElements(const JsonTape& tape, uint32_t value, const table::Type& type, size_t axis,
                             arrow::ArrayBuilder* builder) {
  if (axis == type.shape.size()) return Append(tape, value, ElementOf(type), builder);
  for (uint32_t i = value + 1; i < tape[value].next; i = tape[i].next)
    ARROW_RETURN_NOT_OK(AppendElements(tape, i, type, axis + 1, builder));
  return arrow::Status::OK();
}

}  // namespace

std::string WhyNot(const JsonTape& tape, uint32_t value, const table::Type& type, const std::string& path) {
  if (tape.IsNull(value)) return "";
  const JsonKind kind = tape[value].kind;
  switch (type.kind) {
    case Kind::kJson:
      return WhyNotJsonIn(tape, value, path);
    case Kind::kDate:
    case Kind::kTime:
    case Kind::kTimestamp: {
      std::string why = WhyNotText(tape, value, type);
      return why.empty() ? why : path + ": " + why;
    }
    case Kind::kList:
      if (kind != JsonKind::kArray) break;
      for (uint32_t i = value + 1; i < tape[value].next; i = tape[i].next) {
        std::string why = WhyNot(tape, i, type.children[0].type, path);
        if (!why.empty()) return why;
      }
      return "";
    case Kind::kStruct:
      if (kind != JsonKind::kObject) break;
      return WhyNotStruct(tape, value, type, path);
    case Kind::kTensor:
      if (type.element == Kind::kBFloat16) break;
      return WhyNotTensor(tape, value, type, path, 0);
    default:
      if (ScalarFits(tape, value, type)) return "";
  }
  return path + ": " + Shown(tape, value) + " is no value of " + type.ToString();
}

arrow::Status Append(const JsonTape& tape, uint32_t value, const table::Type& type,
                     arrow::ArrayBuilder* builder) {
  if (tape.IsNull(value)) return builder->AppendNull();
  switch (type.kind) {
    case Kind::kList: {
      auto* list = static_cast<arrow::ListBuilder*>(builder);
      ARROW_RETURN_NOT_OK(list->Append());
      for (uint32_t i = value + 1; i < tape[value].next; i = tape[i].next)
        ARROW_RETURN_NOT_OK(Append(tape, i, type.children[0].type, list->value_builder()));
      return arrow::Status::OK();
    }
    case Kind::kStruct:
      return AppendStruct(tape, value, type, static_cast<arrow::StructBuilder*>(builder));
    case Kind::kTensor: {
      auto* tensor = static_cast<arrow::FixedSizeListBuilder*>(builder);
      ARROW_RETURN_NOT_OK(tensor->Append());
      return AppendElements(tape, value, type, 0, tensor->value_builder());
    }
    default:
      return AppendScalar(tape, value, type, builder);
  }
}

}  // namespace headrace::ingest
