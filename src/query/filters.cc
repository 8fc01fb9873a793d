#include "query/filters.h"

#include <duckdb/planner/expression/bound_between_expression.hpp>
#include <duckdb/planner/expression/bound_columnref_expression.hpp>
#include <duckdb/planner/expression/bound_comparison_expression.hpp>
#include <duckdb/planner/expression/bound_conjunction_expression.hpp>
#include <duckdb/planner/expression/bound_constant_expression.hpp>
#include <duckdb/planner/expression/bound_function_expression.hpp>
#include <duckdb/planner/expression/bound_operator_expression.hpp>

#include "base/limits.h"

namespace headrace::query {
namespace {

using duckdb::Expression;
using duckdb::ExpressionClass;
using duckdb::ExpressionType;
using duckdb::LogicalTypeId;
using table::Expr;
using table::ExprOp;
using table::ExprPtr;
using table::ValueType;

// Null where a part is null, or the tree would be deeper than a filter may be.
ExprPtr Make(ExprOp op, std::vector<ExprPtr> args) {
  for (const auto& arg : args) {
    if (!arg) return nullptr;
  }
  auto expr = table::MakeExpr(op, std::move(args));
  return expr->depth <= limits::kMaxExpressionTree ? expr : nullptr;
}

ExprPtr Constant(const duckdb::Value& value) {
  auto expr = std::make_shared<Expr>();
  if (value.IsNull()) return expr;
  switch (value.type().id()) {
    case LogicalTypeId::BOOLEAN:
      expr->literal = duckdb::BooleanValue::Get(value);
      expr->type = ValueType::kBool;
      return expr;
    case LogicalTypeId::TINYINT:
    case LogicalTypeId::SMALLINT:
    case LogicalTypeId::INTEGER:
    case LogicalTypeId::BIGINT:
    case LogicalTypeId::UTINYINT:
    case LogicalTypeId::USMALLINT:
    case LogicalTypeId::UINTEGER:
      expr->literal = value.GetValue<int64_t>();
      expr->type = ValueType::kInt;
      return expr;
    case LogicalTypeId::FLOAT:
    case LogicalTypeId::DOUBLE:
      expr->literal = value.GetValue<double>();
      expr->type = value.type().id() == LogicalTypeId::FLOAT ? ValueType::kFloat : ValueType::kDouble;
      return expr;
    case LogicalTypeId::VARCHAR:
      expr->literal = std::string(duckdb::StringValue::Get(value));
      expr->type = ValueType::kString;
      return expr;
    case LogicalTypeId::DATE:
      expr->literal = int64_t{duckdb::DateValue::Get(value).days};
      expr->type = ValueType::kDate;
      return expr;
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_TZ:
      expr->literal = int64_t{value.GetValueUnsafe<int64_t>()};
      expr->type = ValueType::kTimestampUs;
      return expr;
    default:
      return nullptr;
  }
}

ExprOp CompareOp(ExpressionType type) {
  switch (type) {
    case ExpressionType::COMPARE_EQUAL:
      return ExprOp::kEq;
    case ExpressionType::COMPARE_NOTEQUAL:
      return ExprOp::kNe;
    case ExpressionType::COMPARE_LESSTHAN:
      return ExprOp::kLt;
    case ExpressionType::COMPARE_LESSTHANOREQUALTO:
      return ExprOp::kLe;
    case ExpressionType::COMPARE_GREATERTHAN:
      return ExprOp::kGt;
    case ExpressionType::COMPARE_GREATERTHANOREQUALTO:
      return ExprOp::kGe;
    default:
      return ExprOp::kLiteral;  // IS DISTINCT FROM and the like have no equal here
  }
}

class Translator {
 public:
  explicit Translator(const std::vector<std::string>& names) : names_(names) {}

