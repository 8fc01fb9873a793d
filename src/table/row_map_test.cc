#include "table/row_map.h"

#include <random>

#include "table/row_set.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::ReadAll;
using testing::ReaderOf;

std::vector<Fragment> Fragments() {
  std::vector<Fragment> fragments(3);
  const int64_t firsts[] = {0, 5, 20}, rows[] = {5, 3, 10};
  for (size_t i = 0; i < 3; ++i) {
    fragments[i].id = static_cast<int64_t>(i) + 7;
    fragments[i].first_row_id = firsts[i];
    fragments[i].rows = rows[i];
  }
  return fragments;
}

TEST(RowMap, IdsAndPlaces) {
  const auto fragments = Fragments();
  const RowMap rows(fragments);
  for (int64_t id = -2; id < 35; ++id) {
    const auto found = rows.Find(id);
    ASSERT_EQ(found.has_value(), (id >= 0 && id < 8) || (id >= 20 && id < 30)) << id;
    if (found) {
      const RowIds ids(fragments[*found]);
      EXPECT_EQ(ids.IdAt(ids.PlaceOf(id)), id);
    }
  }
  ASSERT_VALUE(const auto parts, rows.FindAll({0, 4, 4, 5, 29}));
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].ids, (std::vector<int64_t>{0, 4, 4}));
  EXPECT_EQ(parts[1].fragment, 1U);
  EXPECT_EQ(parts[1].ids, std::vector<int64_t>{5});
  EXPECT_EQ(parts[2].ids, std::vector<int64_t>{29});
  const Status missing = rows.FindAll({4, 8, 9}).status();
  EXPECT_TRUE(missing.Is(Code::kNotFound));
  EXPECT_NE(missing.message().find("the id 8"), std::string::npos) << missing.ToString();

  const std::vector<int64_t> picks = {1, 2};
  const auto places = PlacesOf(fragments[2], Rows::Picks(picks));
  EXPECT_EQ(static_cast<const arrow::Int64Array&>(*places).Value(1), 22);
  const FieldStats stats = PlaceStats(fragments[1], 1, 3);
  EXPECT_EQ(std::get<int64_t>(stats.min), 6);
  EXPECT_EQ(std::get<int64_t>(stats.max), 7);

  Fragment entry = fragments[1];
  EXPECT_EQ(rows.Same(entry), &fragments[1]);
  entry.rows = 2;
  EXPECT_EQ(rows.Same(entry), nullptr);
  entry = fragments[1];
  entry.id = 99;
  EXPECT_EQ(rows.Same(entry), nullptr);
  entry.first_row_id = 40;
  EXPECT_EQ(rows.Same(entry), nullptr);
}

TEST(RowIds, OfRowsInAnotherOrder) {
  Fragment fragment = Fragments()[1];  // 5 to 7
  const auto of = [&](std::vector<int64_t> ids) {
    const auto count = static_cast<int64_t>(ids.size());
    return RowIds::Of(fragment, arrow::Int64Array(count, arrow::Buffer::FromVector(std::move(ids))));
  };
  ASSERT_VALUE(const RowIds ids, of({7, 5, 6}));
  EXPECT_FALSE(ids.ascend());
  EXPECT_EQ(ids.IdAt(0), 7);
  EXPECT_EQ(ids.PlaceOf(7), 0);
  EXPECT_EQ(ids.PlaceOf(5), 1);
  EXPECT_EQ(ids.PlacesIn(6, 100), (std::vector<uint32_t>{0, 2}));
  for (const auto& bad : {std::vector<int64_t>{7, 5}, {7, 5, 5}, {7, 5, 8}, {7, 5, 4}, {7, 5, 6, 6}})
    EXPECT_TRUE(of(bad).status().Is(Code::kCorrupt));
}

