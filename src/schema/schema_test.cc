#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <regex>

#include "schema/automaton.h"
#include "schema/formats.h"
#include "schema/holds.h"
#include "schema/json_schema.h"
#include "schema/numbers.h"

namespace headrace::schema {
namespace {

Automaton Of(const std::string& pattern) {
  const auto regex = ParseRegex(pattern);
  EXPECT_TRUE(regex.ok()) << pattern << ": " << regex.status().ToString();
  auto automaton = Automaton::OfPattern(*regex);
  EXPECT_TRUE(automaton.ok()) << pattern;
  return *automaton;
}

// Random patterns agree with std::regex (ECMAScript), matched anywhere in the text.
TEST(Automaton, AgreesWithAnotherMatcher) {
  std::mt19937 random(7);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const std::function<std::string(int)> pattern = [&](int depth) -> std::string {
    switch (pick(depth > 3 ? 3 : 8)) {
      case 0:
        return std::string(1, "abc"[pick(3)]);
      case 1:
        return pick(2) == 0 ? "[ab]" : "[^a]";
      case 2:
        return ".";
      case 3:
        return "(?:" + pattern(depth + 1) + "|" + pattern(depth + 1) + ")";
      case 4:
        return "(" + pattern(depth + 1) + ")" + "*+?"[pick(3)];
      case 5:
        return "(" + pattern(depth + 1) + "){" + std::to_string(pick(2)) + "," + std::to_string(2 + pick(2)) +
               "}";
      default:
        return pattern(depth + 1) + pattern(depth + 1);
    }
  };
  for (int round = 0; round < 400; ++round) {
    std::string text = pattern(0);
    if (pick(3) == 0) text = "^" + text;
    if (pick(3) == 0) text += "$";
    if (pick(5) == 0) text = "(?:" + text + ")|^b";
    const Automaton automaton = Of(text);
    const std::regex other(text, std::regex::ECMAScript);
    for (int i = 0; i < 40; ++i) {
      std::string sample;
      for (int n = pick(7); n > 0; --n) sample += "abcd"[pick(4)];
      ASSERT_EQ(automaton.Accepts(sample), std::regex_search(sample, other)) << text << " on " << sample;
      ASSERT_NE(automaton.Complement().Accepts(sample), automaton.Accepts(sample))
          << text << " on " << sample;
    }
  }
}

TEST(Automaton, IntersectsLengthsAndTexts) {
  const auto both = Of("^a*b?$").Intersect(*Automaton::OfLength(2, 3));
  ASSERT_TRUE(both.ok());
  for (const char* yes : {"aa", "ab", "aaa", "aab"}) EXPECT_TRUE(both->Accepts(yes)) << yes;
  for (const char* no : {"", "a", "b", "aaaa", "ba"}) EXPECT_FALSE(both->Accepts(no)) << no;
  EXPECT_TRUE(Of("^a$").Intersect(Of("^b$"))->empty());
  EXPECT_TRUE(Automaton::OfTexts({"né", "no"}).Accepts("né"));
  EXPECT_FALSE(Automaton::OfTexts({"né", "no"}).Complement().Accepts("no"));
  EXPECT_TRUE(Automaton::All().Accepts("anything\n"));
  const auto large = ParseRegex("(?:a|b)*a(?:a|b){14}");
  EXPECT_TRUE(Automaton::OfPattern(*large).status().Is(Code::kLimit));
}

TEST(Regex, NamesWhatItCannotHold) {
  for (const char* text : {"(?=a)", "a(?!b)", "(?<=a)b", "\\bword", "(a)\\1", "\\p{L}", "(?i)a"})
    EXPECT_TRUE(ParseRegex(text).status().Is(Code::kUnsupported)) << text;
  for (const char* text : {"(", ")", "[a", "*", "a{3,1}", "\\u12", "a\\", "[z-a]"})
    EXPECT_TRUE(ParseRegex(text).status().Is(Code::kInvalid)) << text;
  EXPECT_TRUE(Of("^\\u00e9\\x41[\\u{1F600}]$").Accepts("éA😀"));
  EXPECT_TRUE(Of("^{a}{$").Accepts("{a}{"));
}

// Numbers within random bounds: exactly those that lie there, up to the digits that doubles keep.
TEST(Numbers, LieWithinTheirBounds) {
  std::mt19937 random(3);
  const auto decimal = [&] {
    std::string text = random() % 2 == 0 ? "-" : "";
    text += std::to_string(random() % (random() % 2 == 0 ? 20 : 3000));
    if (random() % 2 == 0) text += "." + std::to_string(random() % 100);
    return text;
  };
  for (int round = 0; round < 300; ++round) {
    std::optional<Bound> least, most;
    if (random() % 4 != 0) least = Bound{decimal(), random() % 2 == 0};
    if (random() % 4 != 0) most = Bound{decimal(), random() % 2 == 0};
    const bool integer = random() % 2 == 0;
    const auto numbers = NumbersWithin(least, most, integer);
    ASSERT_TRUE(numbers.ok());
    const auto check = [&](const std::string& text) {
      const double value = std::strtod(text.c_str(), nullptr);
      bool within = !(integer && text.find('.') != std::string::npos);
      if (least) {
        const double bound = std::strtod(least->digits.c_str(), nullptr);
        within = within && (least->exclusive ? value > bound : value >= bound);
      }
      if (most) {
        const double bound = std::strtod(most->digits.c_str(), nullptr);
        within = within && (most->exclusive ? value < bound : value <= bound);
      }
      if (value == 0 && text[0] == '-') within = false;  // never written
      EXPECT_EQ(numbers->Accepts(text), within)
          << text << " in " << (least ? least->digits : "") << (least && least->exclusive ? "<" : "<=") << " "
          << (most ? most->digits : "") << (most && most->exclusive ? ">" : ">=") << " integer " << integer;
    };
    for (int i = 0; i < 60; ++i) check(decimal());
    for (const auto& bound : {least, most})
      if (bound)
        check(*PlainDecimal(bound->digits)),
            check(*PlainDecimal(bound->digits) +
                  (bound->digits.find('.') == std::string::npos ? ".0001" : "001"));
    EXPECT_FALSE(numbers->Accepts("01"));
    EXPECT_FALSE(numbers->Accepts("1."));
    EXPECT_FALSE(numbers->Accepts(""));
  }
  EXPECT_EQ(*PlainDecimal("-12.50e1"), "-125");
  EXPECT_EQ(*PlainDecimal("1e-3"), "0.001");
  EXPECT_EQ(*PlainDecimal("1.5E+20"), "150000000000000000000");
  EXPECT_TRUE(PlainDecimal("1e999").status().Is(Code::kUnsupported));
}

TEST(Numbers, AreMultiples) {
  for (const int64_t divisor : {1, 2, 7, 25, 1000}) {
    const Automaton multiples = Multiples(divisor);
    for (int64_t n = -3000; n <= 3000; ++n)
      ASSERT_EQ(multiples.Accepts(std::to_string(n)), n % divisor == 0) << n << " by " << divisor;
    for (const char* no : {"", "-", "-0", "007", "1.0"}) EXPECT_FALSE(multiples.Accepts(no)) << no;
  }
}

TEST(Formats, HoldTheirTexts) {
  const std::pair<const char*, std::vector<const char*>> good[] = {
      {"date", {"2024-02-29", "2023-12-31", "2000-02-29"}},
      {"date-time", {"2024-02-29T23:59:59Z", "1999-01-01T00:00:00.123+05:30"}},
      {"ipv6", {"::", "::1", "1::", "2001:db8::ff00:42:8329", "1:2:3:4:5:6:7:8"}},
      {"ipv4", {"0.0.0.0", "255.255.255.255"}},
      {"email", {"a.b@example.com"}},
      {"uuid", {"123e4567-e89b-12d3-a456-426614174000"}},
      {"duration", {"P1Y2M3D", "PT5M", "P2W", "P1DT1H"}},
      {"uri", {"https://example.com/a?b=c#d", "urn:isbn:0451450523", "mailto:x@y.z"}}};
  for (const auto& [format, texts] : good)
    for (const char* text : texts)
      EXPECT_TRUE(Of(std::string(FormatPattern(format))).Accepts(text)) << format << text;
  const std::pair<const char*, std::vector<const char*>> bad[] = {
      {"date", {"2023-02-29", "1900-02-29", "2023-04-31", "0000-01-01", "2023-13-01"}},
      {"ipv6", {":", "1:2:3:4:5:6:7", "1::2::3", "12345::"}},
      {"ipv4", {"256.0.0.0", "1.2.3", "01.2.3.4"}},
      {"duration", {"P", "PT", "P1H"}},
      {"uri", {"/a", "x y:"}}};
  for (const auto& [format, texts] : bad)
    for (const char* text : texts)
      EXPECT_FALSE(Of(std::string(FormatPattern(format))).Accepts(text)) << format << text;
  EXPECT_EQ(FormatPattern("int32"), "");
}

// Lists of many values are looked through once, and rules of equal strings and numbers are shared.
TEST(SchemaGrammar, LargeSchemasStaySmall) {
  std::string list = R"({"type": "integer", "minimum": 100, "enum": [)",
              same = R"({"type": "object", "properties": {)";
  for (int i = 0; i < 20000; ++i) list += (i > 0 ? "," : "") + std::to_string(i);
  const auto values = SchemaGrammar(list + "]}");
  ASSERT_TRUE(values.ok());
  EXPECT_EQ(values->find("| \"99\""), std::string::npos);
  EXPECT_NE(values->find("| \"19999\""), std::string::npos);
  for (int i = 0; i < 3000; ++i)
    same += (i > 0 ? ",\"p" : "\"p") + std::to_string(i) +
            R"(": {"type": "string", "maxLength": 60, "pattern": "^[a-z]*$"})";
  EXPECT_TRUE(SchemaGrammar(same + "}}").ok());
  const auto equal = SchemaGrammar(
      R"({"enum": [1.0, {"b": 2, "a": 1}, "x"], "allOf": [{"enum": [{"a": 1.0, "b": 2}, 1]}]})");
  ASSERT_TRUE(equal.ok());
  EXPECT_NE(equal->find("1.0"), std::string::npos);
  EXPECT_NE(equal->find("{\\\"b\\\": 2, \\\"a\\\": 1}"), std::string::npos) << *equal;
  EXPECT_EQ(equal->find("\"\\\"x\\\"\""), std::string::npos);
}

TEST(SchemaGrammar, NamesWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"properties": {"a": {"not": {"const": 1}}}, "type": "object"})", "#/properties/a/not"},
      {R"({"type": "nothing"})", "#/type"},
      {R"({"properties": {"a": {"type": "string", "type": "null"}}})", "properties.a.type"},
      {R"({"items": {"uniqueItems": true}})", "#/items/uniqueItems"},
      {R"({"$ref": "http://example.com/x"})", "$defs"},
      {R"({"$ref": "#/$defs/none"})", "none"},
      {R"s({"type": "string", "pattern": "(?=a)"})s", "#/pattern"},
      {R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})", "#/oneOf"},
      {R"({"type": "object", "required": ["a"], "additionalProperties": false})", "no value at all"},
      {R"({"enum": [1, 2], "type": "string"})", "no value at all"},
      {R"({"type": "string", "minLength": 3, "maxLength": 2})", "no value at all"},
      {R"({"type": "integer", "multipleOf": 0.5})", "#/multipleOf"},
      {R"({"allOf": [{"required": 5}]})", "#/allOf/0/required"}};
  for (const auto& [schema, word] : cases) {
    const auto grammar = SchemaGrammar(schema);
    ASSERT_FALSE(grammar.ok()) << schema;
    EXPECT_NE(grammar.status().ToString().find(word), std::string::npos) << grammar.status().ToString();
  }
  std::string chain = R"({"$ref": "#/$defs/d0", "$defs": {)";
  for (int i = 0; i < 5000; ++i)
    chain += "\"d" + std::to_string(i) + "\": {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/d" +
             std::to_string(i + 1) + "\"}},";
  EXPECT_TRUE(SchemaGrammar(chain + "\"d5000\": {}}}").status().Is(Code::kLimit));
}

