// Compaction: the same rows under the same ids, in fewer files.
#include "table/compact_testing.h"

#include <random>

#include "base/limits.h"
#include "table/row_map.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::MakeTable;
using testing::ReadAll;
using testing::ReaderOf;

TEST_F(CompactTest, TheSameRowsInOneFragment) {
  for (int64_t i = 0; i < 70; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  ASSERT_OK(table_->Delete({"id % 7 = 3"}, {}).status());
  ASSERT_OK(SetName(table_.get(), "id % 11 = 0"));
  const View before = Now();
  ASSERT_VALUE(const std::string rows, Text(before));
  ASSERT_VALUE(const auto done, table_->Compact({}, {}));
  EXPECT_EQ(done.commits, 1);
  EXPECT_EQ(done.replaced, 70);
  EXPECT_EQ(done.fragments, 1);
  EXPECT_EQ(done.rows, 210);
  const View after = Now();
  EXPECT_EQ(Text(after).value(), rows);
  EXPECT_EQ(after.snapshot().rows, before.snapshot().rows);
  EXPECT_EQ(Fragments(after).value(), 1U);
  EXPECT_EQ(after.snapshot().operation.kind, OperationKind::kCompact);
  EXPECT_EQ(after.snapshot().manifests.size(), 0U);  // one entry, in the snapshot
  EXPECT_EQ(after.Count("name = 'x'").value(), before.Count("name = 'x'").value());
  EXPECT_EQ(Text(before).value(), rows);  // the earlier version keeps its files

  // Nothing is left to do, and values of deleted rows are gone.
  ASSERT_VALUE(const auto again, table_->Compact({}, {}));
  EXPECT_EQ(again.commits, 0);
  EXPECT_EQ(again.version, done.version);
  ASSERT_VALUE(const auto fragments, after.Fragments());
  EXPECT_TRUE((*fragments)[0].overlays.empty());
  EXPECT_EQ((*fragments)[0].deleted.erased, 30);
  for (const auto& field : after.schema().fields) {
    ASSERT_VALUE(const auto column, after.reader().ReadTop((*fragments)[0], field, Rows::Range(0, 210)));
    EXPECT_TRUE(column->IsNull(3)) << field.name;
    EXPECT_TRUE(column->IsNull(10)) << field.name;
  }
}

TEST_F(CompactTest, DeletesMeanwhileHold) {
  for (int64_t i = 0; i < 4; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  ASSERT_OK(table_->Delete({"id = 1"}, {}).status());
  const View base = Now();
  ASSERT_VALUE(const auto fragments, base.Fragments());
  Compactor compactor(base, {});
  ASSERT_OK(compactor.Add(*fragments, {0, 4}, [](int64_t) {}));
  ASSERT_OK(table_->Delete({"id = 5 or id = 9"}, {}).status());
  ASSERT_OK(AppendRange(table_.get(), 12, 14));
  ASSERT_VALUE(const std::string rows, Text(Now()));
  SnapshotLog log(catalog_->environment(), table_->prefix());
  ASSERT_OK(log.Commit({compactor.Take(), {}, {}, {}}, {}).status());
  const View after = Now();
  EXPECT_EQ(Text(after).value(), rows);
  EXPECT_EQ(after.snapshot().rows, 11);
  ASSERT_VALUE(const auto now, after.Fragments());
  ASSERT_EQ(now->size(), 2U);
  EXPECT_EQ((*now)[0].deleted.count, 3);
  EXPECT_EQ((*now)[0].deleted.erased, 1);
  // The two that were deleted meanwhile are more than a tenth: they are erased by the next.
  ASSERT_VALUE(const auto again, table_->Compact({}, {}));
  EXPECT_EQ(again.commits, 1);
  EXPECT_EQ(Text(Now()).value(), rows);
}

// Rows with long texts are copied a few at a time; budgets of bytes make several commits of it.
TEST_F(CompactTest, InPieces) {
  const std::string text(1 << 20, 'x');
  const auto column = arrow::schema({arrow::field("name", arrow::utf8())});
  for (int64_t i = 0; i < 6; ++i) {
    std::string json;
    for (int64_t k = 0; k < 8; ++k)
      json += (json.empty() ? "[" : ",") + std::string("{\"name\": \"") + std::to_string(i * 8 + k) + text +
              "\"}";
    ASSERT_OK(table_->Append(ReaderOf({BatchFromJson(column, json + "]")}).get(), {}).status());
  }
  ASSERT_VALUE(const std::string rows, Text(Now()));
  CompactOptions options;
  options.fragment_rows = 16;
  options.commit_bytes = 1;
  ASSERT_VALUE(const auto done, table_->Compact(options, {}));
  EXPECT_EQ(done.commits, 3);
  EXPECT_EQ(done.replaced, 6);
  EXPECT_EQ(done.fragments, 3);
  EXPECT_EQ(Text(Now()).value(), rows);
  options.fragment_rows = 48;  // 48 MB in one: two steps
  ASSERT_OK(table_->Compact(options, {}).status());
  EXPECT_EQ(Fragments(Now()).value(), 1U);
  EXPECT_EQ(Text(Now()).value(), rows);
}

TEST_F(CompactTest, StopsWhenAsked) {
  for (int64_t i = 0; i < 4; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  const int64_t before = Now().snapshot().version;
  const auto files = [&] {
    return catalog_->environment()->store->List(table_->prefix() + "data/", "", 100).value().size();
  };
  const size_t were = files();
  StopSource stop;
  int copied = 0;
  CommitOptions options;
  options.stop = stop.token();
  options.progress = [&](const Progress&) {
    ++copied;
    stop.Stop();
  };
  EXPECT_TRUE(table_->Compact({}, options).status().Is(Code::kCancelled));
  EXPECT_EQ(copied, 1);  // of four fragments
  EXPECT_EQ(Now().snapshot().version, before);
  EXPECT_EQ(files(), were);
}

TEST_F(CompactTest, AnUpdateMeanwhileIsNotLost) {
  for (int64_t i = 0; i < 4; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  const View base = Now();
  ASSERT_VALUE(const auto fragments, base.Fragments());
  Compactor compactor(base, {});
  ASSERT_OK(compactor.Add(*fragments, {0, 4}, [](int64_t) {}));
  ASSERT_OK(SetName(table_.get(), "id = 5"));
  SnapshotLog log(catalog_->environment(), table_->prefix());
  EXPECT_TRUE(log.Commit({compactor.Take(), {}, {}, {}}, {}).status().Is(Code::kConflict));
  ASSERT_OK(table_->Compact({}, {}).status());
  EXPECT_EQ(Now().Count("name = 'x'").value(), 1);
}

TEST_F(CompactTest, RowsThatComeBackMeanwhileAreNotLost) {
  for (int64_t i = 0; i < 2; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  ASSERT_VALUE(const std::string rows, Text(Now()));
  const int64_t whole = Now().snapshot().version;
  ASSERT_OK(table_->Delete({"id = 1"}, {}).status());
  const View base = Now();
  ASSERT_VALUE(const auto fragments, base.Fragments());
  Compactor compactor(base, {});
  ASSERT_OK(compactor.Add(*fragments, {0, 2}, [](int64_t) {}));
  ASSERT_OK(table_->Restore(std::to_string(whole), {}).status());
  SnapshotLog log(catalog_->environment(), table_->prefix());
  EXPECT_TRUE(log.Commit({compactor.Take(), {}, {}, {}}, {}).status().Is(Code::kConflict));
  EXPECT_EQ(Text(Now()).value(), rows);
}

// As many are deleted then as were before, but others.
TEST_F(CompactTest, OneRowComesBackAndAnotherGoes) {
  for (int64_t i = 0; i < 2; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  const int64_t whole = Now().snapshot().version;
  ASSERT_OK(table_->Delete({"id = 1"}, {}).status());
  const View base = Now();
  ASSERT_VALUE(const auto fragments, base.Fragments());
  Compactor compactor(base, {});
  ASSERT_OK(compactor.Add(*fragments, {0, 2}, [](int64_t) {}));
  ASSERT_OK(table_->Restore(std::to_string(whole), {}).status());
  ASSERT_OK(table_->Delete({"id = 2"}, {}).status());
  ASSERT_VALUE(const std::string rows, Text(Now()));
  SnapshotLog log(catalog_->environment(), table_->prefix());
  EXPECT_TRUE(log.Commit({compactor.Take(), {}, {}, {}}, {}).status().Is(Code::kConflict));
  EXPECT_EQ(Text(Now()).value(), rows);
}

TEST_F(CompactTest, FragmentsWithoutRowsGo) {
  for (int64_t i = 0; i < 6; ++i) ASSERT_OK(AppendRange(table_.get(), i * 3, i * 3 + 3));
  ASSERT_OK(table_->Delete({"id < 6 or id > 14"}, {}).status());
  ASSERT_VALUE(const std::string rows, Text(Now()));
  ASSERT_VALUE(const auto done, table_->Compact({}, {}));
  EXPECT_EQ(Text(Now()).value(), rows);
  EXPECT_EQ(done.replaced, 6);
  EXPECT_EQ(done.rows, 9);  // nothing is written of the two before and the one behind
  ASSERT_VALUE(const auto fragments, Now().Fragments());
  ASSERT_EQ(fragments->size(), 1U);
  EXPECT_EQ((*fragments)[0].first_row_id, 6);
  EXPECT_TRUE(Now().Take({4}, {"id"}).status().Is(Code::kNotFound));
  ASSERT_OK(table_->Delete({"true"}, {}).status());
  ASSERT_OK(table_->Compact({}, {}).status());
  EXPECT_EQ(Fragments(Now()).value(), 0U);
  ASSERT_OK(AppendRange(table_.get(), 18, 20));
  EXPECT_EQ(Now().Count("").value(), 2);
}

TEST_F(CompactTest, BlobsStayInTheirPacks) {
  const Schema schema{{Field{-1, "image", Type{.kind = Kind::kBlob, .children = BlobFields()}, "", false}}};
  ASSERT_VALUE(const auto images, catalog_->CreateTable("images", schema));
  const auto column = arrow::schema({arrow::field("image", arrow::binary())});
  CommitOptions options;
  options.write.inline_blob_bytes = 4;
  for (const std::string word : {"first image", "second", "s", "fourth one"}) {
    const auto rows = BatchFromJson(column, "[{\"image\": \"" + word + "\"}]");
    ASSERT_OK(images->Append(ReaderOf({rows}).get(), options).status());
  }
  ASSERT_OK(images->Delete({.where = "", .ids = {{1}}}, {}).status());
  ASSERT_OK(images->Compact({}, options).status());
  ASSERT_VALUE(const View view, images->At());
  ASSERT_VALUE(const auto rows, view.Take({0, 2, 3}, {"image"}));
  ASSERT_VALUE(const auto bytes, view.ReadBlobs(rows->column(0)));
  EXPECT_EQ(bytes[0]->view(), "first image");
  EXPECT_EQ(bytes[1]->view(), "s");
  EXPECT_EQ(bytes[2]->view(), "fourth one");
  // The packs are those that were written first, but for that of the deleted row.
  ASSERT_VALUE(const auto fragments, view.Fragments());
  ASSERT_EQ(fragments->size(), 1U);
  int64_t live = 0;
  for (const auto& pack : (*fragments)[0].packs) live += pack.live_bytes;
  EXPECT_EQ((*fragments)[0].packs.size(), 2U);
  EXPECT_EQ(live, static_cast<int64_t>(std::string("first image").size() + std::string("fourth one").size()));
}

// A pack of which little is used is written anew, and one of which most is used stays.
TEST_F(CompactTest, SparsePacksAreWrittenAnew) {
  const Schema schema{{Field{-1, "image", Type{.kind = Kind::kBlob, .children = BlobFields()}, "", false}}};
  ASSERT_VALUE(const auto images, catalog_->CreateTable("images", schema));
  const auto column = arrow::schema({arrow::field("image", arrow::binary())});
  CommitOptions options;
  options.write.inline_blob_bytes = 4;
  const auto packs = [&] {
    std::set<Uuid> ids;
    const View view = images->At().value();
    for (const auto& fragment : **view.Fragments()) {
      for (const auto& pack : fragment.packs) ids.insert(pack.id);
    }
    return ids;
  };
  for (int part = 0; part < 2; ++part) {
    std::string json;
    for (int i = 0; i < 10; ++i)
      json += (i ? "," : "[") + std::string("{\"image\": \"picture ") + std::to_string(part * 10 + i) + "\"}";
    ASSERT_OK(images->Append(ReaderOf({BatchFromJson(column, json + "]")}).get(), options).status());
  }
  const auto before = packs();
  ASSERT_EQ(before.size(), 2U);
  ASSERT_OK(images->Delete({.where = "_row_id < 7 or _row_id = 13"}, {}).status());
  // The first time it is found which bytes are used.
  for (int pass = 0; pass < 2; ++pass) ASSERT_OK(images->Compact({}, options).status());
  const auto after = packs();
  ASSERT_EQ(after.size(), 2U);
  std::vector<Uuid> kept;
  std::set_intersection(before.begin(), before.end(), after.begin(), after.end(), std::back_inserter(kept));
  EXPECT_EQ(kept.size(), 1U);
  ASSERT_VALUE(const auto again, images->Compact({}, options));
  EXPECT_EQ(again.commits, 0);
  ASSERT_VALUE(const View view, images->At());
  ASSERT_VALUE(const auto rows, view.Take({7, 12, 19}, {"image"}));
  ASSERT_VALUE(const auto bytes, view.ReadBlobs(rows->column(0)));
  EXPECT_EQ(bytes[0]->view(), "picture 7");
  EXPECT_EQ(bytes[1]->view(), "picture 12");
  EXPECT_EQ(bytes[2]->view(), "picture 19");
}

CompactOptions Small() {
  CompactOptions options;
  options.fragment_rows = 1000;
  options.fragment_bytes = 8000;
  return options;
}

std::vector<Fragment> RandomFragments(std::mt19937_64* random) {
  const auto a = std::make_shared<const ColumnGroup>(ColumnGroup{FileKind::kParquet, {1}});
  const auto both = std::make_shared<const ColumnGroup>(ColumnGroup{FileKind::kParquet, {1, 2}});
  std::vector<Fragment> fragments;
  int64_t row = 0;
  for (uint64_t i = 0, n = (*random)() % 40; i < n; ++i) {
    Fragment fragment;
    fragment.id = static_cast<int64_t>(i);
    fragment.first_row_id = row += (*random)() % 10 == 0 ? 5 : 0;
    fragment.rows = 1 + static_cast<int64_t>((*random)() % ((*random)() % 4 == 0 ? 1000 : 30));
    fragment.files = {{Uuid::Random(), fragment.rows * 10, (*random)() % 8 == 0 ? a : both, {}}};
    if ((*random)() % 6 == 0)
      fragment.deleted.count = static_cast<int64_t>((*random)() % static_cast<uint64_t>(fragment.rows + 1));
    row += fragment.rows;
    fragments.push_back(fragment);
  }
  return fragments;
}

// What the groups make of the fragments. Each is of neighbours with the same columns, and not too large.
void Apply(const std::vector<CompactGroup>& groups, std::vector<Fragment>* fragments) {
  std::vector<Fragment> left;
  size_t next = 0;
  for (const auto& group : groups) {
    ASSERT_LE(next, group.begin);
    ASSERT_LT(group.begin, group.end);
    for (; next < group.begin; ++next) left.push_back((*fragments)[next]);
    next = group.end;
    if (group.empty) continue;
    Fragment merged = (*fragments)[group.begin];
    for (size_t i = group.begin + 1; i < group.end; ++i) {
      const Fragment& other = (*fragments)[i];
      ASSERT_EQ(merged.end_row_id(), other.first_row_id);
      ASSERT_EQ(*other.files[0].column_group, *merged.files[0].column_group);
      merged.rows += other.rows;
      merged.files[0].bytes += other.files[0].bytes;
      merged.deleted.count += other.deleted.count;
    }
    merged.deleted.erased = merged.deleted.count;
    if (group.end - group.begin > 1) {
      ASSERT_LE(merged.rows, Small().fragment_rows);
      ASSERT_LE(merged.files[0].bytes, Small().fragment_bytes);
    }
    left.push_back(merged);
  }
  for (; next < fragments->size(); ++next) left.push_back((*fragments)[next]);
  *fragments = std::move(left);
}

// At each limit, and one beside it.
TEST(PlanCompaction, Limits) {
  Schema schema;
  schema.fields = {Field{1, "a", Type{}, "", false}};
  const auto group = std::make_shared<const ColumnGroup>(ColumnGroup{FileKind::kParquet, {1}});
  const auto of = [&](const std::vector<int64_t>& rows) {
    std::vector<Fragment> fragments;
    int64_t first = 0;
    for (const int64_t count : rows) {
      Fragment fragment;
      fragment.id = static_cast<int64_t>(fragments.size());
      fragment.first_row_id = first;
      fragment.rows = count;
      fragment.files = {{Uuid::Random(), count * 10, group, {}}};
      first += count;
      fragments.push_back(fragment);
    }
    return fragments;
  };
  const auto groups = [&](const std::vector<Fragment>& fragments) {
    return PlanCompaction(schema, fragments, Small()).size();
  };
  const auto many = static_cast<size_t>(limits::kMaxSmallFragments);
  EXPECT_FALSE(WantsUpkeep(of(std::vector<int64_t>(many, 1))));
  EXPECT_TRUE(WantsUpkeep(of(std::vector<int64_t>(many + 1, 1))));
  EXPECT_TRUE(WantsUpkeep(of(std::vector<int64_t>(many + 1, limits::kSmallFragmentRows - 1))));
  EXPECT_FALSE(WantsUpkeep(of(std::vector<int64_t>(many + 1, limits::kSmallFragmentRows))));

  EXPECT_EQ(groups(of({400, 400})), 1U);  // 800 rows, 8,000 bytes
  EXPECT_EQ(groups(of({400, 401})), 0U);
  EXPECT_EQ(groups(of({200, 100})), 1U);  // two thirds
  EXPECT_EQ(groups(of({201, 100})), 0U);

  std::vector<Fragment> one = of({100});
  one[0].deleted.count = 10;
  EXPECT_EQ(groups(one), 0U);
  one[0].deleted.count = 11;
  EXPECT_EQ(groups(one), 1U);
  one[0].deleted.erased = 1;
  EXPECT_EQ(groups(one), 0U);
}

TEST(PlanCompaction, ComesToAnEnd) {
  std::mt19937_64 random(20261129);
  Schema schema;
  schema.fields = {Field{1, "a", Type{}, "", false}, Field{2, "b", Type{}, "", false}};
  for (int round = 0; round < 500; ++round) {
    std::vector<Fragment> fragments = RandomFragments(&random);
    for (int times = 0;; ++times) {
      const auto groups = PlanCompaction(schema, fragments, Small());
      if (groups.empty()) break;
      ASSERT_LT(times, 8) << "round " << round;  // each joins or erases
      ASSERT_NO_FATAL_FAILURE(Apply(groups, &fragments));
    }
  }
}

// A table that gets a few rows at a time, and is compacted after each: a row is written again only when its
// fragment grows by a half.
TEST(PlanCompaction, RowsAreSeldomWrittenAgain) {
  Schema schema;
  schema.fields = {Field{1, "a", Type{}, "", false}};
  const auto group = std::make_shared<const ColumnGroup>(ColumnGroup{FileKind::kParquet, {1}});
  std::vector<Fragment> fragments;
  int64_t written = 0;
  constexpr int kCommits = 1000;
  for (int i = 0; i < kCommits; ++i) {
    Fragment fragment;
    fragment.id = fragment.first_row_id = i;
    fragment.rows = 1;
    fragment.files = {{Uuid::Random(), 1, group, {}}};
    fragments.push_back(fragment);
    const auto groups = PlanCompaction(schema, fragments, {});
    for (const auto& group : groups) {
      for (size_t k = group.begin; k < group.end; ++k) written += fragments[k].rows;
    }
    ASSERT_NO_FATAL_FAILURE(Apply(groups, &fragments));
  }
  EXPECT_LE(fragments.size(), 20U);
  // log(1000) / log(1.5) = 17
  EXPECT_LE(written, kCommits * 18);
}

// What compaction leaves of a manifest is too little for a file of its own: it rides in the snapshot again.
TEST(Compact, FewEntriesRideInline) {
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store::NewMemoryStore(), {.threads = 1}));
  const auto schema = arrow::schema({arrow::field("id", arrow::int64())});
  ASSERT_VALUE(const auto table, testing::MakeTable(catalog.get(), "t", schema));
  const auto append = [&](int64_t rows) {
    std::string json;
    for (int64_t i = 0; i < rows; ++i)
      json += (i ? "," : "[") + std::string("{\"id\":") + std::to_string(i) + "}";
    ASSERT_OK(
        table->Append(testing::ReaderOf({testing::BatchFromJson(schema, json + "]")}).get(), {}).status());
  };
  append(10'000);  // too large to be written again for the others
  for (int64_t i = 0; i < limits::kInlineFragments; ++i) append(1);
  ASSERT_VALUE(const View before, table->At());
  ASSERT_FALSE(before.snapshot().manifests.empty());
  ASSERT_VALUE(const CompactResult done, table->Compact({}, {}));
  EXPECT_EQ(done.replaced, limits::kInlineFragments);
  ASSERT_VALUE(const View after, table->At());
  EXPECT_TRUE(after.snapshot().manifests.empty());
  EXPECT_EQ(after.snapshot().inline_entries.size(), 2U);
  ASSERT_VALUE(const int64_t some, after.Count("id < 5"));  // by statistics too
  EXPECT_EQ(some, 5 + limits::kInlineFragments);
}

}  // namespace
}  // namespace headrace::table
