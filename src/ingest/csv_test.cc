// CSV: a value goes in as it was, or its row is refused with the reason.
#include <arrow/api.h>

#include <fstream>

#include "ingest/csv_reader.h"
#include "ingest/csv_types.h"
#include "testing.h"

namespace headrace::ingest {
namespace {

std::string TypeOf(const std::vector<std::string>& values) {
  ColumnGuess guess;
  for (const auto& value : values) guess.Add(value);
  return guess.Type()->ToString();
}

TEST(Csv, TypesHoldEveryDigit) {
  EXPECT_EQ(TypeOf({"1", "-5", "0"}), "int64");
  EXPECT_EQ(TypeOf({"1", "01234"}), "string");
  EXPECT_EQ(TypeOf({"+1"}), "string");
  EXPECT_EQ(TypeOf({"-0"}), "double");
  EXPECT_EQ(TypeOf({"0", "0.00", "2.5"}), "double");
  EXPECT_EQ(TypeOf({"9223372036854775807"}), "int64");
  EXPECT_EQ(TypeOf({"9223372036854775808"}), "uint64");
  EXPECT_EQ(TypeOf({"18446744073709551615", "0"}), "uint64");
  EXPECT_EQ(TypeOf({"18446744073709551615", "-1"}), "string");
  EXPECT_EQ(TypeOf({"18446744073709551617"}), "string");
  EXPECT_EQ(TypeOf({"9007199254740993", "2.5"}), "string");
  EXPECT_EQ(TypeOf({"9007199254740992", "2.5"}), "double");
  EXPECT_EQ(TypeOf({"0.1", "1e300", "-2.50", ".5", "NaN"}), "double");
  EXPECT_EQ(TypeOf({"1e400"}), "string");
  EXPECT_EQ(TypeOf({"1e-400"}), "string");
  EXPECT_EQ(TypeOf({"5e-324"}), "double");
  EXPECT_EQ(TypeOf({"0.1000000000000000055511151231257827"}), "double");  // exactly what 0.1 is
  EXPECT_EQ(TypeOf({"3.14159265358979323846"}), "string");
  EXPECT_EQ(TypeOf({"00.5"}), "string");
  EXPECT_EQ(TypeOf({"1.2.3"}), "string");
  EXPECT_EQ(TypeOf({"true", "false"}), "bool");
  EXPECT_EQ(TypeOf({"true", "0"}), "string");
  EXPECT_EQ(TypeOf({"2024-02-29"}), "date32[day]");
  EXPECT_EQ(TypeOf({"2023-02-29"}), "string");
  EXPECT_EQ(TypeOf({"2024-02-29 10:00", "2024-02-29T10:00:00.123456"}), "timestamp[us]");
  EXPECT_EQ(TypeOf({"2024-02-29 10:00:00.123456789"}), "timestamp[ns]");
  EXPECT_EQ(TypeOf({"2024-02-29 10:00:00Z", "2024-02-29T10:00:00+02:00"}), "timestamp[us, tz=UTC]");
  EXPECT_EQ(TypeOf({"2024-02-29 10:00:00Z", "2024-02-29T10:00:00"}), "string");
  EXPECT_EQ(TypeOf({}), "null");
  EXPECT_EQ(TypeOf({""}), "string");
}

class CsvFile : public ::testing::Test {
 protected:
  // The rows as text, a line each; errors behind them.
  std::string Read(const std::string& text, const CsvOptions& options = {},
                   const arrow::FieldVector& wanted = {}) {
    std::ofstream(folder_.path() + "/f.csv", std::ios::binary) << text;
    std::vector<IngestError> errors;
    const auto reader = OpenCsv(folder_.path() + "/f.csv", "f.csv", options, *arrow::schema(wanted), &errors);
    if (!reader.ok()) return reader.status().ToString();
    std::string out;
    for (std::shared_ptr<arrow::RecordBatch> batch; (*reader)->ReadNext(&batch).ok() && batch;) {
      for (int64_t i = 0; i < batch->num_rows(); ++i) {
        for (const auto& column : batch->columns()) {
          out += column->IsNull(i) ? "~|" : (*column->GetScalar(i))->ToString() + "|";
        }
        out += "\n";
      }
    }
    for (const auto& error : errors) out += error.path + ": " + error.error.ToString() + "\n";
    return out;
  }

  testing::TempFolder folder_;
};

TEST_F(CsvFile, RowsAndTheirFaults) {
  EXPECT_EQ(Read("a,b\n1,\"x,\"\"y\"\"\nz\"\r\n,\"\"\n2,NULL\n"), "1|x,\"y\"\nz|\n~||\n2|~|\n");
  const std::string ragged = Read("a,b\n1,2\n3\n4,5,6\n7,8\n");
  EXPECT_TRUE(ragged.starts_with("1|2|\n7|8|\nf.csv:3: ")) << ragged;
  EXPECT_NE(ragged.find("f.csv:4: "), std::string::npos) << ragged;
  const std::string open = Read("a,b\n1,\"x\n2,y\n3,z\n");
  EXPECT_TRUE(open.starts_with("2|y|\n3|z|\nf.csv:2: ")) << open;
  EXPECT_NE(open.find("not closed"), std::string::npos) << open;
  EXPECT_NE(Read("a,b\n1,\"x\"y\n2,z\n").find("f.csv:2: "), std::string::npos);
  EXPECT_NE(Read("a,a\n1,2\n").find("two of its columns"), std::string::npos);
  EXPECT_EQ(Read("a\n1\n\n\n2"), "1|\n2|\n");
}

TEST_F(CsvFile, TypesThatAreGiven) {
  const auto text = Read("a,b\n1,5\n01,6\n3,x\n", {},
                         {arrow::field("a", arrow::int64()), arrow::field("b", arrow::utf8())});
  EXPECT_TRUE(text.starts_with("1|5|\n3|x|\nf.csv:3: ")) << text;
  EXPECT_NE(text.find("column 'a': '01' is no value of int64"), std::string::npos) << text;
}

TEST_F(CsvFile, EncodingsAndSeparators) {
  EXPECT_NE(Read("a\ncaf\xe9\n").find("--encoding latin-1"), std::string::npos);
  EXPECT_EQ(Read("a\ncaf\xe9\n", {.encoding = "latin-1"}), "caf\xc3\xa9|\n");
  EXPECT_EQ(Read(std::string("\xff\xfe"
                             "a\0\n\0\x3d\xd8\x00\xde\n\0",
                             12)),
            "\xf0\x9f\x98\x80|\n");
  EXPECT_EQ(Read("\xef\xbb\xbf"
                 "a\n1\n"),
            "1|\n");
  EXPECT_EQ(Read("a;b\n1;2,5\n"), "1|2,5|\n");
  EXPECT_EQ(Read("a|b\n1|2\n", {.delimiter = '|'}), "1|2|\n");
}

}  // namespace
}  // namespace headrace::ingest
