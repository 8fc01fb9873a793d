#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "base/limits.h"
#include "table/expr.h"
#include "table/expr_tokens.h"

namespace headrace::table {
namespace {

std::string Upper(std::string text) {
  for (char& c : text) c = static_cast<char>(toupper(static_cast<unsigned char>(c)));
  return text;
}

// terms[begin, end)
ExprPtr Join(ExprOp op, const std::vector<ExprPtr>& terms, size_t begin, size_t end) {
  if (end - begin > static_cast<size_t>(limits::kMaxExpressionDepth)) {
    const size_t middle = begin + (end - begin) / 2;
    return MakeExpr(op, {Join(op, terms, begin, middle), Join(op, terms, middle, end)});
  }
  ExprPtr joined = terms[begin];
  for (size_t i = begin + 1; i < end; ++i) joined = MakeExpr(op, {joined, terms[i]});
  return joined;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<ExprPtr> Parse() {
    HEADRACE_ASSIGN(tokens_, TokenizeFilter(text_));
    HEADRACE_ASSIGN(ExprPtr expr, Or());
    if (Now().kind != TokenKind::kEnd) return Error("unexpected " + Describe(Now()));
    if (expr->nodes > limits::kMaxExpressionNodes) {
      return Status::Limit("the filter has more than " + std::to_string(limits::kMaxExpressionNodes) +
                           " operations (each operand of BETWEEN counts twice)");
    }
    return expr;
  }

 private:
  Status ErrorAt(size_t at, const std::string& what) const { return FilterError(text_, at, what); }
  Status Error(const std::string& what) const { return ErrorAt(Now().at, what); }
  static std::string Describe(const Token& token) {
    return token.kind == TokenKind::kEnd ? "end" : "'" + token.text + "'";
  }

  const Token& Now() const { return tokens_[next_]; }
  bool EatSymbol(std::string_view symbol) {
    if (Now().kind != TokenKind::kSymbol || Now().text != symbol) return false;
    ++next_;
    return true;
  }
  bool IsWord(std::string_view word) const {
    return Now().kind == TokenKind::kWord && Upper(Now().text) == word;
  }
  bool EatWord(std::string_view word) {
    if (!IsWord(word)) return false;
    ++next_;
    return true;
  }

  static ExprPtr Make(ExprOp op, std::vector<ExprPtr> args) { return MakeExpr(op, std::move(args)); }
  // Everything that walks a tree recurses, down to its destructor: no loop may make it deeper than this.
  static Status Bounded(const Expr& expr) {
    if (expr.depth <= limits::kMaxExpressionTree) return Status::Ok();
    return Status::Limit("a filter's chain of operators may be " +
                         std::to_string(limits::kMaxExpressionTree) + " deep");
  }
  Result<ExprPtr> Chain(ExprOp op, std::string_view word, Result<ExprPtr> (Parser::*term)()) {
    std::vector<ExprPtr> terms;
    do {
      HEADRACE_ASSIGN(ExprPtr next, (this->*term)());
      terms.push_back(std::move(next));
    } while (EatWord(word));
    ExprPtr joined = JoinTerms(op, terms);
    HEADRACE_TRY(Bounded(*joined));
    return joined;
  }
  static ExprPtr Literal(Value value, ValueType type) {
    auto expr = std::make_shared<Expr>();
    expr->literal = std::move(value);
    expr->type = type;
    return expr;
  }

  static ExprPtr Literal(const Decimal& decimal) {
    auto expr = std::make_shared<Expr>();
    expr->literal = ToDouble(decimal);
    expr->decimal = decimal;
    expr->type = ValueType::kDecimal;
    return expr;
  }

  Result<ExprPtr> Or() { return Chain(ExprOp::kOr, "OR", &Parser::And); }
  Result<ExprPtr> And() { return Chain(ExprOp::kAnd, "AND", &Parser::Not); }
  Result<ExprPtr> Not() {
    if (++depth_ > limits::kMaxExpressionDepth) {
      return Status::Limit("a filter may nest " + std::to_string(limits::kMaxExpressionDepth) + " deep");
    }
    if (EatWord("NOT")) {
      HEADRACE_ASSIGN(ExprPtr inner, Not());
      --depth_;
      return Make(ExprOp::kNot, {inner});
    }
    auto result = Predicate();
    --depth_;
    return result;
  }

  Result<ExprPtr> Predicate() {
    HEADRACE_ASSIGN(ExprPtr left, Sum());
    static constexpr std::pair<std::string_view, ExprOp> kCompare[] = {
        {"=", ExprOp::kEq}, {"==", ExprOp::kEq}, {"!=", ExprOp::kNe}, {"<>", ExprOp::kNe},
        {"<", ExprOp::kLt}, {"<=", ExprOp::kLe}, {">", ExprOp::kGt},  {">=", ExprOp::kGe}};
    for (const auto& [symbol, op] : kCompare) {
      if (EatSymbol(symbol)) {
        HEADRACE_ASSIGN(ExprPtr right, Sum());
        return Make(op, {left, right});
      }
    }
    if (EatWord("IS")) {
      const bool negated = EatWord("NOT");
      if (EatWord("DISTINCT")) {
        if (!EatWord("FROM")) return Error("expected FROM after IS DISTINCT");
        HEADRACE_ASSIGN(ExprPtr right, Sum());
        const ExprPtr test = Make(ExprOp::kDistinct, {left, right});
        return negated ? Make(ExprOp::kNot, {test}) : test;
      }
      if (!EatWord("NULL")) return Error("expected NULL or DISTINCT FROM after IS");
      const ExprPtr test = Make(ExprOp::kIsNull, {left});
      return negated ? Make(ExprOp::kNot, {test}) : test;
    }
    return SetPredicate(left);
  }

  Result<ExprPtr> SetPredicate(const ExprPtr& left) {
    const bool negated = EatWord("NOT");
    ExprPtr test;
    if (EatWord("IN")) {
      if (!EatSymbol("(")) return Error("expected ( after IN");
      std::vector<ExprPtr> args = {left};
      do {
        HEADRACE_ASSIGN(ExprPtr item, Sum());
        args.push_back(std::move(item));
      } while (EatSymbol(","));
      if (!EatSymbol(")")) return Error("expected , or ) in the list, found " + Describe(Now()));
      test = Make(ExprOp::kIn, std::move(args));
    } else if (EatWord("BETWEEN")) {
      HEADRACE_ASSIGN(ExprPtr low, Sum());
      if (!EatWord("AND")) return Error("expected AND after BETWEEN's first bound");
      HEADRACE_ASSIGN(ExprPtr high, Sum());
      test = Make(ExprOp::kAnd, {Make(ExprOp::kGe, {left, low}), Make(ExprOp::kLe, {left, high})});
    } else if (IsWord("LIKE") || IsWord("ILIKE")) {
      const ExprOp op = IsWord("LIKE") ? ExprOp::kLike : ExprOp::kILike;
      ++next_;
      HEADRACE_ASSIGN(ExprPtr pattern, Sum());
      std::vector<ExprPtr> args = {left, pattern};
      if (EatWord("ESCAPE")) {
        HEADRACE_ASSIGN(ExprPtr escape, Sum());
        args.push_back(std::move(escape));
      }
      test = Make(op, std::move(args));
    } else if (negated) {
      return Error("expected IN, BETWEEN, LIKE or ILIKE after NOT");
    } else {
      return left;
    }
    return negated ? Make(ExprOp::kNot, {test}) : test;
  }

  Result<ExprPtr> Sum() {
    HEADRACE_ASSIGN(ExprPtr left, Product());
    for (;;) {
      const ExprOp op = EatSymbol("+") ? ExprOp::kAdd : EatSymbol("-") ? ExprOp::kSub : ExprOp::kLiteral;
      if (op == ExprOp::kLiteral) return left;
      HEADRACE_ASSIGN(ExprPtr right, Product());
      left = Make(op, {left, right});
      HEADRACE_TRY(Bounded(*left));
    }
  }
  Result<ExprPtr> Product() {
    HEADRACE_ASSIGN(ExprPtr left, Unary());
    for (;;) {
      const ExprOp op = EatSymbol("*")   ? ExprOp::kMul
                        : EatSymbol("/") ? ExprOp::kDiv
                        : EatSymbol("%") ? ExprOp::kMod
                                         : ExprOp::kLiteral;
      if (op == ExprOp::kLiteral) return left;
      HEADRACE_ASSIGN(ExprPtr right, Unary());
      left = Make(op, {left, right});
      HEADRACE_TRY(Bounded(*left));
    }
  }
  Result<ExprPtr> Unary() {
    if (++depth_ > limits::kMaxExpressionDepth) {
      return Status::Limit("a filter may nest " + std::to_string(limits::kMaxExpressionDepth) + " deep");
    }
    auto result = UnaryInner();
    --depth_;
    return result;
  }
  Result<ExprPtr> UnaryInner() {
    if (EatSymbol("-")) {
      // The most negative integer has no positive twin: read the sign and the digits together.
      if (Now().kind == TokenKind::kNumber) return Postfix(/*negative=*/true);
      HEADRACE_ASSIGN(ExprPtr inner, Unary());
      return Make(ExprOp::kNeg, {inner});
    }
    if (EatSymbol("+")) return Unary();
    return Postfix(false);
  }

  Result<ExprPtr> Postfix(bool negative) {
    HEADRACE_ASSIGN(ExprPtr expr, Primary(negative));
    for (;;) {
      if (EatSymbol("::")) {
        HEADRACE_ASSIGN(expr, CastTo(std::move(expr)));
      } else if (EatSymbol("->>")) {
        if (Now().kind != TokenKind::kString) return Error("expected a path such as '$.lang' after ->>");
        expr = JsonText(std::move(expr), tokens_[next_++].text);
      } else {
        return expr;
      }
      HEADRACE_TRY(Bounded(*expr));
    }
  }

  static ExprPtr JsonText(ExprPtr json, std::string path) {
    auto expr = MakeExpr(ExprOp::kJsonText, {std::move(json)});
    expr->literal = std::move(path);
    return expr;
  }

  Result<ExprPtr> CastTo(ExprPtr inner) {
    if (Now().kind != TokenKind::kWord) return Error("expected a type");
    static constexpr std::pair<std::string_view, ValueType> kTypes[] = {
        {"INT64", ValueType::kInt},      {"BIGINT", ValueType::kInt},
        {"FLOAT32", ValueType::kFloat},  {"FLOAT", ValueType::kFloat},
        {"REAL", ValueType::kFloat},     {"FLOAT64", ValueType::kDouble},
        {"DOUBLE", ValueType::kDouble},  {"STRING", ValueType::kString},
        {"VARCHAR", ValueType::kString}, {"TEXT", ValueType::kString},
        {"BOOL", ValueType::kBool},      {"BOOLEAN", ValueType::kBool},
        {"DATE", ValueType::kDate},      {"TIMESTAMP", ValueType::kTimestampUs}};
    for (const auto& [name, type] : kTypes) {
      if (!EatWord(name)) continue;
      auto expr = MakeExpr(ExprOp::kCast, {std::move(inner)});
      expr->type = type;
      return ExprPtr(expr);
    }
    return Error("casts go to int64, float32, float64, string, bool, date or timestamp, not " +
                 Describe(Now()));
  }

  Result<ExprPtr> Number(bool negative) {
    const std::string text = (negative ? "-" : "") + Now().text;
    const size_t at = Now().at;
    ++next_;
    if (text.find_first_of(".eE") == std::string::npos) {
      int64_t value = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error == std::errc() && end == text.data() + text.size()) return Literal(value, ValueType::kInt);
    }
    if (text.find_first_of("eE") == std::string::npos) {
      if (const auto decimal = ParseDecimal(text)) return Literal(*decimal);
    }
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      return ErrorAt(at, text + " is not a number");
    return Literal(value, ValueType::kDouble);
  }

