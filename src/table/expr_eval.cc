#include "table/expr_evaluator.h"

namespace headrace::table {

Result<Vec> Evaluator::Run(const Expr& expr) {
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
    case ExprOp::kHashSplit:
      return HashSplit(expr);
    case ExprOp::kHashFraction:
      return HashFraction(expr);
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

uint8_t Evaluator::Outcome(const Vec& vec, int64_t i) {
  if (vec.type == ValueType::kNull || vec.IsNull(i)) return kNullOutcome;
  return vec.Int(i) ? kTrue : kFalse;
}

int Evaluator::CompareAt(const Vec& a, const Vec& b, int64_t i) {
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

Result<Vec> Evaluator::Not(const Expr& expr) {
  HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
  return Map(inner, ValueType::kBool, [&](int64_t i, Vec* out) {
    out->ints.push_back(inner.type == ValueType::kNull ? 0 : !inner.Int(i));
    return true;
  });
}

Result<Vec> Evaluator::Column(const Expr& expr) {
  HEADRACE_ASSIGN(const auto array, column_(expr));
  return VecOfColumn(expr, array, rows_);
}

Result<Vec> Evaluator::IsNullTest(const Expr& expr) {
  HEADRACE_ASSIGN(const Vec inner, Run(*expr.args[0]));
  Vec out;
  out.type = ValueType::kBool;
  out.constant = inner.constant;
  const bool literal_null = inner.type == ValueType::kNull && inner.constant;
  for (int64_t i = 0; i < (inner.constant ? 1 : rows_); ++i)
    out.ints.push_back(literal_null || inner.IsNull(i));
  return out;
}

Result<Vec> Evaluator::Logic(const Expr& expr) {
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

namespace {

// Integers without nulls against one number, which most filters are: a loop that the compiler turns into
// vectors.
template <typename Test>
Vec CompareWithOne(const Vec& a, int64_t b, int64_t rows, Test test) {
  Vec out;
  out.type = ValueType::kBool;
  out.ints.resize(static_cast<size_t>(rows));
  const int64_t* values = a.int_data != nullptr ? a.int_data : a.ints.data();
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t value = values[i];
    out.ints[static_cast<size_t>(i)] = test((value > b) - (value < b));
  }
  return out;
}

}  // namespace

Result<Vec> Evaluator::Compare(const Expr& expr) {
  HEADRACE_ASSIGN(const Vec a, Run(*expr.args[0]));
  HEADRACE_ASSIGN(const Vec b, Run(*expr.args[1]));
  const bool one = IsIntLike(a.type) && a.type == b.type && !a.constant && b.constant && a.nulls.empty() &&
                   b.nulls.empty() && a.type != ValueType::kNull;
  const auto run = [&](auto test) -> Result<Vec> {
    if (one) return CompareWithOne(a, b.Int(0), rows_, test);
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

Result<Vec> Evaluator::In(const Expr& expr) {
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

// Of the rows in `active_`: for COALESCE the first value that is not null, for CASE the value behind the
// first condition that is true. What is not asked of a row is not calculated for it either.
Result<Vec> Evaluator::Choice(const Expr& expr) {
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

Result<Vec> Evaluator::Distinct(const Expr& expr) {
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
