#include <arrow/array.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>

#include <cmath>
#include <cstring>

#include "table/arrow_bridge.h"
#include "table/expr.h"

namespace headrace::table {
namespace {

constexpr uint8_t kFalse = 0;
constexpr uint8_t kTrue = 1;
constexpr uint8_t kNullOutcome = 2;

// One value per row, or one for all rows (`constant`). Which of the vectors is used follows from `type`: ints
// for integers, dates, timestamps and booleans; doubles; strings.
struct Vec {
  ValueType type = ValueType::kNull;
  bool constant = false;
  std::vector<uint8_t> nulls;  // empty: none
  std::vector<int64_t> ints;
  std::vector<double> doubles;
  std::vector<std::string_view> strings;
  const int64_t* int_data = nullptr;  // borrowed from an array instead of ints / doubles
  const double* double_data = nullptr;
  std::shared_ptr<arrow::Array> owner;
  std::shared_ptr<std::vector<std::string>> texts;  // owner of made-up strings

  bool IsNull(int64_t i) const { return !nulls.empty() && nulls[constant ? 0 : static_cast<size_t>(i)] != 0; }
  int64_t Int(int64_t i) const {
    const size_t at = constant ? 0 : static_cast<size_t>(i);
    return int_data ? int_data[at] : ints[at];
  }
  double Double(int64_t i) const {
    const size_t at = constant ? 0 : static_cast<size_t>(i);
    return double_data ? double_data[at] : doubles[at];
  }
  std::string_view String(int64_t i) const { return strings[constant ? 0 : static_cast<size_t>(i)]; }
};

bool IsIntLike(ValueType type) { return type != ValueType::kDouble && type != ValueType::kString; }

// `text` against SQL's LIKE: % any run, _ one UTF-8 character, no escapes (as DuckDB without ESCAPE).
bool Like(std::string_view text, std::string_view pattern) {
  size_t t = 0, p = 0, star = std::string_view::npos, mark = 0;
  const auto next = [&](size_t at) {
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
    return at;
  };
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '%') {
      star = p++;
      mark = t;
    } else if (p < pattern.size() && pattern[p] == '_') {
      t = next(t);
      ++p;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++t;
      ++p;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '%') ++p;
  return p == pattern.size();
}

class Evaluator {
 public:
  Evaluator(int64_t rows, const ColumnFn& column) : rows_(rows), column_(column) {}

  Result<Vec> Run(const Expr& expr) {
    switch (expr.op) {
      case ExprOp::kColumn:
        return Column(expr);
      case ExprOp::kLiteral:
        return Literal(expr);
      case ExprOp::kAnd:
      case ExprOp::kOr:
        return Logic(expr);
      case ExprOp::kNot: {
        HEADRACE_ASSIGN(Vec inner, Run(*expr.args[0]));
        return Map(inner, ValueType::kBool, [&](int64_t i, Vec* out) {
          out->ints.push_back(inner.type == ValueType::kNull ? 0 : !inner.Int(i));
          return true;
        });
      }
      case ExprOp::kIsNull:
        return IsNullTest(expr);
      case ExprOp::kIn:
        return In(expr);
      case ExprOp::kLike: {
        HEADRACE_ASSIGN(const Vec text, Run(*expr.args[0]));
        HEADRACE_ASSIGN(const Vec pattern, Run(*expr.args[1]));
        return Map2(text, pattern, ValueType::kBool, [&](int64_t i, Vec* out) {
          out->ints.push_back(Like(text.String(i), pattern.String(i)));
          return true;
        });
      }
      case ExprOp::kCast:
        return Cast(expr);
      case ExprOp::kNeg: {
        HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
        return Map(inner, expr.type, [&](int64_t i, Vec* out) {
          if (expr.type == ValueType::kDouble) {
            out->doubles.push_back(-inner.Double(i));
            return true;
          }
          int64_t negated = 0;
          if (__builtin_sub_overflow(int64_t{0}, inner.Int(i), &negated)) return false;
          out->ints.push_back(negated);
          return true;
        });
      }
      case ExprOp::kAdd:
      case ExprOp::kSub:
      case ExprOp::kMul:
      case ExprOp::kDiv:
      case ExprOp::kMod:
        return Arithmetic(expr);
      default:
        return Compare(expr);
    }
  }

