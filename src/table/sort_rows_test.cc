// Rows that compaction sorts: all that a table promises of rows and ids holds as before.
#include "table/sort_rows.h"

#include <map>
#include <random>

#include "table/compact.h"
#include "table/diff.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::ReadAll;
using testing::ReaderOf;

const auto kSchema = arrow::schema({arrow::field("run", arrow::utf8()), arrow::field("n", arrow::int64()),
                                    arrow::field("vec", arrow::fixed_size_list(arrow::float32(), 2))});

class SortRowsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_VALUE(catalog_, Catalog::InitOn(store_, {.threads = 2}));
    ASSERT_VALUE(table_, testing::MakeTable(catalog_.get(), "t", kSchema));
  }

  // Rows of runs that write in turns; some have none.
  void Append(int rows, int runs = 16) {
    std::string json;
    for (int i = 0; i < rows; ++i) {
      const std::string run =
          random_() % 20 == 0 ? "null" : "\"run-" + std::to_string(random_() % runs) + "\"";
      const std::string n = std::to_string(next_++);
      json += (json.empty() ? "[" : ",") + std::string("{\"run\":") + run + ",\"n\":" + n + ",\"vec\":[" + n +
              ",1]}";
    }
    ASSERT_OK(table_->Append(ReaderOf({BatchFromJson(kSchema, json + "]")}).get(), {}).status());
  }

  View Now() { return *table_->At(); }
  std::vector<Fragment> FragmentsNow() { return **Now().Fragments(); }

  // Every row as text, by its id.
  static std::map<int64_t, std::string> Rows(const View& view, const ScanOptions& options = {}) {
    ScanOptions with_ids = options;
    with_ids.with_row_ids = true;
    std::map<int64_t, std::string> rows;
    const auto all = *ReadAll(view, with_ids);
    if (all->num_rows() == 0) return rows;
    const auto batch = all->CombineChunksToBatch().ValueOrDie();
    const auto& ids = static_cast<const arrow::Int64Array&>(*batch->column(batch->num_columns() - 1));
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      std::string& row = rows[ids.Value(i)];
      for (int c = 0; c + 1 < batch->num_columns(); ++c)
        row += batch->column(c)->GetScalar(i).ValueOrDie()->ToString() + " ";
    }
    EXPECT_EQ(static_cast<int64_t>(rows.size()), batch->num_rows());
    return rows;
  }

  std::mt19937_64 random_{7};
  int next_ = 0;
  std::shared_ptr<store::ObjectStore> store_ = store::NewMemoryStore();
  std::shared_ptr<Catalog> catalog_;
  std::shared_ptr<Table> table_;
};