  ExprPtr Run(const Expression& in) const {
    switch (in.GetExpressionClass()) {
      case ExpressionClass::BOUND_COLUMN_REF: {
        const auto& ref = in.Cast<duckdb::BoundColumnRefExpression>();
        if (ref.binding.column_index >= names_.size() || names_[ref.binding.column_index].empty())
          return nullptr;
        auto expr = std::make_shared<Expr>();
        expr->op = ExprOp::kColumn;
        expr->path = {names_[ref.binding.column_index]};
        return expr;
      }
      case ExpressionClass::BOUND_CONSTANT:
        return Constant(in.Cast<duckdb::BoundConstantExpression>().value);
      case ExpressionClass::BOUND_COMPARISON: {
        const auto& compare = in.Cast<duckdb::BoundComparisonExpression>();
        const ExprOp op = CompareOp(in.GetExpressionType());
        if (op == ExprOp::kLiteral) return nullptr;
        return Make(op, {Run(*compare.left), Run(*compare.right)});
      }
      case ExpressionClass::BOUND_CONJUNCTION: {
        const auto& conjunction = in.Cast<duckdb::BoundConjunctionExpression>();
        const ExprOp op =
            in.GetExpressionType() == ExpressionType::CONJUNCTION_AND ? ExprOp::kAnd : ExprOp::kOr;
        std::vector<ExprPtr> terms;
        for (const auto& child : conjunction.children) {
          terms.push_back(Run(*child));
          if (!terms.back()) return nullptr;
        }
        auto all = table::JoinTerms(op, terms);
        return all->depth <= limits::kMaxExpressionTree ? all : nullptr;
      }
      case ExpressionClass::BOUND_BETWEEN: {
        const auto& between = in.Cast<duckdb::BoundBetweenExpression>();
        const ExprPtr input = Run(*between.input);
        return Make(
            ExprOp::kAnd,
            {Make(between.lower_inclusive ? ExprOp::kGe : ExprOp::kGt, {input, Run(*between.lower)}),
             Make(between.upper_inclusive ? ExprOp::kLe : ExprOp::kLt, {input, Run(*between.upper)})});
      }
      case ExpressionClass::BOUND_OPERATOR:
        return Operator(in);
      case ExpressionClass::BOUND_FUNCTION:
        return Function(in.Cast<duckdb::BoundFunctionExpression>());
      default:
        return nullptr;
    }
  }

 private:
  ExprPtr Operator(const Expression& in) const {
    const auto& op = in.Cast<duckdb::BoundOperatorExpression>();
    switch (in.GetExpressionType()) {
      case ExpressionType::OPERATOR_NOT:
        return Make(ExprOp::kNot, {Run(*op.children[0])});
      case ExpressionType::OPERATOR_IS_NULL:
        return Make(ExprOp::kIsNull, {Run(*op.children[0])});
      case ExpressionType::OPERATOR_IS_NOT_NULL:
        return Make(ExprOp::kNot, {Make(ExprOp::kIsNull, {Run(*op.children[0])})});
      case ExpressionType::COMPARE_IN: {
        std::vector<ExprPtr> args;
        for (const auto& child : op.children) args.push_back(Run(*child));
        return Make(ExprOp::kIn, std::move(args));
      }
      default:
        return nullptr;
    }
  }

  // image.width is struct_extract(image, 'width'); LIKE 'a%' becomes prefix(x, 'a').
  ExprPtr Function(const duckdb::BoundFunctionExpression& function) const {
    if (function.function.name == "hash_split" || function.function.name == "hash_fraction") {
      std::vector<ExprPtr> args;
      for (const auto& child : function.children) args.push_back(Run(*child));
      return Make(function.function.name == "hash_split" ? ExprOp::kHashSplit : ExprOp::kHashFraction,
                  std::move(args));
    }
    if (function.children.size() != 2 ||
        function.children[1]->GetExpressionClass() != ExpressionClass::BOUND_CONSTANT)
      return nullptr;
    const auto& constant = function.children[1]->Cast<duckdb::BoundConstantExpression>().value;
    const ExprPtr input = Run(*function.children[0]);
    if (!input || constant.IsNull()) return nullptr;
    if (function.function.name == "struct_extract" && input->op == ExprOp::kColumn &&
        constant.type().id() == LogicalTypeId::VARCHAR) {
      auto column = std::make_shared<Expr>(*input);
      column->path.push_back(duckdb::StringValue::Get(constant));
      return column;
    }
    if (function.function.name == "prefix" && constant.type().id() == LogicalTypeId::VARCHAR) {
      const std::string prefix = duckdb::StringValue::Get(constant);
      if (prefix.find_first_of("%_") != std::string::npos) return nullptr;
      return Make(ExprOp::kLike, {input, Constant(duckdb::Value(prefix + "%"))});
    }
    return nullptr;
  }

  const std::vector<std::string>& names_;
};

}  // namespace

ExprPtr TranslateFilter(const Expression& filter, const std::vector<std::string>& names) {
  return Translator(names).Run(filter);
}

}  // namespace headrace::query
