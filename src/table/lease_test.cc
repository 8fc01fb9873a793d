// Leases under takeover, sleep and failing stores; and the pins that take them.
#include "table/lease.h"

#include <random>
#include <thread>

#include "store/faulty_store.h"
#include "table/pins.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

LeaseTerms Terms(const std::string& holder, double ttl = 10) { return {holder, ttl, {}, 0, false}; }

TEST(Lease, OneHoldsItUntilItIsReleased) {
  const auto store = store::NewMemoryStore();
  ASSERT_VALUE(const auto first, Lease::Take(store, "gc", Terms("ada")));
  const Status refused = Lease::Take(store, "gc", Terms("ben")).status();
  EXPECT_TRUE(refused.Is(Code::kConflict)) << refused.ToString();
  EXPECT_NE(refused.ToString().find("ada"), std::string::npos) << refused.ToString();
  for (int i = 0; i < 5; ++i) ASSERT_OK(first->Renew());
  ASSERT_VALUE(const auto objects, store->List("leases/", "", 100));
  EXPECT_EQ(objects.size(), 1U) << "older epochs go";
  ASSERT_VALUE(const auto seen, ListLeases(store.get(), ""));
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].epoch, 6);
  EXPECT_GT(seen[0].renewed_us, 0);
  ASSERT_OK(first->Release(false));
  ASSERT_VALUE(const auto none, ListLeases(store.get(), ""));
  EXPECT_TRUE(none.empty());
  ASSERT_VALUE(const auto second, Lease::Take(store, "gc", Terms("ben")));
  EXPECT_TRUE(first->Renew().Is(Code::kConflict));
}

// The holder sleeps, loses its lease, and wakes when the epoch after its own is free again.
TEST(Lease, ASleeperDoesNotGetItBack) {
  const auto store = store::NewMemoryStore();
  ASSERT_VALUE(const auto sleeper, Lease::Take(store, "gc", Terms("ada")));
  ASSERT_VALUE(const auto seen, ListLeases(store.get(), ""));
  ASSERT_VALUE(const auto next, Lease::Take(store, "gc", Terms("ben"), &seen[0]));
  for (int i = 0; i < 3; ++i) ASSERT_OK(next->Renew());
  EXPECT_TRUE(sleeper->Renew().Is(Code::kConflict));
  ASSERT_OK(next->Renew());
  ASSERT_VALUE(const auto after, ListLeases(store.get(), ""));
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(after[0].terms.holder, "ben");
  ASSERT_VALUE(const auto objects, store->List("leases/", "", 100));
  EXPECT_EQ(objects.size(), 1U) << "what the sleeper put is gone";
}

TEST(Lease, OnlyOneTakesOverWhatLapsed) {
  const auto store = store::NewMemoryStore();
  ASSERT_VALUE(const auto dead, Lease::Take(store, "gc", Terms("ada")));
  ASSERT_VALUE(const auto seen, ListLeases(store.get(), ""));
  std::vector<std::thread> threads;
  std::atomic<int> taken = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { taken += Lease::Take(store, "gc", Terms("ben"), &seen[0]).ok(); });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(taken, 1);
}

TEST(Lease, LapsesOnTheObserversClockAlone) {
  const auto store = store::NewMemoryStore();
  ASSERT_VALUE(const auto lease, Lease::Take(store, "gc", Terms("ada", 10)));
  double now = 1000;
  LeaseWatch watch([&] { return now; });
  const auto look = [&] {
    auto seen = ListLeases(store.get(), "");
    EXPECT_TRUE(seen.ok());
    watch.See(*seen);
    return seen->at(0);
  };
  const SeenLease first = look();
  EXPECT_FALSE(watch.Lapsed(first));
  now += 9.5;
  EXPECT_FALSE(watch.Lapsed(look()));
  EXPECT_NEAR(watch.SecondsLeft({look()}), 0.5, 1e-9);
  ASSERT_OK(lease->Renew());
  now += 1;
  const SeenLease renewed = look();
  EXPECT_FALSE(watch.Lapsed(renewed)) << "it showed that it is alive";
  EXPECT_FALSE(watch.Lapsed(first)) << "nothing is known of an epoch that is not the newest";
  now += 10;
  EXPECT_TRUE(watch.Lapsed(look()));
  ASSERT_OK(RemoveLease(store.get(), renewed));
  ASSERT_VALUE(const auto left, store->List("leases/", "", 100));
  EXPECT_TRUE(left.empty());
}