TEST_F(SortRowsTest, RowsLieByTheKeyAndKeepTheirIds) {
  for (int i = 0; i < 10; ++i) Append(3'000);
  ASSERT_OK(table_->Delete({"n % 7 = 3"}, {}).status());
  const View before = Now();
  const auto rows = Rows(before);
  ASSERT_OK(table_->SortBy({"run", "n"}, {}).status());
  ASSERT_EQ(Now().snapshot().sort_by.size(), 2U);
  ASSERT_VALUE(const CompactResult done, table_->Compact({}, {}));
  EXPECT_EQ(done.fragments, 1);
  const View view = Now();
  const Fragment fragment = FragmentsNow().at(0);
  ASSERT_TRUE(IsSorted(fragment));
  EXPECT_EQ(fragment.sorted_by, view.snapshot().sort_by);
  EXPECT_EQ(Rows(view), rows);

  // In order of the key, nulls last.
  ASSERT_VALUE(const auto all, ReadAll(view, {.columns = {"run", "n", "_row_id", "_row_place"}}));
  const auto batch = all->CombineChunksToBatch().ValueOrDie();
  const auto& runs = static_cast<const arrow::StringArray&>(*batch->column(0));
  const auto& ns = static_cast<const arrow::Int64Array&>(*batch->column(1));
  const auto& ids = static_cast<const arrow::Int64Array&>(*batch->column(2));
  const auto& places = static_cast<const arrow::Int64Array&>(*batch->column(3));
  bool ascend = true;
  for (int64_t i = 1; i < batch->num_rows(); ++i) {
    const auto key = [&](int64_t at) { return std::tuple(runs.IsNull(at), runs.GetView(at), ns.Value(at)); };
    ASSERT_LE(key(i - 1), key(i)) << i;
    ASSERT_LT(places.Value(i - 1), places.Value(i)) << i;
    ascend = ascend && ids.Value(i - 1) < ids.Value(i);
  }
  EXPECT_FALSE(ascend);

  // One run's rows lie in its pages; by id they lie all over.
  const auto bytes_of = [](const View& of, const std::string& where) {
    const View fresh = of;
    const int64_t first = fresh.reader().bytes_read();
    EXPECT_FALSE(Rows(fresh, {.columns = {"n", "vec"}, .where = where}).empty());
    return fresh.reader().bytes_read() - first;
  };
  EXPECT_LT(bytes_of(view, "run = 'run-3'") * 3, bytes_of(before, "run = 'run-3'"));
  EXPECT_EQ(Rows(view, {.where = "run = 'run-3'"}), Rows(before, {.where = "run = 'run-3'"}));
  EXPECT_EQ(Rows(view, {.where = "_row_id between 500 and 700"}),
            Rows(before, {.where = "_row_id between 500 and 700"}));

  // By id, in any order, more than once; and those that are not there are named.
  std::vector<int64_t> picks;
  for (const auto& [id, row] : rows) {
    if (random_() % 50 == 0) picks.push_back(id);
  }
  picks.push_back(picks[3]);
  std::shuffle(picks.begin(), picks.end(), random_);
  ASSERT_VALUE(const auto taken, view.Take(picks, {}));
  ASSERT_VALUE(const auto wanted, before.Take(picks, {}));
  EXPECT_TRUE(taken->Equals(*wanted));
  const Status gone = view.Take({picks[0], 3}, {}).status();
  EXPECT_NE(gone.message().find("the id 3 is deleted"), std::string::npos) << gone.ToString();
  ASSERT_VALUE(const auto ids_at, view.IdsAt({0, 5, 100}));
  EXPECT_EQ(ids_at, (std::vector<int64_t>{ids.Value(0), ids.Value(5), ids.Value(100)}));

  // Nothing has changed, says a diff; and nothing is left to do.
  ASSERT_VALUE(const Diff diff, Diff::Between(before, view));
  ASSERT_VALUE(const auto counts, diff.Count({}));
  EXPECT_EQ(counts.added + counts.deleted + counts.changed, 0);
  ASSERT_VALUE(const CompactResult again, table_->Compact({}, {}));
  EXPECT_EQ(again.commits, 0);
  ASSERT_VALUE(const auto verified, table_->Verify({}, {}));
  EXPECT_TRUE(verified.damaged.empty());
}

TEST_F(SortRowsTest, ChangesFindTheRowsThatTheyName) {
  for (int i = 0; i < 3; ++i) Append(700);
  ASSERT_OK(table_->SortBy({"run"}, {}).status());
  ASSERT_OK(table_->Compact({}, {}).status());
  ASSERT_TRUE(IsSorted(FragmentsNow().at(0)));
  const View sorted = Now();
  auto rows = Rows(sorted);

  // Of an update and a delete by id, a diff tells those rows.
  const std::vector<int64_t> some = {5, 900, 1'500};
  const auto one = arrow::schema({arrow::field("n", arrow::int64())});
  const auto minus_one =
      [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    std::string json;
    for (int64_t i = 0; i < in->num_rows(); ++i) json += (i ? ", " : "[") + std::string(R"({"n": -1})");
    return BatchFromJson(one, json + "]");
  };
  ASSERT_OK(table_->Update({"", some}, {}, {"n"}, minus_one, {}).status());
  const std::vector<int64_t> deleted = {0, 7, 1'999};
  ASSERT_OK(table_->Delete({"", deleted}, {}).status());
  const View changed = Now();
  for (const int64_t id : deleted) rows.erase(id);
  for (const int64_t id : some) rows[id].replace(rows[id].find(' ') + 1, std::to_string(id).size(), "-1");
  EXPECT_EQ(Rows(changed), rows);
  ASSERT_VALUE(const Diff diff, Diff::Between(sorted, changed));
  ASSERT_VALUE(const auto told, diff.Rows({}));
  std::map<int64_t, std::string> kinds;
  for (std::shared_ptr<arrow::RecordBatch> batch; told->ReadNext(&batch).ok() && batch;) {
    for (int64_t i = 0; i < batch->num_rows(); ++i)
      kinds[static_cast<const arrow::Int64Array&>(*batch->column(0)).Value(i)] =
          batch->column(1)->GetScalar(i).ValueOrDie()->ToString();
  }
  EXPECT_EQ(kinds, (std::map<int64_t, std::string>{{0, "deleted"},
                                                   {5, "changed"},
                                                   {7, "deleted"},
                                                   {900, "changed"},
                                                   {1'500, "changed"},
                                                   {1'999, "deleted"}}));

  // A merge changes the rows that have its keys; a column is filled in the order of a scan.
  const auto both = arrow::schema({arrow::field("n", arrow::int64()), arrow::field("run", arrow::utf8())});
  MergeOptions rules;
  rules.on = {"n"};
  ASSERT_OK(
      table_
          ->Merge(ReaderOf({BatchFromJson(both, R"([{"n": 44, "run": "x"}, {"n": 9, "run": "y"}])")}).get(),
                  rules, {})
          .status());
  for (const auto& [id, run] : {std::pair(44, "x"), std::pair(9, "y")})
    rows[id].replace(0, rows[id].find(' '), run);
  EXPECT_EQ(Rows(Now()), rows);
  ASSERT_VALUE(const auto ids, ReadAll(Now(), {.columns = {"_row_id"}}));
  const auto copies = arrow::schema({arrow::field("copy", arrow::int64())});
  const auto in_order = arrow::RecordBatch::Make(copies, ids->num_rows(),
                                                 {ids->CombineChunksToBatch().ValueOrDie()->column(0)});
  ASSERT_OK(table_->AddColumns(ReaderOf({in_order}).get(), {}).status());
  for (auto& [id, row] : rows) row += std::to_string(id) + " ";
  EXPECT_EQ(Rows(Now()), rows);

  // Written anew with more rows, by another key, and by none: the ids stay.
  Append(700);
  rows = Rows(Now());
  ASSERT_OK(table_->SortBy({"n"}, {}).status());
  ASSERT_OK(table_->Compact({}, {}).status());
  EXPECT_EQ(Rows(Now()), rows);
  ASSERT_OK(table_->SortBy({}, {}).status());
  Append(2'000);
  rows = Rows(Now());
  ASSERT_OK(table_->Compact({.largest_share = 1}, {}).status());
  EXPECT_EQ(FragmentsNow().size(), 2U);  // with the copy, and without
  EXPECT_EQ(Rows(Now()), rows);
}

// Rows that are deleted while they are being sorted are gone afterwards, and no others.
TEST_F(SortRowsTest, DeletesMeanwhileFollow) {
  for (int i = 0; i < 2; ++i) Append(500);
  ASSERT_OK(table_->SortBy({"run"}, {}).status());
  const View view = Now();
  const auto fragments = *view.Fragments();
  Compactor compactor(view, {});
  for (const auto& group : PlanCompaction(view.schema(), *fragments, {.sort_by = view.snapshot().sort_by}))
    ASSERT_OK(compactor.Add(*fragments, group, [](int64_t) {}));
  ASSERT_OK(table_->Delete({"n between 100 and 120"}, {}).status());
  const auto rows = Rows(Now());
  Change change{compactor.Take(), {}, {}, {}};
  change.base = compactor.base();
  SnapshotLog log(catalog_->environment(), table_->prefix());
  ASSERT_OK(log.Commit(change, {}).status());
  ASSERT_TRUE(IsSorted(FragmentsNow().at(0)));
  EXPECT_EQ(Rows(Now()), rows);
}

// Whoever fills a column of rows that were sorted meanwhile is told, and nothing is put to other rows.
TEST_F(SortRowsTest, AFillThatWasOvertakenConflicts) {
  Append(500);
  ASSERT_OK(table_->SortBy({"run"}, {}).status());
  bool first = true;
  const auto copy =
      [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    if (std::exchange(first, false)) {
      EXPECT_TRUE(table_->Compact({}, {}).ok());
    }
    return arrow::RecordBatch::Make(arrow::schema({arrow::field("copy", arrow::int64())}), in->num_rows(),
                                    {in->column(0)});
  };
  EXPECT_TRUE(table_->AddColumns({"n"}, copy, {}).status().Is(Code::kConflict));
  ASSERT_OK(table_->AddColumns({"n"}, copy, {}).status());
  ASSERT_VALUE(const int64_t same, Now().Count("copy = n"));
  EXPECT_EQ(same, 500);
}

TEST_F(SortRowsTest, UpkeepSortsWhatItJoins) {
  ASSERT_OK(table_->SortBy({"run"}, {}).status());
  for (int i = 0; i <= limits::kMaxSmallFragments; ++i) Append(20);
  ASSERT_VALUE(const CompactResult done, table_->Upkeep({}));
  EXPECT_GT(done.replaced, 0);
  EXPECT_TRUE(IsSorted(FragmentsNow().at(0)));
  // Rows that came in order of the key need no column of ids, and are not written again for it.
  ASSERT_VALUE(const auto other, testing::MakeTable(catalog_.get(), "in order", kSchema));
  table_ = other;
  ASSERT_OK(table_->SortBy({"n"}, {}).status());
  for (int i = 0; i < 3; ++i) Append(50);
  ASSERT_OK(table_->Compact({}, {}).status());
  EXPECT_FALSE(IsSorted(FragmentsNow().at(0)));
  EXPECT_FALSE(FragmentsNow().at(0).sorted_by.empty());
  ASSERT_VALUE(const CompactResult again, table_->Compact({}, {}));
  EXPECT_EQ(again.commits, 0);
}

// A key of which no row has a value: what was written for it once is not written again.
TEST_F(SortRowsTest, AKeyWithoutValuesIsDoneOnce) {
  for (int i = 0; i < 3; ++i) Append(10);
  ASSERT_OK(table_->AddEmptyColumns({Field{-1, "late", Type{}, "", false}}, {}).status());
  ASSERT_OK(table_->SortBy({"late"}, {}).status());
  ASSERT_VALUE(const CompactResult done, table_->Compact({}, {}));
  EXPECT_EQ(done.commits, 1);
  ASSERT_VALUE(const CompactResult again, table_->Compact({}, {}));
  EXPECT_EQ(again.commits, 0);
}

// A column of the key that has no values in a fragment gives it no order, until it is filled.
TEST_F(SortRowsTest, HolesHaveNoOrderUntilTheyAreFilled) {
  for (int i = 0; i < 3; ++i) Append(50);
  ASSERT_OK(table_->AddEmptyColumns({Field{-1, "late", Type{}, "", false}}, {}).status());
  const auto settle = [&] {
    EXPECT_TRUE(table_->Compact({}, {}).ok());
    ASSERT_VALUE(const CompactResult again, table_->Compact({}, {}));
    EXPECT_EQ(again.commits, 0);
  };
  ASSERT_OK(table_->SortBy({"late"}, {}).status());
  settle();
  EXPECT_FALSE(IsSorted(FragmentsNow().at(0)));
  ASSERT_OK(table_->SortBy({"run", "late"}, {}).status());
  settle();
  EXPECT_TRUE(IsSorted(FragmentsNow().at(0)));
  const auto fall =
      [](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    arrow::Int64Builder late;
    const auto& n = static_cast<const arrow::Int64Array&>(*in->column(0));
    for (int64_t i = 0; i < n.length(); ++i) EXPECT_TRUE(late.Append(-n.Value(i)).ok());
    return arrow::RecordBatch::Make(arrow::schema({arrow::field("late", arrow::int64())}), n.length(),
                                    {late.Finish().ValueOrDie()});
  };
  ASSERT_OK(table_->AddColumns({"n"}, fall, {}).status());
  settle();
  ASSERT_VALUE(const auto all, ReadAll(Now(), {.columns = {"run", "late"}}));
  const auto batch = all->CombineChunksToBatch().ValueOrDie();
  ASSERT_VALUE(const auto order, SortedOrder(*batch));
  EXPECT_TRUE(IsIdentity(*order));
}

// Repeated text takes next to nothing in a file: what was planned by its bytes may be too much to hold.
TEST_F(SortRowsTest, WhatIsTooLargeToHoldStaysInItsOrder) {
  const auto schema = arrow::schema({arrow::field("text", arrow::utf8()), arrow::field("n", arrow::int64())});
  ASSERT_VALUE(table_, testing::MakeTable(catalog_.get(), "long", schema));
  constexpr int64_t kRows = 3'000;
  constexpr int64_t kTextBytes = 40'000;
  constexpr int kCommits = 5;
  static_assert(kCommits * kRows * kTextBytes > kMostSortedMemory);
  for (int commit = 0; commit < kCommits; ++commit) {
    arrow::StringBuilder text;
    arrow::Int64Builder n;
    for (int64_t i = 0; i < kRows; ++i) {
      ASSERT_TRUE(text.Append(std::string(kTextBytes, static_cast<char>('p' - i % 16))).ok());
      ASSERT_TRUE(n.Append(i).ok());
    }
    const auto batch =
        arrow::RecordBatch::Make(schema, kRows, {text.Finish().ValueOrDie(), n.Finish().ValueOrDie()});
    ASSERT_OK(table_->Append(ReaderOf({batch}).get(), {}).status());
  }
  ASSERT_OK(table_->SortBy({"text"}, {}).status());
  ASSERT_VALUE(const CompactResult done, table_->Compact({}, {}));
  EXPECT_EQ(done.fragments, 1);
  EXPECT_FALSE(IsSorted(FragmentsNow().at(0)));
  ASSERT_VALUE(const auto all, ReadAll(Now(), {.columns = {"n", "_row_id"}}));
  const auto batch = all->CombineChunksToBatch().ValueOrDie();
  ASSERT_EQ(batch->num_rows(), kCommits * kRows);
  for (int64_t i = 0; i < batch->num_rows(); ++i) {
    ASSERT_EQ(static_cast<const arrow::Int64Array&>(*batch->column(0)).Value(i), i % kRows);
    ASSERT_EQ(static_cast<const arrow::Int64Array&>(*batch->column(1)).Value(i), i);
  }
  ASSERT_VALUE(const CompactResult again, table_->Compact({}, {}));
  EXPECT_EQ(again.commits, 0);
}

TEST_F(SortRowsTest, TheKeyFollowsItsColumns) {
  Append(10);
  EXPECT_TRUE(table_->SortBy({"none"}, {}).status().Is(Code::kNotFound));
  const Status tensor = table_->SortBy({"vec"}, {}).status();
  EXPECT_TRUE(tensor.Is(Code::kInvalid)) << tensor.ToString();
  EXPECT_TRUE(table_->SortBy({"n", "n"}, {}).status().Is(Code::kInvalid));
  ASSERT_OK(table_->Tag("early", "", false, {}).status());
  ASSERT_OK(table_->AddEmptyColumns({Field{-1, "late", Type{}, "", false}}, {}).status());
  ASSERT_OK(table_->SortBy({"late", "run"}, {}).status());
  ASSERT_OK(table_->RenameColumn("run", "who", {}).status());
  ASSERT_OK(table_->Compact({}, {}).status());
  ASSERT_OK(table_->DropColumn("who", {}).status());
  EXPECT_EQ(Now().snapshot().sort_by.size(), 1U);
  ASSERT_OK(table_->Restore("early", {}).status());
  EXPECT_TRUE(Now().snapshot().sort_by.empty());
  EXPECT_EQ(Rows(Now()).size(), 10U);
}

}  // namespace
}  // namespace headrace::table