  Result<ExprPtr> Primary(bool negative) {
    const Token token = Now();
    if (token.kind == TokenKind::kNumber) return Number(negative);
    if (token.kind == TokenKind::kString) {
      ++next_;
      return Literal(token.text, ValueType::kString);
    }
    if (EatSymbol("(")) {
      HEADRACE_ASSIGN(ExprPtr inner, Or());
      if (!EatSymbol(")")) return Error("expected ), found " + Describe(Now()));
      return inner;
    }
    if (EatWord("TRUE")) return Literal(true, ValueType::kBool);
    if (EatWord("FALSE")) return Literal(false, ValueType::kBool);
    if (EatWord("NULL")) return Literal({}, ValueType::kNull);
    if (EatWord("CAST")) {
      if (!EatSymbol("(")) return Error("expected ( after CAST");
      HEADRACE_ASSIGN(ExprPtr inner, Or());
      if (!EatWord("AS")) return Error("expected AS in CAST");
      HEADRACE_ASSIGN(ExprPtr cast, CastTo(std::move(inner)));
      if (!EatSymbol(")")) return Error("expected ) after CAST");
      return cast;
    }
    const bool typed =
        (IsWord("DATE") || IsWord("TIMESTAMP")) && tokens_[next_ + 1].kind == TokenKind::kString;
    if (typed) {
      const bool is_date = IsWord("DATE");
      next_ += 2;
      auto cast = std::make_shared<Expr>();
      cast->op = ExprOp::kCast;
      cast->args = {Literal(tokens_[next_ - 1].text, ValueType::kString)};
      cast->type = is_date ? ValueType::kDate : ValueType::kTimestampUs;
      return ExprPtr(cast);
    }
    const Token& after = tokens_[next_ + (token.kind == TokenKind::kEnd ? 0 : 1)];
    if (IsWord("CASE") && BeginsCase(after)) return Case();
    if (token.kind == TokenKind::kWord && after.kind == TokenKind::kSymbol && after.text == "(" &&
        !Reserved(token))
      return Function();
    return Column();
  }

