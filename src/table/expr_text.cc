#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "table/expr_vec.h"

namespace headrace::table {
namespace {

std::string Quote(const std::string& text, char quote) {
  std::string out(1, quote);
  for (const char c : text) {
    out += c;
    if (c == quote) out += quote;
  }
  return out + quote;
}

std::string LiteralText(const Expr& expr) {
  char buffer[64];
  if (const bool* flag = std::get_if<bool>(&expr.literal)) return *flag ? "true" : "false";
  if (expr.type == ValueType::kDecimal) {
    const std::string text = ToString(expr.decimal);
    return text.find('.') == std::string::npos ? text + ".0" : text;
  }
  if (const double* number = std::get_if<double>(&expr.literal)) {
    std::snprintf(buffer, sizeof buffer, "%.17g", *number);
    const std::string text = buffer;  // an exponent says that it is no decimal
    return text.find_first_of("en") == std::string::npos ? text + "e0" : text;
  }
  if (const auto* text = std::get_if<std::string>(&expr.literal)) return Quote(*text, '\'');
  if (const int64_t* number = std::get_if<int64_t>(&expr.literal)) {
    if (expr.type == ValueType::kDate)
      return "date '" + FormatMicros(*number * 86'400'000'000).substr(0, 10) + "'";
    if (expr.type == ValueType::kTimestampUs) return "timestamp '" + FormatMicros(*number) + "'";
    return std::to_string(*number);
  }
  return "null";
}

std::string List(const Expr& expr, size_t first) {
  std::string text;
  for (size_t i = first; i < expr.args.size(); ++i) text += (i > first ? ", " : "") + ToString(*expr.args[i]);
  return text;
}

}  // namespace

std::string ToString(const Expr& expr) {
  static const std::map<ExprOp, std::string> kInfix = {
      {ExprOp::kAnd, " and "}, {ExprOp::kOr, " or "},
      {ExprOp::kEq, " = "},    {ExprOp::kNe, " != "},
      {ExprOp::kLt, " < "},    {ExprOp::kLe, " <= "},
      {ExprOp::kGt, " > "},    {ExprOp::kGe, " >= "},
      {ExprOp::kAdd, " + "},   {ExprOp::kSub, " - "},
      {ExprOp::kMul, " * "},   {ExprOp::kDiv, " / "},
      {ExprOp::kMod, " % "},   {ExprOp::kDistinct, " is distinct from "}};
  static const std::map<ExprOp, std::string> kFunctions = {{ExprOp::kCoalesce, "coalesce"},
                                                           {ExprOp::kLength, "length"},
                                                           {ExprOp::kLower, "lower"},
                                                           {ExprOp::kUpper, "upper"},
                                                           {ExprOp::kAbs, "abs"},
                                                           {ExprOp::kIsNan, "isnan"},
                                                           {ExprOp::kHashSplit, "hash_split"},
                                                           {ExprOp::kHashFraction, "hash_fraction"}};
  if (IsBetween(expr)) {
    const Expr& low = *expr.args[0]->args[1];
    const Expr& high = *expr.args[1]->args[1];
    // Beside two literals of one type it means what two comparisons mean, and reads as they do.
    if (low.op != ExprOp::kLiteral || high.op != ExprOp::kLiteral || low.type != high.type)
      return "(" + ToString(*expr.args[0]->args[0]) + " between " + ToString(low) + " and " + ToString(high) +
             ")";
  }
  const auto infix = kInfix.find(expr.op);
  if (infix != kInfix.end())
    return "(" + ToString(*expr.args[0]) + infix->second + ToString(*expr.args[1]) + ")";
  if (const auto function = kFunctions.find(expr.op); function != kFunctions.end())
    return function->second + "(" + List(expr, 0) + ")";
  switch (expr.op) {
    case ExprOp::kColumn: {
      std::string text;
      for (const auto& part : expr.path) text += (text.empty() ? "" : ".") + Quote(part, '"');
      return text;
    }
    case ExprOp::kNot:
      return "(not " + ToString(*expr.args[0]) + ")";
    case ExprOp::kNeg: {  // not "- 0", which would read as a literal
      const bool literal = expr.args[0]->op == ExprOp::kLiteral;
      return literal ? "(- (" + ToString(*expr.args[0]) + "))" : "(- " + ToString(*expr.args[0]) + ")";
    }
    case ExprOp::kIsNull:
      return "(" + ToString(*expr.args[0]) + " is null)";
    case ExprOp::kJsonText:
      return "(" + ToString(*expr.args[0]) + " ->> " + LiteralText(expr) + ")";
    case ExprOp::kIn:
      return "(" + ToString(*expr.args[0]) + " in (" + List(expr, 1) + "))";
    case ExprOp::kLike:
    case ExprOp::kILike:
      return "(" + ToString(*expr.args[0]) + (expr.op == ExprOp::kLike ? " like " : " ilike ") +
             ToString(*expr.args[1]) + (expr.args.size() > 2 ? " escape " + ToString(*expr.args[2]) : "") +
             ")";
    case ExprOp::kCase: {
      std::string text = "case";
      for (size_t i = 0; i + 1 < expr.args.size(); i += 2)
        text += " when " + ToString(*expr.args[i]) + " then " + ToString(*expr.args[i + 1]);
      return text + " else " + ToString(*expr.args.back()) + " end";
    }
    case ExprOp::kCast: {
      static constexpr const char* kNames[] = {"null",    "bool",   "int64", "decimal",   "float32",
                                               "float64", "string", "date",  "timestamp", "timestamp"};
      return "cast(" + ToString(*expr.args[0]) + " as " + kNames[static_cast<int>(expr.type)] + ")";
    }
    default:
      return LiteralText(expr);
  }
}

std::vector<ExprPtr> Conjuncts(const ExprPtr& filter) {
  if (filter->op != ExprOp::kAnd) return {filter};
  std::vector<ExprPtr> all = Conjuncts(filter->args[0]);
  const auto right = Conjuncts(filter->args[1]);
  all.insert(all.end(), right.begin(), right.end());
  return all;
}

std::vector<std::vector<std::string>> ColumnsOf(const Expr& expr) {
  std::vector<std::vector<std::string>> found;
  if (expr.op == ExprOp::kColumn) found.push_back(expr.path);
  for (const auto& arg : expr.args) {
    for (auto& path : ColumnsOf(*arg)) {
      if (std::find(found.begin(), found.end(), path) == found.end()) found.push_back(std::move(path));
    }
  }
  return found;
}

}  // namespace headrace::table
