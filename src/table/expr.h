// The filter language: what `where` means in scan, SQL push-down, and later in delete, update, stream and
// search.
//
//   image.width >= 512 and lang = 'en' and caption like 'A %' and score between 0.2 and 0.8 and tag is not
//   null
//
// SQL's three-valued logic and DuckDB's types: 0.1 is an exact decimal and 1e-1 a float64; beside a float32
// (or float16) column, integers and decimals become float32. Integers are computed in 64 bits (overflow is an
// error), `/` is always floating point, x / 0 and x % 0 as in DuckDB. NaN equals NaN and is above every other
// number (as in PostgreSQL and DuckDB). Text compares by bytes. Timestamps with a zone are instants; literals
// without a zone mean UTC. A text literal beside a date or a timestamp is read as one.
// docs/guide/expressions.md is the page for users.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/type_fwd.h>

#include "table/decimal.h"
#include "table/schema.h"
#include "table/stats.h"
#include "table/value.h"

namespace headrace::table {

enum class ValueType {
  kNull,
  kBool,
  kInt,
  kDecimal,  // exact; also columns of uint64
  kFloat,    // 32 bits; also columns of float16
  kDouble,
  kString,
  kDate,
  kTimestampUs,
  kTimestampNs
};

enum class ExprOp {
  kColumn,
  kLiteral,
  kAnd,
  kOr,
  kNot,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kIn,
  kIsNull,
  kLike,      // the text, the pattern and, if one is given, the escape character
  kILike,     // the same
  kDistinct,  // IS DISTINCT FROM
  kCoalesce,
  kCase,  // condition, value, condition, value, …, value otherwise
  kLength,
  kLower,
  kUpper,
  kAbs,
  kIsNan,
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMod,
  kNeg,
  kCast,
  kJsonText,     // `json ->> path`: the text there; the path is `literal`
  kHashSplit,    // the key, the parts and, if one is given, the seed (split.h)
  kHashFraction  // the key and, if one is given, the seed
};

struct Expr;
using ExprPtr = std::shared_ptr<const Expr>;

struct Expr {
  ExprOp op = ExprOp::kLiteral;
  std::vector<ExprPtr> args;          // kIn: the value, then the list
  std::vector<std::string> path;      // kColumn
  Value literal;                      // kLiteral; of a decimal, any value that is not null
  Decimal decimal;                    // kLiteral that is kDecimal; its scale also of others after Bind
  ValueType type = ValueType::kNull;  // kLiteral and kCast as parsed; everywhere after Bind
  Field field;                        // kColumn, after Bind: the leaf
  int64_t depth = 1;                  // of this tree, as parsed
  int64_t nodes = 1;                  // of this tree, as parsed; where it is large, "very many"
};

// Invalid, with the place, if the text is not an expression; Limit if it is too long or nests too deep.
Result<ExprPtr> ParseExpr(std::string_view text);
// An operation on these, with its depth and nodes.
std::shared_ptr<Expr> MakeExpr(ExprOp op, std::vector<ExprPtr> args);
// Terms joined by AND or OR, at least one. A short chain is left-deep as it is written, so that its canonical
// text stays what checkpoints know; a longer one (generators write them) is halved, which means the same:
// everything that walks a tree recurses.
ExprPtr JoinTerms(ExprOp op, const std::vector<ExprPtr>& terms);
// Canonical text: equal for expressions that differ only in spelling.
std::string ToString(const Expr& expr);

// Resolves columns against a schema and checks types. The result must be boolean.
Result<ExprPtr> BindFilter(const ExprPtr& expr, const Schema& schema);
// The same for any result type (tests).
Result<ExprPtr> BindExpr(const ExprPtr& expr, const Schema& schema);

// The leaf that a dotted path names, following structs; the top-level field it lies under in `*top`.
Result<Field> ResolvePath(const Schema& schema, const std::vector<std::string>& path, const Field** top);

// Every column path in the expression, once each.
std::vector<std::vector<std::string>> ColumnsOf(const Expr& expr);

// The outcome of a bound filter for each of `rows` rows: 1 true, 0 false, 2 null. `column` gives the values
// of a leaf field id, of that length.
using ColumnFn = std::function<Result<std::shared_ptr<arrow::Array>>(const Expr& column)>;
Result<std::vector<uint8_t>> EvaluateFilter(const Expr& filter, int64_t rows, const ColumnFn& column);

// Which outcomes are possible, judging by statistics alone.
struct Outcomes {
  bool can_true = true;
  bool can_false = true;
  bool can_null = true;
};
using StatsFn = std::function<std::optional<FieldStats>(const Field& leaf)>;
Outcomes PossibleOutcomes(const Expr& filter, const StatsFn& stats);

// One value of any expression, for tests: as EvaluateFilter, but the values themselves.
Result<std::vector<Value>> EvaluateValues(const Expr& expr, int64_t rows, const ColumnFn& column);

// The conjuncts of a filter: a and (b and c) gives a, b, c.
std::vector<ExprPtr> Conjuncts(const ExprPtr& filter);

}  // namespace headrace::table
