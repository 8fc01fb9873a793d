// Collection beside those who read and write: leases, the fence, faults at each operation.
#include "table/collect_testing.h"

namespace headrace::table {
namespace {

TEST_F(CollectTest, AWriterThatBeganBeforeIsRefused) {
  ASSERT_OK(Append(0, 5));
  ASSERT_VALUE(const auto slow, table_->StartAppend({"id", "vec"}, {}));
  ASSERT_OK(slow->Write(*Rows(5, 9)));
  ASSERT_VALUE(const auto quick, table_->StartAppend({"id", "vec"}, {}));
  ASSERT_OK(quick->Write(*Rows(9, 12)));
  FailCommit(quick.get());  // its file is whole, and no version names it
  Tick();
  ASSERT_OK(table_->Tag("meanwhile", "", false, {}).status());
  bool committed = false;
  store_->on_list = [&](std::string_view prefix) {
    // Between the listing and the commit that fences writers off: this one is in time.
    if (prefix != table_->prefix() || committed) return;
    committed = true;
    EXPECT_OK(quick->Commit().status());
  };
  // A file that a writer left behind, so that there is something to do.
  ASSERT_OK(store_->Put(DataKey(table_->prefix(), Uuid::Random(), FileKind::kParquet), "left behind"));
  Tick();
  ASSERT_OK(table_->Tag("later", "", false, {}).status());
  ASSERT_VALUE(const auto done, Collect({.grace_us = 0}));
  store_->on_list = nullptr;
  EXPECT_TRUE(committed);
  EXPECT_GE(done.deleted.objects, 1);
  ASSERT_VALUE(const View view, table_->At());
  EXPECT_EQ(view.snapshot().rows, 8);
  const std::string now = Seen();
  EXPECT_NE(now.find("11"), std::string::npos) << now;

  const Status late = slow->Commit().status();
  EXPECT_TRUE(late.Is(Code::kConflict)) << late.ToString();
  EXPECT_EQ(Seen(), now);
  EXPECT_OK(Append(5, 9));  // who begins now is welcome
}

TEST_F(CollectTest, ALeaseLetsASlowWriterCommit) {
  catalog_->environment()->pins =
      std::make_shared<Pins>(store_, PinTiming{.lease_after_seconds = 0, .ttl_seconds = 60});
  ASSERT_OK(store_->Put(DataKey(table_->prefix(), Uuid::Random(), FileKind::kParquet), "left behind"));
  Tick();
  ASSERT_OK(Append(0, 5));
  ASSERT_VALUE(const auto slow, table_->StartAppend({"id", "vec"}, {}));
  ASSERT_OK(slow->Write(*Rows(5, 9)));
  FailCommit(slow.get());  // its file is whole, and no version names it
  catalog_->environment()->pins->Tend();
  Tick();
  ASSERT_OK(table_->Tag("meanwhile", "", false, {}).status());
  ASSERT_VALUE(const auto done, Collect());
  EXPECT_EQ(done.deleted.objects, 1) << "what was left behind before it began";
  EXPECT_OK(slow->Commit().status());
  ASSERT_VALUE(const View view, table_->At());
  EXPECT_EQ(view.snapshot().rows, 9);
  EXPECT_OK(ReadAll(view).status());
}

TEST_F(CollectTest, ALeaseHoldsWhatIsRead) {
  catalog_->environment()->pins =
      std::make_shared<Pins>(store_, PinTiming{.lease_after_seconds = 0, .ttl_seconds = 60});
  MakeHistory();
  std::optional<View> old = table_->At("v5").value();
  catalog_->environment()->pins->Tend();
  const auto read = [&] {
    const auto rows = ReadAll(*old);
    return rows.ok() ? (*rows)->ToString() : rows.status().ToString();
  };
  const std::string was = read();
  std::set<std::string> needed = FilesOf({"", "golden", "v5"});
  ASSERT_VALUE(const auto done, Collect());
  EXPECT_EQ(Files(), needed);
  ASSERT_VALUE(const auto fresh, Catalog::OpenOn(store_, {.threads = 1}));  // without open files
  const View again(fresh->environment(), table_->prefix(), std::make_shared<const Snapshot>(old->snapshot()));
  ASSERT_VALUE(const auto rows, ReadAll(again));
  EXPECT_EQ(rows->ToString(), was);
  bool named = false;
  for (const auto& holder : done.holders) named = named || holder.kind == Holder::Kind::kLease;
  EXPECT_TRUE(named);
  EXPECT_FALSE(table_->At("v5").ok()) << "expired for everybody else";

  old.reset();
  catalog_->environment()->pins->Tend();
  ASSERT_VALUE(const auto after, Collect());
  EXPECT_GT(after.deleted.objects, 0);
  EXPECT_EQ(Files(), FilesOf({"", "golden"}));
  ASSERT_VALUE(const auto stub, store_->Get(SnapshotKey(table_->prefix(), 5)));
  EXPECT_NE(stub.view().find("\"stub\""), std::string::npos);
}

// The lease of a process that died: it is watched for as long as it may be silent, and no longer.
// Nobody can tell what its holder reads; once it lapses, nobody does.
TEST_F(CollectTest, NothingGoesBesideADamagedLease) {
  MakeHistory();
  const std::string name = table_->id().ToString() + "-x";
  ASSERT_VALUE(const auto lease, Lease::Take(store_, name, {"ada", 60, table_->id().ToString(), 3, false}));
  const std::string key = Listed(store_.get(), "leases/" + name + "/")[0].key;
  ASSERT_OK(store_->Put(key, "not a lease"));
  const auto files = Files();
  const auto refused = Collect();
  EXPECT_TRUE(refused.status().Is(Code::kCorrupt)) << refused.status().ToString();
  EXPECT_NE(refused.status().ToString().find(key), std::string::npos);
  EXPECT_EQ(Files(), files);
  // By the store's clock it is old, and by ours it lapses.
  store_->time = [&](const std::string& each, int64_t us) { return each == key ? us - kHourUs : us; };
  double now = 0;
  CollectOptions options{.keep_us = 1, .grace_us = 0};
  options.monotonic = [&] { return now; };
  options.wait = [&](double seconds) {
    now += seconds;
    return true;
  };
  ASSERT_VALUE(const auto done, Collect(options));
  EXPECT_GT(done.deleted.objects, 0);
  EXPECT_GE(now, 90);
}

TEST_F(CollectTest, ALapsedLeaseHoldsNothing) {
  MakeHistory();
  LeaseTerms terms{"ada", 30, table_->id().ToString(), 2, false};
  ASSERT_OK(Lease::Take(store_, table_->id().ToString() + "-dead", terms).status());
  store_->time = [&](const std::string& key, int64_t us) {
    return key.starts_with("leases/") ? us - kHourUs : us;  // by the store's clock it is long silent
  };
  double now = 5;
  double waited = 0;
  CollectOptions options{.keep_us = 1, .grace_us = 0};
  options.monotonic = [&] { return now; };
  options.wait = [&](double seconds) {
    waited += seconds;
    now += seconds;
    return true;
  };
  ASSERT_VALUE(const auto done, Collect(options));
  EXPECT_GE(waited, 30);
  EXPECT_LT(waited, 32);
  EXPECT_EQ(Files(), FilesOf({"", "golden"}));
  ASSERT_VALUE(const auto left, ListLeases(store_.get(), ""));
  EXPECT_TRUE(left.empty());

  // One that shows a sign of life while it is watched is live.
  MakeHistory();
  ASSERT_VALUE(const View old, table_->At("v" + std::to_string(done.version + 2)));
  terms.version = old.snapshot().version;
  ASSERT_VALUE(const auto sleeper, Lease::Take(store_, table_->id().ToString() + "-asleep", terms));
  options.wait = [&](double seconds) {
    now += seconds;
    if (now > 50) EXPECT_OK(sleeper->Renew());
    return true;
  };
  ASSERT_OK(Collect(options).status());
  EXPECT_OK(ReadAll(old).status());
}

// The N-th store operation fails, for every N: the newest version and the tag read as before, and the next
// run ends where an undisturbed one does.
TEST_F(CollectTest, EveryOperationMayFail) {
  using store::Fault;
  MakeHistory();
  const std::string now = Seen(), golden = Seen("golden");
  const auto needed = FilesOf({"", "golden"});
  const auto all = store_->List("", "", INT64_MAX).value();
  int injected = 0;
  for (const Fault fault :
       {Fault::kFail, Fault::kCrash, Fault::kHang, Fault::kAmbiguous, Fault::kDuplicate, Fault::kShortRead}) {
    for (int64_t n = 0;; ++n) {
      const auto copy = store::NewMemoryStore();
      for (const auto& object : all) ASSERT_OK(copy->Put(object.key, store_->Get(object.key)->view()));
      Tick();
      const auto faulty = store::NewFaultyStore(copy);
      ASSERT_VALUE(const auto catalog, Catalog::OpenOn(faulty, {.threads = 1}));
      ASSERT_VALUE(const auto table, catalog->OpenTable("t"));
      ASSERT_OK(table->Tag("start", "", false, {}).status());  // younger than all files
      Tick();
      const std::string what =
          "fault " + std::to_string(static_cast<int>(fault)) + " at " + std::to_string(n);
      faulty->Arm({.at = n, .fault = fault, .hang_ms = 1});
      const auto first = table->Collect({.keep_us = 1, .grace_us = 0}, {});
      const bool fired = faulty->fired();
      faulty->Arm({});
      const auto seen = [&](const std::string& version) {
        const auto opened = Catalog::OpenOn(copy, {.threads = 1}).value()->OpenTable("t").value();
        const auto view = opened->At(version);
        if (!view.ok()) return view.status().ToString();
        const auto rows = ReadAll(*view, {.with_row_ids = true});
        return rows.ok() ? (*rows)->ToString() : rows.status().ToString();
      };
      ASSERT_EQ(seen(""), now) << what;
      ASSERT_EQ(seen("golden"), golden) << what;
      Tick();
      const auto opened = Catalog::OpenOn(copy, {.threads = 1}).value()->OpenTable("t").value();
      ASSERT_OK(opened->RemoveTag("start", {}).status());
      ASSERT_VALUE(const auto second, opened->Collect({.keep_us = 1, .grace_us = 0}, {}));
      ASSERT_TRUE(second.damaged.empty()) << what << ": " << second.damaged[0];
      std::set<std::string> left;
      for (const auto& object : Listed(copy.get(), table_->prefix())) {
        const auto kind = ParseKey(object.key)->kind;
        if (kind != ObjectKind::kSnapshot && kind != ObjectKind::kCollected) left.insert(object.key);
      }
      ASSERT_EQ(left, needed) << what << ": " << first.status().ToString();
      ASSERT_EQ(seen(""), now) << what;
      ASSERT_EQ(seen("golden"), golden) << what;
      if (!fired) break;
      ++injected;
      ASSERT_LT(n, 500);
    }
  }
  EXPECT_GT(injected, 60);
}

}  // namespace
}  // namespace headrace::table
