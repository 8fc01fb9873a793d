// Damage of every kind to every kind of object: verify names it, repair mends what can be mended.
#include "table/verify.h"

#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "base/hash.h"
#include "store/local_store.h"
#include "table/keys.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::ReadAll;
using testing::ReaderOf;

const auto kColumns =
    arrow::schema({arrow::field("id", arrow::int64()), arrow::field("name", arrow::utf8()),
                   arrow::field("tags", arrow::list(arrow::utf8())),
                   arrow::field("at", arrow::struct_({arrow::field("x", arrow::float64())})),
                   arrow::field("vec", arrow::fixed_size_list(arrow::float32(), 4)),
                   arrow::field("image", arrow::binary())});

class VerifyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = store::OpenLocalStore(folder_.path(), {.sync = false}).value();
    catalog_ = Catalog::InitOn(store_, {.threads = 2}).value();
    catalog_->environment()->inline_row_set_bytes = 0;
    Schema schema = SchemaFromArrow(*kColumns).value();
    schema.fields[5].type = ParseType("blob").value();
    table_ = catalog_->CreateTable("t", schema).value();
    for (int part = 0; part < 3; ++part) ASSERT_OK(Append(part));
    ASSERT_OK(table_->Delete({"id = 5 or id = 210"}, {}).status());
    const auto name = arrow::schema({kColumns->field(1)});
    const auto rename =
        [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
      std::string json = "[";
      for (int64_t i = 0; i < in->num_rows(); ++i) json += std::string(i ? "," : "") + R"({"name": "new"})";
      return BatchFromJson(name, json + "]");
    };
    ASSERT_OK(table_->Update({"id between 20 and 30"}, {}, {"name"}, rename, {}).status());
    ASSERT_OK(table_->DropColumn("at", {}).status());
    ASSERT_OK(catalog_->PointRef("prod", "t", "v3", 0).status());
  }
  Status Append(int part) {
    std::string json = "[";
    for (int i = part * 100; i < part * 100 + 100; ++i) {
      json += (i % 100 ? "," : "") + std::string("{\"id\":") + std::to_string(i) + ",\"name\":\"n" +
              std::to_string(i % 7) + "\",\"tags\":[\"a\",\"b" + std::to_string(i) +
              "\"],\"at\":{\"x\":" + std::to_string(i) + "},\"vec\":[1,2,3," + std::to_string(i) +
              "],\"image\":\"" + std::string(3000, static_cast<char>('a' + i % 26)) + "\"}";
    }
    HEADRACE_ASSIGN(const auto appender, table_->StartAppend(kColumns->field_names(), {}));
    appender->Take({.source = "file " + std::to_string(part)});
    HEADRACE_TRY(appender->Write(*BatchFromJson(kColumns, json + "]")));
    return appender->Commit().status();
  }
  std::vector<Damage> Damaged() {
    std::vector<Damage> all;
    const auto catalog = Catalog::OpenOn(store_, {.threads = 2});
    if (!catalog.ok()) return {{"catalog.json", catalog.status().ToString(), 0}};
    const Status status = (*catalog)->Verify({}, {}, [&](const VerifyReport& report) {
      all.insert(all.end(), report.damaged.begin(), report.damaged.end());
    });
    EXPECT_OK(status);
    return all;
  }
  // What reads of all versions give, as text; nothing where one fails.
  std::optional<std::string> Read() {
    const auto catalog = Catalog::OpenOn(store_, {.threads = 1});
    if (!catalog.ok()) return std::nullopt;
    const auto table = (*catalog)->OpenTable("t");
    if (!table.ok()) return std::nullopt;
    std::string text;
    for (const char* version : {"", "v4", "v3"}) {
      const auto view = (*table)->At(version);
      if (!view.ok()) return std::nullopt;
      const auto rows = ReadAll(*view);
      if (!rows.ok()) return std::nullopt;
      for (int c = 0; c < (*rows)->num_columns(); ++c) text += (*rows)->column(c)->ToString();
      const auto images = (*rows)->GetColumnByName("image");
      for (const auto& chunk : images->chunks()) {
        const auto blobs = view->ReadBlobs(chunk);
        if (!blobs.ok()) return std::nullopt;
        for (const auto& blob : *blobs) text += blob->view();
      }
    }
    return Hex64(Xxh3(text));
  }
  std::vector<std::string> Keys() {
    std::vector<std::string> keys;
    const auto listed = store_->List("", "", INT64_MAX).value();
    for (const auto& object : listed) {
      if (ParseKey(object.key)->kind != ObjectKind::kLock) keys.push_back(object.key);
    }
    return keys;
  }

  testing::TempFolder folder_;
  std::shared_ptr<store::ObjectStore> store_;
  std::shared_ptr<Catalog> catalog_;
  std::shared_ptr<Table> table_;
};

