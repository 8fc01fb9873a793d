// The filter language at work: an expression over a batch's columns. Internal to expr_eval.cc (logic,
// comparisons, choices), expr_compute.cc (arithmetic, text, conversions) and expr_split.cc.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "table/expr_vec.h"

namespace headrace::table {

// What a condition says of a row.
inline constexpr uint8_t kFalse = 0;
inline constexpr uint8_t kTrue = 1;
inline constexpr uint8_t kNullOutcome = 2;

// Trees are up to limits::kMaxExpressionTree deep. Inlined into Run, the locals of every operation would make
// one frame of many kilobytes, for each level.
#define HEADRACE_OWN_FRAME [[gnu::noinline]]

class Evaluator {
 public:
  Evaluator(int64_t rows, const ColumnFn& column) : rows_(rows), column_(column) {}

  Result<Vec> Run(const Expr& expr);

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

  bool Problem(std::string what) {
    problem_ = std::move(what);
    return false;
  }

  static uint8_t Outcome(const Vec& vec, int64_t i);
  static int CompareAt(const Vec& a, const Vec& b, int64_t i);

  HEADRACE_OWN_FRAME Result<Vec> Not(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> Column(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> IsNullTest(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> Logic(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> Compare(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> In(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> Choice(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> Distinct(const Expr& expr);

  // In expr_compute.cc.
  HEADRACE_OWN_FRAME Result<Vec> Cased(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> Cast(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> JsonText(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> Negated(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> IsNan(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> Length(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> LikeTest(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> Arithmetic(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> RealArithmetic(const Expr& expr, const Vec& a, const Vec& b);
  HEADRACE_OWN_FRAME Result<Vec> DecimalArithmetic(const Expr& expr, const Vec& a, const Vec& b);

  // In expr_split.cc.
  HEADRACE_OWN_FRAME Result<Vec> HashSplit(const Expr& expr);
  HEADRACE_OWN_FRAME Result<Vec> HashFraction(const Expr& expr);

  int64_t rows_;
  const ColumnFn& column_;
  const std::vector<uint8_t>* active_ = nullptr;  // rows of which a value is wanted; null: of all
  std::string problem_;                           // of the value that could not be made
};

#undef HEADRACE_OWN_FRAME

}  // namespace headrace::table
