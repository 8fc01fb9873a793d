// JSON: a value goes in as it was, or its row is refused with the reason; part of a file is never silent.
#include <arrow/api.h>

#include <fstream>

#include "ingest/json_reader.h"
#include "ingest/json_records.h"
#include "ingest/json_types.h"
#include "testing.h"

namespace headrace::ingest {
namespace {

// The type of a column with these values.
std::string TypeOf(const std::vector<std::string>& values) {
  JsonGuess guess;
  JsonTape tape;
  for (const auto& value : values) {
    const Status read = tape.Read(value, true);
    if (!read.ok()) return read.ToString();
    guess.Add(tape, 0);
  }
  const auto type = guess.Type(0);
  return type ? type->ToString() : "none";
}

TEST(Json, TypesHoldEveryDigit) {
  EXPECT_EQ(TypeOf({"1", "-5", "null"}), "int64");
  EXPECT_EQ(TypeOf({"9223372036854775807", "-9223372036854775808"}), "int64");
  EXPECT_EQ(TypeOf({"9223372036854775808", "0"}), "uint64");
  EXPECT_EQ(TypeOf({"18446744073709551615"}), "uint64");
  EXPECT_EQ(TypeOf({"9223372036854775808", "-1"}), "json");
  EXPECT_EQ(TypeOf({"18446744073709551616"}), "json");
  EXPECT_EQ(TypeOf({"9007199254740993", "2.5"}), "json");
  EXPECT_EQ(TypeOf({"2.5", "9007199254740992"}), "float64");
  EXPECT_EQ(TypeOf({"2.5", "1000000000000000000000000000000"}), "json");  // 10^30 is no float64
  EXPECT_EQ(TypeOf({"2.5", "1e30"}), "float64");
  EXPECT_EQ(TypeOf({"-0"}), "float64");
  EXPECT_EQ(TypeOf({"0.30000000000000004", "1e-7"}), "float64");
  EXPECT_EQ(TypeOf({"3.14159265358979323846"}), "json");
  EXPECT_EQ(TypeOf({"1e400"}), "json");
  EXPECT_EQ(TypeOf({"NaN", "1"}), "float64");
}

TEST(Json, TypesOfMixedValues) {
  EXPECT_EQ(TypeOf({"true", "false"}), "bool");
  EXPECT_EQ(TypeOf({"true", "0"}), "json");
  EXPECT_EQ(TypeOf({"1", "\"a\""}), "json");
  EXPECT_EQ(TypeOf({"\"a\"", "[\"a\"]"}), "json");
  EXPECT_EQ(TypeOf({"null", "null"}), "none");
  EXPECT_EQ(TypeOf({"[1, 2]", "[]", "[null]"}), "list<int64>");
  EXPECT_EQ(TypeOf({"[1, \"a\"]"}), "list<json>");
  EXPECT_EQ(TypeOf({"[]"}), "list<json>");
  EXPECT_EQ(TypeOf({"[[1.5], [2]]"}), "list<list<float64>>");
  EXPECT_EQ(TypeOf({R"({"a": 1, "b": "x"})", R"({"b": "y", "a": 2})"}), "struct<a: int64, b: string>");
  EXPECT_EQ(TypeOf({R"({"a": 1})", R"({"a": null})"}), "struct<a: int64>");
  EXPECT_EQ(TypeOf({R"({"a": null})"}), "struct<a: json>");
  EXPECT_EQ(TypeOf({R"({"a": 1})", R"({"a": 1, "b": 2})"}), "json");  // a missing key would come back as null
  EXPECT_EQ(TypeOf({"{}"}), "json");
  EXPECT_EQ(TypeOf({R"({"a": 1, "A": 2})"}), "json");
  EXPECT_EQ(TypeOf({R"({"": 1})"}), "json");
  EXPECT_EQ(TypeOf({R"([{"role": "user", "content": "a"}, {"role": "user", "content": [1]}])"}),
            "list<struct<role: string, content: json>>");
}

TEST(Json, TypesOfTimes) {
  EXPECT_EQ(TypeOf({"\"2024-02-29\"", "\"2023-01-01\""}), "date");
  EXPECT_EQ(TypeOf({"\"2023-02-29\""}), "string");
  EXPECT_EQ(TypeOf({"\"2024-02-29T10:00:00\""}), "timestamp[s]");
  EXPECT_EQ(TypeOf({"\"2024-02-29 10:00:00.123456\""}), "timestamp[us]");
  EXPECT_EQ(TypeOf({"\"2024-02-29T10:00:00.123Z\""}), "timestamp[ms, UTC]");
  EXPECT_EQ(TypeOf({"\"2024-02-29T10:00:00.123456789\""}), "timestamp[ns]");
  EXPECT_EQ(TypeOf({"\"9999-02-28T10:00:00.123456789\""}), "string");
  // Forms that no type writes back, or two forms beside each other.
  EXPECT_EQ(TypeOf({"\"2024-02-29T10:00\""}), "string");
  EXPECT_EQ(TypeOf({"\"2024-02-29T10:00:00.1\""}), "string");
  EXPECT_EQ(TypeOf({"\"2024-02-29T10:00:00+02:00\""}), "string");
  EXPECT_EQ(TypeOf({"\"2024-02-29T10:00:00\"", "\"2024-02-29 10:00:00\""}), "string");
  EXPECT_EQ(TypeOf({"\"2024-02-29T10:00:00\"", "\"2024-02-29\""}), "string");
}

TEST(Json, NestingIsBounded) {
  const auto nested = [](size_t n) { return std::string(n, '[') + "1" + std::string(n, ']'); };
  for (const int64_t depth : {limits::kMaxNesting - 1, limits::kMaxNesting, limits::kMaxNesting + 1}) {
    const std::string type = TypeOf({nested(static_cast<size_t>(depth))});
    EXPECT_EQ(type.find("json") != std::string::npos, depth > limits::kMaxNesting) << type;
  }
}

TEST(Json, GuessesMerge) {
  const std::vector<std::string> values = {
      "1",     "2.5",  "\"a\"",        "[1]",           "[]",  "[\"x\"]",
      "null",  "true", R"({"a": 1})",  R"({"a": "x"})", "{}",  "\"2024-01-01\"",
      "1e400", "-1",   R"({"b": {}})", "[{\"a\": 1}]",  "[[]]"};
  for (const auto& a : values) {
    for (const auto& b : values) {
      JsonGuess first, second, together;
      JsonTape tape;
      ASSERT_OK(tape.Read(a));
      first.Add(tape, 0);
      together.Add(tape, 0);
      ASSERT_OK(tape.Read(b));
      second.Add(tape, 0);
      together.Add(tape, 0);
      first.Merge(std::move(second));
      const auto merged = first.Type(0), expected = together.Type(0);
      ASSERT_EQ(merged.has_value(), expected.has_value()) << a << " " << b;
      if (!merged) continue;
      EXPECT_EQ(merged->ToString(), expected->ToString()) << a << " " << b;
    }
  }
}

class JsonFile : public ::testing::Test {
 protected:
  // The rows as text, a line each; errors behind them.
  std::string Read(const std::string& text,
                   const std::vector<std::pair<std::string, std::string>>& given = {}) {
    std::ofstream(folder_.path() + "/f.json", std::ios::binary) << text;
    std::vector<IngestError> errors;
    JsonSource source{.path = folder_.path() + "/f.json", .name = "f.json", .pool = &pool_};
    source.chunk_bytes = chunk_bytes_;
    source.record_bytes = record_bytes_;
    for (const auto& [name, type] : given) {
      table::Field field;
      field.name = name;
      field.type = *table::ParseType(type);
      source.given.push_back(field);
    }
    const auto reader = OpenJson(source, &errors);
    if (!reader.ok()) return reader.status().ToString();
    std::string out;
    for (std::shared_ptr<arrow::RecordBatch> batch; (*reader)->ReadNext(&batch).ok() && batch;) {
      EXPECT_TRUE(batch->ValidateFull().ok());
      for (int64_t i = 0; i < batch->num_rows(); ++i) {
        for (const auto& column : batch->columns())
          out += column->IsNull(i) ? "~|" : (*column->GetScalar(i))->ToString() + "|";
        out += "\n";
      }
    }
    for (const auto& error : errors) out += error.path + ": " + error.error.message() + "\n";
    return out;
  }

