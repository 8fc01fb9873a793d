#include "table/conform.h"

#include <arrow/array.h>
#include <arrow/array/concatenate.h>
#include <arrow/array/util.h>
#include <arrow/builder.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/extension_type.h>
#include <arrow/scalar.h>
#include <arrow/type.h>
#include <arrow/util/utf8.h>

#include <mutex>

#include "table/arrow_bridge.h"
#include "table/json_text.h"

namespace headrace::table {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;

Status EnsureCompute() {
  static const arrow::Status initialized = arrow::compute::Initialize();
  return FromArrow(initialized);
}

Status CheckUtf8(const arrow::BinaryArray& strings, const std::string& column) {
  arrow::util::InitializeUTF8();
  for (int64_t i = 0; i < strings.length(); ++i) {
    if (strings.IsNull(i)) continue;
    const std::string_view text = strings.GetView(i);
    if (!arrow::util::ValidateUTF8(reinterpret_cast<const uint8_t*>(text.data()),
                                   static_cast<int64_t>(text.size()))) {
      return Status::Invalid("column '" + column + "', row " + std::to_string(i) +
                             ": the text is not valid UTF-8; fix its encoding or store it as binary");
    }
  }
  return Status::Ok();
}

// Offsets from outside must rise and stay within the values before anyone follows them.
Status CheckOffsets(const arrow::ListArray& list, const std::string& column) {
  for (int64_t i = 0; i < list.length(); ++i) {
    if (list.value_offset(i) >= 0 && list.value_offset(i) <= list.value_offset(i + 1) &&
        list.value_offset(i + 1) <= list.values()->length()) {
      continue;
    }
    return Status::Invalid("column '" + column + "' is not a valid Arrow array: the offsets of row " +
                           std::to_string(i) + " are wrong");
  }
  return Status::Ok();
}

Result<ArrayPtr> CastTo(const ArrayPtr& array, const std::shared_ptr<arrow::DataType>& type,
                        const std::string& name) {
  if (array->type()->Equals(*type)) return array;
  HEADRACE_TRY(EnsureCompute());
  auto cast = arrow::compute::Cast(*array, type, arrow::compute::CastOptions::Safe());
  if (!cast.ok()) {
    return FromArrow(cast.status())
        .Wrap("column '" + name + "' is " + array->type()->ToString() + " and the table's is " +
              type->ToString());
  }
  return *cast;
}

// Bytes given for a blob column: wrapped into the struct with everything else unknown; the writer fills in
// the rest.
Result<ArrayPtr> WrapBytes(const ArrayPtr& array, const Field& field) {
  HEADRACE_ASSIGN(const ArrayPtr bytes, CastTo(array, arrow::binary(), field.name));
  arrow::ArrayVector children;
  for (const auto& child : field.type.children) {
    if (child.name == "inline") {
      children.push_back(bytes);
    } else {
      HEADRACE_ARROW_ASSIGN(auto nulls, arrow::MakeArrayOfNull(ToArrow(child.type), array->length()));
      children.push_back(nulls);
    }
  }
  // The struct's validity is that of the bytes, brought to offset 0 as the children are.
  std::shared_ptr<arrow::Buffer> validity;
  if (bytes->null_count() > 0) {
    arrow::TypedBufferBuilder<bool> bits;
    for (int64_t i = 0; i < bytes->length(); ++i) HEADRACE_ARROW_TRY(bits.Append(bytes->IsValid(i)));
    HEADRACE_ARROW_ASSIGN(validity, bits.Finish());
  }
  return ArrayPtr(std::make_shared<arrow::StructArray>(ToArrow(field.type), array->length(), children,
                                                       validity, bytes->null_count()));
}

// A struct's children, each conformed; children are matched by name and missing ones are null.
Result<ArrayPtr> ConformStruct(const ArrayPtr& array, const Field& field) {
  const auto& source = static_cast<const arrow::StructArray&>(*array);
  for (const auto& given : source.type()->fields()) {
    bool known = false;
    for (const auto& child : field.type.children) known |= child.name == given->name();
    if (!known) return Status::Invalid("column '" + field.name + "' has no field '" + given->name() + "'");
  }
  arrow::ArrayVector children;
  for (const auto& child : field.type.children) {
    const ArrayPtr given = source.GetFieldByName(child.name);
    if (!given) {
      HEADRACE_ARROW_ASSIGN(auto nulls, arrow::MakeArrayOfNull(ToArrow(child.type), array->length()));
      children.push_back(nulls);
      continue;
    }
    Field named = child;
    named.name = field.name + "." + child.name;
    HEADRACE_ASSIGN(auto conformed, ConformArray(given, named));
    children.push_back(conformed);
  }
  std::shared_ptr<arrow::Buffer> validity;
  if (source.null_count() > 0) {
    arrow::TypedBufferBuilder<bool> bits;
    for (int64_t i = 0; i < source.length(); ++i) HEADRACE_ARROW_TRY(bits.Append(source.IsValid(i)));
    HEADRACE_ARROW_ASSIGN(validity, bits.Finish());
  }
  return ArrayPtr(std::make_shared<arrow::StructArray>(ToArrow(field.type), array->length(), children,
                                                       validity, source.null_count()));
}

bool IsText(const arrow::DataType& type) {
  using A = arrow::Type;
  return type.id() == A::STRING || type.id() == A::LARGE_STRING || type.id() == A::STRING_VIEW;
}

Result<ArrayPtr> ConformJson(const ArrayPtr& array, const Field& field) {
  if (!IsText(*array->type())) {
    return Status::Invalid("column '" + field.name + "' is " + array->type()->ToString() +
                           " and the table's is json; give each value as JSON text");
  }
  HEADRACE_ASSIGN(auto texts, CastTo(array, arrow::utf8(), field.name));
  const auto& strings = static_cast<const arrow::StringArray&>(*texts);
  HEADRACE_TRY(CheckUtf8(strings, field.name));
  for (int64_t i = 0; i < strings.length(); ++i) {
    if (strings.IsNull(i)) continue;
    const Status json = CheckJson(strings.GetView(i));
    if (!json.ok()) return json.Wrap("column '" + field.name + "', row " + std::to_string(i));
  }
  return texts;
}

// Arrow's 64-bit dates are milliseconds of whole days; anything else would lose its time.
Status CheckWholeDays(const arrow::Date64Array& dates, const std::string& column) {
  constexpr int64_t kDayMs = 86'400'000;
  for (int64_t i = 0; i < dates.length(); ++i) {
    if (dates.IsNull(i) || dates.Value(i) % kDayMs == 0) continue;
    return Status::Invalid("column '" + column + "', row " + std::to_string(i) +
                           ": a date64 that is no whole day; cast it to timestamp[ms]");
  }
  return Status::Ok();
}

// Intervals of SQL as durations: days are 24 hours, months have no length.
Result<ArrayPtr> DurationsOf(const arrow::MonthDayNanoIntervalArray& intervals, const Field& field) {
  constexpr int64_t kUnitNs[] = {1'000'000'000, 1'000'000, 1'000, 1};
  constexpr __int128 kDayNs = __int128{86'400} * 1'000'000'000;
  const int64_t unit = kUnitNs[static_cast<int>(field.type.unit)];
  arrow::DurationBuilder out(ToArrow(field.type), arrow::default_memory_pool());
  for (int64_t i = 0; i < intervals.length(); ++i) {
    if (intervals.IsNull(i)) {
      HEADRACE_ARROW_TRY(out.AppendNull());
      continue;
    }
    const auto value = intervals.Value(i);
    const __int128 nanos = value.days * kDayNs + value.nanoseconds;
    const auto count = static_cast<int64_t>(nanos / unit);
    if (value.months != 0 || nanos % unit != 0 || count != nanos / unit) {
      return Status::Invalid("column '" + field.name + "', row " + std::to_string(i) +
                             ": an interval of months, or one that is no " + field.type.ToString() +
                             "; write it as text");
    }
    HEADRACE_ARROW_TRY(out.Append(count));
  }
  HEADRACE_ARROW_ASSIGN(auto made, out.Finish());
  return made;
}

// A list's or map's arrays for exactly its rows, whatever its offset: offsets from 0, and validity.
struct Lists {
  std::shared_ptr<arrow::Buffer> offsets, validity;
  int64_t begin = 0, end = 0;  // of its values
};

Result<Lists> ListsOf(const arrow::ListArray& list, const std::string& column) {
  const arrow::Status valid = list.Validate();
  if (valid.ok()) HEADRACE_TRY(CheckOffsets(list, column));
  if (!valid.ok()) return FromArrow(valid).Wrap("column '" + column + "' is not valid");
  Lists lists;
  const int64_t rows = list.length();
  lists.begin = rows > 0 ? list.value_offset(0) : 0;
  lists.end = rows > 0 ? list.value_offset(rows) : 0;
  arrow::TypedBufferBuilder<int32_t> offsets;
  for (int64_t i = 0; i <= rows; ++i)
    HEADRACE_ARROW_TRY(
        offsets.Append(rows > 0 ? static_cast<int32_t>(list.value_offset(i) - lists.begin) : 0));
  HEADRACE_ARROW_ASSIGN(lists.offsets, offsets.Finish());
  if (list.null_count() == 0) return lists;
  arrow::TypedBufferBuilder<bool> bits;
  for (int64_t i = 0; i < rows; ++i) HEADRACE_ARROW_TRY(bits.Append(list.IsValid(i)));
  HEADRACE_ARROW_ASSIGN(lists.validity, bits.Finish());
  return lists;
}

Result<ArrayPtr> ConformList(const ArrayPtr& array, const Field& field) {
  using A = arrow::Type;
  const auto id = array->type_id();
  const bool is_list = id == A::LIST || id == A::LARGE_LIST || id == A::LIST_VIEW ||
                       id == A::LARGE_LIST_VIEW || id == A::FIXED_SIZE_LIST;
  if (!is_list) {
    return Status::Invalid("column '" + field.name + "' is " + array->type()->ToString() +
                           " and the table's is " + field.type.ToString());
  }
  HEADRACE_ASSIGN(const auto plain, CastTo(array, arrow::list(array->type()->field(0)->type()), field.name));
  const auto& list = static_cast<const arrow::ListArray&>(*plain);
  HEADRACE_ASSIGN(const Lists lists, ListsOf(list, field.name));
  Field item = field.type.children[0];
  item.name = field.name + "[]";
  HEADRACE_ASSIGN(const auto values,
                  ConformArray(list.values()->Slice(lists.begin, lists.end - lists.begin), item));
  return ArrayPtr(std::make_shared<arrow::ListArray>(ToArrow(field.type), list.length(), lists.offsets,
                                                     values, lists.validity, list.null_count()));
}

Result<ArrayPtr> ConformMap(const ArrayPtr& array, const Field& field) {
  if (array->type_id() != arrow::Type::MAP) {
    return Status::Invalid("column '" + field.name + "' is " + array->type()->ToString() +
                           " and the table's is " + field.type.ToString());
  }
  const auto& map = static_cast<const arrow::MapArray&>(*array);
  HEADRACE_ASSIGN(const Lists lists, ListsOf(map, field.name));
  const int64_t count = lists.end - lists.begin;
  Field key = field.type.children[0], value = field.type.children[1];
  key.name = field.name + ".key";
  value.name = field.name + ".value";
  HEADRACE_ASSIGN(const auto keys, ConformArray(map.keys()->Slice(lists.begin, count), key));
  HEADRACE_ASSIGN(const auto values, ConformArray(map.items()->Slice(lists.begin, count), value));
  if (keys->null_count() > 0) return Status::Invalid("column '" + field.name + "': a key of a map is null");
  return ArrayPtr(std::make_shared<arrow::MapArray>(ToArrow(field.type), map.length(), lists.offsets, keys,
                                                    values, lists.validity, map.null_count()));
}

Result<ArrayPtr> ConformTensor(const ArrayPtr& array, const Field& field) {
  const auto target = std::static_pointer_cast<arrow::FixedSizeListType>(ToArrow(field.type));
  ArrayPtr lists = array;
  if (array->type_id() == arrow::Type::LIST || array->type_id() == arrow::Type::LARGE_LIST) {
    HEADRACE_ASSIGN(
        lists, CastTo(array, arrow::fixed_size_list(target->value_type(), target->list_size()), field.name));
  }
  if (lists->type_id() != arrow::Type::FIXED_SIZE_LIST) {
    return Status::Invalid("column '" + field.name + "' is " + array->type()->ToString() +
                           " and the table's is " + field.type.ToString());
  }
  const auto& typed = static_cast<const arrow::FixedSizeListArray&>(*lists);
  const auto& given = static_cast<const arrow::FixedSizeListType&>(*typed.type());
  if (given.list_size() != target->list_size()) {
    return Status::Invalid("column '" + field.name + "' has cells of " + std::to_string(given.list_size()) +
                           " elements and the table's is " + field.type.ToString());
  }
  // The elements of exactly these rows, whatever the array's offset.
  ArrayPtr values = typed.values()->Slice(typed.value_offset(0), typed.length() * target->list_size());
  HEADRACE_ASSIGN(values, CastTo(values, target->value_type(), field.name));
  if (values->null_count() > 0) {
    for (int64_t row = 0; row < typed.length(); ++row) {
      if (typed.IsNull(row)) continue;
      for (int64_t i = row * target->list_size(); i < (row + 1) * target->list_size(); ++i) {
        if (values->IsNull(i)) {
          return Status::Invalid(
              "column '" + field.name + "', row " + std::to_string(row) +
              ": a tensor's elements may not be null (NaN may); fill it, or make the cell null");
        }
      }
    }
    HEADRACE_TRY(EnsureCompute());
    HEADRACE_ARROW_ASSIGN(const auto zero, arrow::Scalar::Parse(target->value_type(), "0"));
    HEADRACE_ARROW_ASSIGN(const auto filled, arrow::compute::CallFunction("coalesce", {values, zero}));
    values = filled.make_array();
  }
  std::shared_ptr<arrow::Buffer> validity;
  if (typed.null_count() > 0) {
    arrow::TypedBufferBuilder<bool> bits;
    for (int64_t i = 0; i < typed.length(); ++i) HEADRACE_ARROW_TRY(bits.Append(typed.IsValid(i)));
    HEADRACE_ARROW_ASSIGN(validity, bits.Finish());
  }
  return ArrayPtr(std::make_shared<arrow::FixedSizeListArray>(target, typed.length(), values, validity,
                                                              typed.null_count()));
}

}  // namespace

Result<ArrayPtr> ConformArray(const ArrayPtr& input, const Field& field) {
  ArrayPtr array = input;
  const arrow::Status valid = array->Validate();
  if (!valid.ok()) return FromArrow(valid).Wrap("column '" + field.name + "' is not a valid Arrow array");
  if (array->type_id() == arrow::Type::EXTENSION) {
    array = static_cast<const arrow::ExtensionArray&>(*array).storage();
  }
  // Nothing but nulls fits any column, whatever type it is said to have.
  if (array->type_id() == arrow::Type::NA || array->null_count() == array->length()) {
    HEADRACE_ARROW_ASSIGN(auto nulls, arrow::MakeArrayOfNull(ToArrow(field.type), array->length()));
    return nulls;
  }
  if (array->type_id() == arrow::Type::DICTIONARY) {
    HEADRACE_ASSIGN(
        array,
        CastTo(array, static_cast<const arrow::DictionaryType&>(*array->type()).value_type(), field.name));
  }
  switch (field.type.kind) {
    case Kind::kTensor:
      return ConformTensor(array, field);
    case Kind::kBlob:
      if (array->type_id() != arrow::Type::STRUCT) return WrapBytes(array, field);
      return ConformStruct(array, field);
    case Kind::kStruct:
      if (array->type_id() != arrow::Type::STRUCT) break;
      return ConformStruct(array, field);
    case Kind::kJson:
      return ConformJson(array, field);
    case Kind::kList:
      return ConformList(array, field);
    case Kind::kMap:
      return ConformMap(array, field);
    case Kind::kDate:
      if (array->type_id() == arrow::Type::DATE64)
        HEADRACE_TRY(CheckWholeDays(static_cast<const arrow::Date64Array&>(*array), field.name));
      break;
    case Kind::kDuration:
      if (array->type_id() == arrow::Type::INTERVAL_MONTH_DAY_NANO)
        return DurationsOf(static_cast<const arrow::MonthDayNanoIntervalArray&>(*array), field);
      break;
    default:
      break;
  }
  const auto type = ToArrow(field.type);
  HEADRACE_ASSIGN(array, CastTo(array, type, field.name));
  const auto id = type->id();
  if (id == arrow::Type::STRING || id == arrow::Type::BINARY) {
    // Offsets from outside must be proven before anyone follows them.
    if (id == arrow::Type::STRING) {
      // ValidateFull checks UTF-8 too, but does not say which row.
      const auto as_binary = array->data()->Copy();
      as_binary->type = arrow::binary();
      const auto offsets = arrow::MakeArray(as_binary);
      const arrow::Status full = offsets->ValidateFull();
      if (!full.ok()) return FromArrow(full).Wrap("column '" + field.name + "' is not a valid Arrow array");
      HEADRACE_TRY(CheckUtf8(static_cast<const arrow::BinaryArray&>(*offsets), field.name));
    } else {
      const arrow::Status full = array->ValidateFull();
      if (!full.ok()) return FromArrow(full).Wrap("column '" + field.name + "' is not valid");
    }
  }
  return array;
}

Result<ArrayPtr> HoleArray(const Field& field, int64_t rows) {
  const auto type = ToArrow(field.type);
  if (!field.has_default) {
    HEADRACE_ARROW_ASSIGN(auto nulls, arrow::MakeArrayOfNull(type, rows));
    return nulls;
  }
  HEADRACE_ARROW_ASSIGN(const auto scalar, arrow::Scalar::Parse(type, field.default_value));
  HEADRACE_ARROW_ASSIGN(auto constant, arrow::MakeArrayFromScalar(*scalar, rows));
  return constant;
}

}  // namespace headrace::table
