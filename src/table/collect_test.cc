// What expires, and which files go with it.
#include "table/collect_testing.h"

namespace headrace::table {
namespace {

TEST_F(CollectTest, WhatNoVersionNeedsGoesAndTheRestStays) {
  MakeHistory();
  const std::string now = Seen(), golden = Seen("golden");
  const auto before = Files();
  const auto needed = FilesOf({"", "golden"});
  ASSERT_GT(before.size(), needed.size() + 4);

  ASSERT_VALUE(const auto plan, Collect({.keep_us = 1, .grace_us = 0, .dry_run = true}));
  EXPECT_EQ(Files(), before);
  ASSERT_VALUE(const auto done, Collect());
  EXPECT_EQ(Files(), needed);
  EXPECT_EQ(done.deleted.objects, static_cast<int64_t>(before.size() - needed.size()));
  EXPECT_EQ(plan.deleted.objects, done.deleted.objects);
  EXPECT_EQ(plan.deleted.bytes, done.deleted.bytes);
  EXPECT_GT(done.expired, 5);
  EXPECT_EQ(plan.stubs, done.stubs);
  ASSERT_GE(done.holders.size(), 2U);
  EXPECT_EQ(done.holders[0].kind, Holder::Kind::kNewest);
  EXPECT_TRUE(done.damaged.empty());
  int64_t held = 0;
  for (const auto& holder : done.holders) held += holder.held.objects;
  EXPECT_EQ(held, static_cast<int64_t>(needed.size()));

  EXPECT_EQ(Seen(), now);
  EXPECT_EQ(Seen("golden"), golden);
  ASSERT_VALUE(const auto fresh, Catalog::OpenOn(store_, {.threads = 1}));
  table_ = fresh->OpenTable("t").value();
  EXPECT_EQ(Seen(), now);
  EXPECT_EQ(Seen("golden"), golden);

  // The version that was the newest then expires too, and after that there is nothing to do, nor a commit for
  // it.
  ASSERT_VALUE(const auto again, Collect());
  EXPECT_EQ(again.deleted.objects, 0);
  EXPECT_EQ(again.stubs, 2);
  ASSERT_VALUE(const auto third, Collect());
  EXPECT_EQ(third.deleted.objects, 0);
  EXPECT_EQ(third.stubs, 0);
  EXPECT_EQ(third.version, again.version);
  EXPECT_EQ(Seen(), now);
}

TEST_F(CollectTest, ExpiredVersionsAreALineInTheLog) {
  ASSERT_OK(Append(0, 5));
  ASSERT_OK(Append(5, 9));
  ASSERT_OK(Append(9, 12));
  ASSERT_VALUE(const auto before, table_->History());
  ASSERT_VALUE(const auto done, Collect());
  const auto expired = table_->At("v2").status();
  EXPECT_TRUE(expired.Is(Code::kNotFound)) << expired.ToString();
  EXPECT_NE(expired.ToString().find("has expired"), std::string::npos) << expired.ToString();
  EXPECT_TRUE(table_->At(FormatMicros(before[2].time_us)).status().Is(Code::kNotFound));
  EXPECT_FALSE(table_->Restore("v2", {}).ok());
  EXPECT_FALSE(table_->Tag("late", "v2", false, {}).ok());
  ASSERT_VALUE(const auto after, table_->History());
  ASSERT_GE(after.size(), before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    const auto& was = before[before.size() - 1 - i];
    const auto& is = after[after.size() - 1 - i];
    EXPECT_EQ(is.version, was.version);
    EXPECT_EQ(is.rows, was.rows);
    EXPECT_EQ(is.time_us, was.time_us);
    EXPECT_EQ(is.operation.who, was.operation.who);
    EXPECT_EQ(is.expired, is.version < 4) << is.version;
  }
  // The numbers are taken for ever: who slept since version 1 cannot claim the second.
  ASSERT_VALUE(const auto stub, store_->Get(SnapshotKey(table_->prefix(), 2)));
  EXPECT_NE(stub.view().find("\"stub\":true"), std::string::npos);
  EXPECT_TRUE(store_->PutIfAbsent(SnapshotKey(table_->prefix(), 2), "mine").Is(Code::kAlreadyExists));
  EXPECT_LT(stub.size(), 1000);
}

TEST_F(CollectTest, RetentionIsAPropertyOfTheTable) {
  ASSERT_OK(Append(0, 5));
  ASSERT_OK(Append(5, 6));
  ASSERT_VALUE(const auto for_ever, table_->Collect({.grace_us = 0}, {}));
  EXPECT_EQ(for_ever.expired, 0);
  ASSERT_OK(table_->SetRetention(kHourUs, {}).status());
  ASSERT_VALUE(const auto an_hour, table_->Collect({.grace_us = 0}, {}));
  EXPECT_EQ(an_hour.expired, 0);
  EXPECT_EQ(an_hour.keep_us, kHourUs);
  ASSERT_OK(table_->SetRetention(1, {}).status());
  Tick();
  ASSERT_VALUE(const auto at_once, table_->Collect({.grace_us = 0}, {}));
  EXPECT_EQ(at_once.expired, 4);
  EXPECT_FALSE(table_->At("v3").ok());
  EXPECT_TRUE(table_->At("v5").ok());
  EXPECT_TRUE(table_->SetRetention(-1, {}).status().Is(Code::kInvalid));
}

// A version that was the newest within the time that is kept stays, though it is older.
TEST_F(CollectTest, TheStateOfAnyMomentThatIsKeptCanBeRead) {
  ASSERT_OK(Append(0, 5));
  Tick();
  const int64_t then = NowMicros();
  const std::string was = Seen();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ASSERT_OK(Append(5, 6));
  ASSERT_OK(Append(6, 7));
  ASSERT_VALUE(const auto done, table_->Collect({.keep_us = NowMicros() - then, .grace_us = 0}, {}));
  EXPECT_EQ(done.expired, 1) << "the creation alone";
  EXPECT_EQ(Seen(FormatMicros(then)), was);
}

TEST_F(CollectTest, NothingGoesBeforeItsGraceIsOver) {
  MakeHistory();
  const auto before = Files();
  ASSERT_VALUE(const auto young, Collect({.keep_us = 1, .grace_us = kHourUs}));
  EXPECT_GT(young.expired, 0);
  EXPECT_EQ(young.deleted.objects, 0);
  EXPECT_EQ(young.stubs, 0);
  EXPECT_EQ(Files(), before);
  EXPECT_EQ(young.holders.back().kind, Holder::Kind::kGrace);
  EXPECT_GT(young.holders.back().held.objects, 0);
  // Three hours later, and the versions expired an hour after their files were put.
  store_->time = [&](const std::string& key, int64_t us) {
    if (key.starts_with("probe-")) return us + 3 * kHourUs;
    const auto name = ParseKey(key);
    return name && name->kind == ObjectKind::kSnapshot && name->number >= young.version ? us + kHourUs : us;
  };
  ASSERT_VALUE(const auto old, Collect({.keep_us = 1, .grace_us = kHourUs}));
  EXPECT_GT(old.deleted.objects, 0);
  EXPECT_EQ(Files(), FilesOf({"", "golden"}));
}

TEST_F(CollectTest, AClockThatWasSetBackHoldsMore) {
  ASSERT_OK(store_->Put(DataKey(table_->prefix(), Uuid::Random(), FileKind::kParquet), "left behind"));
  Tick();
  MakeHistory();
  // Somebody writes for an early version, and the newest seems older than all others: so do files written
  // now.
  ASSERT_OK(
      Lease::Take(store_, table_->id().ToString() + "-writer", {"ada", 60, table_->id().ToString(), 3, true})
          .status());
  ASSERT_VALUE(const View head, table_->At());
  bool set_back = true;
  store_->time = [&](const std::string& key, int64_t us) {
    return set_back && key == SnapshotKey(table_->prefix(), head.snapshot().version) ? 1000 : us;
  };
  const auto before = Files();
  ASSERT_VALUE(const auto done, table_->Collect({.grace_us = 0}, {}));
  EXPECT_EQ(done.deleted.objects, 0);
  EXPECT_EQ(Files(), before);
  set_back = false;
  ASSERT_VALUE(const auto again, table_->Collect({.grace_us = 0}, {}));
  EXPECT_EQ(again.deleted.objects, 1);
}

TEST_F(CollectTest, ADamagedVersionStopsDeletion) {
  // What a writer left behind: some version may need it.
  ASSERT_OK(store_->Put(DataKey(table_->prefix(), Uuid::Random(), FileKind::kParquet), "left behind"));
  Tick();
  MakeHistory();
  const auto before = Files();
  ASSERT_VALUE(const auto bytes, store_->Get(SnapshotKey(table_->prefix(), 4)));
  std::string text(bytes.view());
  text[text.size() / 2] ^= 1;
  ASSERT_OK(store_->Put(SnapshotKey(table_->prefix(), 4), text));
  ASSERT_VALUE(const auto refused, table_->Collect({.grace_us = 0}, {}));
  ASSERT_EQ(refused.damaged.size(), 1U);
  EXPECT_NE(refused.damaged[0].find("version 4"), std::string::npos);
  EXPECT_EQ(Files(), before);
  // Once it has expired it is in nobody's way.
  ASSERT_VALUE(const auto done, Collect());
  EXPECT_TRUE(done.damaged.empty());
  EXPECT_EQ(Files(), FilesOf({"", "golden"}));
}

// What an earlier run deleted of expired versions is no damage, whatever the next one knows of it.
TEST_F(CollectTest, WhatIsGoneIsNoDamage) {
  MakeHistory();
  ASSERT_OK(Collect().status());
  ASSERT_OK(store_->Delete(CollectedKey(table_->prefix())));
  ASSERT_OK(store_->Put(DataKey(table_->prefix(), Uuid::Random(), FileKind::kParquet), "left behind"));
  for (const int64_t grace_us : {kHourUs, int64_t{0}}) {
    ASSERT_VALUE(const auto again, Collect({.grace_us = grace_us}));
    EXPECT_TRUE(again.damaged.empty()) << again.damaged[0];
  }
}

// Writers' clocks decide nothing: only the store's does.
TEST_F(CollectTest, AWriterWhoseClockIsWrongLosesNoHistory) {
  ASSERT_OK(Append(0, 5));
  ASSERT_OK(Append(5, 6));
  SnapshotLog log(catalog_->environment(), table_->prefix());
  for (int64_t version = 1; version <= 3; ++version) {
    Snapshot old = *log.ReadLine(version).value();
    old.time_us = version;  // 1970
    ASSERT_OK(store_->Put(SnapshotKey(table_->prefix(), version), EncodeSnapshot(old)));
  }
  table_ = Catalog::OpenOn(store_, {.threads = 1}).value()->OpenTable("t").value();
  ASSERT_VALUE(const auto done, Collect({.keep_us = kHourUs, .grace_us = 0}));
  EXPECT_EQ(done.expired, 0);
}

TEST_F(CollectTest, ObjectsOfOthersAreLeftAlone) {
  ASSERT_OK(Append(0, 3));
  ASSERT_OK(store_->Put(table_->prefix() + "indexes/newer.hnsw", "of a newer Headrace"));
  ASSERT_OK(store_->Put(table_->prefix() + "data/notes.txt", "a person's"));
  ASSERT_VALUE(const auto done, Collect());
  EXPECT_EQ(done.unknown.objects, 2);
  EXPECT_TRUE(store_->Exists(table_->prefix() + "indexes/newer.hnsw").value());
  EXPECT_TRUE(store_->Exists(table_->prefix() + "data/notes.txt").value());
}

TEST_F(CollectTest, DroppedTablesGo) {
  ASSERT_VALUE(const auto other, testing::MakeTable(catalog_.get(), "other", kColumns));
  ASSERT_OK(Append(0, 5, other.get()));
  ASSERT_OK(Append(0, 5));
  ASSERT_VALUE(const auto pinned, testing::MakeTable(catalog_.get(), "pinned", kColumns));
  ASSERT_OK(catalog_->PointRef("prod", "pinned", "v1", 0).status());
  ASSERT_OK(catalog_->DropTable("other"));
  ASSERT_OK(catalog_->DropTable("pinned"));
  const auto collect = [&](CollectOptions options) {
    Tick();
    std::map<std::string, CollectReport> reports;
    EXPECT_OK(
        catalog_->Collect(options, {}, [&](const CollectReport& report) { reports[report.table] = report; }));
    return reports;
  };
  const auto there = [&](const Table& table) {
    return !store_->List(table.prefix(), "", 10).value().empty();
  };
  auto reports = collect({.grace_us = kHourUs});
  EXPECT_TRUE(reports.at("other").dropped);
  EXPECT_EQ(reports.at("other").deleted.objects, 0);
  reports = collect({.grace_us = 0, .dry_run = true});
  EXPECT_GT(reports.at("other").deleted.objects, 0);
  EXPECT_TRUE(there(*other));
  reports = collect({.grace_us = 0});
  EXPECT_GT(reports.at("other").deleted.objects, 0);
  EXPECT_FALSE(there(*other));
  EXPECT_TRUE(there(*pinned)) << "a ref points to one of its versions";
  EXPECT_FALSE(reports.contains("pinned"));
  EXPECT_TRUE(there(*table_));
  EXPECT_EQ(collect({.grace_us = 0}).count("other"), 0U);
  ASSERT_VALUE(const View prod, catalog_->Resolve("prod"));
  EXPECT_EQ(prod.snapshot().version, 1);
}

// Bytes that only an expired version held are copied, not shared: the pack goes.
TEST_F(CollectTest, PacksOfExpiredVersionsAreNotShared) {
  const Schema schema{{Field{-1, "image", Type{.kind = Kind::kBlob, .children = BlobFields()}, "", false}}};
  ASSERT_VALUE(const auto photos, catalog_->CreateTable("photos", schema));
  const auto blobs = arrow::schema({arrow::field("image", arrow::binary())});
  CommitOptions options;
  options.write.inline_blob_bytes = 4;
  const auto add = [&](const std::string& bytes) {
    return photos->Append(ReaderOf({BatchFromJson(blobs, "[{\"image\": \"" + bytes + "\"}]")}).get(), options)
        .status();
  };
  ASSERT_OK(add("the first picture"));
  ASSERT_OK(add("the second picture"));
  ASSERT_VALUE(const View old, photos->At());
  ASSERT_VALUE(const auto cells, ReadAll(old));
  const std::string first_pack = PackKey(photos->prefix(), (**old.Fragments())[0].packs[0].id);
  ASSERT_OK(photos->Delete({"_row_id = 0"}, {}).status());
  ASSERT_OK(photos->Compact({.deleted_share = 0}, {}).status());
  ASSERT_VALUE(const auto compacted, photos->At());
  ASSERT_EQ((**compacted.Fragments()).size(), 1U);
  arrow::TableBatchReader reader(cells);
  ASSERT_OK(photos->Append(&reader, options).status());
  Tick();
  ASSERT_VALUE(const auto done, photos->Collect({.keep_us = 1, .grace_us = 0}, {}));
  EXPECT_GT(done.deleted.objects, 0);
  ASSERT_VALUE(const auto fresh, Catalog::OpenOn(store_, {.threads = 1}));
  ASSERT_VALUE(const auto opened, fresh->OpenTable("photos"));
  ASSERT_VALUE(const View view, opened->At());
  ASSERT_VALUE(const auto rows, ReadAll(view));
  ASSERT_EQ(rows->num_rows(), 3);
  ASSERT_VALUE(const auto bytes, view.ReadBlobs(rows->column(0)->chunk(0)));
  EXPECT_EQ(bytes[0]->view(), "the second picture");
  EXPECT_EQ(bytes[1]->view(), "the first picture");
  EXPECT_EQ(bytes[2]->view(), "the second picture");
  EXPECT_FALSE(store_->Exists(first_pack).value());
}

}  // namespace
}  // namespace headrace::table
