// What the files of the filter language share: internal to expr_*.cc.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "table/expr.h"

namespace arrow {
class Array;
}

namespace headrace::table {

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
  std::vector<Int128> decimals;                     // of the scale that the expression says
  std::vector<std::shared_ptr<const void>> owners;  // of what int_data, double_data and strings point to

  bool IsNull(int64_t i) const { return !nulls.empty() && nulls[constant ? 0 : static_cast<size_t>(i)] != 0; }
  int64_t Int(int64_t i) const {
    const size_t at = constant ? 0 : static_cast<size_t>(i);
    return int_data ? int_data[at] : ints[at];
  }
  double Double(int64_t i) const {
    const size_t at = constant ? 0 : static_cast<size_t>(i);
    return double_data ? double_data[at] : doubles[at];
  }
  Int128 Decimals(int64_t i) const { return decimals[constant ? 0 : static_cast<size_t>(i)]; }
  std::string_view String(int64_t i) const { return strings[constant ? 0 : static_cast<size_t>(i)]; }
};

inline bool IsReal(ValueType type) { return type == ValueType::kFloat || type == ValueType::kDouble; }
inline bool IsIntLike(ValueType type) {
  return !IsReal(type) && type != ValueType::kString && type != ValueType::kDecimal;
}

// Whether an AND, as parsed, is BETWEEN: its sides share the value. All three operands then meet in one type.
inline bool IsBetween(const Expr& expr) {
  return expr.op == ExprOp::kAnd && expr.args[0]->op == ExprOp::kGe && expr.args[1]->op == ExprOp::kLe &&
         expr.args[0]->args[0] == expr.args[1]->args[0];
}

// Appends `from`'s value at i, which is not null, to `out`, of the same type.
void AppendFrom(const Vec& from, int64_t i, Vec* out);
// A null's place.
void AppendNothing(ValueType type, Vec* out);

// The values of a column of `rows` rows.
Result<Vec> VecOfColumn(const Expr& column, const std::shared_ptr<arrow::Array>& array, int64_t rows);
Vec VecOfLiteral(const Expr& literal);

// Converts inner's value at i, which is not null, and appends it to `out`. Text goes to `texts`, which has
// room for every row. False where it cannot: the reason in `*problem`, empty for an overflow.
bool ConvertValue(const Expr& cast, const Vec& inner, int64_t i, Vec* out, std::vector<std::string>* texts,
                  std::string* problem);

// hash_split() and hash_fraction(), whose arguments are bound: checks them, and says what they give.
Result<ExprPtr> BindHash(std::shared_ptr<Expr> bound);

// `text` against SQL's LIKE; `escape` 0 for none. Nothing if the pattern ends with the escape character.
std::optional<bool> Like(std::string_view text, std::string_view pattern, char escape);
// Lower or upper case of every text, by Unicode's simple mapping.
Result<Vec> ChangeCase(const Vec& in, bool lower, int64_t rows);
int64_t CountCharacters(std::string_view text);

}  // namespace headrace::table
