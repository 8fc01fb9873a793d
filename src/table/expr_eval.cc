#include <arrow/array.h>

#include <cmath>

#include "table/expr_vec.h"
#include "table/json_text.h"

namespace headrace::table {
namespace {

constexpr uint8_t kFalse = 0;
constexpr uint8_t kTrue = 1;
constexpr uint8_t kNullOutcome = 2;

// Trees are up to limits::kMaxExpressionTree deep. Inlined into Run, the locals of every operation would make
// one frame of many kilobytes, for each level.
#define HEADRACE_OWN_FRAME [[gnu::noinline]]

class Evaluator {
 public:
  Evaluator(int64_t rows, const ColumnFn& column) : rows_(rows), column_(column) {}

  Result<Vec> Run(const Expr& expr) {
    switch (expr.op) {
      case ExprOp::kColumn:
        return Column(expr);
      case ExprOp::kLiteral:
        return VecOfLiteral(expr);
      case ExprOp::kAnd:
      case ExprOp::kOr:
        return Logic(expr);
      case ExprOp::kNot:
        return Not(expr);
      case ExprOp::kIsNull:
        return IsNullTest(expr);
      case ExprOp::kIn:
        return In(expr);
      case ExprOp::kLike:
      case ExprOp::kILike:
        return LikeTest(expr);
      case ExprOp::kDistinct:
        return Distinct(expr);
      case ExprOp::kCoalesce:
      case ExprOp::kCase:
        return Choice(expr);
      case ExprOp::kLength:
        return Length(expr);
      case ExprOp::kLower:
      case ExprOp::kUpper:
        return Cased(expr);
      case ExprOp::kJsonText:
        return JsonText(expr);
      case ExprOp::kCast:
        return Cast(expr);
      case ExprOp::kIsNan:
        return IsNan(expr);
      case ExprOp::kAbs:
      case ExprOp::kNeg:
        return Negated(expr);
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
    if (IsReal(type)) out.doubles.reserve(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      bool is_null = (active_ != nullptr && !constant && !(*active_)[static_cast<size_t>(i)]) || null(i);
      if (!is_null) {
        const size_t before = out.nulls.size();
        if (!fn(i, &out)) {
          if (!problem_.empty()) return Status::Invalid(problem_);
          return Status::Invalid(
              "a calculation in the filter overflows 64-bit integers; cast a side to float64");
        }
        is_null = out.nulls.size() > before;  // fn itself said null
        if (is_null) out.nulls.pop_back();
      }
      if (is_null) {
        if (out.nulls.empty()) out.nulls.assign(static_cast<size_t>(n), 0);
        out.nulls[static_cast<size_t>(i)] = 1;
        AppendNothing(type, &out);
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

  HEADRACE_OWN_FRAME Result<Vec> Not(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
    return Map(inner, ValueType::kBool, [&](int64_t i, Vec* out) {
      out->ints.push_back(inner.type == ValueType::kNull ? 0 : !inner.Int(i));
      return true;
    });
  }

  HEADRACE_OWN_FRAME Result<Vec> Cased(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
    return ChangeCase(inner, expr.op == ExprOp::kLower, rows_);
  }

  HEADRACE_OWN_FRAME Result<Vec> Column(const Expr& expr) {
    HEADRACE_ASSIGN(const auto array, column_(expr));
    return VecOfColumn(expr, array, rows_);
  }

  bool Problem(std::string what) {
    problem_ = std::move(what);
    return false;
  }

  HEADRACE_OWN_FRAME Result<Vec> IsNullTest(const Expr& expr) {
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

  HEADRACE_OWN_FRAME Result<Vec> Logic(const Expr& expr) {
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
    if (IsReal(a.type)) return CompareDoubles(a.Double(i), b.Double(i));
    if (a.type == ValueType::kString) return a.String(i).compare(b.String(i));
    if (a.type == ValueType::kDecimal) {
      const Int128 x = a.Decimals(i);
      const Int128 y = b.Decimals(i);
      return x < y ? -1 : x > y;
    }
    const int64_t x = a.Int(i);
    const int64_t y = b.Int(i);
    return x < y ? -1 : x > y;
  }

  HEADRACE_OWN_FRAME Result<Vec> Compare(const Expr& expr) {
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

  HEADRACE_OWN_FRAME Result<Vec> In(const Expr& expr) {
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

  HEADRACE_OWN_FRAME Result<Vec> Cast(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
    auto texts = std::make_shared<std::vector<std::string>>();
    if (expr.type == ValueType::kString) texts->reserve(static_cast<size_t>(inner.constant ? 1 : rows_));
    auto result = Map(inner, expr.type, [&](int64_t i, Vec* out) {
      return ConvertValue(expr, inner, i, out, texts.get(), &problem_);
    });
    if (result.ok()) result->owners.push_back(texts);
    return result;
  }

  HEADRACE_OWN_FRAME Result<Vec> JsonText(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec json, Run(*expr.args[0]));
    HEADRACE_ASSIGN(const JsonPath path, ParseJsonPath(std::get<std::string>(expr.literal)));
    auto texts = std::make_shared<std::vector<std::string>>();
    texts->reserve(static_cast<size_t>(rows_));
    auto result = Map(json, ValueType::kString, [&](int64_t i, Vec* out) {
      auto text = JsonTextAt(json.String(i), path);
      if (!text) return out->nulls.push_back(1), true;
      texts->push_back(std::move(*text));
      out->strings.push_back(texts->back());
      return true;
    });
    if (result.ok()) result->owners.push_back(texts);
    return result;
  }

  HEADRACE_OWN_FRAME Result<Vec> Negated(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
    const bool absolute = expr.op == ExprOp::kAbs;
    return Map(inner, expr.type, [&](int64_t i, Vec* out) {
      if (IsReal(expr.type)) {
        out->doubles.push_back(absolute ? std::fabs(inner.Double(i)) : -inner.Double(i));
        return true;
      }
      if (expr.type == ValueType::kDecimal) {
        const Int128 value = inner.Decimals(i);
        out->decimals.push_back(absolute && value >= 0 ? value : -value);
        return true;
      }
      int64_t value = inner.Int(i);
      if ((!absolute || value < 0) && __builtin_sub_overflow(int64_t{0}, value, &value)) return false;
      out->ints.push_back(value);
      return true;
    });
  }

  HEADRACE_OWN_FRAME Result<Vec> IsNan(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
    return Map(inner, ValueType::kBool, [&](int64_t i, Vec* out) {
      out->ints.push_back(std::isnan(inner.Double(i)));
      return true;
    });
  }

  HEADRACE_OWN_FRAME Result<Vec> Length(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
    return Map(inner, ValueType::kInt, [&](int64_t i, Vec* out) {
      out->ints.push_back(CountCharacters(inner.String(i)));
      return true;
    });
  }

  HEADRACE_OWN_FRAME Result<Vec> LikeTest(const Expr& expr) {
    HEADRACE_ASSIGN(Vec text, Run(*expr.args[0]));
    HEADRACE_ASSIGN(Vec pattern, Run(*expr.args[1]));
    Vec escape;
    escape.type = ValueType::kString;
    escape.constant = true;
    escape.strings = {""};
    if (expr.args.size() > 2) {
      HEADRACE_ASSIGN(escape, Run(*expr.args[2]));
    }
    if (expr.op == ExprOp::kILike) {
      HEADRACE_ASSIGN(text, ChangeCase(text, true, rows_));
      HEADRACE_ASSIGN(pattern, ChangeCase(pattern, true, rows_));
    }
    const bool untyped =
        text.type == ValueType::kNull || pattern.type == ValueType::kNull || escape.type == ValueType::kNull;
    return Build(
        ValueType::kBool, text.constant && pattern.constant && escape.constant,
        [&](int64_t i) { return untyped || text.IsNull(i) || pattern.IsNull(i) || escape.IsNull(i); },
        [&](int64_t i, Vec* out) {
          const std::string_view with = escape.String(i);
          if (with.size() > 1) return Problem("ESCAPE takes one character, not '" + std::string(with) + "'");
          const auto like = Like(text.String(i), pattern.String(i), with.empty() ? '\0' : with[0]);
          if (!like) return Problem("a LIKE pattern ends with its escape character");
          out->ints.push_back(*like);
          return true;
        });
  }

  // Of the rows in `active_`: for COALESCE the first value that is not null, for CASE the value behind the
  // first condition that is true. What is not asked of a row is not calculated for it either.
  HEADRACE_OWN_FRAME Result<Vec> Choice(const Expr& expr) {
    const bool is_case = expr.op == ExprOp::kCase;
    const std::vector<uint8_t>* outer = active_;
    std::vector<uint8_t> open = outer ? *outer : std::vector<uint8_t>(static_cast<size_t>(rows_), 1);
    std::vector<Vec> values;
    std::vector<int> from(static_cast<size_t>(rows_), -1);
    for (size_t k = 0; k < expr.args.size(); k += is_case ? 2 : 1) {
      const bool conditional = is_case && k + 1 < expr.args.size();
      active_ = &open;
      auto value = Run(*expr.args[k]);
      std::vector<uint8_t> mine = open;
      if (conditional && value.ok()) {
        for (int64_t i = 0; i < rows_; ++i) mine[static_cast<size_t>(i)] &= Outcome(*value, i) == kTrue;
        active_ = &mine;
        value = Run(*expr.args[k + 1]);
      }
      active_ = outer;
      if (!value.ok()) return value;
      for (int64_t i = 0; i < rows_; ++i) {
        const size_t at = static_cast<size_t>(i);
        const bool null = value->type == ValueType::kNull || value->IsNull(i);
        if (!mine[at] || (!is_case && null)) continue;
        if (!null) from[at] = static_cast<int>(values.size());
        open[at] = 0;
      }
      values.push_back(std::move(value).value());
    }
    auto chosen = Build(
        expr.type, false, [&](int64_t i) { return from[static_cast<size_t>(i)] < 0; },
        [&](int64_t i, Vec* out) {
          AppendFrom(values[static_cast<size_t>(from[static_cast<size_t>(i)])], i, out);
          return true;
        });
    for (auto& value : values) {
      if (chosen.ok()) chosen->owners.insert(chosen->owners.end(), value.owners.begin(), value.owners.end());
    }
    return chosen;
  }

  HEADRACE_OWN_FRAME Result<Vec> Distinct(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec a, Run(*expr.args[0]));
    HEADRACE_ASSIGN(const Vec b, Run(*expr.args[1]));
    return Build(
        ValueType::kBool, a.constant && b.constant, [](int64_t) { return false; },
        [&](int64_t i, Vec* out) {
          const bool x = a.type == ValueType::kNull || a.IsNull(i);
          const bool y = b.type == ValueType::kNull || b.IsNull(i);
          out->ints.push_back(x || y ? x != y : CompareAt(a, b, i) != 0);
          return true;
        });
  }

  HEADRACE_OWN_FRAME Result<Vec> Arithmetic(const Expr& expr) {
    HEADRACE_ASSIGN(const Vec a, Run(*expr.args[0]));
    HEADRACE_ASSIGN(const Vec b, Run(*expr.args[1]));
    if (IsReal(expr.type)) return RealArithmetic(expr, a, b);
    if (expr.type == ValueType::kDecimal) return DecimalArithmetic(expr, a, b);
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

  HEADRACE_OWN_FRAME Result<Vec> RealArithmetic(const Expr& expr, const Vec& a, const Vec& b) {
    const bool narrow = expr.type == ValueType::kFloat;
    return Map2(a, b, expr.type, [&](int64_t i, Vec* out) {
      const double x = a.Double(i);
      const double y = b.Double(i);
      const double result = expr.op == ExprOp::kAdd   ? x + y
                            : expr.op == ExprOp::kSub ? x - y
                            : expr.op == ExprOp::kMul ? x * y
                            : expr.op == ExprOp::kDiv ? x / y
                                                      : std::fmod(x, y);
      // A float64 holds twice the digits of a float32 and more: rounding its result gives the float32's.
      out->doubles.push_back(narrow ? double{static_cast<float>(result)} : result);
      return true;
    });
  }

  HEADRACE_OWN_FRAME Result<Vec> DecimalArithmetic(const Expr& expr, const Vec& a, const Vec& b) {
    const int scale = expr.decimal.scale;
    const auto operand = [](const Vec& vec, int64_t i) {
      return vec.type == ValueType::kInt ? Int128{vec.Int(i)} : vec.Decimals(i);
    };
    return Map2(a, b, ValueType::kDecimal, [&](int64_t i, Vec* out) {
      const Int128 x = operand(a, i);
      const Int128 y = operand(b, i);
      Int128 value = 0;
      if (expr.op == ExprOp::kMod) {
        if (y == 0) return out->nulls.push_back(1), true;
        value = x % y;
      } else if (expr.op == ExprOp::kMul) {
        if (__builtin_mul_overflow(x, y, &value)) return Problem(Digits(scale));
      } else if (expr.op == ExprOp::kAdd ? __builtin_add_overflow(x, y, &value)
                                         : __builtin_sub_overflow(x, y, &value)) {
        return Problem(Digits(scale));
      }
      if (!FitsDecimal(value)) return Problem(Digits(scale));
      out->decimals.push_back(value);
      return true;
    });
  }
  static std::string Digits(int scale) {
    return "a decimal in the filter, with " + std::to_string(scale) +
           " digits after the point, needs more than 38; cast a side to float64";
  }

  int64_t rows_;
  const ColumnFn& column_;
  const std::vector<uint8_t>* active_ = nullptr;  // rows of which a value is wanted; null: of all
  std::string problem_;                           // of the value that could not be made
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
    if (IsReal(vec.type)) {
      value = vec.Double(i);
    } else if (vec.type == ValueType::kDecimal) {
      value = ToDouble({vec.Decimals(i), expr.decimal.scale});
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
