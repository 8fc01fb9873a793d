#include <cmath>
#include <limits>

#include "table/expr.h"

namespace headrace::table {
namespace {

constexpr Outcomes kAnything{true, true, true};

// The statistics of a time column in the unit in which the filter compares.
std::optional<FieldStats> InFilterUnits(const Expr& column, FieldStats stats) {
  if (column.field.type.kind != Kind::kTimestamp) return stats;
  const int64_t factor = column.field.type.unit == TimeUnit::kSecond  ? 1'000'000
                         : column.field.type.unit == TimeUnit::kMilli ? 1'000
                                                                      : 1;
  for (Value* bound : {&stats.min, &stats.max}) {
    int64_t* value = std::get_if<int64_t>(bound);
    if (value != nullptr && __builtin_mul_overflow(*value, factor, value)) return std::nullopt;
  }
  return stats;
}

struct Bounds {
  Value low, high;
  bool nan = false;  // NaN, above all, may be there too
  bool nulls = false;
  bool values = true;  // some value is not null
};

// Of a whole number that statistics can meet.
std::optional<Bounds> DecimalBounds(const Decimal& decimal) {
  if (decimal.scale != 0 || decimal.unscaled > INT64_MAX || decimal.unscaled < INT64_MIN) return std::nullopt;
  Bounds bounds;
  bounds.low = bounds.high = static_cast<int64_t>(decimal.unscaled);
  return bounds;
}

std::optional<Bounds> BoundsOf(const Expr& expr, const StatsFn& stats) {
  if (expr.op == ExprOp::kLiteral) {
    if (expr.type == ValueType::kDecimal && !IsNull(expr.literal)) return DecimalBounds(expr.decimal);
    Bounds bounds;
    bounds.nulls = IsNull(expr.literal);
    bounds.values = !bounds.nulls;
    Value literal = expr.literal;
    if (const bool* flag = std::get_if<bool>(&literal)) literal = int64_t{*flag};
    const double* number = std::get_if<double>(&literal);
    bounds.nan = number != nullptr && std::isnan(*number);
    bounds.low = bounds.high = literal;
    return bounds;
  }
  const bool real = expr.type == ValueType::kDouble || expr.type == ValueType::kFloat;
  const bool widened =
      expr.type == ValueType::kDouble && expr.op == ExprOp::kCast && expr.args[0]->type == ValueType::kFloat;
  if (widened) return BoundsOf(*expr.args[0], stats);
  if (expr.op == ExprOp::kCast && real && expr.args[0]->type == ValueType::kInt) {
    // An integer column beside a float: rounding keeps the order, so rounded bounds bound the rounded values.
    auto inner = BoundsOf(*expr.args[0], stats);
    if (!inner) return std::nullopt;
    for (Value* bound : {&inner->low, &inner->high}) {
      const int64_t* whole = std::get_if<int64_t>(bound);
      if (whole == nullptr) continue;
      const double rounded =
          expr.type == ValueType::kFloat ? double{static_cast<float>(*whole)} : static_cast<double>(*whole);
      *bound = rounded;
    }
    return inner;
  }
  if (expr.op != ExprOp::kColumn) return std::nullopt;
  const auto raw = stats(expr.field);
  if (!raw) return std::nullopt;
  const auto found = InFilterUnits(expr, *raw);
  if (!found) return std::nullopt;
  Bounds bounds;
  bounds.nulls = found->nulls > 0;
  bounds.values = found->values > 0;
  bounds.nan = found->has_nan;
  bounds.low = found->min;
  bounds.high = found->max;
  if (bounds.values && (IsNull(bounds.low) || IsNull(bounds.high))) {
    // Nothing but NaN, or bounds not kept.
    if (!real || !bounds.nan) return std::nullopt;
    bounds.low = -std::numeric_limits<double>::infinity();
    bounds.high = std::numeric_limits<double>::quiet_NaN();
  }
  if (expr.type == ValueType::kDecimal && bounds.values && bounds.high == Value(INT64_MAX))
    bounds.high = std::numeric_limits<double>::infinity();  // uint64 beyond what a statistic can say
  if (bounds.nan && bounds.values) bounds.high = std::numeric_limits<double>::quiet_NaN();
  return bounds;
}

// Which orders between a value of `a` and one of `b` are possible.
struct Orders {
  bool less = true;
  bool equal = true;
  bool greater = true;
};

Orders OrdersOf(const Bounds& a, const Bounds& b) {
  Orders orders;
  orders.less = CompareValues(a.low, b.high) < 0;
  orders.greater = CompareValues(a.high, b.low) > 0;
  orders.equal = CompareValues(a.low, b.high) <= 0 && CompareValues(a.high, b.low) >= 0;
  return orders;
}

Outcomes FromTests(const Bounds& a, const Bounds& b, bool can_true, bool can_false) {
  if (!a.values || !b.values) return {false, false, true};
  return {can_true, can_false, a.nulls || b.nulls};
}

Outcomes CompareOutcomes(const Expr& expr, const StatsFn& stats) {
  const auto a = BoundsOf(*expr.args[0], stats);
  const auto b = BoundsOf(*expr.args[1], stats);
  if (!a || !b) return kAnything;
  if (!a->values || !b->values) return {false, false, true};
  const Orders o = OrdersOf(*a, *b);
  switch (expr.op) {
    case ExprOp::kEq:
      return FromTests(*a, *b, o.equal, o.less || o.greater);
    case ExprOp::kNe:
      return FromTests(*a, *b, o.less || o.greater, o.equal);
    case ExprOp::kLt:
      return FromTests(*a, *b, o.less, o.equal || o.greater);
    case ExprOp::kLe:
      return FromTests(*a, *b, o.less || o.equal, o.greater);
    case ExprOp::kGt:
      return FromTests(*a, *b, o.greater, o.less || o.equal);
    case ExprOp::kGe:
      return FromTests(*a, *b, o.greater || o.equal, o.less);
    default:
      return kAnything;
  }
}

Outcomes InOutcomes(const Expr& expr, const StatsFn& stats) {
  const auto value = BoundsOf(*expr.args[0], stats);
  if (!value) return kAnything;
  if (!value->values) return {false, false, true};
  Outcomes outcomes{false, true, value->nulls};
  for (size_t k = 1; k < expr.args.size(); ++k) {
    const auto item = BoundsOf(*expr.args[k], stats);
    if (!item) return kAnything;
    outcomes.can_null |= item->nulls;
    if (item->values) outcomes.can_true |= OrdersOf(*value, *item).equal;
  }
  return outcomes;
}

Outcomes LikeOutcomes(const Expr& expr, const StatsFn& stats) {
  const auto value = BoundsOf(*expr.args[0], stats);
  const auto* pattern = std::get_if<std::string>(&expr.args[1]->literal);
  if (!value || expr.args[1]->op != ExprOp::kLiteral || pattern == nullptr || expr.args.size() > 2)
    return kAnything;
  if (!value->values) return {false, false, true};
  const std::string prefix = pattern->substr(0, pattern->find_first_of("%_"));
  const auto* low = std::get_if<std::string>(&value->low);
  const auto* high = std::get_if<std::string>(&value->high);
  if (prefix.empty() || low == nullptr || high == nullptr) return kAnything;
  // Texts with this prefix lie between it and its last successor.
  const bool above = low->substr(0, prefix.size()) > prefix;
  const bool below = *high < prefix;
  return {!above && !below, true, value->nulls};
}

}  // namespace

Outcomes PossibleOutcomes(const Expr& expr, const StatsFn& stats) {
  switch (expr.op) {
    case ExprOp::kLiteral: {
      if (IsNull(expr.literal)) return {false, false, true};
      const bool* flag = std::get_if<bool>(&expr.literal);
      if (flag == nullptr) return kAnything;
      return {*flag, !*flag, false};
    }
    case ExprOp::kColumn: {
      const auto bounds = BoundsOf(expr, stats);
      if (!bounds || expr.type != ValueType::kBool) return kAnything;
      if (!bounds->values) return {false, false, true};
      return {CompareValues(bounds->high, int64_t{1}) >= 0, CompareValues(bounds->low, int64_t{0}) <= 0,
              bounds->nulls};
    }
    case ExprOp::kAnd:
    case ExprOp::kOr: {
      Outcomes a = PossibleOutcomes(*expr.args[0], stats);
      Outcomes b = PossibleOutcomes(*expr.args[1], stats);
      const bool is_or = expr.op == ExprOp::kOr;
      if (is_or) {  // not (not a and not b)
        std::swap(a.can_true, a.can_false);
        std::swap(b.can_true, b.can_false);
      }
      Outcomes both;
      both.can_true = a.can_true && b.can_true;
      both.can_false = a.can_false || b.can_false;
      both.can_null =
          (a.can_null && (b.can_true || b.can_null)) || (b.can_null && (a.can_true || a.can_null));
      if (is_or) std::swap(both.can_true, both.can_false);
      return both;
    }
    case ExprOp::kNot: {
      const Outcomes inner = PossibleOutcomes(*expr.args[0], stats);
      return {inner.can_false, inner.can_true, inner.can_null};
    }
    case ExprOp::kIsNull: {
      if (expr.args[0]->op != ExprOp::kColumn) return {true, true, false};
      const auto found = stats(expr.args[0]->field);
      if (!found) return {true, true, false};
      return {found->nulls > 0, found->values > 0, false};
    }
    case ExprOp::kEq:
    case ExprOp::kNe:
    case ExprOp::kLt:
    case ExprOp::kLe:
    case ExprOp::kGt:
    case ExprOp::kGe:
      return CompareOutcomes(expr, stats);
    case ExprOp::kIn:
      return InOutcomes(expr, stats);
    case ExprOp::kLike:
      return LikeOutcomes(expr, stats);
    default:
      return kAnything;
  }
}

}  // namespace headrace::table
