// hash_split() and hash_fraction() in filters.
#include "table/expr_evaluator.h"
#include "table/split.h"

namespace headrace::table {
namespace {

// The key's text at i, which is not null.
std::string_view TextAt(const Vec& key, const Expr& expr, int64_t i, KeyTexts* text) {
  switch (key.type) {
    case ValueType::kString:
      return key.String(i);
    case ValueType::kBool:
      return text->OfBool(key.Int(i) != 0);
    case ValueType::kDecimal:
      return text->OfDecimal({key.Decimals(i), expr.decimal.scale});
    case ValueType::kDate:
      return text->OfDate(key.Int(i));
    case ValueType::kTimestampUs:
      return text->OfNanos(Int128{key.Int(i)} * 1000);
    default:  // integers, and times in nanoseconds
      return text->OfInt(key.Int(i));
  }
}

// The seed, the last argument where there are `args` of them.
uint64_t SeedOf(const Expr& expr, size_t args) {
  return expr.args.size() < args ? 0 : static_cast<uint64_t>(std::get<int64_t>(expr.args.back()->literal));
}

}  // namespace

Result<ExprPtr> BindHash(std::shared_ptr<Expr> bound) {
  const bool split = bound->op == ExprOp::kHashSplit;
  const std::string name = split ? "hash_split()" : "hash_fraction()";
  const Expr& key = *bound->args[0];
  if (IsReal(key.type))
    return Status::Invalid(name + " takes a key that is text, an integer, a decimal, a date or a time, and " +
                           ToString(key) + " is floating point, which is not exact");
  const size_t seed = split ? 2 : 1;
  if (bound->args.size() > seed) {
    const auto* number = std::get_if<int64_t>(&bound->args[seed]->literal);
    if (bound->args[seed]->type != ValueType::kInt || number == nullptr || *number < 0)
      return Status::Invalid("the seed of " + name + " is a whole number from 0 on, not " +
                             ToString(*bound->args[seed]));
  }
  if (split) {
    const auto* parts = std::get_if<std::string>(&bound->args[1]->literal);
    if (bound->args[1]->op != ExprOp::kLiteral || parts == nullptr)
      return Status::Invalid("hash_split() takes its parts as a text such as 'train:0.9, test:0.1', not " +
                             ToString(*bound->args[1]));
    HEADRACE_TRY(Split::Parse(*parts).status());
  }
  bound->type = split ? ValueType::kString : ValueType::kDouble;
  return ExprPtr(bound);
}

Result<Vec> Evaluator::HashSplit(const Expr& expr) {
  HEADRACE_ASSIGN(const Vec key, Run(*expr.args[0]));
  HEADRACE_ASSIGN(Split parsed, Split::Parse(std::get<std::string>(expr.args[1]->literal)));
  const auto split = std::make_shared<const Split>(std::move(parsed));
  const uint64_t seed = SeedOf(expr, 3);
  KeyTexts text;
  auto result = Map(key, ValueType::kString, [&](int64_t i, Vec* out) {
    const std::string* part = split->PartAt(SplitPosition(TextAt(key, *expr.args[0], i, &text), seed));
    if (part == nullptr) return out->nulls.push_back(1), true;
    out->strings.push_back(*part);
    return true;
  });
  if (result.ok()) result->owners.push_back(split);
  return result;
}

Result<Vec> Evaluator::HashFraction(const Expr& expr) {
  HEADRACE_ASSIGN(const Vec key, Run(*expr.args[0]));
  const uint64_t seed = SeedOf(expr, 2);
  KeyTexts text;
  return Map(key, ValueType::kDouble, [&](int64_t i, Vec* out) {
    out->doubles.push_back(SplitFraction(SplitPosition(TextAt(key, *expr.args[0], i, &text), seed)));
    return true;
  });
}

}  // namespace headrace::table