size_t RulesOf(const std::string& grammar) {
  size_t count = 0;
  for (size_t at = 0; (at = grammar.find(" ::= ", at)) != std::string::npos; ++at) ++count;
  return count;
}

// `make(n)` is held below a limit and at it, and refused above it by the path.
void ExpectLimit(const std::function<std::string(int)>& make, int limit, const std::string& path) {
  for (const int n : {limit - 1, limit}) {
    const auto grammar = SchemaGrammar(make(n));
    EXPECT_TRUE(grammar.ok()) << n << ": " << grammar.status().ToString();
  }
  const auto grammar = SchemaGrammar(make(limit + 1));
  ASSERT_FALSE(grammar.ok()) << path << " holds " << limit + 1;
  EXPECT_NE(grammar.status().ToString().find(path), std::string::npos) << grammar.status().ToString();
}

// Entries 0 to n - 1, with commas.
std::string Entries(int n, const std::function<std::string(int)>& entry) {
  std::string text;
  for (int i = 0; i < n; ++i) text += (i > 0 ? "," : "") + entry(i);
  return text;
}

TEST(Limits, PropertiesOfOneObject) {
  const auto properties = [](int n) {
    return "{" + Entries(n, [](int i) { return "\"p" + std::to_string(i) + "\": {\"type\": \"null\"}"; }) +
           "}";
  };
  ExpectLimit(
      [&](int n) {
        return R"({"properties": {"o": {"type": "object", "properties": )" + properties(n) + "}}}";
      },
      4096, "#/properties/o has more than 4096 properties");
  // A name that is declared, required, or both, is one.
  ExpectLimit(
      [&](int n) {
        const auto name = [](int i) { return "\"p" + std::to_string(i) + "\""; };
        return R"({"type": "object", "properties": )" + properties(n) + R"(, "required": [)" +
               Entries(n, name) + "]}";
      },
      4096, "has more than 4096 properties");
}

