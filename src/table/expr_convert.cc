#include <arrow/array.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/clock.h"
#include "base/ids.h"
#include "table/expr_vec.h"

namespace headrace::table {
namespace {

template <typename ArrayType>
bool Widen(const arrow::Array& array, std::vector<int64_t>* out) {
  const auto& typed = static_cast<const ArrayType&>(array);
  out->resize(static_cast<size_t>(array.length()));
  for (int64_t i = 0; i < array.length(); ++i)
    (*out)[static_cast<size_t>(i)] = static_cast<int64_t>(typed.Value(i));
  return true;
}

// Values of types narrower than an int64. False: it has another type.
bool WholeNumbers(const arrow::Array& array, std::vector<int64_t>* out) {
  using A = arrow::Type;
  switch (array.type_id()) {
    case A::BOOL:
      return Widen<arrow::BooleanArray>(array, out);
    case A::INT8:
      return Widen<arrow::Int8Array>(array, out);
    case A::INT16:
      return Widen<arrow::Int16Array>(array, out);
    case A::INT32:
      return Widen<arrow::Int32Array>(array, out);
    case A::UINT8:
      return Widen<arrow::UInt8Array>(array, out);
    case A::UINT16:
      return Widen<arrow::UInt16Array>(array, out);
    case A::UINT32:
      return Widen<arrow::UInt32Array>(array, out);
    case A::DATE32:
      return Widen<arrow::Date32Array>(array, out);
    default:
      return false;
  }
}

Result<Vec> Timestamps(const Expr& expr, const arrow::TimestampArray& array, Vec out) {
  const auto unit = static_cast<const arrow::TimestampType&>(*array.type()).unit();
  const int64_t factor = unit == arrow::TimeUnit::SECOND  ? 1'000'000
                         : unit == arrow::TimeUnit::MILLI ? 1'000
                                                          : 1;
  if (factor == 1) {
    out.int_data = array.raw_values();
    return out;
  }
  out.ints.resize(static_cast<size_t>(array.length()));
  for (int64_t i = 0; i < array.length(); ++i) {
    if (array.IsNull(i)) continue;
    if (__builtin_mul_overflow(array.Value(i), factor, &out.ints[static_cast<size_t>(i)])) {
      return Status::Limit("column " + ToString(expr) + " holds a time beyond what microseconds can say");
    }
  }
  return out;
}

Vec Uuids(const arrow::FixedSizeBinaryArray& values, Vec out) {
  auto texts = std::make_shared<std::vector<std::string>>();
  texts->reserve(static_cast<size_t>(values.length()));
  for (int64_t i = 0; i < values.length(); ++i) {
    Uuid id;
    std::memcpy(id.bytes.data(), values.GetValue(i), id.bytes.size());
    texts->push_back(id.Hyphenated());
    out.strings.push_back(texts->back());
  }
  out.owners.push_back(texts);
  return out;
}

// Dates are days, timestamps micro- or nanoseconds; integers and booleans pass through.
bool Time(int64_t value, ValueType from, ValueType to, Vec* out) {
  constexpr int64_t kDayUs = 86'400'000'000;
  int64_t result = value;
  const auto floor_divide = [](int64_t a, int64_t b) { return a / b - (a % b < 0); };
  if (from == ValueType::kDate && to == ValueType::kTimestampUs) {
    if (__builtin_mul_overflow(value, kDayUs, &result)) return false;
  } else if (from == ValueType::kDate && to == ValueType::kTimestampNs) {
    if (__builtin_mul_overflow(value, kDayUs * 1000, &result)) return false;
  } else if (from == ValueType::kTimestampUs && to == ValueType::kTimestampNs) {
    if (__builtin_mul_overflow(value, int64_t{1000}, &result)) return false;
  } else if (from == ValueType::kTimestampNs && to == ValueType::kTimestampUs) {
    result = floor_divide(value, 1000);
  } else if (to == ValueType::kDate && from == ValueType::kTimestampUs) {
    result = floor_divide(value, kDayUs);
  } else if (to == ValueType::kDate && from == ValueType::kTimestampNs) {
    result = floor_divide(value, kDayUs * 1000);
  }
  out->ints.push_back(result);
  return true;
}

std::string Shown(std::string_view text) { return "'" + std::string(text.substr(0, 40)) + "'"; }

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\n\r\v\f");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\n\r\v\f") - begin + 1);
}

bool TextToInt(std::string_view text, Vec* out, std::string* problem) {
  std::string_view digits = Trimmed(text);
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    *problem = "the text " + Shown(text) + " is not a 64-bit integer, to which the filter casts it";
    return false;
  }
  out->ints.push_back(value);
  return true;
}