  testing::TempFolder folder_;
  TaskPool pool_{2};
  int64_t chunk_bytes_ = 4 << 20, record_bytes_ = limits::kMaxJsonLineBytes;
};

TEST_F(JsonFile, Lines) {
  EXPECT_EQ(Read("{\"a\": 1, \"b\": \"x\\n\\u00e9\"}\n\n  \r\n{\"b\": null, \"a\": 2}\r\n{\"c\": true}"),
            "1|x\n\u00e9|~|\n2|~|~|\n~|~|true|\n");
  EXPECT_EQ(Read("\xef\xbb\xbf{\"a\": 1}\n"), "1|\n");
  EXPECT_EQ(Read(std::string("\xff\xfe{\0\"\0a\0\"\0:\0001\0}\0", 16)), "1|\n");
  EXPECT_EQ(Read(""), "");
  EXPECT_EQ(Read("{\"a\": 1}\n{\"a\": 2, \"a\": 3}\nx\n[4]\n{\"a\": 5\n{\"a\": 6}\n"),
            "1|\n6|\n"
            "f.json:2: it is not JSON: column 17: the key 'a' is in one object twice\n"
            "f.json:3: it is not JSON: column 1: a value is expected\n"
            "f.json:4: it is not a JSON object\n"
            "f.json:5: it is not JSON: column 8: it ends inside an object\n");
  // The first line is at fault too.
  EXPECT_EQ(Read("{\"a\": 5\n{\"a\": 6}\n"),
            "6|\nf.json:1: it is not JSON: column 8: it ends inside an object\n");
  EXPECT_EQ(Read("[1]\n{\"a\": 6}\n"), "6|\nf.json:1: it is not a JSON object\n");
  // A key that no column may have costs its row.
  EXPECT_EQ(Read("{\"\": 5}\n{\"a\": 6}\n"), "6|\nf.json:1: a column needs a name; this one is empty\n");
}

TEST_F(JsonFile, ArraysAndObjects) {
  EXPECT_EQ(Read("[{\"a\": 1}, {\"a\": 2}]"), "1|\n2|\n");
  EXPECT_EQ(Read("[\n  {\n    \"a\": \"x\"\n  },\n  {\"a\": \"]},{\"}\n]\n"), "x|\n]},{|\n");
  EXPECT_EQ(Read("{\n  \"a\": 1\n}\n"), "1|\n");
  EXPECT_EQ(Read("{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n"), "1|\n2|\n");
  EXPECT_EQ(Read("{\n  \"a\": 1\n}\nx\n{\n  \"a\": 2 3\n}\n{}"),
            "1|\n~|\nf.json:4: it is not JSON: column 1: a value is expected\n"
            "f.json:5: it is not JSON: line 2 of it, column 10: a comma or } is expected\n");
  EXPECT_EQ(Read("[]"), "");
}

TEST_F(JsonFile, FaultsOfArrays) {
  EXPECT_EQ(Read("[{\"a\": 1}, 7, {\"a\": 2 3}, {\"a\": 4}]"),
            "1|\n4|\nf.json[1]: it is not a JSON object\n"
            "f.json[2]: it is not JSON: column 9: a comma or } is expected\n");
  EXPECT_EQ(Read("[{\"a\": 1}, {\"a\": 2"),
            "1|\nf.json[1]: the file ends inside it\nf.json[2]: the file ends inside its array, after 2 "
            "elements\n");
  EXPECT_EQ(Read("[{\"a\": 1}, "), "1|\nf.json[1]: the file ends inside its array, after 1 elements\n");
  EXPECT_EQ(Read("[{\"a\": 1} {\"a\": 2}, {\"a\": 3}]"), "1|\n3|\nf.json[1]: there is no comma before it\n");
  EXPECT_EQ(Read("[{\"a\": 1},, {\"a\": 3},]"),
            "1|\n3|\nf.json[1]: there is no element before a comma\n"
            "f.json[2]: there is no element behind the last comma\n");
  EXPECT_EQ(Read("[{\"a\": 1}] x"),
            "1|\nf.json[1]: the array ends in line 1 or before; what is behind it was not read\n");
  // A string that is not closed costs its element, not the file.
  EXPECT_EQ(Read("[\n{\"a\": \"x},\n{\"a\": \"y\"}]"),
            "f.json[0]: it is not JSON: column 11: a string holds a line break or another control character\n"
            "f.json[1]: the file ends inside its array, after 1 elements\n");
}

TEST_F(JsonFile, TypesThatAreGiven) {
  EXPECT_EQ(Read("{\"a\": 1}\n{\"a\": 5000000000}\n{\"a\": 1.0}\n{\"a\": \"1\"}\n{\"a\": null}\n",
                 {{"a", "int32"}}),
            "1|\n~|\n"
            "f.json:2: column 'a': 5000000000 is no value of int32\n"
            "f.json:3: column 'a': 1.0 is no value of int32\n"
            "f.json:4: column 'a': \"1\" is no value of int32\n");
  EXPECT_EQ(
      Read("{\"a\": 1}\n{\"a\": {\"b\": [1, 2 ]}}\n{\"a\": NaN}\n", {{"a", "json"}}),
      "1|\n{\"b\": [1, 2 ]}|\nf.json:3: column 'a': NaN is no JSON, and the column holds JSON as it was\n");
  EXPECT_EQ(Read("{\"a\": \"x\"}\n{\"a\": 5}\n", {{"a", "string"}}),
            "x|\nf.json:2: column 'a': 5 is no value of string\n");
  EXPECT_EQ(Read("{\"a\": {\"b\": 1}}\n{\"a\": {\"c\": 1}}\n{\"a\": {}}\n", {{"a", "struct<b: int64>"}}),
            "{b:int64 = 1}|\n{b:int64 = null}|\n"
            "f.json:2: column 'a': its type struct<b: int64> has no field 'c'\n");
  EXPECT_EQ(
      Read("{\"a\": [[1, 2], [3, 4]]}\n{\"a\": [[1, 2], [3]]}\n{\"a\": [[1, 2], [3, null]]}\n{\"a\": null}\n",
           {{"a", "tensor<float32>[2, 2]"}}),
      "fixed_size_list<item: float not null>[4][1, 2, 3, 4]|\n~|\n"
      "f.json:2: column 'a': [3] has not the shape of tensor<float32>[2, 2]\n"
      "f.json:3: column 'a': a tensor's elements may not be null\n");
  EXPECT_EQ(Read("{\"a\": 16777216}\n{\"a\": 16777217}\n{\"a\": 0.1}\n{\"a\": 1e39}\n", {{"a", "float32"}}),
            "16777216|\n0.1|\n"
            "f.json:2: column 'a': 16777217 is no value of float32\n"
            "f.json:4: column 'a': 1e39 is no value of float32\n");
  EXPECT_EQ(Read("{\"a\": \"2024-01-01T00:00:00\"}\n{\"a\": \"2024-01-01T00:00:00Z\"}\n{\"a\": 5}\n",
                 {{"a", "timestamp[us]"}}),
            "2024-01-01 00:00:00.000000|\n"
            "f.json:2: column 'a': '2024-01-01T00:00:00Z' is no value of timestamp[us]\n"
            "f.json:3: column 'a': 5 is no value of timestamp[us], which JSON has as text\n");
}

// Every 3rd of many lines is bad, in chunks of every size.
TEST_F(JsonFile, OneInThreeIsBad) {
  for (const int64_t chunk : {1, 10, 100, 1 << 20}) {
    chunk_bytes_ = chunk;
    std::string text, rows, errors;
    for (int i = 0; i < 100; ++i) {
      const std::string n = std::to_string(i);
      text += i % 3 == 0 ? "{\"a\": " + n + "\n" : "{\"a\": " + n + "}\n";
      if (i % 3 != 0) rows += n + "|\n";
    }
    const std::string out = Read(text);
    EXPECT_TRUE(out.starts_with(rows + "f.json:1: "));
    EXPECT_NE(out.find("f.json:100: "), std::string::npos);
    EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 100);
  }
}

// Records of one byte fewer than the limit, as many, one more.
TEST_F(JsonFile, RecordsHaveALimit) {
  record_bytes_ = 4 << 20;
  for (const int64_t size : {record_bytes_ - 1, record_bytes_, record_bytes_ + 1}) {
    const std::string record = "{\"a\": \"" + std::string(static_cast<size_t>(size) - 9, 'x') + "\"}";
    for (const bool array : {false, true}) {
      const std::string text = array ? "[" + record + ",\n{\"a\": \"y\"}]" : record + "\n{\"a\": \"y\"}\n";
      const std::string out = Read(text);
      const std::string told = array ? "f.json[0]: it has more than" : "f.json:1: it has more than";
      EXPECT_NE(out.find("y|\n"), std::string::npos);
      EXPECT_EQ(out.find(told) != std::string::npos, size > record_bytes_) << size << array;
      EXPECT_EQ(out.find("xxx|\n") != std::string::npos, size <= record_bytes_) << size << array;
    }
  }
}

}  // namespace
}  // namespace headrace::ingest