// Every store operation fails once, in six ways: whoever thinks that it holds the lease is alone.
// Its holder may be alive: what it holds is not to be taken for free.
TEST(Lease, ADamagedOneIsSomebodys) {
  const auto store = store::NewMemoryStore();
  ASSERT_VALUE(const auto lease, Lease::Take(store, "t", {"ada", 60, "t", 7, false}));
  const auto damage = [&] {
    const std::string key = store->List("leases/t/", "", 1).value()[0].key;
    std::string bytes(store->Get(key)->view());
    bytes[bytes.size() / 2] ^= 1;
    ASSERT_OK(store->Put(key, bytes));
  };
  damage();
  double now = 0;
  LeaseWatch watch([&] { return now; });
  ASSERT_VALUE(const auto seen, ListLeases(store.get(), "t"));
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_TRUE(seen[0].damaged);
  watch.See(seen);
  EXPECT_TRUE(Lease::Take(store, "t", {"bob"}).status().Is(Code::kConflict));
  ASSERT_OK(lease->Renew());
  EXPECT_FALSE(ListLeases(store.get(), "t").value()[0].damaged);
  damage();
  ASSERT_VALUE(const auto again, ListLeases(store.get(), "t"));
  watch.See(again);
  now = 91;
  ASSERT_TRUE(watch.Lapsed(again[0]));
  ASSERT_OK(Lease::Take(store, "t", {"bob"}, &again[0]).status());
}

TEST(Lease, EveryOperationMayFail) {
  using store::Fault;
  int injected = 0;
  for (const Fault fault :
       {Fault::kFail, Fault::kCrash, Fault::kHang, Fault::kAmbiguous, Fault::kDuplicate, Fault::kShortRead}) {
    for (int64_t n = 0;; ++n) {
      const auto inner = store::NewMemoryStore();
      const auto faulty = store::NewFaultyStore(inner);
      faulty->Arm({.at = n, .fault = fault, .hang_ms = 1});
      auto mine = Lease::Take(faulty, "gc", Terms("ada"));
      Status renewed = mine.ok() ? (*mine)->Renew() : mine.status();
      const bool fired = faulty->fired();
      faulty->Arm({});
      auto other = Lease::Take(inner, "gc", Terms("ben"));
      EXPECT_FALSE(renewed.ok() && other.ok()) << static_cast<int>(fault) << " at " << n;
      if (other.ok() && mine.ok()) {
        EXPECT_FALSE((*mine)->Renew().ok());
        EXPECT_OK((*other)->Renew());
      }
      if (!fired) break;
      ++injected;
    }
  }
  EXPECT_GT(injected, 20);
}

// Random takes, renewals, releases and deaths of several: at most one has the newest epoch, and only that one
// can renew.
TEST(Lease, RandomHoldersNeverShareIt) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    std::mt19937_64 random(seed);
    const auto store = store::NewMemoryStore();
    double now = 0;
    std::vector<std::unique_ptr<Lease>> holders(4);
    std::vector<std::unique_ptr<LeaseWatch>> watches;
    for (size_t i = 0; i < holders.size(); ++i)
      watches.push_back(std::make_unique<LeaseWatch>([&now] { return now; }));
    for (int step = 0; step < 300; ++step) {
      const size_t who = random() % holders.size();
      now += static_cast<double>(random() % 4);
      ASSERT_VALUE(const auto seen, ListLeases(store.get(), "gc"));
      watches[who]->See(seen);
      switch (random() % 4) {
        case 0:
          if (holders[who]) break;
          {
            const bool lapsed = !seen.empty() && watches[who]->Lapsed(seen[0]);
            auto taken =
                Lease::Take(store, "gc", Terms(std::to_string(who), 8), lapsed ? seen.data() : nullptr);
            EXPECT_EQ(taken.ok(), seen.empty() || lapsed) << seed << " " << step;
            if (taken.ok()) holders[who] = std::move(taken).value();
          }
          break;
        case 1:
          if (!holders[who]) break;
          {
            const bool newest = !seen.empty() && seen[0].terms.holder == std::to_string(who);
            EXPECT_EQ(holders[who]->Renew().ok(), newest) << seed << " " << step;
            if (!newest) holders[who].reset();
          }
          break;
        case 2:
          if (holders[who] && random() % 4 == 0) {
            const Status ignored = holders[who]->Release(false);
            (void)ignored;
            holders[who].reset();
          }
          break;
        default:
          if (random() % 6 == 0) holders[who].reset();  // it dies
      }
    }
  }
}