 private:
  // Builds a result value by value; `fn` appends one and returns false on overflow. Null rows are skipped.
  template <typename Null, typename Fn>
  Result<Vec> Build(ValueType type, bool constant, Null null, Fn fn) {
    Vec out;
    out.type = type;
    out.constant = constant;
    const int64_t n = constant ? 1 : rows_;
    if (IsIntLike(type)) out.ints.reserve(static_cast<size_t>(n));
    if (type == ValueType::kDouble) out.doubles.reserve(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      bool is_null = null(i);
      if (!is_null) {
        const size_t before = out.nulls.size();
        if (!fn(i, &out)) {
          return Status::Invalid(
              "a calculation in the filter overflows 64-bit integers; cast a side to float64");
        }
        is_null = out.nulls.size() > before;  // fn itself said null
        if (is_null) out.nulls.pop_back();
      }
      if (is_null) {
        if (out.nulls.empty()) out.nulls.assign(static_cast<size_t>(n), 0);
        out.nulls[static_cast<size_t>(i)] = 1;
        if (IsIntLike(type)) out.ints.push_back(0);
        if (type == ValueType::kDouble) out.doubles.push_back(0);
        if (type == ValueType::kString) out.strings.emplace_back();
      }
    }
    return out;
  }
  template <typename Fn>
  Result<Vec> Map(const Vec& a, ValueType type, Fn fn) {
    const bool all_null = a.type == ValueType::kNull;
    return Build(
        type, a.constant, [&](int64_t i) { return all_null || a.IsNull(i); }, fn);
  }
  template <typename Fn>
  Result<Vec> Map2(const Vec& a, const Vec& b, ValueType type, Fn fn) {
    const bool all_null = a.type == ValueType::kNull || b.type == ValueType::kNull;
    return Build(
        type, a.constant && b.constant, [&](int64_t i) { return all_null || a.IsNull(i) || b.IsNull(i); },
        fn);
  }

