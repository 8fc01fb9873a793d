// For tests of compaction: a table of nested columns, and ways to change it.
#pragma once

#include <memory>
#include <string>

#include "table/compact.h"
#include "table/table_testing.h"

namespace headrace::table {

inline const auto kCompactColumns =
    arrow::schema({arrow::field("id", arrow::int64()), arrow::field("name", arrow::utf8()),
                   arrow::field("tags", arrow::list(arrow::utf8())),
                   arrow::field("vec", arrow::fixed_size_list(arrow::float32(), 2)),
                   arrow::field("place", arrow::struct_({arrow::field("x", arrow::float64())}))});

inline std::string RowOf(int64_t id) {
  const std::string n = std::to_string(id);
  if (id % 5 == 4) return "{\"id\": " + n + "}";  // the rest is null
  return R"({"id": )" + n + R"(, "name": "n)" + n + R"(", "tags": ["a", null, ")" + n + R"("], "vec": [)" +
         n + ", 0.5], \"place\": {\"x\": " + n + ".25}}";
}

inline Status AppendRange(Table* table, int64_t begin, int64_t end) {
  std::string json;
  for (int64_t id = begin; id < end; ++id) json += (json.empty() ? "[" : ",") + RowOf(id);
  return table->Append(testing::ReaderOf({testing::BatchFromJson(kCompactColumns, json + "]")}).get(), {})
      .status();
}

inline Result<std::string> Text(const View& view) {
  HEADRACE_ASSIGN(const auto rows, testing::ReadAll(view, {.with_row_ids = true}));
  std::string text;
  for (int i = 0; i < rows->num_columns(); ++i)
    text += rows->field(i)->ToString() + rows->column(i)->ToString();
  return text;
}

inline Result<size_t> Fragments(const View& view) {
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  return fragments->size();
}

// Gives a column of the rows that pass another value.
inline Status SetName(Table* table, const std::string& where) {
  const auto fn = [](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    std::string json;
    for (int64_t i = 0; i < in->num_rows(); ++i)
      json += (i == 0 ? "[" : ",") + std::string(R"({"name":"x"})");
    return testing::BatchFromJson(arrow::schema({arrow::field("name", arrow::utf8())}), json + "]");
  };
  return table->Update({where}, {}, {"name"}, fn, {}).status();
}

class CompactTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_VALUE(catalog_, Catalog::InitOn(store::NewMemoryStore(), {.threads = 1}));
    ASSERT_VALUE(table_, testing::MakeTable(catalog_.get(), "t", kCompactColumns));
  }
  View Now() { return table_->At().value(); }

  std::shared_ptr<Catalog> catalog_;
  std::shared_ptr<Table> table_;
};

}  // namespace headrace::table
