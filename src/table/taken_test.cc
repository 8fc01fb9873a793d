// What a table has taken in: decided with the commit, never forgotten, in few lists.
#include "table/taken.h"

#include <arrow/api.h>

#include <utility>

#include "table/collect_testing.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

Result<CommitResult> Append(Table* table, std::vector<TakenItem> items) {
  const auto schema = arrow::schema({arrow::field("k", arrow::int64())});
  HEADRACE_ASSIGN(const auto appender, table->StartAppend({"k"}, {}));
  HEADRACE_TRY(appender->Write(*testing::BatchFromJson(schema, R"([{"k":1}])")));
  for (auto& item : items) appender->Take(std::move(item));
  return appender->Commit();
}

TEST(Taken, ManyAppendsMakeFewLists) {
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store::NewMemoryStore(), {.threads = 1}));
  const auto schema = arrow::schema({arrow::field("k", arrow::int64())});
  ASSERT_VALUE(const auto table, testing::MakeTable(catalog.get(), "t", schema));
  ASSERT_OK(Append(table.get(), {}).status());
  for (int i = 0; i < 300; ++i) {
    ASSERT_OK(Append(table.get(), {{"file" + std::to_string(i), i, -i, static_cast<uint64_t>(i) << 60, 0}})
                  .status());
    ASSERT_VALUE(const auto view, table->At());
    EXPECT_LT(view.snapshot().taken.size(), 17u);
  }
  // Others' commits keep the lists, and say that whoever does not know them may not commit.
  ASSERT_OK(table->Tag("x", "", false, {}).status());
  ASSERT_VALUE(const auto again, Catalog::OpenOn(catalog->environment()->store, {.threads = 1}));
  ASSERT_VALUE(const auto opened, again->OpenTable("t"));
  ASSERT_VALUE(const auto taken, opened->TakenIn());
  EXPECT_EQ(taken.rows_before, 1);
  ASSERT_EQ(taken.items.size(), 300u);
  const auto& item = taken.items.at("file7");
  EXPECT_EQ(item.bytes, 7);
  EXPECT_EQ(item.modified_ns, -7);
  EXPECT_EQ(item.content, uint64_t{7} << 60);
  ASSERT_VALUE(const auto view, opened->At());
  EXPECT_NE(EncodeSnapshot(view.snapshot()).find(R"("requires":["taken","origins"])"), std::string::npos);
}

TEST(Taken, TheCommitDecides) {
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store::NewMemoryStore(), {.threads = 1}));
  const auto schema = arrow::schema({arrow::field("k", arrow::int64())});
  ASSERT_VALUE(const auto table, testing::MakeTable(catalog.get(), "t", schema));
  TakenItem item{"file", 1, 2, 3, 0};
  ASSERT_VALUE(const auto first, Append(table.get(), {item}));
  EXPECT_TRUE(Append(table.get(), {{"other", 1, 2, 3, 0}, item}).status().Is(Code::kConflict));
  item.version = first.version;
  item.content = 4;
  ASSERT_VALUE(const auto second, Append(table.get(), {item}));
  EXPECT_TRUE(Append(table.get(), {item}).status().Is(Code::kConflict));
  ASSERT_VALUE(const auto taken, table->TakenIn());
  EXPECT_EQ(taken.items.size(), 1u);
  EXPECT_EQ(taken.items.at("file").content, 4u);
  EXPECT_EQ(taken.items.at("file").version, second.version);
}

// An item that has changed takes the place of the rows that it became, which others move or delete meanwhile.
TEST(Taken, ChangedItemsReplaceTheirRows) {
  const auto store = std::make_shared<HookedStore>(store::NewMemoryStore());
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store, {.threads = 1}));
  const auto schema = arrow::schema({arrow::field("k", arrow::int64())});
  ASSERT_VALUE(const auto table, testing::MakeTable(catalog.get(), "t", schema));
  ASSERT_OK(Append(table.get(), {}).status());
  TakenItem item{"file", 1, 2, 3, 0, 0, 1};
  ASSERT_VALUE(const auto first, Append(table.get(), {item}));
  ASSERT_OK(Append(table.get(), {}).status());
  const TakenItem noted = table->TakenIn().value().items.at("file");
  EXPECT_EQ(noted.first_row, 1);
  EXPECT_EQ(noted.rows, 1);
  const auto ids = [&] {
    const auto rows = testing::ReadAll(table->At().value(), {.with_row_ids = true}).value();
    return rows->GetColumnByName("_row_id")->ToString();
  };

  item.version = first.version;
  item.replaced_first = noted.first_row;
  item.replaced_rows = noted.rows;
  bool compacted = false;
  store->on_put_if_absent = [&](std::string_view key) {
    const auto name = ParseKey(key);
    if (name && name->kind == ObjectKind::kSnapshot && !std::exchange(compacted, true))
      EXPECT_OK(table->Compact({}, {}).status());
    return Status::Ok();
  };
  ASSERT_VALUE(const auto second, Append(table.get(), {item}));
  EXPECT_TRUE(compacted);
  ASSERT_VALUE(const View now, table->At());
  EXPECT_EQ(now.snapshot().rows, 3);
  EXPECT_EQ(now.snapshot().operation.rows, 1);
  EXPECT_EQ(ids().find("    1,"), std::string::npos) << ids();
  EXPECT_EQ(table->TakenIn().value().items.at("file").first_row, 3);

  // Whoever was faster has taken it; rows that are gone altogether are no fault.
  EXPECT_TRUE(Append(table.get(), {item}).status().Is(Code::kConflict));
  ASSERT_OK(table->Delete({"true"}, {}).status());
  ASSERT_OK(table->Compact({}, {}).status());
  item.version = second.version;
  item.replaced_first = 3;
  ASSERT_OK(Append(table.get(), {item}).status());
  EXPECT_EQ(table->At().value().snapshot().rows, 1);
  EXPECT_EQ(table->TakenIn().value().items.at("file").first_row, 4);
}

TEST(Taken, DamageIsFound) {
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store::NewMemoryStore(), {.threads = 1}));
  const auto schema = arrow::schema({arrow::field("k", arrow::int64())});
  ASSERT_VALUE(const auto table, testing::MakeTable(catalog.get(), "t", schema));
  ASSERT_OK(Append(table.get(), {{"file", 1, 2, 3, 0}}).status());
  const auto store = catalog->environment()->store;
  ASSERT_VALUE(const auto listed, store->List(table->prefix() + "taken/", "", 2));
  ASSERT_EQ(listed.size(), 1u);
  const std::string whole(store->Get(listed[0].key)->view());
  for (size_t i = 0; i <= whole.size(); ++i) {
    std::string damaged = whole.substr(0, i);
    if (i < whole.size()) damaged += std::string(1, static_cast<char>(whole[i] ^ 1)) + whole.substr(i + 1);
    if (i == whole.size()) damaged.pop_back();
    ASSERT_OK(store->Put(listed[0].key, damaged));
    ASSERT_VALUE(const auto again, Catalog::OpenOn(store, {.threads = 1}));
    ASSERT_VALUE(const auto opened, again->OpenTable("t"));
    EXPECT_TRUE(opened->TakenIn().status().Is(Code::kCorrupt)) << i;
  }
}

}  // namespace
}  // namespace headrace::table
