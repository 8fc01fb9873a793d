#include "base/json_tape.h"
#include "base/json.h"

#include <gtest/gtest.h>

#include <random>

#include "base/limits.h"
#include "testing.h"

namespace headrace {
namespace {

TEST(JsonTape, ValuesAndTheirPlaces) {
  JsonTape tape;
  ASSERT_OK(tape.Read(R"( {"a": [1, -2.50e3], "b\u00e9\ud83d\ude00\n": {"c": null}} )"));
  EXPECT_EQ(tape[0].kind, JsonKind::kObject);
  EXPECT_EQ(tape.Text(1), "a");
  EXPECT_EQ(tape.Raw(1), "\"a\"");
  EXPECT_EQ(tape.Raw(2), "[1, -2.50e3]");
  EXPECT_EQ(tape.Raw(4), "-2.50e3");
  EXPECT_TRUE(tape[3].whole);
  EXPECT_FALSE(tape[4].whole);
  EXPECT_EQ(tape[2].next, 5u);
  EXPECT_EQ(tape.Text(5), "b\u00e9\U0001F600\n");
  EXPECT_EQ(tape.Raw(6), R"({"c": null})");
  EXPECT_TRUE(tape.IsNull(8));
  EXPECT_EQ(tape[0].next, 9u);
}

TEST(JsonTape, FaultsSayWhere) {
  const auto why = [](const std::string& text) { return WhyNotJson(text); };
  EXPECT_EQ(why(R"({"a": 1, "b": {}})"), "");
  EXPECT_EQ(why(R"({"a": 1, "a": 2})"), "column 17: the key 'a' is in one object twice");
  EXPECT_EQ(why(R"({"a": 1, "\u0061": 2})"), "column 22: the key 'a' is in one object twice");
  EXPECT_EQ(why("{\n \"a\": 01\n}"), "line 2 of it, column 9: a number begins with a zero");
  EXPECT_EQ(why(R"({"a": NaN})"), "column 7: NaN and Infinity are no JSON");
  EXPECT_EQ(why(R"({"a": 1,})"), "column 9: a key in double quotes is expected");
  EXPECT_EQ(why(R"({"a": 1)"), "column 8: it ends inside an object");
  EXPECT_EQ(why(R"({"a": 1} x)"), "column 10: there is text behind its end");
  EXPECT_NE(why("\"\\ud800\"").find("surrogate"), std::string::npos);
  EXPECT_NE(why("\"\xc0\xaf\"").find("UTF-8"), std::string::npos);
  EXPECT_NE(why("\"a\nb\"").find("line break"), std::string::npos);
  JsonTape tape;
  ASSERT_OK(tape.Read("[NaN, -Infinity, 1]", true));
  EXPECT_FALSE(tape.finite());
  EXPECT_FALSE(tape[2].finite);
}

TEST(JsonTape, DepthIsBounded) {
  for (const int64_t depth : {limits::kMaxJsonDepth - 1, limits::kMaxJsonDepth, limits::kMaxJsonDepth + 1}) {
    const auto n = static_cast<size_t>(depth);
    JsonTape tape;
    const Status read = tape.Read(std::string(n, '[') + std::string(n, ']'));
    EXPECT_EQ(read.ok(), depth <= limits::kMaxJsonDepth);
    EXPECT_EQ(read.Is(Code::kLimit), depth > limits::kMaxJsonDepth);
  }
  std::string deep;
  deep.resize(10'000'000, '[');
  EXPECT_FALSE(WhyNotJson(deep).empty());
}

TEST(JsonTape, ManyKeys) {
  for (const int count : {1, 2, 11, 12, 13, 1000}) {
    std::string text = "{";
    for (int i = 0; i < count; ++i) text += "\"k" + std::to_string(i) + "\": 0, ";
    EXPECT_EQ(WhyNotJson(text + "\"x\": 1}"), "");
    EXPECT_NE(WhyNotJson(text + "\"k0\": 1}").find("'k0' is in one object twice"), std::string::npos);
  }
}

// Texts near JSON: it agrees with another parser on each of them.
TEST(JsonTape, AgreesWithAnotherParser) {
  const std::string seeds[] = {
      R"({"a": [1, 2.5, -3e-2, "x\n\u00e9\ud83d\ude00"], "b": {"c": null, "d": true}})",
      "[\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\", false, {}, [], 0, -0, 1E+5]"};
  const std::string pieces[] = {"\"",
                                "\\",
                                "{",
                                "}",
                                "[",
                                "]",
                                ",",
                                ":",
                                "0",
                                "1",
                                "-",
                                ".",
                                "e",
                                "\\u",
                                "d83d",
                                "\xed\xa0\x80",
                                "\xf4\x90\x80\x80",
                                "\xc3",
                                "\x80",
                                "\n",
                                "\t",
                                " ",
                                "null",
                                "true",
                                "\\ude00",

                                "\x7f",
                                "\x1f"};
  std::mt19937_64 random(1);
  int accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string text = seeds[random() % std::size(seeds)];
    for (uint64_t edits = random() % 4; edits > 0; --edits) {
      const size_t at = random() % text.size(), drop = random() % 3;
      text.replace(at, std::min(drop, text.size() - at),
                   random() % 4 == 0 ? "" : pieces[random() % std::size(pieces)]);
      if (text.empty()) text = " ";
    }
    const std::string why = WhyNotJson(text);
    if (why.find("twice") != std::string::npos) continue;  // the other takes the last
    bool theirs = true;
    try {
      theirs = !nlohmann::json::parse(text).is_discarded();
    } catch (const nlohmann::json::out_of_range&) {  // a number beyond float64
    } catch (const nlohmann::json::exception&) {
      theirs = false;
    }
    ASSERT_EQ(why.empty(), theirs) << text << "\n" << why;
    accepted += theirs ? 1 : 0;
  }
  EXPECT_GT(accepted, 20'000);
}

// Every part, put together again from the tape, is the value that the other parser sees.
nlohmann::json Rebuilt(const JsonTape& tape, uint32_t i) {
  switch (tape[i].kind) {
    case JsonKind::kObject: {
      auto object = nlohmann::json::object();
      for (uint32_t k = i + 1; k < tape[i].next; k = tape[k + 1].next)
        object[tape.Text(k)] = Rebuilt(tape, k + 1);
      return object;
    }
    case JsonKind::kArray: {
      auto array = nlohmann::json::array();
      for (uint32_t k = i + 1; k < tape[i].next; k = tape[k].next) array.push_back(Rebuilt(tape, k));
      return array;
    }
    case JsonKind::kString:
      return tape.Text(i);
    default:
      return nlohmann::json::parse(tape.Raw(i));
  }
}

TEST(JsonTape, RebuildsWhatItRead) {
  std::mt19937_64 random(2);
  const std::function<nlohmann::json(int)> make = [&](int depth) -> nlohmann::json {
    switch (random() % (depth > 4 ? 5 : 7)) {
      case 0:
        return nullptr;
      case 1:
        return random() % 2 == 0;
      case 2:
        return static_cast<int64_t>(random());
      case 3:
        return static_cast<double>(static_cast<int64_t>(random())) / 1e10;
      case 4: {
        std::string text;
        for (uint64_t n = random() % 20; n > 0; --n)
          text += random() % 3 == 0 ? "\u20ac" : std::string(1, static_cast<char>(random() % 128));
        return text;
      }
      case 5: {
        auto array = nlohmann::json::array();
        for (uint64_t n = random() % 5; n > 0; --n) array.push_back(make(depth + 1));
        return array;
      }
      default: {
        auto object = nlohmann::json::object();
        for (uint64_t n = random() % 5; n > 0; --n) object[std::to_string(random() % 100)] = make(depth + 1);
        return object;
      }
    }
  };
  for (int round = 0; round < 3000; ++round) {
    const auto value = make(0);
    const std::string text = value.dump(round % 3 - 1, ' ', round % 2 == 0);
    JsonTape tape;
    ASSERT_OK(tape.Read(text));
    ASSERT_EQ(Rebuilt(tape, 0), value) << text;
  }
}

}  // namespace
}  // namespace headrace