  Result<Vec> Literal(const Expr& expr) {
    Vec out;
    out.type = expr.type;
    out.constant = true;
    if (headrace::table::IsNull(expr.literal)) {
      out.nulls = {1};
      out.ints = {0};
      out.doubles = {0};
      out.strings = {""};
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

  Result<Vec> Column(const Expr& expr) {
    HEADRACE_ASSIGN(const auto array, column_(expr));
    if (array->length() != rows_)
      return Status::Corrupt("column " + ToString(expr) + " has another number of rows");
    Vec out;
    out.type = expr.type;
    out.owner = array;
    if (array->null_count() > 0) {
      out.nulls.resize(static_cast<size_t>(rows_));
      for (int64_t i = 0; i < rows_; ++i) out.nulls[static_cast<size_t>(i)] = array->IsNull(i);
    }
    using A = arrow::Type;
    const auto ints = [&](const auto& typed, int64_t divisor) {
      out.ints.resize(static_cast<size_t>(rows_));
      for (int64_t i = 0; i < rows_; ++i)
        out.ints[static_cast<size_t>(i)] = static_cast<int64_t>(typed.Value(i)) * divisor;
    };
    switch (array->type_id()) {
      case A::BOOL:
        ints(static_cast<const arrow::BooleanArray&>(*array), 1);
        break;
      case A::INT8:
        ints(static_cast<const arrow::Int8Array&>(*array), 1);
        break;
      case A::INT16:
        ints(static_cast<const arrow::Int16Array&>(*array), 1);
        break;
      case A::INT32:
        ints(static_cast<const arrow::Int32Array&>(*array), 1);
        break;
      case A::UINT8:
        ints(static_cast<const arrow::UInt8Array&>(*array), 1);
        break;
      case A::UINT16:
        ints(static_cast<const arrow::UInt16Array&>(*array), 1);
        break;
      case A::UINT32:
        ints(static_cast<const arrow::UInt32Array&>(*array), 1);
        break;
      case A::DATE32:
        ints(static_cast<const arrow::Date32Array&>(*array), 1);
        break;
      case A::INT64:
        out.int_data = static_cast<const arrow::Int64Array&>(*array).raw_values();
        break;
      case A::UINT64: {
        const auto& wide = static_cast<const arrow::UInt64Array&>(*array);
        for (int64_t i = 0; i < rows_; ++i) {
          if (wide.IsValid(i) && wide.Value(i) > static_cast<uint64_t>(INT64_MAX)) {
            return Status::Limit("column " + ToString(expr) + " holds " + std::to_string(wide.Value(i)) +
                                 ", which is above the 64-bit signed integers that filters calculate with");
          }
        }
        ints(wide, 1);
        break;
      }
      case A::TIMESTAMP:
        return Timestamps(expr, static_cast<const arrow::TimestampArray&>(*array), std::move(out));
      case A::DOUBLE:
        out.double_data = static_cast<const arrow::DoubleArray&>(*array).raw_values();
        break;
      case A::FLOAT: {
        const float* values = static_cast<const arrow::FloatArray&>(*array).raw_values();
        out.doubles.assign(values, values + rows_);
        break;
      }
      case A::HALF_FLOAT: {
        const auto* bits = static_cast<const arrow::HalfFloatArray&>(*array).raw_values();
        for (int64_t i = 0; i < rows_; ++i)
          out.doubles.push_back(arrow::util::Float16::FromBits(bits[i]).ToDouble());
        break;
      }
      case A::STRING: {
        const auto& strings = static_cast<const arrow::StringArray&>(*array);
        out.strings.resize(static_cast<size_t>(rows_));
        for (int64_t i = 0; i < rows_; ++i) out.strings[static_cast<size_t>(i)] = strings.GetView(i);
        break;
      }
      default: {  // only IS NULL looks at it
        out.type = ValueType::kNull;
        if (out.nulls.empty()) out.nulls.assign(static_cast<size_t>(rows_), 0);
        break;
      }
    }
    return out;
  }

  static Result<Vec> Timestamps(const Expr& expr, const arrow::TimestampArray& array, Vec out) {
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

  Result<Vec> IsNullTest(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
    Vec out;
    out.type = ValueType::kBool;
    out.constant = inner.constant;
    const bool literal_null = inner.type == ValueType::kNull && inner.constant;
    for (int64_t i = 0; i < (inner.constant ? 1 : rows_); ++i)
      out.ints.push_back(literal_null || inner.IsNull(i));
    return out;
  }

  static uint8_t Outcome(const Vec& vec, int64_t i) {
    if (vec.type == ValueType::kNull || vec.IsNull(i)) return kNullOutcome;
    return vec.Int(i) ? kTrue : kFalse;
  }

  Result<Vec> Logic(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec a, Run(*expr.args[0]));
    HEADRACE_ASSIGN(const Vec b, Run(*expr.args[1]));
    const uint8_t decisive = expr.op == ExprOp::kAnd ? kFalse : kTrue;
    return Build(
        ValueType::kBool, a.constant && b.constant, [](int64_t) { return false; },
        [&](int64_t i, Vec* out) {
          const uint8_t x = Outcome(a, i);
          const uint8_t y = Outcome(b, i);
          if (x == decisive || y == decisive) {
            out->ints.push_back(decisive);
          } else if (x == kNullOutcome || y == kNullOutcome) {
            out->nulls.push_back(1);
          } else {
            out->ints.push_back(!decisive);
          }
          return true;
        });
  }

  static int CompareAt(const Vec& a, const Vec& b, int64_t i) {
    if (a.type == ValueType::kDouble) return CompareDoubles(a.Double(i), b.Double(i));
    if (a.type == ValueType::kString) return a.String(i).compare(b.String(i));
    const int64_t x = a.Int(i);
    const int64_t y = b.Int(i);
    return x < y ? -1 : x > y;
  }

  Result<Vec> Compare(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec a, Run(*expr.args[0]));
    HEADRACE_ASSIGN(const Vec b, Run(*expr.args[1]));
    const auto run = [&](auto test) {
      return Map2(a, b, ValueType::kBool, [&](int64_t i, Vec* out) {
        out->ints.push_back(test(CompareAt(a, b, i)));
        return true;
      });
    };
    switch (expr.op) {
      case ExprOp::kEq:
        return run([](int c) { return c == 0; });
      case ExprOp::kNe:
        return run([](int c) { return c != 0; });
      case ExprOp::kLt:
        return run([](int c) { return c < 0; });
      case ExprOp::kLe:
        return run([](int c) { return c <= 0; });
      case ExprOp::kGt:
        return run([](int c) { return c > 0; });
      default:
        return run([](int c) { return c >= 0; });
    }
  }

  Result<Vec> In(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec value, Run(*expr.args[0]));
    std::vector<Vec> list;
    bool constant = value.constant;
    for (size_t k = 1; k < expr.args.size(); ++k) {
      HEADRACE_ASSIGN(Vec item, Run(*expr.args[k]));
      constant &= item.constant;
      list.push_back(std::move(item));
    }
    const bool untyped = value.type == ValueType::kNull;
    return Build(
        ValueType::kBool, constant, [&](int64_t i) { return untyped || value.IsNull(i); },
        [&](int64_t i, Vec* out) {
          bool saw_null = false;
          for (const Vec& item : list) {
            if (item.type == ValueType::kNull || item.IsNull(i)) {
              saw_null = true;
            } else if (CompareAt(value, item, i) == 0) {
              out->ints.push_back(1);
              return true;
            }
          }
          if (saw_null) {
            out->nulls.push_back(1);
          } else {
            out->ints.push_back(0);
          }
          return true;
        });
  }

