#include "table/expr.h"

#include <cmath>

#include "table/table_testing.h"

namespace headrace::table {
namespace {

const Schema& TestSchema() {
  static const Schema schema =
      *SchemaFromArrow(*arrow::schema({arrow::field("i", arrow::int64()), arrow::field("d", arrow::float64()),
                                       arrow::field("s", arrow::utf8()), arrow::field("b", arrow::boolean()),
                                       arrow::field("t", arrow::timestamp(arrow::TimeUnit::MILLI))}));
  static const Schema with_ids = [] {
    Schema copy = schema;
    int32_t next = 1;
    AssignIds(&copy.fields, &next);
    return copy;
  }();
  return with_ids;
}

std::string Error(const std::string& text) {
  const auto parsed = ParseExpr(text);
  if (!parsed.ok()) return parsed.status().ToString();
  const auto bound = BindFilter(*parsed, TestSchema());
  return bound.ok() ? "" : bound.status().ToString();
}

TEST(Expr, ErrorsNameThePlaceAndTheFix) {
  EXPECT_NE(Error("i >").find("at character 4: expected a column"), std::string::npos);
  EXPECT_NE(Error("i > 1 1").find("unexpected '1'"), std::string::npos);
  EXPECT_NE(Error("s = 'x").find("a quote is not closed"), std::string::npos);
  EXPECT_NE(Error("ii = 1").find("did you mean 'i'"), std::string::npos);
  EXPECT_NE(Error("i = 'x'").find("cast one"), std::string::npos);
  EXPECT_NE(Error("i + 1").find("a filter is a condition"), std::string::npos);
  EXPECT_NE(Error("t > 'soon'").find("is not a time"), std::string::npos);
  EXPECT_EQ(Error("i = 9223372036854775808"), "");  // no int64, but a number that uint64 may hold
  EXPECT_NE(Error("sqrt(i) = 2").find("no function sqrt()"), std::string::npos);
  EXPECT_NE(Error("lower(i) = 'a'").find("works on text"), std::string::npos);
  EXPECT_NE(Error("case when i then 1 else 2 end = 1").find("needs a condition"), std::string::npos);
  EXPECT_NE(Error(std::string(1000, '(')).find("may nest"), std::string::npos);
  EXPECT_NE(Error("hash_split(d, 'a:1') = 'a'").find("floating point, which is not exact"),
            std::string::npos);
  EXPECT_NE(Error("hash_split(i, s) = 'a'").find("takes its parts as a text such as"), std::string::npos);
  EXPECT_NE(Error("hash_split(i, 'a:1.5') = 'a'").find("the share is more than 1"), std::string::npos);
  EXPECT_NE(Error("hash_split(i, 'a:1', -1) = 'a'").find("a whole number from 0 on, not -1"),
            std::string::npos);
  EXPECT_NE(Error("hash_split(i) = 'a'").find("hash_split() takes 2 or 3 values"), std::string::npos);
  EXPECT_NE(Error("hash_fraction(i, i) < 0.5").find("a whole number from 0 on"), std::string::npos);
  EXPECT_NE(Error("hash_split(i, 'a:1')").find("a filter is a condition"), std::string::npos);
  EXPECT_EQ(Error("t > '2026-01-01' and t < timestamp '2026-01-02T00:00Z' or not b"), "");
}

std::string Repeat(const std::string& first, const std::string& more, int64_t times) {
  std::string text = first;
  for (int64_t i = 0; i < times; ++i) text += more;
  return text;
}

TEST(Expr, DecimalsEndAt38Digits) {
  const std::string most(38, '9');
  EXPECT_TRUE(ParseDecimal(most).has_value());
  EXPECT_TRUE(ParseDecimal("-" + most.substr(1) + ".9").has_value());
  for (const char* first : {"1", "34", "66", "9"}) {  // some of these wrap into the range of 128 bits
    for (size_t digits = 39; digits < 45; ++digits) {
      std::string text = first;
      text.resize(digits, '6');
      EXPECT_FALSE(ParseDecimal(text).has_value()) << text;
    }
  }
}

// Chains and nestings of every operator: below, at and above the limits and as long as a filter's bytes
// allow, each is a filter or an error, and means what the short one means.
TEST(Expr, LongChainsAreFiltersOrErrors) {
  const int64_t tree = limits::kMaxExpressionTree;
  const std::vector<uint8_t> every_row(3, 1);
  arrow::Int64Builder builder;
  ASSERT_TRUE(builder.AppendValues({1, 2, 3}).ok());
  const std::shared_ptr<arrow::Array> column = builder.Finish().ValueOrDie();
  const auto matches = [&](const std::string& text) -> Result<std::vector<uint8_t>> {
    HEADRACE_ASSIGN(const auto parsed, ParseExpr(text));
    if (ToString(*parsed).empty()) return Status::Corrupt("it has no canonical text");
    HEADRACE_ASSIGN(const auto bound, BindFilter(parsed, TestSchema()));
    if (ColumnsOf(*bound).size() != 1) return Status::Corrupt("lost its column");
    (void)PossibleOutcomes(*bound, [](const Field&) { return std::optional<FieldStats>(); });
    (void)Conjuncts(bound);
    return EvaluateFilter(*bound, 3,
                          [&](const Expr&) -> Result<std::shared_ptr<arrow::Array>> { return column; });
  };
  for (const int64_t terms : {199, 200, 201, 400, 401, 20'000, 100'000}) {
    ASSERT_VALUE(const auto any, matches(Repeat("i = 1", " or i > 1", terms - 1)));
    EXPECT_EQ(any, every_row) << terms;
    ASSERT_VALUE(const auto all, matches(Repeat("i = 1", " and i > 0", terms - 1)));
    EXPECT_EQ(all, (std::vector<uint8_t>{1, 0, 0})) << terms;
  }
  for (const int64_t over : {-1, 0, 1, 100'000}) {
    const std::string sum = Repeat("i", "+0", tree - 2 + over) + " >= 1";  // one deeper than the sum
    EXPECT_EQ(matches(sum).ok(), over < 1) << over;
    EXPECT_EQ(ParseExpr(Repeat("i", "*1", tree - 1 + over)).ok(), over < 1) << over;
    EXPECT_EQ(ParseExpr(Repeat("i", "::int64", tree - 1 + over)).ok(), over < 1) << over;
  }
  // Chains inside chains: 150 deep, each of 200.
  std::string nested = "i = 1";
  for (int i = 0; i < 150; ++i) nested = "(" + Repeat(nested, " or i > 1", 199) + ")";
  EXPECT_TRUE(ParseExpr(nested).status().Is(Code::kLimit));
  for (const char* opening : {"(", "not ", "- ", "+ ", "not (", "cast("}) {
    EXPECT_FALSE(ParseExpr(Repeat("", opening, 20'000) + "i").ok()) << opening;
  }
  // BETWEEN names its operand twice: 2^n of them.
  std::string between = "b";
  for (int i = 0; i < 60; ++i) between = "(" + between + " between false and true)";
  EXPECT_TRUE(ParseExpr(between).status().Is(Code::kLimit));
}

TEST(Expr, CanonicalTextReadsBackTheSame) {
  for (const char* text :
       {"i = 1 and (d < 2.5 or not s like 'a%')", "\"s\" in ('x', 'it''s', null)", "i between -3 and +4",
        "d::int64 % 3 = 0 and i is not null", "d = 0.1 or d = 1e-1 or d > 18446744073709551615",
        "s ilike 'a!%' escape '!' and i is not distinct from abs(d)",
        "case s when 'a' then 1 when 'b' then 0.5 end < coalesce(i, length(lower(s)), 0)",
        "case when isnan(d) then upper(s) else 'x' end like '_'",
        "hash_split(lower(s), 'train:0.9, it''s:0.1', 7) = 'train' and hash_fraction(i) < 0.5"}) {
    ASSERT_VALUE(const ExprPtr once, ParseExpr(text));
    ASSERT_VALUE(const ExprPtr twice, ParseExpr(ToString(*once)));
    EXPECT_EQ(ToString(*once), ToString(*twice));
  }
}

// Random filters over random rows: whatever the statistics rule out must not happen.
class RandomFilters {
 public:
  explicit RandomFilters(uint64_t seed) : random_(seed) {}
  uint64_t Next(uint64_t n) { return random_() % n; }

  std::string Filter(int depth) {
    if (depth > 0) {
      switch (Next(5)) {
        case 0:
          return "(" + Filter(depth - 1) + " and " + Filter(depth - 1) + ")";
        case 1:
          return "(" + Filter(depth - 1) + " or " + Filter(depth - 1) + ")";
        case 2:
          return "not " + Filter(depth - 1);
        default:
          break;
      }
    }
    static const char* kOps[] = {"=", "!=", "<", "<=", ">", ">="};
    const std::string op = std::string(" ") + kOps[Next(6)] + " ";
    switch (Next(10)) {
      case 0:
        return "i" + op + std::to_string(Next(12));
      case 1:
        return "d" + op + std::to_string(Next(12)) + ".0";
      case 2:
        return "s" + op + "'" + std::string(1, static_cast<char>('a' + Next(6))) + "'";
      case 3:
        return std::string("idstb").substr(Next(5), 1) + (Next(2) ? " is null" : " is not null");
      case 4:
        return "i in (" + std::to_string(Next(12)) + ", " + (Next(4) ? std::to_string(Next(12)) : "null") +
               ")";
      case 5:
        return "s like '" + std::string(1, static_cast<char>('a' + Next(6))) + (Next(2) ? "%'" : "_'");
      case 6:
        return Next(2) ? "b" : "i" + op + "d";
      case 7:
        return "hash_split(" + std::string("istb").substr(Next(4), 1) + ", 'a:0.4, b:0.4')" +
               (Next(3)   ? op + "'a'"
                : Next(2) ? " is null"
                          : " in ('b', null)");
      case 8:
        return "hash_fraction(" + std::string("istb").substr(Next(4), 1) + ", 5)" + op + "0.5";
      default:
        return "t" + op + "timestamp '1970-01-01T00:00:0" + std::to_string(Next(10)) + "'";
    }
  }
  std::shared_ptr<arrow::RecordBatch> Rows(int64_t n) {
    arrow::Int64Builder i;
    arrow::DoubleBuilder d;
    arrow::StringBuilder s;
    arrow::BooleanBuilder b;
    arrow::TimestampBuilder t(arrow::timestamp(arrow::TimeUnit::MILLI), arrow::default_memory_pool());
    const uint64_t base = Next(8);
    const uint64_t spread = 1 + Next(4);
    const uint64_t nulls = 1 + Next(6);
    const bool nan = Next(3) == 0;
    for (int64_t row = 0; row < n; ++row) {
      const auto value = [&] { return base + Next(spread); };
      const auto null = [&] { return Next(nulls) == 0 && nulls < 6; };
      (void)(null() ? i.AppendNull() : i.Append(static_cast<int64_t>(value())));
      (void)(null() ? d.AppendNull()
                    : d.Append(nan && Next(3) == 0 ? std::nan("") : static_cast<double>(value())));
      (void)(null() ? s.AppendNull()
                    : s.Append(std::string(1, static_cast<char>('a' + value() % 6)) + (Next(2) ? "x" : "")));
      (void)(null() ? b.AppendNull() : b.Append(value() % 2 == 0));
      (void)(null() ? t.AppendNull() : t.Append(static_cast<int64_t>(value()) * 1000));
    }
    return arrow::RecordBatch::Make(
        TestSchema().ToArrow(), n,
        {i.Finish().ValueOrDie(), d.Finish().ValueOrDie(), s.Finish().ValueOrDie(), b.Finish().ValueOrDie(),
         t.Finish().ValueOrDie()});
  }

 private:
  std::mt19937_64 random_;
};

TEST(Expr, PruningIsSound) {
  RandomFilters random(5);
  int64_t pruned = 0;
  for (int round = 0; round < testing::Scaled(5000); ++round) {
    const auto rows = random.Rows(1 + static_cast<int64_t>(random.Next(8)));
    StatsByField stats;
    const auto wanted = StatFields(TestSchema());
    for (size_t c = 0; c < 5; ++c)
      AddToStats(TestSchema().fields[c], *rows->column(static_cast<int>(c)), wanted, &stats);
    const std::string text = random.Filter(3);
    ASSERT_VALUE(const ExprPtr parsed, ParseExpr(text));
    ASSERT_VALUE(const ExprPtr filter, BindFilter(parsed, TestSchema()));
    ASSERT_VALUE(const auto outcomes,
                 EvaluateFilter(*filter, rows->num_rows(),
                                [&](const Expr& column) -> Result<std::shared_ptr<arrow::Array>> {
                                  return rows->GetColumnByName(column.path[0]);
                                }));
    const Outcomes possible = PossibleOutcomes(
        *filter, [&](const Field& leaf) -> std::optional<FieldStats> { return stats[leaf.id]; });
    for (const uint8_t outcome : outcomes) {
      ASSERT_TRUE(outcome == 1   ? possible.can_true
                  : outcome == 0 ? possible.can_false
                                 : possible.can_null)
          << text << "\n"
          << rows->ToString();
    }
    pruned += !possible.can_true;
  }
  EXPECT_GT(pruned, testing::Scaled(300));  // and it is of some use
}

}  // namespace
}  // namespace headrace::table