bool TextToReal(std::string_view text, ValueType to, Vec* out, std::string* problem) {
  const std::string digits(Trimmed(text));
  char* end = nullptr;
  const bool hexadecimal = digits.find_first_of("xX(") != std::string::npos;
  // strtof for 32 bits: rounding twice would be another number.
  const double value =
      to == ValueType::kFloat ? double{std::strtof(digits.c_str(), &end)} : std::strtod(digits.c_str(), &end);
  if (digits.empty() || hexadecimal || end != digits.c_str() + digits.size()) {
    *problem = "the text " + Shown(text) + " is not a number, to which the filter casts it";
    return false;
  }
  out->doubles.push_back(value);
  return true;
}

bool TextToBool(std::string_view text, Vec* out, std::string* problem) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
  for (const auto* word : {"true", "t", "1", "yes", "y"}) {
    if (lower == word) return out->ints.push_back(1), true;
  }
  for (const auto* word : {"false", "f", "0", "no", "n"}) {
    if (lower == word) return out->ints.push_back(0), true;
  }
  *problem = "the text " + Shown(text) + " is neither true nor false, to which the filter casts it";
  return false;
}

bool TextToTime(std::string_view text, ValueType to, Vec* out, std::string* problem) {
  const auto micros = ParseMicros(std::string(Trimmed(text)));
  if (!micros.ok()) {
    *problem = micros.status().message();
    return false;
  }
  return Time(*micros, ValueType::kTimestampUs, to, out);
}

bool ToReal(const Expr& cast, const Vec& inner, int64_t i, Vec* out) {
  const bool narrow = cast.type == ValueType::kFloat;
  if (inner.type == ValueType::kInt) {
    const int64_t value = inner.Int(i);
    out->doubles.push_back(narrow ? double{static_cast<float>(value)} : static_cast<double>(value));
  } else if (inner.type == ValueType::kDecimal) {
    const Decimal value{inner.Decimals(i), cast.args[0]->decimal.scale};
    out->doubles.push_back(narrow ? double{ToFloat(value)} : ToDouble(value));
  } else {
    const double value = inner.Double(i);
    const double rounded = narrow ? double{static_cast<float>(value)} : value;
    if (std::isfinite(value) && !std::isfinite(rounded)) return false;
    out->doubles.push_back(rounded);
  }
  return true;
}

bool ToInt(const Expr& cast, const Vec& inner, int64_t i, Vec* out) {
  if (inner.type == ValueType::kDecimal) {
    const auto value = RoundToInt64({inner.Decimals(i), cast.args[0]->decimal.scale});
    if (value) out->ints.push_back(*value);
    return value.has_value();
  }
  if (!IsReal(inner.type)) return out->ints.push_back(inner.Int(i)), true;
  const double rounded = std::nearbyint(inner.Double(i));
  if (!(rounded >= -9223372036854775808.0 && rounded < 9223372036854775808.0)) return false;
  out->ints.push_back(static_cast<int64_t>(rounded));
  return true;
}

std::string TextOf(const Expr& cast, const Vec& inner, int64_t i) {
  if (inner.type == ValueType::kBool) return inner.Int(i) != 0 ? "true" : "false";
  if (inner.type == ValueType::kDecimal)
    return ToString(Decimal{inner.Decimals(i), cast.args[0]->decimal.scale});
  return std::to_string(inner.Int(i));
}

}  // namespace

Vec VecOfLiteral(const Expr& expr) {
  Vec out;
  out.type = expr.type;
  out.constant = true;
  if (IsNull(expr.literal)) {
    out.nulls = {1};
    out.ints = {0};
    out.doubles = {0};
    out.strings = {""};
    out.decimals = {0};
  } else if (expr.type == ValueType::kDecimal) {
    out.decimals = {expr.decimal.unscaled};
  } else if (const bool* flag = std::get_if<bool>(&expr.literal)) {
    out.ints = {*flag};
  } else if (const int64_t* number = std::get_if<int64_t>(&expr.literal)) {
    out.ints = {*number};
  } else if (const double* real = std::get_if<double>(&expr.literal)) {
    out.doubles = {*real};
  } else {
    out.strings = {std::get<std::string>(expr.literal)};
  }
  return out;
}

