// Upserts by a key, against a map.
#include <atomic>
#include <limits>
#include <map>
#include <random>
#include <thread>

#include "table/key_table.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::ReadAll;
using testing::ReaderOf;

const auto kColumns = arrow::schema({arrow::field("a", arrow::int64()), arrow::field("b", arrow::utf8()),
                                     arrow::field("v", arrow::int64()), arrow::field("w", arrow::int64())});

struct Merging {
  std::shared_ptr<Catalog> catalog = Catalog::InitOn(store::NewMemoryStore(), {.threads = 2}).value();
  std::shared_ptr<Table> table = testing::MakeTable(catalog.get(), "t", kColumns).value();

  Status Append(const std::string& json) {
    return table->Append(ReaderOf({BatchFromJson(kColumns, json)}).get(), {}).status();
  }
  Result<MergeResult> Merge(const std::shared_ptr<arrow::Schema>& columns, const std::string& json,
                            const MergeOptions& rules) {
    return table->Merge(ReaderOf({BatchFromJson(columns, json)}).get(), rules, {});
  }
  std::string Rows() const {
    const auto all = ReadAll(*table->At()).value();
    return all->num_rows() == 0 ? "" : all->CombineChunksToBatch().ValueOrDie()->ToString();
  }
};

const auto kSource = arrow::schema(
    {arrow::field("b", arrow::utf8()), arrow::field("v", arrow::int64()), arrow::field("a", arrow::int64())});

TEST(Merge, MatchedRowsChangeAndOthersAreAdded) {
  Merging m;
  ASSERT_OK(m.Append(R"([{"a":1,"b":"x","v":10,"w":100},{"a":1,"b":"y","v":11,"w":101},
                         {"a":2,"b":"x","v":12,"w":102},{"a":null,"b":"x","v":13,"w":103}])"));
  MergeOptions rules;
  rules.on = {"a", "b"};
  ASSERT_VALUE(const auto done, m.Merge(kSource, R"([{"a":1,"b":"y","v":7},{"a":3,"b":"x","v":8}])", rules));
  EXPECT_EQ(done.updated, 1);
  EXPECT_EQ(done.added, 1);
  EXPECT_EQ(done.rows, 2);
  Merging wanted;
  ASSERT_OK(wanted.Append(R"([{"a":1,"b":"x","v":10,"w":100},{"a":1,"b":"y","v":7,"w":101},
                              {"a":2,"b":"x","v":12,"w":102},{"a":null,"b":"x","v":13,"w":103},
                              {"a":3,"b":"x","v":8,"w":null}])"));
  EXPECT_EQ(m.Rows(), wanted.Rows());
  EXPECT_EQ(m.table->At()->snapshot().operation.kind, OperationKind::kMerge);
  EXPECT_EQ(m.table->At()->snapshot().version, 3) << "one commit";
}

TEST(Merge, OneRowForEachKeyOrAnErrorThatNamesBoth) {
  Merging m;
  ASSERT_OK(m.Append(R"([{"a":1,"b":"x","v":10,"w":100}])"));
  MergeOptions rules;
  rules.on = {"a"};
  const Status twice = m.Merge(kSource, R"([{"a":5,"v":1},{"a":1,"v":2},{"a":5,"v":3}])", rules).status();
  EXPECT_TRUE(twice.Is(Code::kAlreadyExists)) << twice.ToString();
  EXPECT_NE(twice.ToString().find("rows 0 and 2"), std::string::npos) << twice.ToString();
  const Status none = m.Merge(kSource, R"([{"a":5,"v":1},{"a":null,"v":2}])", rules).status();
  EXPECT_TRUE(none.Is(Code::kInvalid)) << none.ToString();
  EXPECT_NE(none.ToString().find("row 1"), std::string::npos) << none.ToString();
  EXPECT_EQ(m.table->At()->snapshot().version, 2) << "nothing was committed";
  rules.on = {"nope"};
  EXPECT_TRUE(m.Merge(kSource, R"([{"a":5}])", rules).status().Is(Code::kNotFound));
  rules.on = {"w"};
  EXPECT_TRUE(m.Merge(kSource, R"([{"a":5}])", rules).status().Is(Code::kInvalid)) << "the source has no w";
}

