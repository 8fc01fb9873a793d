#include "ingest/csv_types.h"

#include <arrow/type.h>
#include <arrow/util/value_parsing.h>

#include <cmath>
#include <string_view>

#include "ingest/exact_numbers.h"

namespace headrace::ingest {
namespace {

template <typename T>
bool IsIntegerOf(const std::string& text) {
  T value{};
  return ParseInteger(text, &value);
}

// A number that a float64 gives back with the same digits.
bool IsDouble(const std::string& text) {
  if (text == "nan" || text == "NaN" || text == "inf" || text == "-inf" || text == "Infinity" ||
      text == "-Infinity") {
    return true;
  }
  return IsExactDouble(text);
}

template <typename T>
bool Parses(const T& type, const std::string& text) {
  typename arrow::internal::StringConverter<T>::value_type value;
  return arrow::internal::ParseValue(type, text.data(), text.size(), &value);
}

bool IsDate(const std::string& text) {
  return text.size() == 10 && IsDigit(text[0]) && Parses(arrow::Date32Type(), text);
}

bool HasZone(const std::string& text) {
  return text.size() > 16 && (text.back() == 'Z' || text.find_first_of("+-", 16) != std::string::npos);
}

bool IsTimestamp(const std::string& text, arrow::TimeUnit::type unit) {
  if (text.size() < 16 || (text[10] != ' ' && text[10] != 'T')) return false;
  return Parses(arrow::TimestampType(unit), text);
}

bool IsBool(const std::string& text) {
  return text == "true" || text == "false" || text == "True" || text == "False" || text == "TRUE" ||
         text == "FALSE";
}

}  // namespace

bool ParseDecimal(std::string_view text, int32_t precision, int32_t scale, arrow::Decimal256* value) {
  arrow::Decimal256 given;
  int32_t digits = 0, places = 0;
  if (!arrow::Decimal256::FromString(text, &given, &digits, &places).ok()) return false;
  const auto scaled = given.Rescale(places, scale);
  if (!scaled.ok() || !scaled->FitsInPrecision(precision)) return false;
  *value = *scaled;
  return true;
}

void ColumnGuess::Add(const std::string& text) {
  any_ = true;
  if (bool_) bool_ = IsBool(text);
  if (int64_) int64_ = IsIntegerOf<int64_t>(text);
  if (uint64_) uint64_ = IsIntegerOf<uint64_t>(text);
  if (double_) double_ = IsDouble(text);
  if (date_) date_ = IsDate(text);
  if (!naive_ && !aware_) return;
  const bool micros = IsTimestamp(text, arrow::TimeUnit::MICRO);
  const bool either = micros || IsTimestamp(text, arrow::TimeUnit::NANO);
  if (!micros) nanoseconds_ = true;
  naive_ = naive_ && either && !HasZone(text);
  aware_ = aware_ && either && HasZone(text);
}

std::shared_ptr<arrow::DataType> ColumnGuess::Type() const {
  if (!any_) return arrow::null();
  if (bool_) return arrow::boolean();
  if (int64_) return arrow::int64();
  if (uint64_) return arrow::uint64();
  if (double_) return arrow::float64();
  if (date_) return arrow::date32();
  if (naive_) return arrow::timestamp(nanoseconds_ ? arrow::TimeUnit::NANO : arrow::TimeUnit::MICRO);
  if (aware_ && !nanoseconds_) return arrow::timestamp(arrow::TimeUnit::MICRO, "UTC");
  return arrow::utf8();
}

std::string WhyNot(const std::string& text, const arrow::DataType& type) {
  bool fits = false;
  switch (type.id()) {
    case arrow::Type::STRING:
    case arrow::Type::BINARY:
      return "";
    case arrow::Type::BOOL:
      fits = IsBool(text);
      break;
    case arrow::Type::INT8:
      fits = IsIntegerOf<int8_t>(text);
      break;
    case arrow::Type::INT16:
      fits = IsIntegerOf<int16_t>(text);
      break;
    case arrow::Type::INT32:
      fits = IsIntegerOf<int32_t>(text);
      break;
    case arrow::Type::INT64:
      fits = IsIntegerOf<int64_t>(text);
      break;
    case arrow::Type::UINT8:
      fits = IsIntegerOf<uint8_t>(text);
      break;
    case arrow::Type::UINT16:
      fits = IsIntegerOf<uint16_t>(text);
      break;
    case arrow::Type::UINT32:
      fits = IsIntegerOf<uint32_t>(text);
      break;
    case arrow::Type::UINT64:
      fits = IsIntegerOf<uint64_t>(text);
      break;
    case arrow::Type::FLOAT: {
      // Digits are rounded to its precision, but neither integers nor to infinity.
      const double value = DoubleOf(text);
      int64_t whole = 0;
      fits = IsDouble(text) && std::isinf(static_cast<float>(value)) == std::isinf(value) &&
             (!ParseInteger(text, &whole) || static_cast<double>(static_cast<float>(value)) == value);
      break;
    }
    case arrow::Type::DOUBLE:
      fits = IsDouble(text);
      break;
    case arrow::Type::DATE32:
      fits = IsDate(text);
      break;
    case arrow::Type::TIMESTAMP: {
      const auto& time = static_cast<const arrow::TimestampType&>(type);
      fits = IsTimestamp(text, time.unit()) && HasZone(text) == !time.timezone().empty();
      break;
    }
    case arrow::Type::TIME32:
      fits = Parses(static_cast<const arrow::Time32Type&>(type), text);
      break;
    case arrow::Type::TIME64:
      fits = Parses(static_cast<const arrow::Time64Type&>(type), text);
      break;
    case arrow::Type::DECIMAL128:
    case arrow::Type::DECIMAL256: {
      const auto& decimal = static_cast<const arrow::DecimalType&>(type);
      arrow::Decimal256 value;
      fits = ParseDecimal(text, decimal.precision(), decimal.scale(), &value);
      break;
    }
    default:
      return "text cannot become " + type.ToString();
  }
  return fits ? "" : "'" + text.substr(0, 100) + "' is no value of " + type.ToString();
}

}  // namespace headrace::ingest
