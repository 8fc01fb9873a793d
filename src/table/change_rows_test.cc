// Deletes, updates and restores, against what a person would expect to see.
#include <algorithm>

#include "table/keys.h"
#include "table/row_set_file.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::ReadAll;
using testing::ReaderOf;

const auto kColumns = arrow::schema({arrow::field("k", arrow::int64()), arrow::field("name", arrow::utf8()),
                                     arrow::field("vector", arrow::fixed_size_list(arrow::float32(), 2))});

// Rows k = first … with a name and a vector each.
std::shared_ptr<arrow::RecordBatch> Rows(int64_t first, int64_t count) {
  arrow::Int64Builder k;
  arrow::StringBuilder name;
  arrow::FloatBuilder values;
  for (int64_t i = first; i < first + count; ++i) {
    EXPECT_TRUE(k.Append(i).ok() && name.Append("n" + std::to_string(i)).ok());
    EXPECT_TRUE(values.Append(static_cast<float>(i)).ok() && values.Append(static_cast<float>(-i)).ok());
  }
  const auto vectors = arrow::FixedSizeListArray::FromArrays(values.Finish().ValueOrDie(), 2).ValueOrDie();
  return arrow::RecordBatch::Make(kColumns, count,
                                  {k.Finish().ValueOrDie(), name.Finish().ValueOrDie(), vectors});
}

struct Fixture {
  std::shared_ptr<store::ObjectStore> store = store::NewMemoryStore();
  std::shared_ptr<Catalog> catalog;
  std::shared_ptr<Table> table;

  // `fragments` fragments of `rows` rows each.
  Fixture(int64_t fragments, int64_t rows) {
    catalog = Catalog::InitOn(store, {.threads = 2}).value();
    table = testing::MakeTable(catalog.get(), "t", kColumns).value();
    for (int64_t i = 0; i < fragments; ++i) {
      EXPECT_OK(table->Append(ReaderOf({Rows(i * rows, rows)}).get(), {}).status());
    }
  }
  CommitResult Delete(const std::string& where) { return table->Delete({where}, {}).value(); }
  // name = "u<k>" and vector = [k + 0.5, 0].
  CommitResult Update(const std::string& where) {
    const auto fn =
        [](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
      const auto& k = static_cast<const arrow::Int64Array&>(*in->GetColumnByName("k"));
      arrow::StringBuilder name;
      arrow::FloatBuilder values;
      for (int64_t i = 0; i < k.length(); ++i) {
        EXPECT_TRUE(name.Append("u" + std::to_string(k.Value(i))).ok());
        EXPECT_TRUE(values.Append(static_cast<float>(k.Value(i)) + 0.5F).ok() && values.Append(0).ok());
      }
      const auto vectors =
          arrow::FixedSizeListArray::FromArrays(values.Finish().ValueOrDie(), 2).ValueOrDie();
      return arrow::RecordBatch::Make(arrow::schema({kColumns->field(1), kColumns->field(2)}), k.length(),
                                      {name.Finish().ValueOrDie(), vectors});
    };
    return table->Update({where}, {"k"}, {"name", "vector"}, fn, {}).value();
  }
  std::shared_ptr<arrow::Table> Read(const ScanOptions& options = {}) const {
    return ReadAll(table->At().value(), options).value();
  }
};

template <typename ArrayType, typename Value>
std::vector<Value> ColumnOf(const arrow::Table& table, const std::string& name) {
  std::vector<Value> values;
  const auto column = table.GetColumnByName(name);
  for (const auto& chunk : column->chunks()) {
    for (int64_t i = 0; i < chunk->length(); ++i)
      values.emplace_back(static_cast<const ArrayType&>(*chunk).GetView(i));
  }
  return values;
}

std::vector<int64_t> Numbers(const arrow::Table& table, const std::string& name) {
  return ColumnOf<arrow::Int64Array, int64_t>(table, name);
}

