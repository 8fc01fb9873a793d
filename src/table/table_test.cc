#include "table/catalog.h"

#include "base/clock.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::MakeTable;
using testing::ReadAll;
using testing::ReaderOf;

class TableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_VALUE(catalog_, Catalog::InitOn(store::NewMemoryStore()));
    schema_ = arrow::schema({arrow::field("id", arrow::int64()), arrow::field("name", arrow::utf8()),
                             arrow::field("score", arrow::float64())});
    ASSERT_VALUE(table_, MakeTable(catalog_.get(), "t", schema_));
  }
  void Append(const std::string& json) {
    ASSERT_OK(table_->Append(ReaderOf({BatchFromJson(schema_, json)}).get(), {}).status());
  }

  std::shared_ptr<Catalog> catalog_;
  std::shared_ptr<Table> table_;
  std::shared_ptr<arrow::Schema> schema_;
};

TEST_F(TableTest, AppendsScansAndTravels) {
  Append(R"([{"id": 1, "name": "a", "score": 0.5}, {"id": 2, "name": null, "score": 1.5}])");
  Append(R"([{"id": 3, "name": "c", "score": null}])");
  ASSERT_VALUE(const View now, table_->At());
  EXPECT_EQ(now.snapshot().rows, 3);
  ASSERT_VALUE(const auto all, ReadAll(now, {.with_row_ids = true}));
  const auto expected = BatchFromJson(
      arrow::schema(
          {schema_->field(0), schema_->field(1), schema_->field(2), arrow::field("_row_id", arrow::int64())}),
      R"([{"id":1,"name":"a","score":0.5,"_row_id":0},{"id":2,"name":null,"score":1.5,"_row_id":1},
          {"id":3,"name":"c","score":null,"_row_id":2}])");
  EXPECT_TRUE(all->Equals(*arrow::Table::FromRecordBatches({expected}).ValueOrDie())) << all->ToString();
  ASSERT_VALUE(const View before, table_->At("v2"));
  EXPECT_EQ(before.snapshot().rows, 2);
  EXPECT_TRUE(table_->At("v9").status().Is(Code::kNotFound));
  EXPECT_TRUE(table_->At("golden").status().Is(Code::kNotFound));
}

TEST_F(TableTest, FiltersAndProjects) {
  Append(
      R"([{"id": 1, "name": "a", "score": 0.5}, {"id": 2, "name": null, "score": 1.5}, {"id": 3, "name": "b", "score": 9}])");
  ASSERT_VALUE(const View now, table_->At());
  ASSERT_VALUE(const auto some,
               ReadAll(now, {.columns = {"name", "_row_id"}, .where = "score > 1 and id != 9"}));
  EXPECT_EQ(some->num_rows(), 2);
  EXPECT_EQ(some->num_columns(), 2);
  ASSERT_VALUE(const int64_t count, now.Count("name is null"));
  EXPECT_EQ(count, 1);
  const auto misspelt = now.Scan({.where = "scor > 1"});
  EXPECT_NE(misspelt.status().ToString().find("did you mean 'score'"), std::string::npos);
}

TEST_F(TableTest, AddsColumnsWithoutTouchingOthers) {
  Append(R"([{"id": 1, "name": "a", "score": 0.5}, {"id": 2, "name": "b", "score": 1.5}])");
  const auto twice =
      [](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    arrow::Int64Builder out;
    for (int64_t i = 0; i < in->num_rows(); ++i) {
      EXPECT_TRUE(out.Append(2 * static_cast<const arrow::Int64Array&>(*in->column(0)).Value(i)).ok());
    }
    return arrow::RecordBatch::Make(arrow::schema({arrow::field("twice", arrow::int64())}), in->num_rows(),
                                    {out.Finish().ValueOrDie()});
  };
  ASSERT_OK(table_->AddColumns({"id"}, twice, {}).status());
  Append(R"([{"id": 3, "name": "c", "score": 2.5}])");  // twice is a hole here
  ASSERT_VALUE(const View now, table_->At());
  ASSERT_VALUE(const auto all, ReadAll(now, {.columns = {"twice"}}));
  EXPECT_EQ(all->column(0)->ToString(),
            arrow::ChunkedArray::Make(
                {arrow::json::ArrayFromJSONString(arrow::int64(), "[2, 4, null]").ValueOrDie()})
                .ValueOrDie()
                ->ToString());
  ASSERT_VALUE(const auto taken, now.Take({2, 0, 0}, {"id", "twice"}));
  EXPECT_EQ(static_cast<const arrow::Int64Array&>(*taken->column(0)).Value(0), 3);
  EXPECT_TRUE(taken->column(1)->IsNull(0));
  EXPECT_EQ(static_cast<const arrow::Int64Array&>(*taken->column(1)).Value(2), 2);
  // Filling the holes writes only those.
  ASSERT_VALUE(const CommitResult filled, table_->AddColumns({"id"}, twice, {}));
  EXPECT_EQ(filled.fragments, 1);
  ASSERT_VALUE(const View after, table_->At());
  ASSERT_VALUE(const int64_t nulls, after.Count("twice is null"));
  EXPECT_EQ(nulls, 0);
}

