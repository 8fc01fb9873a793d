#include "table/retype.h"

#include <arrow/array.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>

#include <algorithm>

#include "table/arrow_bridge.h"
#include "table/default_value.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

constexpr Kind kNumbers[] = {Kind::kInt8,    Kind::kInt16,   Kind::kInt32,  Kind::kInt64,
                             Kind::kUInt8,   Kind::kUInt16,  Kind::kUInt32, Kind::kUInt64,
                             Kind::kFloat16, Kind::kFloat32, Kind::kFloat64};

bool IsSigned(Kind kind) { return kind >= Kind::kInt8 && kind <= Kind::kInt64; }
bool IsUnsigned(Kind kind) { return kind >= Kind::kUInt8 && kind <= Kind::kUInt64; }
bool IsFloat(Kind kind) { return kind >= Kind::kFloat16 && kind <= Kind::kFloat64; }

bool NumberFits(Kind from, Kind to) {
  const bool same_sort = (IsSigned(from) && IsSigned(to)) ||
                         (IsUnsigned(from) && (IsUnsigned(to) || IsSigned(to))) ||
                         (IsFloat(from) && IsFloat(to));
  return same_sort && KindBytes(to) > KindBytes(from);
}

bool LeafFits(const Type& from, const Type& to) {
  if (from.kind == Kind::kDecimal)
    return to.kind == Kind::kDecimal && to.scale == from.scale && to.precision > from.precision;
  return NumberFits(from.kind, to.kind);
}

// As CanWiden, but also where nothing changes. Ids are those of `from` alone.
bool Fits(const Type& from, const Type& to) {
  if (from.children.empty() || from.kind == Kind::kBlob)
    return from.ToString() == to.ToString() || LeafFits(from, to);
  if (from.kind != to.kind || from.children.size() != to.children.size()) return false;
  for (size_t i = 0; i < from.children.size(); ++i) {
    const Field& a = from.children[i];
    const Field& b = to.children[i];
    const bool is_key = from.kind == Kind::kMap && i == 0;
    if (a.name != b.name || !(is_key ? a.type.ToString() == b.type.ToString() : Fits(a.type, b.type)))
      return false;
  }
  return true;
}

void Widen(Field* field, const Type& to) {
  if (field->type.ToString() == to.ToString()) return;
  if (!field->type.children.empty()) {
    for (size_t i = 0; i < to.children.size(); ++i) Widen(&field->type.children[i], to.children[i].type);
    return;
  }
  field->type = to;
  field->widened = true;
}

std::string Possible(const Type& from) {
  if (from.kind == Kind::kDecimal)
    return "decimals of more digits with " + std::to_string(from.scale) + " of them after the point";
  if (!from.children.empty() && from.kind != Kind::kBlob) return "the same type with wider numbers in it";
  std::string possible;
  for (const Kind kind : kNumbers) {
    if (NumberFits(from.kind, kind)) possible += (possible.empty() ? "" : ", ") + std::string(KindName(kind));
  }
  return possible;
}

}  // namespace

bool CanWiden(const Type& from, const Type& to) { return from.ToString() != to.ToString() && Fits(from, to); }

Result<Field> WidenedField(const Field& field, const Type& to) {
  if (!CanWiden(field.type, to)) {
    const std::string possible = Possible(field.type);
    return Status::Invalid(
        "column '" + field.name + "' is " + field.type.ToString() + " and cannot be widened to " +
        to.ToString() +
        (possible.empty() ? ": a column of that type stays as it is" : ", only to " + possible) +
        "; values that are computed are a new column (add-columns)");
  }
  Field wide = field;
  Widen(&wide, to);
  if (!field.has_default) return wide;
  HEADRACE_ASSIGN(const auto value, DefaultOf(field));
  HEADRACE_ARROW_ASSIGN(const auto cast, arrow::compute::Cast(*value, ToArrow(wide.type)));
  HEADRACE_TRY(SetDefault(*cast, &wide));
  return wide;
}

bool HasWidened(const Field& field) {
  const auto& inside = field.type.children;
  return field.widened || std::any_of(inside.begin(), inside.end(), HasWidened);
}

}  // namespace headrace::table
