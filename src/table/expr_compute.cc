// Values made from values: arithmetic, text, conversions.
#include <cmath>

#include "table/expr_evaluator.h"
#include "table/json_text.h"

namespace headrace::table {

namespace {

std::string Digits(int scale) {
  return "a decimal in the filter, with " + std::to_string(scale) +
         " digits after the point, needs more than 38; cast a side to float64";
}

}  // namespace

Result<Vec> Evaluator::Cased(const Expr& expr) {
  HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
  return ChangeCase(inner, expr.op == ExprOp::kLower, rows_);
}

Result<Vec> Evaluator::Cast(const Expr& expr) {
  HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
  auto texts = std::make_shared<std::vector<std::string>>();
  if (expr.type == ValueType::kString) texts->reserve(static_cast<size_t>(inner.constant ? 1 : rows_));
  auto result = Map(inner, expr.type, [&](int64_t i, Vec* out) {
    return ConvertValue(expr, inner, i, out, texts.get(), &problem_);
  });
  if (result.ok()) result->owners.push_back(texts);
  return result;
}

Result<Vec> Evaluator::JsonText(const Expr& expr) {
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

Result<Vec> Evaluator::Negated(const Expr& expr) {
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

Result<Vec> Evaluator::IsNan(const Expr& expr) {
  HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
  return Map(inner, ValueType::kBool, [&](int64_t i, Vec* out) {
    out->ints.push_back(std::isnan(inner.Double(i)));
    return true;
  });
}

Result<Vec> Evaluator::Length(const Expr& expr) {
  HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
  return Map(inner, ValueType::kInt, [&](int64_t i, Vec* out) {
    out->ints.push_back(CountCharacters(inner.String(i)));
    return true;
  });
}

Result<Vec> Evaluator::LikeTest(const Expr& expr) {
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

Result<Vec> Evaluator::Arithmetic(const Expr& expr) {
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

Result<Vec> Evaluator::RealArithmetic(const Expr& expr, const Vec& a, const Vec& b) {
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

Result<Vec> Evaluator::DecimalArithmetic(const Expr& expr, const Vec& a, const Vec& b) {
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

}  // namespace headrace::table