std::vector<int64_t> Keys(const arrow::Table& table) { return Numbers(table, "k"); }

std::vector<std::string> Names(const arrow::Table& table) {
  return ColumnOf<arrow::StringArray, std::string>(table, "name");
}

std::vector<int64_t> Range(int64_t begin, int64_t end) {
  std::vector<int64_t> values;
  for (int64_t i = begin; i < end; ++i) values.push_back(i);
  return values;
}

TEST(ChangeRows, DeletedRowsAreGoneFromEveryRead) {
  Fixture f(3, 10);
  const CommitResult done = f.Delete("k >= 8 and k < 13");
  EXPECT_EQ(done.rows, 5);
  EXPECT_EQ(done.fragments, 2);
  std::vector<int64_t> expected = Range(0, 8);
  for (int64_t i = 13; i < 30; ++i) expected.push_back(i);
  EXPECT_EQ(Keys(*f.Read()), expected);
  ASSERT_VALUE(const View now, f.table->At());
  EXPECT_EQ(now.snapshot().rows, 25);
  EXPECT_EQ(now.snapshot().operation.kind, OperationKind::kDelete);
  EXPECT_EQ(now.snapshot().operation.rows, 5);
  ASSERT_VALUE(const int64_t counted, now.Count("k >= 5 and k < 15"));
  EXPECT_EQ(counted, 5);
  ASSERT_VALUE(const int64_t all, now.Count("k >= 0"));
  EXPECT_EQ(all, 25);
  EXPECT_EQ(Keys(*f.Read({.where = "k > 6 and k < 15"})), (std::vector<int64_t>{7, 13, 14}));
  EXPECT_EQ(Keys(*f.Read({.limit = 10})), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 13, 14}));
  // Ids are for life: those after the gap keep theirs, and those in it name nothing.
  ASSERT_VALUE(const auto taken, now.Take({13, 7}, {"k"}));
  EXPECT_EQ(static_cast<const arrow::Int64Array&>(*taken->column(0)).Value(0), 13);
  const Status gone = now.Take({7, 12}, {"k"}).status();
  EXPECT_TRUE(gone.Is(Code::kNotFound)) << gone.ToString();
  EXPECT_NE(gone.ToString().find("12 is deleted"), std::string::npos) << gone.ToString();
  // The version before has them.
  ASSERT_VALUE(const View before, f.table->At("v4"));
  ASSERT_VALUE(const auto then, ReadAll(before));
  EXPECT_EQ(then->num_rows(), 30);
}

TEST(ChangeRows, DeletesAddUpAndEndWithAnEmptyTable) {
  Fixture f(2, 100);
  EXPECT_EQ(f.Delete("k % 2 = 0").rows, 100);
  EXPECT_EQ(f.Delete("k < 50").rows, 25) << "those that were gone do not count";
  const int64_t version = f.table->At()->snapshot().version;
  EXPECT_EQ(f.Delete("k < 50").rows, 0);
  EXPECT_EQ(f.table->At()->snapshot().version, version) << "nothing to delete is no commit";
  EXPECT_EQ(Keys(*f.Read({.where = "k < 60"})), (std::vector<int64_t>{51, 53, 55, 57, 59}));
  EXPECT_EQ(f.Delete("true").rows, 75);
  EXPECT_EQ(f.Read()->num_rows(), 0);
  ASSERT_OK(f.table->Append(ReaderOf({Rows(7, 1)}).get(), {}).status());
  ASSERT_VALUE(const auto taken, f.table->At()->Take({200}, {"k"}));
  EXPECT_EQ(static_cast<const arrow::Int64Array&>(*taken->column(0)).Value(0), 7);
}