Result<Vec> VecOfColumn(const Expr& expr, const std::shared_ptr<arrow::Array>& array, int64_t rows) {
  if (array->length() != rows)
    return Status::Corrupt("column " + ToString(expr) + " has another number of rows");
  Vec out;
  out.type = expr.type;
  out.owners = {array};
  if (array->null_count() > 0) {
    out.nulls.resize(static_cast<size_t>(rows));
    for (int64_t i = 0; i < rows; ++i) out.nulls[static_cast<size_t>(i)] = array->IsNull(i);
  }
  if (WholeNumbers(*array, &out.ints)) return out;
  using A = arrow::Type;
  switch (array->type_id()) {
    case A::INT64:
      out.int_data = static_cast<const arrow::Int64Array&>(*array).raw_values();
      break;
    case A::UINT64: {
      const auto* wide = static_cast<const arrow::UInt64Array&>(*array).raw_values();
      out.decimals.assign(wide, wide + rows);
      break;
    }
    case A::TIMESTAMP:
      return Timestamps(expr, static_cast<const arrow::TimestampArray&>(*array), std::move(out));
    case A::DOUBLE:
      out.double_data = static_cast<const arrow::DoubleArray&>(*array).raw_values();
      break;
    case A::FLOAT: {
      const float* values = static_cast<const arrow::FloatArray&>(*array).raw_values();
      out.doubles.assign(values, values + rows);
      break;
    }
    case A::HALF_FLOAT: {
      const auto* bits = static_cast<const arrow::HalfFloatArray&>(*array).raw_values();
      for (int64_t i = 0; i < rows; ++i)
        out.doubles.push_back(arrow::util::Float16::FromBits(bits[i]).ToDouble());
      break;
    }
    case A::STRING: {
      const auto& strings = static_cast<const arrow::StringArray&>(*array);
      out.strings.resize(static_cast<size_t>(rows));
      for (int64_t i = 0; i < rows; ++i) out.strings[static_cast<size_t>(i)] = strings.GetView(i);
      break;
    }
    case A::DECIMAL128: {
      const auto& decimals = static_cast<const arrow::Decimal128Array&>(*array);
      out.decimals.resize(static_cast<size_t>(rows));
      for (int64_t i = 0; i < rows; ++i)
        std::memcpy(&out.decimals[static_cast<size_t>(i)], decimals.GetValue(i), sizeof(Int128));
      break;
    }
    case A::FIXED_SIZE_BINARY:
      if (expr.type == ValueType::kString)
        return Uuids(static_cast<const arrow::FixedSizeBinaryArray&>(*array), std::move(out));
      [[fallthrough]];
    default: {  // only IS NULL looks at it
      out.type = ValueType::kNull;
      if (out.nulls.empty()) out.nulls.assign(static_cast<size_t>(rows), 0);
      break;
    }
  }
  return out;
}

bool ConvertValue(const Expr& cast, const Vec& inner, int64_t i, Vec* out, std::vector<std::string>* texts,
                  std::string* problem) {
  const ValueType to = cast.type;
  if (inner.type == ValueType::kString) {
    if (to == ValueType::kInt) return TextToInt(inner.String(i), out, problem);
    if (to == ValueType::kBool) return TextToBool(inner.String(i), out, problem);
    if (IsReal(to)) return TextToReal(inner.String(i), to, out, problem);
    return TextToTime(inner.String(i), to, out, problem);
  }
  if (IsReal(to)) return ToReal(cast, inner, i, out);
  if (to == ValueType::kInt) return ToInt(cast, inner, i, out);
  if (to == ValueType::kDecimal) {
    const Decimal given = inner.type == ValueType::kDecimal
                              ? Decimal{inner.Decimals(i), cast.args[0]->decimal.scale}
                              : Decimal{inner.Int(i), 0};
    Int128 scaled = 0;
    if (!Rescale(given, cast.decimal.scale, &scaled)) return false;
    out->decimals.push_back(scaled);
    return true;
  }
  if (to == ValueType::kString) {
    texts->push_back(TextOf(cast, inner, i));
    out->strings.push_back(texts->back());
    return true;
  }
  if (to == ValueType::kBool) {
    const bool flag = inner.type == ValueType::kDecimal ? inner.Decimals(i) != 0
                      : IsReal(inner.type)              ? inner.Double(i) != 0
                                                        : inner.Int(i) != 0;
    out->ints.push_back(flag);
    return true;
  }
  return Time(inner.Int(i), inner.type, to, out);
}

void AppendFrom(const Vec& from, int64_t i, Vec* out) {
  if (IsIntLike(from.type)) out->ints.push_back(from.Int(i));
  if (IsReal(from.type)) out->doubles.push_back(from.Double(i));
  if (from.type == ValueType::kDecimal) out->decimals.push_back(from.Decimals(i));
  if (from.type == ValueType::kString) out->strings.push_back(from.String(i));
}

void AppendNothing(ValueType type, Vec* out) {
  if (IsIntLike(type)) out->ints.push_back(0);
  if (IsReal(type)) out->doubles.push_back(0);
  if (type == ValueType::kDecimal) out->decimals.push_back(0);
  if (type == ValueType::kString) out->strings.emplace_back();
}

}  // namespace headrace::table