TEST(Pins, WhatIsHeldForLongHasALease) {
  const auto store = store::NewMemoryStore();
  const std::string table = Uuid::Random().ToString();
  const auto leases = [&] {
    auto seen = ListLeases(store.get(), table + "-");
    EXPECT_TRUE(seen.ok());
    return seen.value();
  };
  const auto pins = std::make_shared<Pins>(store, PinTiming{.lease_after_seconds = 0, .ttl_seconds = 0.05});
  auto a = pins->Add({"tables/" + table + "/", 3, false});
  auto again = pins->Add({"tables/" + table + "/", 3, false});
  auto writes = pins->Add({"tables/" + table + "/", 3, true});
  const auto wait_for = [&](const std::function<bool()>& there) {
    for (int i = 0; i < 2000 && !there(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(there());
  };
  pins->Tend();
  wait_for([&] { return leases().size() == 2; });
  EXPECT_EQ(leases()[0].terms.version, 3);
  EXPECT_NE(leases()[0].terms.writes, leases()[1].terms.writes);
  EXPECT_EQ(leases()[0].terms.table, table);
  const auto epochs = [&] {
    int64_t least = INT64_MAX;
    for (const auto& lease : leases()) least = std::min(least, lease.epoch);
    return least;
  };
  wait_for([&] { return epochs() >= 3; });  // the thread renews them
  a = nullptr;
  pins->Tend();
  EXPECT_EQ(leases().size(), 2U) << "another holds the version";
  again = nullptr;
  wait_for([&] { return leases().size() == 1; });
  EXPECT_TRUE(leases()[0].terms.writes);
  writes = nullptr;
  wait_for([&] { return leases().empty(); });
  ASSERT_VALUE(const auto left, store->List("leases/", "", 10));
  EXPECT_TRUE(left.empty());
}

// A pin that comes while the thread waits for the renewal of another.
TEST(Pins, EachGetsItsLeaseInTime) {
  const auto store = store::NewMemoryStore();
  const std::string folder = "tables/" + Uuid::Random().ToString() + "/";
  const auto pins = std::make_shared<Pins>(store, PinTiming{.lease_after_seconds = 0, .ttl_seconds = 600});
  std::vector<std::shared_ptr<const void>> held;
  for (int64_t version = 1; version <= 3; ++version) {
    held.push_back(pins->Add({folder, version, false}));
    const auto leases = [&] { return static_cast<int64_t>(ListLeases(store.get(), "").value().size()); };
    for (int i = 0; i < 2000 && leases() < version; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_EQ(leases(), version);
  }
}

TEST(Pins, WhatIsShortCostsNothing) {
  const auto faulty = store::NewFaultyStore(store::NewMemoryStore());
  faulty->Arm({.at = 0, .fault = store::Fault::kFail});
  {
    const auto pins = std::make_shared<Pins>(faulty);
    const auto held = pins->Add({"tables/" + Uuid::Random().ToString() + "/", 1, false});
    pins->Tend();
  }
  EXPECT_FALSE(faulty->fired()) << "no request";
}

}  // namespace
}  // namespace headrace::table