  Result<ExprPtr> Function() {
    struct Known {
      std::string_view name;
      ExprOp op;
      size_t least = 1;  // arguments
      size_t most = 1;
    };
    static constexpr Known kFunctions[] = {{"COALESCE", ExprOp::kCoalesce, 1, SIZE_MAX},
                                           {"LENGTH", ExprOp::kLength},
                                           {"LOWER", ExprOp::kLower},
                                           {"UPPER", ExprOp::kUpper},
                                           {"ABS", ExprOp::kAbs},
                                           {"ISNAN", ExprOp::kIsNan},
                                           {"HASH_SPLIT", ExprOp::kHashSplit, 2, 3},
                                           {"HASH_FRACTION", ExprOp::kHashFraction, 1, 2}};
    const Token name = Now();
    const auto* found = std::find_if(std::begin(kFunctions), std::end(kFunctions),
                                     [&](const auto& known) { return known.name == Upper(name.text); });
    if (found == std::end(kFunctions)) {
      return Error("filters have no function " + name.text +
                   "(); there are coalesce, length, lower, upper, abs, isnan, hash_split and "
                   "hash_fraction (SQL has more)");
    }
    next_ += 2;
    std::vector<ExprPtr> args;
    do {
      HEADRACE_ASSIGN(ExprPtr arg, Or());
      args.push_back(std::move(arg));
    } while (EatSymbol(","));
    if (!EatSymbol(")")) return Error("expected , or ) in " + name.text + "(), found " + Describe(Now()));
    if (args.size() < found->least || args.size() > found->most) {
      const std::string many =
          found->least == 1 && found->most == 1
              ? "one value"
              : std::to_string(found->least) + " or " + std::to_string(found->most) + " values";
      return ErrorAt(name.at, name.text + "() takes " + many);
    }
    const ExprPtr call = Make(found->op, std::move(args));
    HEADRACE_TRY(Bounded(*call));
    return call;
  }

