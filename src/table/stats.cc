#include "table/stats.h"

#include <arrow/array.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

namespace headrace::table {
namespace {

bool PublicBlobFact(const std::string& name) {
  return name == "media_type" || name == "width" || name == "height" || name == "length" ||
         name == "orientation";
}

void Collect(const std::vector<Field>& fields, bool in_blob, size_t limit, std::vector<int32_t>* out) {
  for (const auto& field : fields) {
    if (out->size() >= limit) return;
    if (in_blob && !PublicBlobFact(field.name)) continue;
    if (field.type.kind == Kind::kStruct || field.type.kind == Kind::kBlob) {
      Collect(field.type.children, field.type.kind == Kind::kBlob, limit, out);
    } else if (field.type.is_scalar()) {
      out->push_back(field.id);
    }
  }
}

void Widen(Value low, Value high, FieldStats* stats) {
  if (IsNull(stats->min) || CompareValues(low, stats->min) < 0) stats->min = std::move(low);
  if (IsNull(stats->max) || CompareValues(high, stats->max) > 0) stats->max = std::move(high);
}

// The least string of at most kMaxStatBytes above every string with this prefix; the string itself if short.
std::string UpperBound(std::string_view text) {
  if (text.size() <= kMaxStatBytes) return std::string(text);
  std::string cut(text.substr(0, kMaxStatBytes));
  while (!cut.empty() && static_cast<unsigned char>(cut.back()) == 0xff) cut.pop_back();
  if (cut.empty()) return std::string(kMaxStatBytes + 1, '\xff');
  cut.back() = static_cast<char>(static_cast<unsigned char>(cut.back()) + 1);
  return cut;
}

template <typename ArrayType>
void AddIntegers(const ArrayType& array, FieldStats* stats) {
  using T = typename ArrayType::value_type;
  T low = std::numeric_limits<T>::max();
  T high = std::numeric_limits<T>::lowest();
  const T* values = array.raw_values();
  if (array.null_count() == 0) {
    for (int64_t i = 0; i < array.length(); ++i) {
      low = std::min(low, values[i]);
      high = std::max(high, values[i]);
    }
  } else {
    for (int64_t i = 0; i < array.length(); ++i) {
      if (array.IsNull(i)) continue;
      low = std::min(low, values[i]);
      high = std::max(high, values[i]);
    }
  }
  if constexpr (std::is_same_v<T, uint64_t>) {
    // Above the signed range there is no bound that a filter's integers could meet.
    if (high > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      high = std::numeric_limits<int64_t>::max();
    if (low > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      low = std::numeric_limits<int64_t>::max();
  }
  Widen(static_cast<int64_t>(low), static_cast<int64_t>(high), stats);
}

template <typename Get>
void AddFloats(const arrow::Array& array, Get get, FieldStats* stats) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  bool any = false;
  for (int64_t i = 0; i < array.length(); ++i) {
    if (array.IsNull(i)) continue;
    const double value = get(i);
    if (std::isnan(value)) {
      stats->has_nan = true;
      continue;
    }
    any = true;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (any) Widen(low, high, stats);
}

void AddLeaf(const arrow::Array& array, FieldStats* stats) {
  stats->nulls += array.null_count();
  const int64_t values = array.length() - array.null_count();
  stats->values += values;
  if (values == 0) return;
  using A = arrow::Type;
  switch (array.type_id()) {
    case A::BOOL: {
      const auto& flags = static_cast<const arrow::BooleanArray&>(array);
      const bool any_true = flags.true_count() > 0;
      const bool any_false = flags.false_count() > 0;
      Widen(int64_t{!any_false}, int64_t{any_true}, stats);
      return;
    }
    case A::INT8:
      return AddIntegers(static_cast<const arrow::Int8Array&>(array), stats);
    case A::INT16:
      return AddIntegers(static_cast<const arrow::Int16Array&>(array), stats);
    case A::INT32:
      return AddIntegers(static_cast<const arrow::Int32Array&>(array), stats);
    case A::INT64:
      return AddIntegers(static_cast<const arrow::Int64Array&>(array), stats);
    case A::UINT8:
      return AddIntegers(static_cast<const arrow::UInt8Array&>(array), stats);
    case A::UINT16:
      return AddIntegers(static_cast<const arrow::UInt16Array&>(array), stats);
    case A::UINT32:
      return AddIntegers(static_cast<const arrow::UInt32Array&>(array), stats);
    case A::UINT64:
      return AddIntegers(static_cast<const arrow::UInt64Array&>(array), stats);
    case A::DATE32:
      return AddIntegers(static_cast<const arrow::Date32Array&>(array), stats);
    case A::TIMESTAMP:
      return AddIntegers(static_cast<const arrow::TimestampArray&>(array), stats);
    case A::TIME32:
      return AddIntegers(static_cast<const arrow::Time32Array&>(array), stats);
    case A::TIME64:
      return AddIntegers(static_cast<const arrow::Time64Array&>(array), stats);
    case A::DURATION:
      return AddIntegers(static_cast<const arrow::DurationArray&>(array), stats);
    case A::FLOAT: {
      const auto* values_f = static_cast<const arrow::FloatArray&>(array).raw_values();
      return AddFloats(
          array, [&](int64_t i) { return static_cast<double>(values_f[i]); }, stats);
    }
    case A::DOUBLE: {
      const auto* values_d = static_cast<const arrow::DoubleArray&>(array).raw_values();
      return AddFloats(
          array, [&](int64_t i) { return values_d[i]; }, stats);
    }
    case A::HALF_FLOAT: {
      const auto* bits = static_cast<const arrow::HalfFloatArray&>(array).raw_values();
      return AddFloats(
          array, [&](int64_t i) { return arrow::util::Float16::FromBits(bits[i]).ToDouble(); }, stats);
    }
    case A::STRING:
    case A::BINARY: {
      const auto& strings = static_cast<const arrow::BinaryArray&>(array);
      std::string_view low, high;
      bool first = true;
      for (int64_t i = 0; i < strings.length(); ++i) {
        if (strings.IsNull(i)) continue;
        const std::string_view text = strings.GetView(i);
        if (first || text < low) low = text;
        if (first || text > high) high = text;
        first = false;
      }
      Widen(std::string(low.substr(0, kMaxStatBytes)), UpperBound(high), stats);
      return;
    }
    default:
      return;
  }
}

bool Holds(const Field& field, const std::set<int32_t>& wanted) {
  if (wanted.contains(field.id)) return true;
  return std::any_of(field.type.children.begin(), field.type.children.end(),
                     [&](const Field& child) { return Holds(child, wanted); });
}

void Add(const Field& field, const arrow::Array& array, const std::set<int32_t>& wanted,
         StatsByField* stats) {
  if (field.type.kind == Kind::kStruct || field.type.kind == Kind::kBlob) {
    const auto& parent = static_cast<const arrow::StructArray&>(array);
    for (size_t i = 0; i < field.type.children.size(); ++i) {
      if (!Holds(field.type.children[i], wanted)) continue;
      // Flattening applies the struct's own nulls to the child.
      auto child = parent.GetFlattenedField(static_cast<int>(i));
      if (child.ok()) Add(field.type.children[i], **child, wanted, stats);
    }
  } else if (wanted.contains(field.id)) {
    AddLeaf(array, &(*stats)[field.id]);
  }
}

}  // namespace

std::vector<int32_t> StatFields(const Schema& schema, size_t limit) {
  std::vector<int32_t> fields;
  Collect(schema.fields, false, limit, &fields);
  return fields;
}

void AddToStats(const Field& field, const arrow::Array& array, const std::vector<int32_t>& wanted,
                StatsByField* stats) {
  const std::set<int32_t> ids(wanted.begin(), wanted.end());
  if (Holds(field, ids)) Add(field, array, ids, stats);
}

FieldStats MergeStats(const FieldStats& a, const FieldStats& b) {
  FieldStats merged = a;
  if (!IsNull(b.min)) Widen(b.min, b.max, &merged);
  merged.nulls += b.nulls;
  merged.values += b.values;
  merged.has_nan |= b.has_nan;
  return merged;
}

}  // namespace headrace::table