// Random merges by a text key, with every rule, agree with a map; rows of other keys are left alone.
TEST(Merge, AgreesWithAMap) {
  std::mt19937_64 random(11);
  Merging m;
  std::map<std::string, int64_t> oracle;
  const auto source = arrow::schema({arrow::field("b", arrow::utf8()), arrow::field("v", arrow::int64())});
  for (int round = 0; round < 60; ++round) {
    std::map<std::string, int64_t> rows;
    for (uint64_t i = random() % 40 + 1; i > 0; --i)
      rows["k" + std::to_string(random() % 200)] = static_cast<int64_t>(random() % 1000);
    std::string json;
    for (const auto& [key, value] : rows) {
      json += (json.empty() ? "[" : ",") + std::string(R"({"b":")") + key + R"(","v":)" +
              std::to_string(value) + "}";
    }
    MergeOptions rules;
    rules.on = {"b"};
    rules.matched = static_cast<MergeOptions::Matched>(random() % 3);
    rules.add = random() % 3 != 0;
    ASSERT_VALUE(const auto done, m.Merge(source, json + "]", rules));
    int64_t updated = 0, deleted = 0, added = 0;
    for (const auto& [key, value] : rows) {
      const auto it = oracle.find(key);
      if (it == oracle.end()) {
        if (rules.add) oracle[key] = value, ++added;
      } else if (rules.matched == MergeOptions::Matched::kUpdate) {
        it->second = value, ++updated;
      } else if (rules.matched == MergeOptions::Matched::kDelete) {
        oracle.erase(it), ++deleted;
      }
    }
    ASSERT_EQ(done.updated, updated);
    ASSERT_EQ(done.deleted, deleted);
    ASSERT_EQ(done.added, added);
    ASSERT_VALUE(const auto all, ReadAll(*m.table->At(), {.columns = {"b", "v"}}));
    ASSERT_EQ(all->num_rows(), static_cast<int64_t>(oracle.size()));
    if (all->num_rows() == 0) continue;
    const auto batch = all->CombineChunksToBatch().ValueOrDie();
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      const std::string key = static_cast<const arrow::StringArray&>(*batch->column(0)).GetString(i);
      ASSERT_EQ(static_cast<const arrow::Int64Array&>(*batch->column(1)).Value(i), oracle.at(key)) << key;
    }
  }
}

// Two people add the same new key at once: one of them finds it there, and updates.
TEST(Merge, TwoThatAddOneKeyAtOnce) {
  Merging m;
  ASSERT_OK(m.Append(R"([{"a":1,"b":"x","v":10,"w":100}])"));
  MergeOptions rules;
  rules.on = {"a"};
  std::vector<std::thread> threads;
  std::atomic<int64_t> added = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const auto mine = m.catalog->OpenTable("t").value();
      const auto rows = BatchFromJson(kSource, R"([{"a":9,"b":"new","v":)" + std::to_string(i) + "}]");
      const auto done = mine->Merge(ReaderOf({rows}).get(), rules, {});
      EXPECT_OK(done.status());
      if (done.ok()) added += done->added;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(added, 1);
  EXPECT_EQ(m.table->At()->snapshot().rows, 2);
}

// A restore brings a row back whose key the merge is about to add: alone, with another deleted in its stead,
// or with the whole fragment, which compaction had left out.
// Others take a row away that has a key of the merge: it is added, or the merge would be nowhere.
TEST(Merge, ARowThatGoesMeanwhileIsAdded) {
  for (const int rows : {2, 100}) {  // the column is written anew, or laid over
    for (const bool restored : {false, true}) {
      Merging m;
      ASSERT_OK(m.table->Tag("empty", "", false, {}).status());
      std::string json;
      for (int i = 0; i < rows; ++i) json += (i ? ",{\"a\":" : "[{\"a\":") + std::to_string(i) + ",\"v\":1}";
      ASSERT_OK(m.Append(json + "]"));
      if (restored) {  // deleted, and back: so that the fragment is the same whether the row is there or not
        ASSERT_OK(m.table->Tag("there", "", false, {}).status());
        ASSERT_OK(m.table->Delete({"a = 1"}, {}).status());
        ASSERT_OK(m.table->Tag("gone", "", false, {}).status());
        ASSERT_OK(m.table->Restore("there", {}).status());
      }
      bool first = true;
      CommitOptions options;
      options.progress = [&](const Progress&) {
        if (!std::exchange(first, false)) return;
        ASSERT_OK(restored ? m.table->Restore("gone", {}).status() : m.table->Delete({"a = 1"}, {}).status());
      };
      MergeOptions rules;
      rules.on = {"a"};
      const auto columns =
          arrow::schema({arrow::field("a", arrow::int64()), arrow::field("v", arrow::int64())});
      ASSERT_VALUE(
          const auto done,
          m.table->Merge(ReaderOf({BatchFromJson(columns, R"([{"a":1,"v":7}])")}).get(), rules, options));
      ASSERT_FALSE(first);
      EXPECT_EQ(done.added, 1) << rows << restored;
      EXPECT_EQ(done.updated, 0);
      ASSERT_VALUE(const int64_t there, m.table->At()->Count("a = 1 and v = 7"));
      EXPECT_EQ(there, 1) << rows << restored;
      EXPECT_EQ(m.table->At()->snapshot().rows, rows);
    }
  }
}

