// Fills that follow their rows into fragments which compaction wrote meanwhile.
#include "table/follow.h"

#include <functional>
#include <map>
#include <utility>

#include "table/compact_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using FollowTest = CompactTest;

// Adds the column "sum" (or fills its holes) from ids; `meanwhile` runs once it has begun.
Status FillSum(Table* table, const std::function<void()>& meanwhile, CommitResult* result = nullptr) {
  bool begun = false;
  const auto fn = [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    if (!std::exchange(begun, true)) meanwhile();
    arrow::Int64Builder sums;
    const auto& ids = static_cast<const arrow::Int64Array&>(*in->column(0));
    for (int64_t i = 0; i < in->num_rows(); ++i) (void)sums.Append(ids.Value(i) + 1000);
    return arrow::RecordBatch::Make(arrow::schema({arrow::field("sum", arrow::int64())}), in->num_rows(),
                                    {sums.Finish().ValueOrDie()});
  };
  const auto done = table->AddColumns({"id"}, fn, {});
  if (done.ok() && result != nullptr) *result = *done;
  return done.status();
}

// The fill was to write files of fragments that compaction replaces before it commits.
TEST_F(FollowTest, FillsFollowTheirRows) {
  for (int64_t i = 0; i < 4; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  ASSERT_OK(table_->Delete({"id = 1"}, {}).status());
  ASSERT_OK(FillSum(table_.get(), [&] {
    ASSERT_OK(SetName(table_.get(), "id = 2"));
    ASSERT_OK(AppendRange(table_.get(), 12, 15));
    ASSERT_VALUE(const auto done, table_->Compact({}, {}));
    ASSERT_EQ(done.replaced, 5);
    ASSERT_OK(table_->Delete({"id = 4"}, {}).status());
  }));
  const auto check = [&](int64_t filled) {
    const View now = Now();
    EXPECT_EQ(now.Count("sum is not null").value(), filled);
    EXPECT_EQ(now.Count("sum = id + 1000").value(), filled);
    EXPECT_EQ(now.snapshot().rows, 13);
    return **now.Fragments();
  };
  auto fragments = check(10);
  const int32_t sum = Now().schema().Find("sum")->id;
  ASSERT_EQ(fragments.size(), 1U);
  EXPECT_EQ(fragments[0].overlays.size(), 4U);
  EXPECT_EQ(fragments[0].FilledRows(sum), Filled::kSome);

  // Compaction keeps apart what is filled and what is not, so the rest can still be filled.
  for (const int commits : {1, 1, 0}) {
    ASSERT_VALUE(const auto done, table_->Compact({}, {}));
    EXPECT_EQ(done.commits, commits);
    fragments = check(10);
  }
  ASSERT_EQ(fragments.size(), 2U);
  EXPECT_EQ(fragments[0].rows, 12);
  EXPECT_EQ(fragments[0].FilledRows(sum), Filled::kAll);
  EXPECT_EQ(fragments[0].deleted.count, 2);
  EXPECT_EQ(fragments[0].deleted.erased, 2);
  EXPECT_TRUE(fragments[0].overlays.empty());
  EXPECT_EQ(fragments[1].FilledRows(sum), Filled::kNone);
  CommitResult rest;
  ASSERT_OK(FillSum(
      table_.get(), [] {}, &rest));
  EXPECT_EQ(rest.rows, 3);
  check(13);
  EXPECT_EQ(FillSum(table_.get(), [] {}).code(), Code::kAlreadyExists);
}

// A fill whose rows all went into one fragment has filled it, though no file says so.
TEST_F(FollowTest, FollowingFillsFill) {
  for (int64_t i = 0; i < 3; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  ASSERT_OK(FillSum(table_.get(), [&] { ASSERT_OK(table_->Compact({}, {}).status()); }));
  EXPECT_EQ(FillSum(table_.get(), [] {}).code(), Code::kAlreadyExists);
  ASSERT_OK(table_->Compact({}, {}).status());
  const auto fragments = **Now().Fragments();
  ASSERT_EQ(fragments.size(), 1U);
  EXPECT_TRUE(fragments[0].overlays.empty());
  EXPECT_EQ(Now().Count("sum = id + 1000").value(), 9);
}

// Updates of rows that are being filled count for more than the fill, wherever it lands.
TEST_F(FollowTest, UpdatesStayAboveFillsThatFollow) {
  const auto one = arrow::schema({arrow::field("sum", arrow::int64())});
  const auto seven = [&](std::shared_ptr<arrow::RecordBatch>) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    return BatchFromJson(one, R"([{"sum": 7}])");
  };
  for (int64_t i = 0; i < 3; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  ASSERT_OK(FillSum(table_.get(), [&] { ASSERT_OK(table_->Compact({}, {}).status()); }));
  ASSERT_OK(table_->Update({"id = 4"}, {}, {"sum"}, seven, {}).status());
  EXPECT_EQ(Now().Count("sum = 7").value(), 1);
  EXPECT_EQ(Now().Count("sum = id + 1000").value(), 8);
  ASSERT_OK(table_->Compact({}, {}).status());
  EXPECT_EQ(Now().Count("sum = 7").value(), 1);
  EXPECT_EQ(Now().Count("sum = id + 1000").value(), 8);
}

// What a fill was computed from changes, and compaction hides where.
TEST_F(FollowTest, FillsOfOldValuesAreRefused) {
  const auto id_only = arrow::schema({arrow::field("id", arrow::int64())});
  const auto ninety =
      [&](std::shared_ptr<arrow::RecordBatch>) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    return BatchFromJson(id_only, R"([{"id": 90}])");
  };
  const std::map<std::string, std::function<void()>> meanwhile = {
      {"updated before",
       [&] {
         ASSERT_OK(table_->Update({"id = 4"}, {}, {"id"}, ninety, {}).status());
         ASSERT_OK(table_->Compact({}, {}).status());
       }},
      {"updated after",
       [&] {
         ASSERT_OK(table_->Compact({}, {}).status());
         ASSERT_OK(table_->Update({"id = 4"}, {}, {"id"}, ninety, {}).status());
       }},
      {"gathered twice",
       [&] {
         ASSERT_OK(table_->Update({"id = 4"}, {}, {"id"}, ninety, {}).status());
         ASSERT_OK(table_->Compact({}, {}).status());
         ASSERT_OK(AppendRange(table_.get(), 9, 20));
         ASSERT_OK(table_->Compact({}, {}).status());
       }},
      {"restored",
       [&] {
         ASSERT_OK(table_->Restore("v2", {}).status());
         ASSERT_OK(table_->Compact({}, {}).status());
       }},
      {"to be erased", [&] {
         ASSERT_OK(table_->Delete({"id = 2"}, {}, /*erase=*/true).status());
         ASSERT_OK(table_->Compact({}, {}).status());
       }}};
  for (const auto& [what, happens] : meanwhile) {
    SCOPED_TRACE(what);
    SetUp();
    for (int64_t i = 0; i < 3; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
    const Status filled = FillSum(table_.get(), happens);
    EXPECT_TRUE(filled.Is(Code::kConflict)) << filled.ToString();
    EXPECT_EQ(Now().schema().Find("sum"), nullptr);
    ASSERT_OK(FillSum(table_.get(), [] {}));
  }
  // Another column's values may change.
  SetUp();
  for (int64_t i = 0; i < 3; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  ASSERT_OK(FillSum(table_.get(), [&] {
    ASSERT_OK(SetName(table_.get(), "id = 4"));
    ASSERT_OK(table_->Compact({}, {}).status());
    ASSERT_OK(SetName(table_.get(), "id = 3"));
  }));
  EXPECT_EQ(Now().Count("sum = id + 1000").value(), 9);
  EXPECT_EQ(Now().Count("name = 'x'").value(), 2);
}

}  // namespace
}  // namespace headrace::table