TEST(Limits, PatternsOfNames) {
  ExpectLimit(
      [](int n) {
        return R"({"items": {"type": "object", "patternProperties": {)" +
               Entries(n,
                       [](int i) {
                         return "\"^" + std::string(1, static_cast<char>('a' + i)) +
                                "\": {\"type\": \"null\"}";
                       }) +
               "}}}";
      },
      4, "#/items/patternProperties of more than 4 patterns");
}

TEST(Limits, CombinationsOfBranches) {
  const int factors[][2] = {{7, 73}, {16, 32}, {19, 27}};  // 511, 512, 513
  ExpectLimit(
      [&](int n) {
        const auto group = [](const std::string& name, int count) {
          return R"({"anyOf": [)" +
                 Entries(count,
                         [&](int i) {
                           return R"({"properties": {")" + name + R"(": {"const": )" + std::to_string(i) +
                                  "}}}";
                         }) +
                 "]}";
        };
        const auto& [a, b] = factors[n - 511];
        EXPECT_EQ(a * b, n);
        return R"({"properties": {"x": {"type": "object", "allOf": [)" + group("a", a) + "," + group("b", b) +
               "]}}}";
      },
      512, "#/properties/x/allOf/1");
}

TEST(Limits, StatesOfAnAutomaton) {
  EXPECT_TRUE(Automaton::OfLength(0, 1023).ok());
  EXPECT_TRUE(Automaton::OfLength(0, 1024).status().Is(Code::kLimit));
  ExpectLimit(
      [](int n) {
        return R"({"properties": {"s": {"type": "string", "pattern": "^[ab]*$", "maxLength": )" +
               std::to_string(n) + "}}}";
      },
      1023, "#/properties/s/pattern");
  // A state after each character, one before, and the first of all, where ^ holds.
  ExpectLimit(
      [](int n) {
        return R"({"properties": {"s": {"type": "string", "allOf": [{"pattern": "^a*$"}, {"pattern": "^a{)" +
               std::to_string(n) + R"(}$"}]}}})";
      },
      1022, "#/properties/s/allOf/1/pattern");
}

