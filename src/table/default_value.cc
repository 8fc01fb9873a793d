#include "table/default_value.h"

#include <arrow/array.h>
#include <arrow/array/util.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/scalar.h>
#include <arrow/type.h>

#include "table/arrow_bridge.h"
#include "table/conform.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

bool HasDefaults(const Type& type) {
  switch (type.kind) {
    case Kind::kBinary:
    case Kind::kFixedBinary:
    case Kind::kUuid:
    case Kind::kFloat16:
      return false;
    default:
      return type.is_scalar();
  }
}

bool IsText(const Type& type) { return type.kind == Kind::kString || type.kind == Kind::kJson; }

// As DefaultOf reads it again.
Result<std::string> TextOf(const arrow::Array& value, const Type& type) {
  if (IsText(type)) return static_cast<const arrow::StringArray&>(value).GetString(0);
  arrow::Datum text;
  if (type.kind == Kind::kDuration) {
    HEADRACE_ARROW_ASSIGN(text, arrow::compute::Cast(arrow::Datum(value.data()), arrow::int64()));
    HEADRACE_ARROW_ASSIGN(text, arrow::compute::Cast(text, arrow::utf8()));
  } else {
    HEADRACE_ARROW_ASSIGN(text, arrow::compute::Cast(arrow::Datum(value.data()), arrow::utf8()));
  }
  return static_cast<const arrow::StringArray&>(*text.make_array()).GetString(0);
}

}  // namespace

Result<std::shared_ptr<arrow::Array>> DefaultOf(const Field& field) {
  if (!HasDefaults(field.type)) {
    return Status::Unsupported("a column of the type " + field.type.ToString() + " has no default value");
  }
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);
  const auto type = ToArrow(field.type);
  HEADRACE_ARROW_ASSIGN(auto text, arrow::MakeArrayFromScalar(arrow::StringScalar(field.default_value), 1));
  if (IsText(field.type)) return ConformArray(text, field);
  arrow::Result<std::shared_ptr<arrow::Array>> value = text;
  if (field.type.kind == Kind::kDecimal) {
    value = arrow::compute::Cast(*text, type);
  } else {
    const auto scalar = arrow::Scalar::Parse(type, field.default_value);
    value = scalar.ok() ? arrow::MakeArrayFromScalar(**scalar, 1) : scalar.status();
  }
  if (value.ok()) return *value;
  return Status::Invalid("'" + field.default_value + "' is no default value of the type " +
                         field.type.ToString());
}

Status SetDefault(const arrow::Array& value, Field* field) {
  HEADRACE_CHECK(value.length() == 1);
  field->has_default = value.IsValid(0);
  field->default_value.clear();
  if (!field->has_default) return Status::Ok();
  if (!HasDefaults(field->type)) return DefaultOf(*field).status();
  HEADRACE_ASSIGN(field->default_value, TextOf(value, field->type));
  HEADRACE_ASSIGN(const auto again, DefaultOf(*field));
  if (again->Equals(value, arrow::EqualOptions().nans_equal(true))) return Status::Ok();
  return Status::Unsupported("the default value '" + field->default_value + "' of '" + field->name +
                             "' cannot be kept as text");
}

}  // namespace headrace::table