TEST(ChangeRows, RowsByIdAreAllThereOrNothingHappens) {
  Fixture f(2, 10);
  ASSERT_VALUE(const auto done, f.table->Delete({"", std::vector<int64_t>{3, 15, 3}}, {}));
  EXPECT_EQ(done.rows, 2);
  for (const int64_t id : {int64_t{3}, int64_t{20}, int64_t{-1}}) {
    const Status missing = f.table->Delete({"", std::vector<int64_t>{4, id}}, {}).status();
    EXPECT_TRUE(missing.Is(Code::kNotFound)) << missing.ToString();
  }
  EXPECT_EQ(f.Read()->num_rows(), 18);
  EXPECT_TRUE(f.table->Delete({}, {}).status().Is(Code::kInvalid)) << "no filter is not every row";
}

// Sets on both sides of the size from which they lie in a file.
TEST(ChangeRows, SetsLieInTheEntryOrInAFile) {
  for (const int64_t count : {int64_t{1}, int64_t{100}, int64_t{130}, int64_t{4'000}}) {
    Fixture f(2, 10'000);
    std::string where = "k % 10000 < " + std::to_string(2 * count) + " and k % 2 = 0";
    EXPECT_EQ(f.Delete(where).rows, 2 * count);
    ASSERT_VALUE(const auto all, f.store->List(f.table->prefix() + "rowsets/", "", 100));
    const auto encoded = RowSet::Encode([&] {
      std::vector<uint32_t> rows;
      for (int64_t i = 0; i < count; ++i) rows.push_back(static_cast<uint32_t>(2 * i));
      return rows;
    }());
    EXPECT_EQ(all.size(), encoded.size() > f.catalog->environment()->inline_row_set_bytes ? 1U : 0U)
        << count << " " << encoded.size();
    EXPECT_EQ(f.Read()->num_rows(), 20'000 - 2 * count);
    if (all.empty()) continue;
    // A damaged or cut file is an error, never other rows.
    const std::string key = all[0].key;
    const std::string bytes(f.store->Get(key)->view());
    for (const std::string& bad : {bytes.substr(0, bytes.size() - 1),
                                   std::string(1, static_cast<char>(bytes[0] ^ 1)) + bytes.substr(1)}) {
      ASSERT_OK(f.store->Put(key, bad));
      ASSERT_VALUE(const auto fresh, Catalog::OpenOn(f.store, {}));
      const Status status = ReadAll(*fresh->OpenTable("t").value()->At()).status();
      EXPECT_NE(status.ToString().find("rowsets/"), std::string::npos) << status.ToString();
    }
  }
}

TEST(ChangeRows, UpdatedValuesLieOverTheOldOnes) {
  Fixture f(3, 100);
  const CommitResult done = f.Update("k >= 95 and k < 107");
  EXPECT_EQ(done.rows, 12);
  EXPECT_EQ(done.fragments, 2);
  const auto check = [&] {
    const auto table = f.Read();
    const auto names = Names(*table);
    ASSERT_EQ(names.size(), 300U);
    for (int64_t i = 0; i < 300; ++i) {
      const bool updated = i >= 95 && i < 107;
      ASSERT_EQ(names[static_cast<size_t>(i)], (updated ? "u" : "n") + std::to_string(i));
    }
  };
  check();
  ASSERT_VALUE(const View now, f.table->At());
  ASSERT_VALUE(const auto taken, now.Take({94, 95, 106, 107, 95}, {"name", "vector"}));
  const auto& vectors = static_cast<const arrow::FixedSizeListArray&>(*taken->column(1));
  const auto& floats = static_cast<const arrow::FloatArray&>(*vectors.values());
  const std::vector<float> expected = {94, -94, 95.5F, 0, 106.5F, 0, 107, -107, 95.5F, 0};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(floats.Value(static_cast<int64_t>(i)), expected[i]) << i;
  }
  // Filters see the new values, where the statistics of the old ones would leave them out.
  EXPECT_EQ(Keys(*f.Read({.where = "name > 'u'"})), Range(95, 107));
  EXPECT_EQ(Keys(*f.Read({.where = "name = 'n95'"})), std::vector<int64_t>());
  // Laid over once more, and with deletes around.
  EXPECT_EQ(f.Update("k >= 100 and k < 103").rows, 3);
  check();
  EXPECT_EQ(f.Delete("k = 96 or k = 101").rows, 2);
  EXPECT_EQ(Names(*f.Read({.where = "k >= 94 and k < 98"})), (std::vector<std::string>{"n94", "u95", "u97"}));
}

TEST(ChangeRows, ManyChangedRowsAreWrittenWhole) {
  Fixture f(2, 1'000);
  f.Update("k < 10");
  EXPECT_EQ(f.Update("k >= 300").rows, 1'700);
  ASSERT_VALUE(const View now, f.table->At());
  ASSERT_VALUE(const auto fragments, now.Fragments());
  for (const auto& fragment : *fragments) {
    EXPECT_TRUE(fragment.overlays.empty());
    EXPECT_TRUE(fragment.HasUpdates());
  }
  const auto names = Names(*f.Read());
  for (int64_t i = 0; i < 2'000; ++i) {
    const bool updated = i < 10 || i >= 300;
    ASSERT_EQ(names[static_cast<size_t>(i)], (updated ? "u" : "n") + std::to_string(i));
  }
  EXPECT_EQ(Keys(*f.Read({.where = "name = 'n300'"})), std::vector<int64_t>());
  EXPECT_EQ(Keys(*f.Read({.where = "name = 'u300'"})), std::vector<int64_t>{300});
}

// Overlays do not pile up: the ninth on a column writes the column of the fragment.
TEST(ChangeRows, OverlaysAreFolded) {
  Fixture f(1, 100);
  for (int64_t i = 0; i < 9; ++i) {
    EXPECT_EQ(f.Update("k = " + std::to_string(i * 3)).rows, 1);
    ASSERT_VALUE(const View now, f.table->At());
    const size_t expected = i < 8 ? static_cast<size_t>(i + 1) : 0;
    EXPECT_EQ((*now.Fragments())->at(0).overlays.size(), expected);
  }
  const auto names = Names(*f.Read());
  for (int64_t i = 0; i < 100; ++i) {
    ASSERT_EQ(names[static_cast<size_t>(i)], (i % 3 == 0 && i < 27 ? "u" : "n") + std::to_string(i));
  }
}

// Manifests are merged in the order of sizes, not of versions: what counts is told by versions alone.
TEST(ChangeRows, NewestValuesCountAfterManifestsMerge) {
  Fixture f(80, 4);  // more entries than ride in a snapshot
  for (int64_t i = 0; i < 60; ++i) {
    f.Update("k >= " + std::to_string(i) + " and k < " +
             std::to_string(i + 150));  // whole files and overlays
    if (i % 7 == 0) f.Delete("k = " + std::to_string(310 - i));
  }
  ASSERT_VALUE(const View now, f.table->At());
  EXPECT_GT(now.snapshot().manifests.size(), 0U);
  const auto table = f.Read();
  const auto keys = Keys(*table);
  const auto names = Names(*table);
  ASSERT_EQ(keys.size(), 320U - 9U);
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_EQ(names[i], (keys[i] < 209 ? "u" : "n") + std::to_string(keys[i]));
  }
  ASSERT_VALUE(const int64_t updated, now.Count("name >= 'u'"));
  EXPECT_EQ(updated, 209);
}

TEST(ChangeRows, ColumnsAreAddedToTheRowsThatAreThere) {
  Fixture f(3, 10);
  f.Delete("k % 3 = 0 or (k >= 10 and k < 20)");
  const auto doubled =
      [](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    const auto& k = static_cast<const arrow::Int64Array&>(*in->column(0));
    arrow::Int64Builder twice;
    for (int64_t i = 0; i < k.length(); ++i) {
      EXPECT_NE(k.Value(i) % 3, 0) << "a deleted row was asked about";
      EXPECT_TRUE(twice.Append(2 * k.Value(i)).ok());
    }
    return arrow::RecordBatch::Make(arrow::schema({arrow::field("twice", arrow::int64())}), k.length(),
                                    {twice.Finish().ValueOrDie()});
  };
  ASSERT_VALUE(const auto added, f.table->AddColumns({"k"}, doubled, {}));
  EXPECT_EQ(added.rows, 13);
  // In order: as many values as there are rows.
  const auto values = arrow::schema({arrow::field("n", arrow::int64())});
  std::string json = "[";
  for (int i = 0; i < 13; ++i) json += (i ? "," : "") + std::string("{\"n\":") + std::to_string(i) + "}";
  ASSERT_OK(f.table->AddColumns(ReaderOf({BatchFromJson(values, json + "]")}).get(), {}).status());
  const auto table = f.Read();
  const auto keys = Keys(*table);
  const auto twice = Numbers(*table, "twice");
  EXPECT_EQ(Numbers(*table, "n"), Range(0, 13));
  for (size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(twice[i], 2 * keys[i]);
}

TEST(ChangeRows, RestoreBringsBackAVersion) {
  Fixture f(2, 10);
  ASSERT_OK(f.table->Tag("good", "", false, {}).status());
  f.Update("k < 5");
  f.Delete("k > 2");
  ASSERT_OK(f.table->DropColumn("vector", {}).status());
  ASSERT_OK(f.table->Append(ReaderOf({Rows(90, 5)->SelectColumns({0, 1}).ValueOrDie()}).get(), {}).status());
  ASSERT_OK(f.table->Restore("good", {}).status());
  const auto table = f.Read();
  EXPECT_EQ(Keys(*table), Range(0, 20));
  EXPECT_EQ(Names(*table)[0], "n0");
  EXPECT_NE(table->GetColumnByName("vector"), nullptr);
  // What was there in between is not given again.
  ASSERT_OK(f.table->Append(ReaderOf({Rows(30, 1)}).get(), {}).status());
  ASSERT_VALUE(const View now, f.table->At());
  ASSERT_VALUE(const auto taken, now.Take({25}, {"k"}));
  EXPECT_EQ(now.snapshot().next_row_id, 26);
  EXPECT_EQ(now.snapshot().tags.at("good"), 3);
  EXPECT_TRUE(f.table->Restore("v99", {}).status().Is(Code::kNotFound));
}

TEST(ChangeRows, UpdatedRowsMayBeTakenTwice) {
  Fixture f(1, 10);
  f.Update("k between 3 and 6");
  const View view = f.table->At().value();
  const std::vector<std::vector<int64_t>> asked = {
      {3, 3, 5}, {3, 5, 5}, {3, 4, 5}, {3, 3, 3}, {2, 3, 3, 6, 7}};
  for (const auto& ids : asked) {
    ASSERT_VALUE(const auto taken, view.Take(ids, {.columns = {"name"}}));
    const auto& names = static_cast<const arrow::StringArray&>(*taken->column(0));
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool updated = ids[i] >= 3 && ids[i] <= 6;
      EXPECT_EQ(names.GetString(static_cast<int64_t>(i)), (updated ? "u" : "n") + std::to_string(ids[i]));
    }
  }
}

// What was computed from values that a restore has taken back meanwhile is computed again.
TEST(ChangeRows, AnUpdateIsNotMadeFromValuesThatAreGone) {
  Fixture f(1, 10);
  ASSERT_VALUE(const View before, f.table->At());
  f.Update("k = 1");
  int calls = 0;
  const auto louder =
      [&](const std::shared_ptr<arrow::RecordBatch>& in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    if (++calls == 1) HEADRACE_TRY(f.table->Restore(std::to_string(before.snapshot().version), {}).status());
    const auto& name = static_cast<const arrow::StringArray&>(*in->column(0));
    arrow::StringBuilder out;
    for (int64_t i = 0; i < name.length(); ++i) EXPECT_TRUE(out.Append(name.GetString(i) + "!").ok());
    return arrow::RecordBatch::Make(arrow::schema({kColumns->field(1)}), name.length(),
                                    {out.Finish().ValueOrDie()});
  };
  ASSERT_OK(f.table->Update({"k < 3"}, {"name"}, {"name"}, louder, {}).status());
  EXPECT_EQ(calls, 2);
  const auto names = Names(*f.Read());
  EXPECT_EQ(names[0], "n0!");
  EXPECT_EQ(names[1], "n1!");
}

TEST(ChangeRows, AValueThatDoesNotFitIsRefusedBeforeAnythingChanges) {
  Fixture f(1, 10);
  const auto bad = [](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    const auto names = arrow::schema({arrow::field("k", arrow::float64())});
    std::string json = "[";
    for (int64_t i = 0; i < in->num_rows(); ++i)
      json += std::string(i ? "," : "") + (i == 3 ? "{\"k\":0.5}" : "{\"k\":1}");
    return BatchFromJson(names, json + "]");
  };
  const Status refused = f.table->Update({"k >= 2"}, {}, {"k"}, bad, {}).status();
  EXPECT_TRUE(refused.Is(Code::kInvalid)) << refused.ToString();
  EXPECT_NE(refused.ToString().find("'k'"), std::string::npos) << refused.ToString();
  EXPECT_EQ(f.table->At()->snapshot().version, 2);
  ASSERT_VALUE(const auto files, f.store->List(f.table->prefix() + "data/", "", 100));
  EXPECT_EQ(files.size(), 3U) << "what was written is swept";
  EXPECT_TRUE(f.table->Update({"true"}, {}, {"nope"}, bad, {}).status().Is(Code::kNotFound));
}

// While mine is computed, another updates the same column: of other rows, and both stand; of the same row,
// and mine is computed again; of most rows, which writes the column anew, likewise.
TEST(ChangeRows, OthersMayChangeOtherRowsMeanwhile) {
  const std::vector<std::pair<std::string, int>> theirs = {{"k = 50", 1}, {"k = 3", 2}, {"k > 3", 2}};
  for (const auto& [where, wanted] : theirs) {
    Fixture f(1, 100);
    int calls = 0;
    const auto fn =
        [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
      if (calls++ == 0) f.Update(where);
      arrow::StringBuilder name;
      for (int64_t i = 0; i < in->num_rows(); ++i) EXPECT_TRUE(name.Append("mine").ok());
      return arrow::RecordBatch::Make(arrow::schema({kColumns->field(1)}), in->num_rows(),
                                      {name.Finish().ValueOrDie()});
    };
    ASSERT_OK(f.table->Update({"k < 5"}, {"name"}, {"name"}, fn, {}).status());
    EXPECT_EQ(calls, wanted) << where;
    const auto names = Names(*f.Read());
    for (int64_t i = 0; i < 100; ++i) {
      const bool updated = where == "k = 50" ? i == 50 : where == "k > 3" && i > 3;
      ASSERT_EQ(names[static_cast<size_t>(i)], i < 5 ? "mine" : (updated ? "u" : "n") + std::to_string(i))
          << where;
    }
  }
}

TEST(ChangeRows, ExactlyOnce) {
  Fixture f(1, 10);
  CommitOptions options;
  options.writer = "w";
  options.sequence = 1;
  ASSERT_VALUE(const auto first, f.table->Delete({"k < 3"}, options));
  EXPECT_FALSE(first.repeated);
  ASSERT_OK(f.table->Append(ReaderOf({Rows(0, 3)}).get(), {}).status());
  ASSERT_VALUE(const auto again, f.table->Delete({"k < 3"}, options));
  EXPECT_TRUE(again.repeated);
  EXPECT_EQ(again.version, first.version);
  EXPECT_EQ(f.Read()->num_rows(), 10);
}

}  // namespace
}  // namespace headrace::table