  // A column may be named case: the word begins a CASE only before what cannot follow a column.
  static bool BeginsCase(const Token& after) {
    static constexpr std::string_view kOperators[] = {"AND",   "OR",      "NOT",    "IN",   "IS",   "LIKE",
                                                      "ILIKE", "BETWEEN", "ESCAPE", "THEN", "ELSE", "END"};
    if (after.kind == TokenKind::kSymbol) return after.text == "(";
    return after.kind != TokenKind::kEnd &&
           (after.kind != TokenKind::kWord || std::find(std::begin(kOperators), std::end(kOperators),
                                                        Upper(after.text)) == std::end(kOperators));
  }

  // CASE WHEN c THEN v … ELSE v END, and CASE x WHEN v THEN …, which compares x with each.
  Result<ExprPtr> Case() {
    ++next_;
    ExprPtr subject;
    if (!IsWord("WHEN")) {
      HEADRACE_ASSIGN(subject, Or());
    }
    if (!IsWord("WHEN")) return Error("expected WHEN in CASE, found " + Describe(Now()));
    std::vector<ExprPtr> args;
    while (EatWord("WHEN")) {
      HEADRACE_ASSIGN(ExprPtr condition, Or());
      if (subject) condition = Make(ExprOp::kEq, {subject, condition});
      if (!EatWord("THEN")) return Error("expected THEN in CASE, found " + Describe(Now()));
      HEADRACE_ASSIGN(ExprPtr value, Or());
      args.push_back(std::move(condition));
      args.push_back(std::move(value));
    }
    ExprPtr otherwise = Literal({}, ValueType::kNull);
    if (EatWord("ELSE")) {
      HEADRACE_ASSIGN(otherwise, Or());
    }
    if (!EatWord("END")) return Error("expected WHEN, ELSE or END in CASE, found " + Describe(Now()));
    args.push_back(std::move(otherwise));
    const ExprPtr whole = Make(ExprOp::kCase, std::move(args));
    HEADRACE_TRY(Bounded(*whole));
    return whole;
  }