TEST(Limits, LongPatternsAreWrittenAsTheyStand) {
  const auto rules = [](int n) {
    const auto grammar =
        SchemaGrammar(R"({"type": "string", "pattern": "^a{)" + std::to_string(n) + R"(}$"})");
    EXPECT_TRUE(grammar.ok());
    return grammar.ok() ? RulesOf(*grammar) : 0;
  };
  const size_t plain = rules(1);
  EXPECT_GT(rules(254), plain + 200);
  EXPECT_GT(rules(255), plain + 200);  // 256 states
  EXPECT_LT(rules(256), plain + 10);
}

TEST(Limits, ShortStringsHoldEscapes) {
  const auto counted = [](int n) {
    const auto grammar = SchemaGrammar(R"({"type": "string", "maxLength": )" + std::to_string(n) + "}");
    EXPECT_TRUE(grammar.ok());
    return grammar.ok() && grammar->find("{0," + std::to_string(n) + "}") != std::string::npos;
  };
  EXPECT_FALSE(counted(63));
  EXPECT_FALSE(counted(64));
  EXPECT_TRUE(counted(65));
}

TEST(Limits, RulesOfOneGrammar) {
  const auto many = [](int objects) {
    return R"({"prefixItems": [)" +
           Entries(objects,
                   [](int o) {
                     return R"({"type": "object", "properties": {)" +
                            Entries(4000,
                                    [o](int i) {
                                      return "\"p" + std::to_string(i) + R"(": {"enum": [)" +
                                             std::to_string(o * 4000 + i) + ", 0.5]}";
                                    }) +
                            "}}";
                   }) +
           "]}";
  };
  EXPECT_TRUE(SchemaGrammar(many(2)).ok());
  const auto grammar = SchemaGrammar(many(26));
  ASSERT_TRUE(grammar.status().Is(Code::kLimit));
  EXPECT_NE(grammar.status().ToString().find("100000 rules; they are used up at #/prefixItems/"),
            std::string::npos)
      << grammar.status().ToString();
}

}  // namespace
}  // namespace headrace::schema