TEST(RowSet, HoldsWhatItWasMadeOf) {
  std::mt19937 random(1);
  std::vector<uint32_t> rows;
  for (uint32_t row = 0; row < 200'000; ++row) {
    if (random() % 3 == 0 || (row > 70'000 && row < 90'000)) rows.push_back(row);
  }
  const auto count = static_cast<int64_t>(rows.size());
  ASSERT_VALUE(const auto set, RowSet::Parse(RowSet::Encode(rows), 200'000, count));
  EXPECT_EQ(set->count(), count);
  EXPECT_EQ(set->Select(1'000), rows[1'000]);
  for (const auto& [begin, end] :
       {std::pair<int64_t, int64_t>{0, 200'000}, {65'535, 65'537}, {69'000, 91'000}, {5, 5}}) {
    std::vector<int64_t> got, wanted;
    set->AppendRange(begin, end, &got);
    for (const uint32_t row : rows) {
      if (row >= begin && row < end) wanted.push_back(row);
    }
    EXPECT_EQ(got, wanted) << begin;
  }
  EXPECT_TRUE(RowSet::Parse(RowSet::Encode(rows), 200'000, count + 1).status().Is(Code::kCorrupt));
  EXPECT_TRUE(RowSet::Parse(RowSet::Encode(rows), 1'000, count).status().Is(Code::kCorrupt));
  EXPECT_TRUE(RowSet::Parse("no bitmap", 10, 1).status().Is(Code::kCorrupt));
  EXPECT_TRUE(RowSet::Parse(RowSet::Encode({10}), 10, 1).status().Is(Code::kCorrupt));
  EXPECT_TRUE(RowSet::Parse(RowSet::Encode({9}), 10, 1).ok());
  ASSERT_VALUE(const auto none, RowSet::Parse(RowSet::Encode({}), 10, 0));
  EXPECT_EQ(none->count(), 0);
}

// A scan of chosen rows gives those of them that pass the filter, as a scan of all would.
TEST(RowSet, ScansTakeThem) {
  const auto schema = arrow::schema({arrow::field("n", arrow::int64())});
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store::NewMemoryStore(), {.threads = 1}));
  ASSERT_VALUE(const auto table, testing::MakeTable(catalog.get(), "t", schema));
  constexpr int64_t kRows = 5'000;  // of a fragment: more than two pages
  for (int fragment = 0; fragment < 3; ++fragment) {
    arrow::Int64Builder numbers;
    for (int64_t row = 0; row < kRows; ++row) ASSERT_TRUE(numbers.Append(fragment * kRows + row).ok());
    const auto batch = arrow::RecordBatch::Make(schema, kRows, {numbers.Finish().ValueOrDie()});
    ASSERT_OK(table->Append(ReaderOf({batch}).get(), {}).status());
  }
  ASSERT_VALUE(const View view, table->At());
  std::vector<uint32_t> odd;
  for (uint32_t row = 1; row < kRows; row += 2) odd.push_back(row);
  RowSets sets(3);  // all of the first, the odd ones of the second, none of the third
  ASSERT_VALUE(sets[1], RowSet::Parse(RowSet::Encode(odd), kRows, static_cast<int64_t>(odd.size())));
  ASSERT_VALUE(sets[2], RowSet::Parse(RowSet::Encode({}), kRows, 0));
  const auto rows = std::make_shared<const RowSets>(sets);
  for (const std::string& where :
       {std::string(), std::string("n >= 4990 and n < 8000"), std::string("n >= 0")}) {
    for (const int64_t limit : {int64_t{-1}, int64_t{7}}) {
      ASSERT_VALUE(const auto got, ReadAll(view, {.where = where, .limit = limit, .rows = rows}));
      std::vector<int64_t> wanted;
      for (int64_t n = 0; n < 2 * kRows; ++n) {
        const bool passes = where.empty() || where == "n >= 0" || (n >= 4'990 && n < 8'000);
        const bool chosen = n < kRows || n % 2 == 1;
        if (passes && chosen && (limit < 0 || static_cast<int64_t>(wanted.size()) < limit))
          wanted.push_back(n);
      }
      ASSERT_EQ(got->num_rows(), static_cast<int64_t>(wanted.size())) << where << " limit " << limit;
      for (size_t i = 0; i < wanted.size(); ++i) {
        const auto& numbers = static_cast<const arrow::Int64Array&>(*got->column(0)->chunk(0));
        ASSERT_EQ(numbers.Value(static_cast<int64_t>(i)), wanted[i]) << where;
      }
    }
  }
  EXPECT_TRUE(
      ReadAll(view, {.rows = std::make_shared<const RowSets>(2)}).status().ToString().find("sets of rows") !=
      std::string::npos);
}

}  // namespace
}  // namespace headrace::table
