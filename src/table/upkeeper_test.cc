// Small commits are joined by those who make them, one process at a time, and not for longer than they may.
#include "table/upkeeper.h"

#include <thread>

#include "table/lease.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::ReadAll;
using testing::ReaderOf;

const auto kColumns = arrow::schema({arrow::field("id", arrow::int64())});

class UpkeeperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = store::NewMemoryStore();
    catalog_ = Catalog::InitOn(store_, {.threads = 1}).value();
    table_ = testing::MakeTable(catalog_.get(), "t", kColumns).value();
  }
  std::shared_ptr<Table> Open(std::unique_ptr<Upkeeper> upkeep) {
    const auto catalog = Catalog::OpenOn(store_, {.threads = 1}).value();
    catalog->environment()->upkeep = std::move(upkeep);
    return catalog->OpenTable("t").value();
  }
  void Append(Table* table, int count) {
    for (int i = 0; i < count; ++i, ++next_) {
      const auto row = BatchFromJson(kColumns, "[{\"id\": " + std::to_string(next_) + "}]");
      ASSERT_OK(table->Append(ReaderOf({row}).get(), {}).status());
    }
  }
  size_t Fragments() { return (*table_->At().value().Fragments())->size(); }

  std::shared_ptr<store::ObjectStore> store_;
  std::shared_ptr<Catalog> catalog_;
  std::shared_ptr<Table> table_;
  int next_ = 0;
};

TEST_F(UpkeeperTest, AWriterOfSmallCommitsNeedsNoOperator) {
  const auto table = Open(std::make_unique<Upkeeper>(store_, UpkeepTiming{.share = 1}));
  Upkeeper* upkeep = table->environment()->upkeep.get();
  Append(table.get(), 64);
  upkeep->Settle();
  EXPECT_EQ(upkeep->runs(), 0) << "64 are few";
  for (int round = 0; round < 8; ++round) {
    Append(table.get(), 40);
    upkeep->Settle();
  }
  EXPECT_GT(upkeep->runs(), 0);
  EXPECT_LT(Fragments(), 110U) << "of 384 commits";
  ASSERT_VALUE(const auto rows, ReadAll(table_->At().value()));
  ASSERT_EQ(rows->num_rows(), next_);
  for (int i = 0; i < next_; ++i)
    ASSERT_EQ(std::static_pointer_cast<arrow::Int64Array>(rows->column(0)->chunk(0))->Value(i), i);
}

TEST_F(UpkeeperTest, WhatExpiredIsCollected) {
  const auto table = Open(std::make_unique<Upkeeper>(store_, UpkeepTiming{.share = 1, .collect_every = 0}));
  Upkeeper* upkeep = table->environment()->upkeep.get();
  const auto expiries = [&] {
    int64_t found = 0;
    SnapshotLog log(table->environment(), table->prefix());
    for (int64_t version = table->At().value().snapshot().version; version > 0; --version)
      found += log.ReadLine(version).value()->operation.kind == OperationKind::kExpire;
    return found;
  };
  Append(table.get(), 8);
  upkeep->Settle();
  EXPECT_EQ(expiries(), 0) << "it keeps all its versions";
  ASSERT_OK(table->SetRetention(1, {}).status());
  Append(table.get(), 8);
  upkeep->Settle();
  EXPECT_GT(expiries(), 0);
  ASSERT_VALUE(const auto rows, ReadAll(table_->At().value()));
  EXPECT_EQ(rows->num_rows(), next_);

  const auto seldom =
      Open(std::make_unique<Upkeeper>(store_, UpkeepTiming{.share = 1, .collect_every = 1e6}));
  const int64_t before = expiries();
  Append(seldom.get(), 8);
  seldom->environment()->upkeep->Settle();
  EXPECT_EQ(expiries(), before);
}

TEST_F(UpkeeperTest, OneProcessAtATime) {
  Append(table_.get(), 100);
  ASSERT_VALUE(const auto lease,
               Lease::Take(store_, "upkeep-" + table_->id().ToString(), {"another", 60, {}, 0, false}));
  const auto table = Open(std::make_unique<Upkeeper>(store_, UpkeepTiming{.share = 1}));
  Append(table.get(), 1);
  table->environment()->upkeep->Settle();
  EXPECT_EQ(table->environment()->upkeep->runs(), 0);
  EXPECT_EQ(Fragments(), 101U);
  ASSERT_OK(lease->Release(false));
  Append(table.get(), 33);
  table->environment()->upkeep->Settle();
  EXPECT_EQ(table->environment()->upkeep->runs(), 1);
  EXPECT_LT(Fragments(), 40U);
}

TEST_F(UpkeeperTest, AProcessThatEndsDoesNotWaitForItsRest) {
  auto table = Open(std::make_unique<Upkeeper>(store_, UpkeepTiming{.share = 1e-6}));
  Append(table.get(), 66);
  table->environment()->upkeep->Settle();
  EXPECT_EQ(table->environment()->upkeep->runs(), 1);
  Append(table.get(), 100);  // it wants to work again, in many minutes
  table = nullptr;
}

TEST_F(UpkeeperTest, WhatASnapshotSaysIsEnough) {
  Append(table_.get(), 64);
  EXPECT_FALSE(MayWantUpkeep(table_->At().value().snapshot()));
  Append(table_.get(), 2);
  EXPECT_TRUE(MayWantUpkeep(table_->At().value().snapshot()));
  ASSERT_OK(table_->Upkeep({}).status());
  EXPECT_FALSE(MayWantUpkeep(table_->At().value().snapshot()));
}

}  // namespace
}  // namespace headrace::table