TEST_F(VerifyTest, AWholeTableIsWhole) {
  EXPECT_TRUE(Damaged().empty());
  ASSERT_VALUE(const auto report, table_->Verify({}, {}));
  EXPECT_EQ(report.versions, 8);
  EXPECT_EQ(report.orphans.objects, 0);
  EXPECT_GT(report.checked.bytes, 900'000) << "blobs too";
  // An orphan, and what is not ours.
  const std::string orphan = DataKey(table_->prefix(), Uuid::Random(), FileKind::kParquet);
  ASSERT_OK(store_->Put(orphan, "left behind"));
  ASSERT_OK(store_->Put(table_->prefix() + "indexes/x", "newer"));
  ASSERT_VALUE(const auto again, table_->Verify({}, {}));
  ASSERT_EQ(again.orphan_keys, std::vector<std::string>{orphan});
  EXPECT_EQ(again.unknown.objects, 1);
  EXPECT_TRUE(again.damaged.empty());
}

// One byte of each object changes, or it is cut off, or it is gone, or another of its kind stands there.
TEST_F(VerifyTest, DamageIsNamed) {
  const auto before = Read();
  ASSERT_TRUE(before);
  std::mt19937_64 random(5);
  std::map<ObjectKind, std::pair<int, int>> unseen;  // flips that verify does not see, of all
  const auto keys = Keys();
  std::set<ObjectKind> kinds;
  for (const auto& key : keys) {
    const ObjectKind kind = ParseKey(key)->kind;
    kinds.insert(kind);
    const std::string whole(store_->Get(key)->view());
    const auto expect_named = [&](const std::string& what) {
      const auto damaged = Damaged();
      EXPECT_FALSE(damaged.empty()) << key << " " << what;
      if (damaged.empty()) return;
      const std::string file = key.substr(key.rfind('/') + 1);
      const std::string id = file.substr(0, file.find('.'));
      bool named = false;
      for (const auto& one : damaged)
        named = named || one.key.find(id) != std::string::npos || one.what.find(id) != std::string::npos;
      EXPECT_TRUE(named) << key << " " << what << ", and it says " << damaged[0].key << ": "
                         << damaged[0].what;
    };
    ASSERT_OK(store_->Put(key, whole.substr(0, whole.size() / 2)));
    expect_named("is cut off");
    ASSERT_OK(store_->Put(key, whole + "x"));
    if (kind != ObjectKind::kPack && kind != ObjectKind::kRowSets) expect_named("has a byte more");
    if (kind != ObjectKind::kRef && kind != ObjectKind::kCatalog) {
      ASSERT_OK(store_->Delete(key));
      // Without its newest snapshot a table is as it was before.
      const bool newest = kind == ObjectKind::kSnapshot && ParseKey(key)->number == 8;
      if (!newest) expect_named("is gone");
    }
    for (int i = 0; i < testing::Scaled(30); ++i) {
      std::string bad = whole;
      const size_t at = random() % bad.size();
      bad[at] = static_cast<char>(bad[at] ^ (1 << (random() % 8)));
      ASSERT_OK(store_->Put(key, bad));
      auto& [missed, all] = unseen[kind];
      ++all;
      if (!Damaged().empty()) continue;
      ++missed;
      const auto read = Read();
      EXPECT_EQ(read, before) << key << " at " << at << " of " << bad.size() << ": "
                              << (read ? "read wrong" : "readers fail") << ", and verify says nothing";
    }
    ASSERT_OK(store_->Put(key, whole));
  }
  for (const ObjectKind kind : {ObjectKind::kSnapshot, ObjectKind::kRef, ObjectKind::kTaken,
                                ObjectKind::kParquet, ObjectKind::kTensor, ObjectKind::kTensorSums,
                                ObjectKind::kPack, ObjectKind::kRowSets, ObjectKind::kCatalog}) {
    EXPECT_TRUE(kinds.contains(kind)) << static_cast<int>(kind);
  }
  for (const auto& [kind, counts] : unseen) {
    // Of a page's header some bits mean nothing to a reader (its statistics, which nobody uses).
    const bool has_slack = kind == ObjectKind::kParquet || kind == ObjectKind::kCatalog;  // and white space
    const int allowed = has_slack ? counts.second / 10 : 0;
    EXPECT_LE(counts.first, allowed) << static_cast<int>(kind) << ": " << counts.first << " of "
                                     << counts.second;
  }
  EXPECT_TRUE(Damaged().empty());
}

TEST_F(VerifyTest, FilesThatChangedPlacesAreNamed) {
  std::map<ObjectKind, std::vector<std::string>> kinds;
  for (const auto& key : Keys()) kinds[ParseKey(key)->kind].push_back(key);
  for (const auto& [kind, keys] : kinds) {
    for (size_t i = 1; i < keys.size(); ++i) {
      const std::string a(store_->Get(keys[0])->view()), b(store_->Get(keys[i])->view());
      if (a == b) continue;
      ASSERT_OK(store_->Put(keys[0], b));
      ASSERT_OK(store_->Put(keys[i], a));
      EXPECT_FALSE(Damaged().empty()) << keys[0] << " and " << keys[i];
      ASSERT_OK(store_->Put(keys[0], a));
      ASSERT_OK(store_->Put(keys[i], b));
    }
  }
}

TEST_F(VerifyTest, ANewestVersionThatCannotBeReadIsRolledBack) {
  ASSERT_VALUE(const View was, table_->At());
  const std::string key = SnapshotKey(table_->prefix(), 8);
  const std::string whole(store_->Get(key)->view());
  ASSERT_OK(store_->Put(key, whole.substr(0, 100)));
  const auto open = [&] { return Catalog::OpenOn(store_, {.threads = 1}).value()->OpenTable("t").value(); };
  EXPECT_TRUE(open()->At().status().Is(Code::kCorrupt));
  ASSERT_VALUE(const auto told, open()->Repair({}, {}));
  EXPECT_EQ(told.unreadable, std::vector<int64_t>{8});
  EXPECT_EQ(told.readable, 7);
  EXPECT_EQ(told.version, 0);
  EXPECT_TRUE(open()->At().status().Is(Code::kCorrupt)) << "nothing is done unasked";
  ASSERT_VALUE(const auto done, open()->Repair({.roll_back = true}, {}));
  EXPECT_EQ(done.version, 9);
  ASSERT_VALUE(const View now, open()->At());
  EXPECT_EQ(now.snapshot().version, 9);
  EXPECT_EQ(now.snapshot().rows, was.snapshot().rows);
  EXPECT_GT(now.snapshot().next_row_id, was.snapshot().next_row_id) << "lost rows had ids";
  EXPECT_OK(ReadAll(now).status());
  // It goes on; the damaged bytes stay beside, and who began before the damage may not commit.
  table_ = open();
  ASSERT_OK(table_->DropColumn("tags", {}).status());
  ASSERT_VALUE(const auto report, table_->Verify({}, {}));
  EXPECT_TRUE(report.damaged.empty());
  EXPECT_EQ(report.unknown.objects, 0);
  EXPECT_OK(store_->Get(DamagedKey(table_->prefix(), 8)).status());
  EXPECT_EQ(now.snapshot().collected, 9);
  EXPECT_TRUE(open()->At("v8").status().Is(Code::kNotFound));
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_VALUE(const auto collected, open()->Collect({.keep_us = 1, .grace_us = 0}, {}));
  EXPECT_TRUE(collected.damaged.empty());
}

// A version in the middle is missing: a search would take the one before for the newest.
TEST_F(VerifyTest, AMissingVersionIsNamedAndBridged) {
  const auto open = [&] { return Catalog::OpenOn(store_, {.threads = 1}).value()->OpenTable("t").value(); };
  for (int64_t version = 2; version < 8; ++version) {
    const std::string key = SnapshotKey(table_->prefix(), version);
    const std::string whole(store_->Get(key)->view());
    ASSERT_OK(store_->Delete(key));
    ASSERT_VALUE(const auto told, open()->Verify({}, {}));
    ASSERT_EQ(told.damaged.size(), 1U) << version;
    EXPECT_EQ(told.damaged[0].key, key);
    ASSERT_VALUE(const auto plan, open()->Repair({.dry_run = true}, {}));
    EXPECT_EQ(plan.stubs, 1);
    ASSERT_VALUE(const auto done, open()->Repair({}, {}));
    EXPECT_EQ(done.stubs, 1);
    ASSERT_VALUE(const View now, open()->At());
    EXPECT_EQ(now.snapshot().version, 8);
    EXPECT_TRUE(open()->At("v" + std::to_string(version)).status().Is(Code::kNotFound));
    EXPECT_OK(open()->History().status());
    ASSERT_OK(store_->Put(key, whole));
  }
}

// What the damaged versions said of expiry is lost with them: stubs tell of it.
TEST_F(VerifyTest, RollingBackRevivesNothing) {
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_OK(table_->SetRetention(int64_t{3600} * 1'000'000, {}).status());
  ASSERT_VALUE(const auto done, table_->Collect({.keep_us = 1, .grace_us = 0}, {}));
  ASSERT_GT(done.stubs, 0);
  ASSERT_VALUE(const View head, table_->At());
  for (int64_t version = 10; version <= head.snapshot().version; ++version)
    ASSERT_OK(store_->Put(SnapshotKey(table_->prefix(), version), "damaged"));
  const auto open = [&] { return Catalog::OpenOn(store_, {.threads = 1}).value()->OpenTable("t").value(); };
  ASSERT_VALUE(const auto repaired, open()->Repair({.roll_back = true}, {}));
  EXPECT_EQ(repaired.readable, 9);
  ASSERT_VALUE(const View now, open()->At());
  EXPECT_TRUE(now.snapshot().expired.Has(5));
  EXPECT_FALSE(now.snapshot().expired.Has(3)) << "a ref holds it";
  EXPECT_TRUE(Damaged().empty());
  ASSERT_VALUE(const auto again, open()->Collect({.grace_us = 0}, {}));
  EXPECT_TRUE(again.damaged.empty());
}

// A blob of a column that was dropped, in a version that is kept.
TEST_F(VerifyTest, BlobsOfDroppedColumnsAreRead) {
  ASSERT_OK(table_->DropColumn("image", {}).status());
  for (const auto& key : Keys()) {
    if (ParseKey(key)->kind != ObjectKind::kPack) continue;
    const std::string whole(store_->Get(key)->view());
    std::string bad = whole;
    bad[bad.size() / 2] ^= 1;
    ASSERT_OK(store_->Put(key, bad));
    EXPECT_FALSE(Damaged().empty()) << key;
    ASSERT_OK(store_->Put(key, whole));
  }
  VerifyOptions verify;
  verify.absent = Xxh3(std::string(3000, 'b'));
  EXPECT_FALSE(table_->Verify(verify, {})->present.empty());
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_OK(catalog_->PointRef("prod", "t", "", 1).status());
  ASSERT_OK(table_->Collect({.keep_us = 1, .grace_us = 0}, {}).status());
  EXPECT_FALSE(table_->Verify(verify, {})->present.empty())
      << "the files hold the column, though no version has it";
}

TEST_F(VerifyTest, DerivedObjectsAreMadeAgain) {
  ASSERT_OK(store_->Put(CollectedKey(table_->prefix()), "{damaged"));
  ASSERT_OK(store_->Put(SelectionKey(table_->prefix(), 17, 0), "damaged"));
  ASSERT_VALUE(const auto plan, table_->Repair({.dry_run = true}, {}));
  EXPECT_EQ(plan.derived, 2);
  EXPECT_TRUE(store_->Exists(CollectedKey(table_->prefix())).value());
  ASSERT_VALUE(const auto done, table_->Repair({}, {}));
  EXPECT_EQ(done.derived, 2);
  EXPECT_EQ(done.version, 8);
  EXPECT_FALSE(store_->Exists(CollectedKey(table_->prefix())).value());
}

TEST_F(VerifyTest, OneThatIsCollectedIsWhole) {
  ASSERT_OK(table_->Compact({}, {}).status());
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_VALUE(const auto done, table_->Collect({.keep_us = 1, .grace_us = 0}, {}));
  EXPECT_GT(done.deleted.objects, 0);
  EXPECT_TRUE(Damaged().empty());
  ASSERT_VALUE(const auto report, table_->Verify({}, {}));
  EXPECT_EQ(report.orphans.objects, 0);
  EXPECT_TRUE(report.damaged.empty());
}

}  // namespace
}  // namespace headrace::table