// Values come in the order of a version's rows, and others change the table before they are there.
TEST_F(TableTest, NewColumnsAreOfTheVersionWhoseRowsTheyWereMadeOf) {
  Append(R"([{"id": 1, "name": "a", "score": 0.5}, {"id": 2, "name": "b", "score": 1.5}])");
  ASSERT_VALUE(const View before, table_->At());
  ASSERT_OK(table_->Delete({"id = 1"}, {}).status());
  Append(R"([{"id": 3, "name": "c", "score": 2.5}])");
  const auto values = [](const std::string& name) {
    return ReaderOf({BatchFromJson(arrow::schema({arrow::field(name, arrow::int64())}), "[[10], [20]]")});
  };
  ASSERT_OK(table_->AddColumns(before, values("ten").get(), {"id"}, {}).status());
  ASSERT_VALUE(const View now, table_->At());
  ASSERT_VALUE(const auto all, ReadAll(now, {.columns = {"ten"}}));
  EXPECT_EQ(
      all->column(0)->ToString(),
      arrow::ChunkedArray::Make({arrow::json::ArrayFromJSONString(arrow::int64(), "[20, null]").ValueOrDie()})
          .ValueOrDie()
          ->ToString());
  // What they were made of changes.
  const auto score = [](std::shared_ptr<arrow::RecordBatch>) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    return BatchFromJson(arrow::schema({arrow::field("score", arrow::float64())}), "[[3.5]]");
  };
  ASSERT_OK(table_->Update({"id = 2"}, {"id"}, {"score"}, score, {}).status());
  EXPECT_TRUE(table_->AddColumns(now, values("other").get(), {"score"}, {}).status().Is(Code::kConflict));
  EXPECT_OK(table_->AddColumns(now, values("other").get(), {"id"}, {}).status());
  ASSERT_VALUE(const auto another, catalog_->CreateTable("another", now.schema()));
  EXPECT_TRUE(another->AddColumns(now, values("more").get(), {}, {}).status().Is(Code::kInvalid));
}

