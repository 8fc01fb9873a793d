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
  if (array->type_id() == arrow::Type::NA) {
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
    default:
      break;
  }
  const auto type = ToArrow(field.type);
  HEADRACE_ASSIGN(array, CastTo(array, type, field.name));
  const auto id = type->id();
  if (id == arrow::Type::STRING || id == arrow::Type::BINARY || id == arrow::Type::LIST) {
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
