// Values go into a column as they are, or their row is at fault; a column of another kind is refused.
#include "table/conform.h"

#include <arrow/api.h>
#include <arrow/compute/api.h>
#include <arrow/json/from_string.h>

#include "testing.h"

namespace headrace::table {
namespace {

std::shared_ptr<arrow::Array> Of(const std::shared_ptr<arrow::DataType>& type, const std::string& json) {
  return *arrow::json::ArrayFromJSONString(type, json);
}

Field Column(const std::string& type) {
  Field field;
  field.name = "c";
  field.type = *ParseType(type);
  return field;
}

// The rows at fault, or the error of the whole column.
std::string Faults(const std::shared_ptr<arrow::Array>& array, const std::string& type) {
  std::vector<RowFault> faults;
  const auto conformed = ConformRows(array, Column(type), &faults);
  if (!conformed.ok()) return conformed.status().message();
  std::string out;
  for (const auto& fault : faults) out += std::to_string(fault.row) + ": " + fault.why + "\n";
  if (faults.empty() && !(*conformed)->ValidateFull().ok()) return "not valid";
  return out;
}

TEST(Conform, NumbersThatFit) {
  EXPECT_EQ(Faults(Of(arrow::int64(), "[1, 5000000000, null, -2147483648]"), "int32"),
            "1: 5000000000 is no value of int32\n");
  EXPECT_EQ(Faults(Of(arrow::uint64(), "[18446744073709551615, 1]"), "int64"),
            "0: 18446744073709551615 is no value of int64\n");
  EXPECT_EQ(Faults(Of(arrow::int64(), "[-1, 1]"), "uint64"), "0: -1 is no value of uint64\n");
  EXPECT_EQ(Faults(Of(arrow::int64(), "[9007199254740992, 9007199254740993]"), "float64"),
            "1: 9007199254740993 is no value of double\n");
  EXPECT_EQ(Faults(Of(arrow::int64(), "[16777216, 16777217, -9223372036854775808]"), "float32"),
            "1: 16777217 is no value of float\n");
  EXPECT_EQ(Faults(Of(arrow::int32(), "[2048, 2049, 70000]"), "float16"),
            "1: 2049 is no value of halffloat\n2: 70000 is no value of halffloat\n");
  EXPECT_EQ(Faults(Of(arrow::float64(), "[1, 1.5, 1e30, NaN]"), "int64"),
            "1: 1.5 is no value of int64\n2: 1e+30 is no value of int64\n3: nan is no value of int64\n");
  EXPECT_EQ(Faults(Of(arrow::float64(), "[9223372036854774784, 9223372036854775808]"), "int64"),
            "1: 9.223372036854776e+18 is no value of int64\n");
  EXPECT_EQ(Faults(Of(arrow::float64(), "[0.1, 1e39, Inf, NaN, 3.4028235e38]"), "float32"),
            "1: 1e+39 is no value of float\n");
}

TEST(Conform, KindsAreKept) {
  EXPECT_NE(Faults(Of(arrow::utf8(), "[\"5\"]"), "int64").find("cast it"), std::string::npos);
  EXPECT_NE(Faults(Of(arrow::int64(), "[5]"), "string").find("cast it"), std::string::npos);
  EXPECT_NE(Faults(Of(arrow::boolean(), "[true]"), "int64").find("cast it"), std::string::npos);
  EXPECT_NE(Faults(Of(arrow::int64(), "[5]"), "timestamp[us]").find("cast it"), std::string::npos);
  const auto naive = Of(arrow::timestamp(arrow::TimeUnit::MICRO), "[\"2024-01-01 00:00:00\"]");
  const auto aware = Of(arrow::timestamp(arrow::TimeUnit::MICRO, "UTC"), "[\"2024-01-01 00:00:00Z\"]");
  EXPECT_NE(Faults(naive, "timestamp[us, UTC]").find("at time zone"), std::string::npos);
  EXPECT_NE(Faults(aware, "timestamp[us]").find("at time zone"), std::string::npos);
  EXPECT_NE(Faults(naive, "date").find("cast it"), std::string::npos);
  EXPECT_EQ(Faults(aware, "timestamp[us, Europe/Berlin]"), "");
  EXPECT_EQ(Faults(Of(arrow::null(), "[null]"), "int64"), "");
}

TEST(Conform, TimesInAnotherUnit) {
  const auto nanos = Of(arrow::timestamp(arrow::TimeUnit::NANO), "[1000, 1001, null, -1000]");
  EXPECT_EQ(Faults(nanos, "timestamp[us]"),
            "1: 1970-01-01 00:00:00.000001001 is no value of timestamp[us]\n");
  const auto seconds = Of(arrow::timestamp(arrow::TimeUnit::SECOND), "[1, 9223372036855]");
  EXPECT_EQ(Faults(seconds, "timestamp[us]").substr(0, 3), "1: ");
  EXPECT_EQ(Faults(seconds, "timestamp[ms]"), "");
  ASSERT_VALUE(const auto micros,
               ConformArray(Of(arrow::timestamp(arrow::TimeUnit::MILLI), "[null, 5, 6]")->Slice(1),
                            Column("timestamp[us]")));
  EXPECT_TRUE(micros->Equals(*Of(arrow::timestamp(arrow::TimeUnit::MICRO), "[5000, 6000]")));
}

TEST(Conform, DecimalsOfAnotherScale) {
  const auto cents = Of(arrow::decimal128(10, 2), R"(["1.50", "1.25", null, "12345678.00"])");
  EXPECT_EQ(Faults(cents, "decimal(12, 3)"), "");
  EXPECT_EQ(Faults(cents, "decimal(12, 1)"), "1: 1.25 is no value of decimal128(12, 1)\n");
  EXPECT_EQ(Faults(cents, "decimal(4, 2)"), "3: 12345678.00 is no value of decimal128(4, 2)\n");
  EXPECT_EQ(Faults(Of(arrow::decimal64(10, 2), R"(["1.50"])"), "decimal(40, 2)"), "");
  EXPECT_NE(Faults(cents, "float64").find("cast it"), std::string::npos);
}

TEST(Conform, TextOfAnyLayout) {
  EXPECT_EQ(Faults(Of(arrow::large_utf8(), "[\"a\", null]"), "string"), "");
  EXPECT_EQ(Faults(Of(arrow::utf8_view(), "[\"a\", \"longer than twelve bytes\"]"), "string"), "");
  EXPECT_EQ(Faults(Of(arrow::utf8(), "[\"a\"]"), "binary"), "");
  arrow::BinaryBuilder bytes;
  ASSERT_TRUE(bytes.Append("ok").ok() && bytes.Append("\xff").ok() && bytes.Append("\xc3\xa9").ok());
  EXPECT_EQ(Faults(*bytes.Finish(), "string").substr(0, 33), "1: the text is not valid UTF-8; f");
}

TEST(Conform, JsonIsChecked) {
  EXPECT_EQ(Faults(Of(arrow::utf8(), R"(["{\"a\": 1e400}", "{\"a\": 1", null, "5"])"), "json"),
            "1: it is not JSON: column 8: it ends inside an object\n");
  EXPECT_NE(Faults(Of(arrow::int64(), "[5]"), "json").find("JSON text"), std::string::npos);
}

TEST(Conform, InsideListsAndStructs) {
  const auto lists = Of(arrow::list(arrow::int64()), "[[1], null, [], [2, 5000000000, 6000000000], [300]]");
  EXPECT_EQ(Faults(lists, "list<int32>"), "3: 5000000000 is no value of int32\n");
  EXPECT_EQ(Faults(lists->Slice(2), "list<int32>"), "1: 5000000000 is no value of int32\n");
  EXPECT_EQ(Faults(Of(arrow::large_list(arrow::int64()), "[[1], [300]]"), "list<int8>"),
            "1: 300 is no value of int8\n");
  const auto structs =
      Of(arrow::struct_({arrow::field("a", arrow::int64())}), R"([{"a": 1}, null, {"a": 300}])");
  EXPECT_EQ(Faults(structs, "struct<a: int8>"), "2: 300 is no value of int8\n");
  EXPECT_EQ(Faults(structs->Slice(1), "struct<a: int8>"), "1: 300 is no value of int8\n");
  EXPECT_EQ(Faults(structs, "struct<b: int8>"), "column 'c' has no field 'a'");
  EXPECT_EQ(Faults(Of(arrow::list(arrow::float64()), "[[1, 2], [1], [1, null], null, [1, 1e39]]"),
                   "tensor<float32>[2]"),
            "1: a list of 1 is no value of tensor<float32>[2]\n"
            "4: 1e+39 is no value of float\n"
            "2: a tensor's elements may not be null (NaN may); fill it, or make the cell null\n");
  const auto conformed = ConformArray(lists, Column("list<int32>"));
  EXPECT_EQ(conformed.status().message(), "column 'c[]', row 3: 5000000000 is no value of int32");
}

}  // namespace
}  // namespace headrace::table