TEST(Merge, AKeyThatComesBackMeanwhile) {
  for (const char* how : {"alone", "another goes", "its fragment"}) {
    Merging m;
    ASSERT_OK(m.Append(R"([{"a":1,"b":"x","v":10,"w":100},{"a":3,"b":"x","v":30,"w":300}])"));
    if (how == std::string("its fragment")) {
      ASSERT_OK(m.Append(R"([{"a":2,"b":"y","v":20,"w":200}])"));
    } else {
      ASSERT_OK(m.table->Delete({"a = 3"}, {}).status());
      ASSERT_OK(m.Append(R"([{"a":4,"b":"x","v":30,"w":300}])"));
      ASSERT_OK(m.Append(R"([{"a":2,"b":"y","v":20,"w":200},{"a":5,"b":"y","v":20,"w":200}])"));
    }
    ASSERT_VALUE(const View whole, m.table->At());
    ASSERT_OK(m.table->Delete({"a = 2"}, {}).status());
    if (how == std::string("its fragment")) {
      ASSERT_OK(m.table->Compact({}, {}).status());
      ASSERT_EQ(m.table->At()->Fragments().value()->size(), 1U);
    }
    CommitOptions options;
    bool restored = false;
    options.progress = [&](const Progress&) {
      if (restored) return;
      restored = true;
      EXPECT_OK(m.table->Restore(std::to_string(whole.snapshot().version), {}).status());
      if (how == std::string("another goes")) EXPECT_OK(m.table->Delete({"a = 5"}, {}).status());
    };
    MergeOptions rules;
    rules.on = {"a"};
    const auto rows = BatchFromJson(kSource, R"([{"a":1,"b":"new","v":7},{"a":2,"b":"new","v":8}])");
    ASSERT_VALUE(const auto done, m.table->Merge(ReaderOf({rows}).get(), rules, options));
    EXPECT_TRUE(restored) << how;
    EXPECT_EQ(done.updated, 2) << how;
    EXPECT_EQ(m.table->At()->Count("a = 2").value(), 1) << how;
    EXPECT_EQ(m.table->At()->Count("b = 'new' and w in (100, 200)").value(), 2) << how;
  }
}

TEST(KeyTable, KeysAreEqualWhereSqlSaysSo) {
  arrow::DoubleBuilder numbers;
  ASSERT_TRUE(numbers.AppendValues({0.0, std::numeric_limits<double>::quiet_NaN(), 1.5}).ok());
  const auto column = numbers.Finish().ValueOrDie();
  ASSERT_VALUE(const auto keys, KeyColumns::Of({column}));
  ASSERT_VALUE(const auto table, KeyTable::Build(keys, {"n"}));
  arrow::DoubleBuilder probes;
  ASSERT_TRUE(probes.AppendValues({-0.0, -std::numeric_limits<double>::quiet_NaN(), 1.5, 2.5}).ok());
  const auto probe = probes.Finish().ValueOrDie();
  ASSERT_VALUE(const auto asked, KeyColumns::Of({probe}));
  const std::vector<int64_t> expected = {0, 1, 2, -1};
  for (int64_t i = 0; i < 4; ++i) {
    std::string buffer;
    std::string_view key;
    ASSERT_TRUE(asked.KeyOf(i, &buffer, &key));
    EXPECT_EQ(table.Find(key), expected[static_cast<size_t>(i)]) << i;
  }
  // ("a", "bc") is not ("ab", "c").
  arrow::StringBuilder first, second;
  ASSERT_TRUE(first.AppendValues({"a", "ab"}).ok() && second.AppendValues({"bc", "c"}).ok());
  const auto left = first.Finish().ValueOrDie();
  const auto right = second.Finish().ValueOrDie();
  ASSERT_VALUE(const auto pairs, KeyColumns::Of({left, right}));
  EXPECT_OK(KeyTable::Build(pairs, {"x", "y"}).status());
  EXPECT_TRUE(KeyColumns::Of({arrow::MakeArrayOfNull(arrow::list(arrow::int64()), 1).ValueOrDie()})
                  .status()
                  .Is(Code::kUnsupported));
}

}  // namespace
}  // namespace headrace::table
