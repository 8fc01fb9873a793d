#include "table/exact_cast.h"

#include <arrow/array.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/array/util.h>
#include <arrow/buffer_builder.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/scalar.h>
#include <arrow/type.h>
#include <arrow/type_traits.h>

#include <bit>
#include <cmath>
#include <limits>

#include "table/arrow_bridge.h"

namespace headrace::table {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;
using A = arrow::Type;

// Types between which values can keep their meaning.
enum class Class { kNumber, kText, kWallClock, kInstant, kTimeOfDay, kDuration, kDate, kDecimal, kOther };

Class ClassOf(const arrow::DataType& type) {
  if (arrow::is_integer(type.id()) || arrow::is_floating(type.id())) return Class::kNumber;
  if (arrow::is_base_binary_like(type.id()) || type.id() == A::STRING_VIEW || type.id() == A::BINARY_VIEW ||
      type.id() == A::FIXED_SIZE_BINARY) {
    return Class::kText;
  }
  switch (type.id()) {
    case A::TIMESTAMP:
      return static_cast<const arrow::TimestampType&>(type).timezone().empty() ? Class::kWallClock
                                                                               : Class::kInstant;
    case A::TIME32:
    case A::TIME64:
      return Class::kTimeOfDay;
    case A::DURATION:
      return Class::kDuration;
    case A::DATE32:
    case A::DATE64:
      return Class::kDate;
    case A::DECIMAL32:
    case A::DECIMAL64:
    case A::DECIMAL128:
    case A::DECIMAL256:
      return Class::kDecimal;
    default:
      return Class::kOther;
  }
}

Status DifferInKind(const std::string& column, const arrow::DataType& from, const arrow::DataType& to) {
  const std::string both =
      "column '" + column + "' is " + from.ToString() + " and the table's is " + to.ToString();
  const Class a = ClassOf(from), b = ClassOf(to);
  if ((a == Class::kWallClock && b == Class::kInstant) || (a == Class::kInstant && b == Class::kWallClock)) {
    return Status::Invalid(both + ": say whose clock it shows, in SQL: " + column + " at time zone 'UTC'");
  }
  return Status::Invalid(both + "; values are not changed by themselves: cast it to " + to.ToString() +
                         " first");
}

Result<ArrayPtr> ArrowCast(const ArrayPtr& array, const std::shared_ptr<arrow::DataType>& type,
                           const arrow::compute::CastOptions& options, const std::string& column) {
  static const arrow::Status initialized = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(initialized);
  auto cast = arrow::compute::Cast(*array, type, options);
  if (!cast.ok()) {
    return FromArrow(cast.status())
        .Wrap("column '" + column + "' is " + array->type()->ToString() + " and the table's is " +
              type->ToString());
  }
  return *cast;
}

// What a number type holds.
struct Range {
  bool is_float = false;
  __int128 low = 0, high = 0;  // integers
  int mantissa = 0;            // floats: bits
  double largest = 0;
};

template <typename T>
Range Integers() {
  return {.low = std::numeric_limits<T>::min(), .high = std::numeric_limits<T>::max()};
}

Range RangeOf(A::type id) {
  constexpr int kHalfMantissa = 11;
  constexpr double kHalfLargest = 65504;
  switch (id) {
    case A::INT8:
      return Integers<int8_t>();
    case A::INT16:
      return Integers<int16_t>();
    case A::INT32:
      return Integers<int32_t>();
    case A::INT64:
      return Integers<int64_t>();
    case A::UINT8:
      return Integers<uint8_t>();
    case A::UINT16:
      return Integers<uint16_t>();
    case A::UINT32:
      return Integers<uint32_t>();
    case A::UINT64:
      return Integers<uint64_t>();
    case A::HALF_FLOAT:
      return {.is_float = true, .mantissa = kHalfMantissa, .largest = kHalfLargest};
    case A::FLOAT:
      return {.is_float = true,
              .mantissa = std::numeric_limits<float>::digits,
              .largest = std::numeric_limits<float>::max()};
    default:
      return {.is_float = true,
              .mantissa = std::numeric_limits<double>::digits,
              .largest = std::numeric_limits<double>::max()};
  }
}

// A float that becomes an integer is one; a float in a narrower one is rounded, never to infinity.
bool Holds(const Range& range, double value) {
  if (range.is_float) {
    // Halfway to the next float beyond the largest, from where rounding would give infinity.
    const double beyond = range.largest + std::ldexp(range.largest, -range.mantissa - 1);
    return !std::isfinite(value) || std::fabs(value) < beyond;
  }
  constexpr double kTwo65 = 0x1p65;
  if (!(std::fabs(value) < kTwo65) || std::trunc(value) != value) return false;
  const auto whole = static_cast<__int128>(value);
  return whole >= range.low && whole <= range.high;
}

bool Holds(const Range& range, __int128 value) {
  if (!range.is_float) return value >= range.low && value <= range.high;
  const auto size = static_cast<uint64_t>(value < 0 ? -value : value);  // of 64-bit integers
  if (size == 0) return true;
  const int bits = std::bit_width(size) - std::countr_zero(size);
  return bits <= range.mantissa && static_cast<double>(size) <= range.largest;
}

template <typename T>
void FindFaults(const arrow::Array& array, const Range& range, std::vector<int64_t>* rows) {
  const T* values = array.data()->GetValues<T>(1);
  using Wide = std::conditional_t<std::is_floating_point_v<T>, double, __int128>;
  for (int64_t i = 0; i < array.length(); ++i) {
    if (!Holds(range, static_cast<Wide>(values[i])) && array.IsValid(i)) rows->push_back(i);
  }
}

Result<std::vector<int64_t>> NumbersThatDoNotFit(const arrow::Array& array, A::type to) {
  const Range range = RangeOf(to);
  std::vector<int64_t> rows;
  switch (array.type_id()) {
    case A::INT8:
      FindFaults<int8_t>(array, range, &rows);
      break;
    case A::INT16:
      FindFaults<int16_t>(array, range, &rows);
      break;
    case A::INT32:
      FindFaults<int32_t>(array, range, &rows);
      break;
    case A::INT64:
      FindFaults<int64_t>(array, range, &rows);
      break;
    case A::UINT8:
      FindFaults<uint8_t>(array, range, &rows);
      break;
    case A::UINT16:
      FindFaults<uint16_t>(array, range, &rows);
      break;
    case A::UINT32:
      FindFaults<uint32_t>(array, range, &rows);
      break;
    case A::UINT64:
      FindFaults<uint64_t>(array, range, &rows);
      break;
    case A::FLOAT:
      FindFaults<float>(array, range, &rows);
      break;
    case A::DOUBLE:
      FindFaults<double>(array, range, &rows);
      break;
    default:
      return Status::Unsupported("no numbers: " + array.type()->ToString());
  }
  return rows;
}

int64_t NanosOf(arrow::TimeUnit::type unit) {
  constexpr int64_t kNanos[] = {1'000'000'000, 1'000'000, 1'000, 1};
  return kNanos[unit];
}

// What one tick of a time type is.
int64_t TickOf(const arrow::DataType& type) {
  switch (type.id()) {
    case A::TIMESTAMP:
      return NanosOf(static_cast<const arrow::TimestampType&>(type).unit());
    case A::TIME32:
    case A::TIME64:
      return NanosOf(static_cast<const arrow::TimeType&>(type).unit());
    case A::DURATION:
      return NanosOf(static_cast<const arrow::DurationType&>(type).unit());
    case A::DATE64:
      return NanosOf(arrow::TimeUnit::MILLI);
    default:
      return int64_t{86'400} * NanosOf(arrow::TimeUnit::SECOND);
  }
}

bool FourBytes(const arrow::DataType& type) { return type.id() == A::TIME32 || type.id() == A::DATE32; }

// Times in another unit. `rows`: those that it does not hold.
Result<ArrayPtr> Rescale(const ArrayPtr& array, const std::shared_ptr<arrow::DataType>& type,
                         const std::shared_ptr<arrow::Buffer>& validity, std::vector<int64_t>* rows) {
  const int64_t from = TickOf(*array->type()), to = TickOf(*type);
  const bool four = FourBytes(*array->type());
  const auto* narrow = array->data()->GetValues<int32_t>(1);
  const auto* wide = array->data()->GetValues<int64_t>(1);
  arrow::TypedBufferBuilder<int64_t> longs;
  arrow::TypedBufferBuilder<int32_t> ints;
  for (int64_t i = 0; i < array->length(); ++i) {
    int64_t value = four ? narrow[i] : wide[i];
    bool fits = true;
    if (from >= to) {
      fits = !__builtin_mul_overflow(value, from / to, &value);
    } else {
      fits = value % (to / from) == 0;
      value /= to / from;
    }
    if (FourBytes(*type) && static_cast<int32_t>(value) != value) fits = false;
    if (!fits && array->IsValid(i)) rows->push_back(i);
    HEADRACE_ARROW_TRY(FourBytes(*type) ? ints.Append(static_cast<int32_t>(value)) : longs.Append(value));
  }
  std::shared_ptr<arrow::Buffer> values;
  HEADRACE_ARROW_TRY(FourBytes(*type) ? ints.Finish(&values) : longs.Finish(&values));
  return arrow::MakeArray(arrow::ArrayData::Make(type, array->length(), {validity, values}));
}

// The array with null in those rows, cast.
Result<ArrayPtr> CastWithout(const ArrayPtr& array, const std::shared_ptr<arrow::DataType>& type,
                             const std::string& column, const std::vector<int64_t>& rows) {
  arrow::Int64Builder picks;
  size_t at = 0;
  for (int64_t i = 0; i < array->length(); ++i) {
    const bool bad = at < rows.size() && rows[at] == i;
    at += bad ? 1 : 0;
    HEADRACE_ARROW_TRY(bad ? picks.AppendNull() : picks.Append(i));
  }
  HEADRACE_ARROW_ASSIGN(const auto indices, picks.Finish());
  HEADRACE_ARROW_ASSIGN(const auto kept, arrow::compute::Take(*array, *indices));
  return ArrowCast(kept, type, arrow::compute::CastOptions::Safe(), column);
}

// Decimals of another width, precision or scale. `rows`: those that it does not hold.
Result<ArrayPtr> CastDecimals(const ArrayPtr& array, const std::shared_ptr<arrow::DataType>& type,
                              const std::string& column, std::vector<int64_t>* rows) {
  const auto safe = arrow::compute::CastOptions::Safe();
  auto whole = ArrowCast(array, type, safe, column);
  if (whole.ok()) return whole;
  for (int64_t i = 0; i < array->length(); ++i) {
    if (array->IsValid(i) && !ArrowCast(array->Slice(i, 1), type, safe, column).ok()) rows->push_back(i);
  }
  if (rows->empty()) return whole;
  // The rows that are left are cast once the others are gone.
  return CastWithout(array, type, column, *rows);
}

std::string InWords(const arrow::Array& array, int64_t row) {
  constexpr size_t kShown = 100;
  const auto scalar = array.GetScalar(row);
  return scalar.ok() ? (*scalar)->ToString().substr(0, kShown) : "it";
}

}  // namespace

Result<std::shared_ptr<arrow::Buffer>> ValidityOf(const arrow::Array& array) {
  std::shared_ptr<arrow::Buffer> validity;
  if (array.null_count() == 0) return validity;
  arrow::TypedBufferBuilder<bool> bits;
  HEADRACE_ARROW_TRY(bits.Reserve(array.length()));
  for (int64_t i = 0; i < array.length(); ++i) bits.UnsafeAppend(array.IsValid(i));
  HEADRACE_ARROW_ASSIGN(validity, bits.Finish());
  return validity;
}

Result<ArrayPtr> ExactCast(const ArrayPtr& input, const std::shared_ptr<arrow::DataType>& type,
                           const std::string& column, std::vector<RowFault>* faults) {
  if (input->type()->Equals(*type)) return input;
  const Class from = ClassOf(*input->type());
  if (from != ClassOf(*type) || (from == Class::kOther && input->type_id() != type->id()))
    return DifferInKind(column, *input->type(), *type);
  if (from == Class::kOther) return ArrowCast(input, type, arrow::compute::CastOptions::Safe(), column);
  ArrayPtr array = input;
  ArrayPtr result;
  std::vector<int64_t> rows;
  if (from == Class::kNumber) {
    if (array->type_id() == A::HALF_FLOAT) {  // every half is a float
      HEADRACE_ASSIGN(array, ArrowCast(array, arrow::float32(), arrow::compute::CastOptions::Safe(), column));
    }
    HEADRACE_ASSIGN(rows, NumbersThatDoNotFit(*array, type->id()));
    HEADRACE_ASSIGN(result, ArrowCast(array, type, arrow::compute::CastOptions::Unsafe(), column));
  } else if (from == Class::kDecimal) {
    HEADRACE_ASSIGN(result, CastDecimals(array, type, column, &rows));
  } else if (from == Class::kText) {
    auto options = arrow::compute::CastOptions::Safe();
    options.allow_invalid_utf8 = true;  // told by row, by who asked
    HEADRACE_ASSIGN(result, ArrowCast(array, type, options, column));
  } else {
    HEADRACE_ASSIGN(const auto validity, ValidityOf(*array));
    HEADRACE_ASSIGN(result, Rescale(array, type, validity, &rows));
  }
  for (const int64_t row : rows) {
    faults->push_back({row, column,
                       input->type_id() == A::DATE64
                           ? "a date64 that is no whole day; cast it to timestamp[ms]"
                           : InWords(*input, row) + " is no value of " + type->ToString()});
  }
  return result;
}

}  // namespace headrace::table