  static bool Reserved(const Token& token) {
    static constexpr std::string_view kReserved[] = {"AND", "OR", "NOT", "IN", "IS", "LIKE", "BETWEEN", "AS"};
    return token.kind == TokenKind::kWord &&
           std::find(std::begin(kReserved), std::end(kReserved), Upper(token.text)) != std::end(kReserved);
  }

  Result<ExprPtr> Column() {
    auto expr = std::make_shared<Expr>();
    expr->op = ExprOp::kColumn;
    do {
      const Token& token = Now();
      if ((token.kind != TokenKind::kWord && token.kind != TokenKind::kQuoted) || Reserved(token)) {
        return Error("expected a column, a value or (, found " + Describe(token));
      }
      expr->path.push_back(token.text);
      ++next_;
    } while (EatSymbol("."));
    return ExprPtr(expr);
  }

  std::string_view text_;
  std::vector<Token> tokens_;
  size_t next_ = 0;
  int64_t depth_ = 0;
};

}  // namespace

std::shared_ptr<Expr> MakeExpr(ExprOp op, std::vector<ExprPtr> args) {
  auto expr = std::make_shared<Expr>();
  expr->op = op;
  expr->args = std::move(args);
  for (const auto& arg : expr->args) {
    expr->depth = std::max(expr->depth, arg->depth + 1);
    expr->nodes = std::min(expr->nodes + arg->nodes, 2 * limits::kMaxExpressionNodes);
  }
  return expr;
}

ExprPtr JoinTerms(ExprOp op, const std::vector<ExprPtr>& terms) { return Join(op, terms, 0, terms.size()); }

Result<ExprPtr> ParseExpr(std::string_view text) {
  if (static_cast<int64_t>(text.size()) > limits::kMaxExpressionBytes) {
    return Status::Limit("the filter has " + std::to_string(text.size()) + " bytes; at most " +
                         std::to_string(limits::kMaxExpressionBytes) + " are allowed");
  }
  return Parser(text).Parse();
}

}  // namespace headrace::table