  Result<Vec> Cast(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
    const ValueType from = inner.type;
    const ValueType to = expr.type;
    std::string problem;
    auto texts = std::make_shared<std::vector<std::string>>();
    if (to == ValueType::kString) texts->reserve(static_cast<size_t>(inner.constant ? 1 : rows_));
    auto result = Map(inner, to, [&](int64_t i, Vec* out) {
      if (to == ValueType::kDouble) {
        out->doubles.push_back(static_cast<double>(inner.Int(i)));
      } else if (to == ValueType::kString) {
        texts->push_back(std::to_string(inner.Int(i)));
        out->strings.push_back(texts->back());
      } else if (from == ValueType::kDouble) {
        const double rounded = std::nearbyint(inner.Double(i));
        if (!(rounded >= -9223372036854775808.0 && rounded < 9223372036854775808.0)) return false;
        out->ints.push_back(static_cast<int64_t>(rounded));
      } else if (to == ValueType::kBool) {
        out->ints.push_back(inner.Int(i) != 0);
      } else {
        return Time(inner.Int(i), from, to, out);
      }
      return true;
    });
    if (result.ok()) result->texts = texts;
    return result;
  }

  // Dates are days, timestamps micro- or nanoseconds; integers and booleans pass through.
  static bool Time(int64_t value, ValueType from, ValueType to, Vec* out) {
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

  Result<Vec> Arithmetic(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec a, Run(*expr.args[0]));
    HEADRACE_ASSIGN(const Vec b, Run(*expr.args[1]));
    if (expr.type == ValueType::kDouble) {
      return Map2(a, b, ValueType::kDouble, [&](int64_t i, Vec* out) {
        const double x = a.Double(i);
        const double y = b.Double(i);
        switch (expr.op) {
          case ExprOp::kAdd:
            out->doubles.push_back(x + y);
            break;
          case ExprOp::kSub:
            out->doubles.push_back(x - y);
            break;
          case ExprOp::kMul:
            out->doubles.push_back(x * y);
            break;
          case ExprOp::kDiv:
            out->doubles.push_back(x / y);
            break;
          default:
            out->doubles.push_back(std::fmod(x, y));
        }
        return true;
      });
    }
    return Map2(a, b, ValueType::kInt, [&](int64_t i, Vec* out) {
      const int64_t x = a.Int(i);
      const int64_t y = b.Int(i);
      int64_t value = 0;
      bool overflow = false;
      switch (expr.op) {
        case ExprOp::kAdd:
          overflow = __builtin_add_overflow(x, y, &value);
          break;
        case ExprOp::kSub:
          overflow = __builtin_sub_overflow(x, y, &value);
          break;
        case ExprOp::kMul:
          overflow = __builtin_mul_overflow(x, y, &value);
          break;
        default:
          if (y == 0) {
            out->nulls.push_back(1);
            return true;
          }
          if (x == INT64_MIN && y == -1) return false;
          value = x % y;
      }
      if (!overflow) out->ints.push_back(value);
      return !overflow;
    });
  }

  int64_t rows_;
  const ColumnFn& column_;
};

}  // namespace

Result<std::vector<uint8_t>> EvaluateFilter(const Expr& filter, int64_t rows, const ColumnFn& column) {
  HEADRACE_ASSIGN(const Vec vec, Evaluator(rows, column).Run(filter));
  std::vector<uint8_t> outcomes(static_cast<size_t>(rows), kNullOutcome);
  if (vec.type == ValueType::kNull) return outcomes;
  for (int64_t i = 0; i < rows; ++i) {
    outcomes[static_cast<size_t>(i)] = vec.IsNull(i) ? kNullOutcome : vec.Int(i) ? kTrue : kFalse;
  }
  return outcomes;
}

Result<std::vector<Value>> EvaluateValues(const Expr& expr, int64_t rows, const ColumnFn& column) {
  HEADRACE_ASSIGN(const Vec vec, Evaluator(rows, column).Run(expr));
  std::vector<Value> values(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) {
    Value& value = values[static_cast<size_t>(i)];
    if (vec.type == ValueType::kNull || vec.IsNull(i)) continue;
    if (vec.type == ValueType::kDouble) {
      value = vec.Double(i);
    } else if (vec.type == ValueType::kString) {
      value = std::string(vec.String(i));
    } else if (vec.type == ValueType::kBool) {
      value = vec.Int(i) != 0;
    } else {
      value = vec.Int(i);
    }
  }
  return values;
}

}  // namespace headrace::table