TEST_F(TableTest, TensorsAndBlobsRoundTrip) {
  const auto schema = arrow::schema({arrow::field("vec", arrow::fixed_size_list(arrow::float32(), 3)),
                                     arrow::field("image", arrow::binary())});
  ASSERT_VALUE(Schema converted, SchemaFromArrow(*schema));
  converted.fields[1].type = *ParseType("blob");
  ASSERT_VALUE(const auto table, catalog_->CreateTable("media", converted));
  const std::string big(5000, 'x');
  ASSERT_OK(table
                ->Append(ReaderOf({BatchFromJson(
                                      schema, R"([{"vec":[1,2,3],"image":"small"},{"vec":null,"image":null},
      {"vec":[7,8,9],"image":")" + big + "\"}]")})
                             .get(),
                         {})
                .status());
  ASSERT_VALUE(const View view, table->At());
  ASSERT_VALUE(const auto taken, view.Take({2, 1, 0}, {}));
  const auto& vec = static_cast<const arrow::FixedSizeListArray&>(*taken->column(0));
  EXPECT_TRUE(vec.IsNull(1));
  EXPECT_EQ(static_cast<const arrow::FloatArray&>(*vec.values()).Value(vec.value_offset(0)), 7.0f);
  ASSERT_VALUE(const auto blobs, view.ReadBlobs(taken->column(1)));
  EXPECT_EQ(blobs[0]->view(), big);
  EXPECT_FALSE(blobs[1].has_value());
  EXPECT_EQ(blobs[2]->view(), "small");
  ASSERT_VALUE(const int64_t large, view.Count("image.length > 100"));
  EXPECT_EQ(large, 1);
}

TEST_F(TableTest, RenamesDropsAndTags) {
  Append(R"([{"id": 1, "name": "a", "score": 0.5}])");
  ASSERT_OK(table_->Tag("golden", "", false, {}).status());
  ASSERT_OK(table_->RenameColumn("name", "title", {}).status());
  ASSERT_OK(table_->DropColumn("score", {}).status());
  ASSERT_VALUE(const View now, table_->At());
  ASSERT_VALUE(const auto all, ReadAll(now));
  EXPECT_EQ(all->schema()->field_names(), (std::vector<std::string>{"id", "title"}));
  ASSERT_VALUE(const View golden, table_->At("golden"));
  EXPECT_EQ(golden.schema().fields.size(), 3u);
  EXPECT_TRUE(table_->Tag("golden", "", false, {}).status().Is(Code::kAlreadyExists));
  EXPECT_OK(table_->Tag("golden", "", true, {}).status());
  EXPECT_TRUE(table_->RenameColumn("id", "title", {}).status().Is(Code::kAlreadyExists));
  ASSERT_VALUE(const auto history, table_->History());
  EXPECT_EQ(history.front().operation.kind, OperationKind::kTag);
  EXPECT_EQ(history.back().operation.kind, OperationKind::kCreate);
}

TEST_F(TableTest, AppendsExactlyOncePerSequence) {
  const auto batch = BatchFromJson(schema_, R"([{"id": 1, "name": "a", "score": 0.5}])");
  CommitOptions options;
  options.writer = "loader";
  options.sequence = 1;
  ASSERT_VALUE(const auto first, table_->Append(ReaderOf({batch}).get(), options));
  ASSERT_VALUE(const auto again, table_->Append(ReaderOf({batch}).get(), options));
  EXPECT_TRUE(again.repeated);
  EXPECT_EQ(again.version, first.version);
  options.sequence = 2;
  ASSERT_VALUE(const auto next, table_->Append(ReaderOf({batch}).get(), options));
  EXPECT_FALSE(next.repeated);
  ASSERT_VALUE(const View now, table_->At());
  EXPECT_EQ(now.snapshot().rows, 2);
  // One that must follow another does not land elsewhere.
  options.sequence = 9;
  options.after = 1;
  const auto lost = table_->Append(ReaderOf({batch}).get(), options);
  EXPECT_TRUE(lost.status().Is(Code::kConflict)) << lost.status().ToString();
  options.after = 2;
  ASSERT_VALUE(const auto after, table_->Append(ReaderOf({batch}).get(), options));
  EXPECT_FALSE(after.repeated);
  ASSERT_VALUE(const auto tried_again, table_->Append(ReaderOf({batch}).get(), options));
  EXPECT_TRUE(tried_again.repeated);
}

TEST_F(TableTest, ManyCommitsKeepManifestsFew) {
  for (int i = 0; i < 700; ++i) Append(R"([{"id": )" + std::to_string(i) + R"(, "name": "n", "score": 1}])");
  ASSERT_VALUE(const View now, table_->At());
  EXPECT_LE(static_cast<int64_t>(now.snapshot().manifests.size()), limits::kMaxManifests);
  EXPECT_LE(static_cast<int64_t>(now.snapshot().inline_entries.size()), limits::kInlineFragments);
  ASSERT_VALUE(const auto all, ReadAll(now, {.columns = {"id"}}));
  ASSERT_EQ(all->num_rows(), 700);
  ASSERT_VALUE(const auto plan, now.Plan({.where = "id = 650"}));
  EXPECT_EQ(plan.fragments, 1);
}

TEST_F(TableTest, TimesRiseWhateverTheClockSays) {
  // A table whose last commit lies in the future: the clock has jumped back since.
  Snapshot first;
  first.table = Uuid::Random();
  first.version = 1;
  first.transaction = "t";
  first.time_us = NowMicros() + 3'600'000'000;
  first.schema = (*table_->At()).schema();
  first.next_field_id = 100;
  const std::string prefix = "tables/" + first.table.ToString() + "/";
  ASSERT_OK(SnapshotLog(catalog_->environment(), prefix).Create(first));
  Table later(catalog_->environment(), "later", first.table);
  const auto batch = BatchFromJson(schema_, R"([{"id": 1, "name": "a", "score": 0.5}])");
  ASSERT_OK(later.Append(ReaderOf({batch}).get(), {}).status());
  ASSERT_VALUE(const View now, later.At());
  EXPECT_EQ(now.snapshot().time_us, first.time_us + 1);
  ASSERT_VALUE(const View then, later.At(FormatMicros(first.time_us)));
  EXPECT_EQ(then.snapshot().version, 1);
}

TEST_F(TableTest, RefsMoveByCompareAndSwap) {
  Append(R"([{"id": 1, "name": "a", "score": 0.5}])");
  ASSERT_VALUE(const RefValue first, catalog_->PointRef("prod", "t", "v2", 0));
  EXPECT_EQ(first.revision, 1);
  EXPECT_TRUE(catalog_->PointRef("prod", "t", "v1", 0).status().Is(Code::kConflict));
  ASSERT_OK(catalog_->PointRef("prod", "t", "v1", 1).status());
  ASSERT_VALUE(const View view, catalog_->Resolve("prod"));
  EXPECT_EQ(view.snapshot().version, 1);
  ASSERT_VALUE(const auto history, catalog_->refs().History("prod"));
  EXPECT_EQ(history.size(), 2u);
  EXPECT_EQ(history[0].revision, 2);
  // One tag holds what the ref points to now: neither the loser's nor the one before is left.
  ASSERT_VALUE(const auto table, catalog_->OpenTable("t"));
  ASSERT_VALUE(const View newest, table->At());
  EXPECT_EQ(newest.snapshot().tags, (std::map<std::string, int64_t>{{history[0].tag, 1}}));
  EXPECT_TRUE(catalog_->PointRef("t", "t", "v1", 1).status().Is(Code::kAlreadyExists));
}

}  // namespace
}  // namespace headrace::table
