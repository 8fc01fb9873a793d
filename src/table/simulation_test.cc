// Writers that sleep, readers that read on for days, collectors, and a clock that all of them see: random
// steps against the oracle. A failing seed is one line to repeat:
//   HEADRACE_SEED=7 table_test --gtest_filter=Simulation.*
#include <algorithm>

#include "table/lease.h"
#include "table/model_testing.h"

namespace headrace::table {
namespace {

constexpr double kTtlSeconds = 90;
constexpr int64_t kSecondUs = 1'000'000;
constexpr int64_t kHourUs = 3600 * kSecondUs;

// Somebody at work for long: with a lease, which is renewed while it is awake.
struct Actor {
  std::unique_ptr<Lease> lease;
  bool asleep = false;
  bool lost = false;       // its lease was not renewed for its ttl
  int64_t renewed_us = 0;  // by the clock
};

struct Reader : Actor {
  View view;
  Oracle then;  // what the version holds
};

struct Sleeper : Actor {
  std::unique_ptr<Appender> appender;
  std::string column;
  std::vector<int64_t> values;
};

// What happened in all tables.
struct Counts {
  int64_t collected = 0;  // objects
  int64_t reads = 0;      // of versions that were held
  int64_t gone = 0;       // versions that were not, and had gone
  int64_t woken = 0;      // sleepers that committed
  int64_t fenced = 0;     // sleepers whose files may have gone
  int64_t filled = 0;     // columns computed from others
  int64_t overtaken = 0;  // fills that others' commits refused
};

class Simulation final : public Model {
 public:
  Simulation(uint64_t seed, std::shared_ptr<int64_t> now_us, Counts* counts)
      : Model(seed, store::NewMemoryStore([now_us] { return *now_us; })),
        now_us_(std::move(now_us)),
        counts_(counts) {}

 private:
  void Step(Table& table) override {
    *now_us_ += 1 + static_cast<int64_t>(random_() % kSecondUs);
    switch (random_() % 16) {
      case 0:
        return Pass(static_cast<int64_t>(random_() % (random_() % 8 == 0 ? 4 * kHourUs : 120 * kSecondUs)));
      case 1:
        return StartReader(table);
      case 2:
      case 3:
        return Read();
      case 4:
        return StartSleeper(table);
      case 5:
        return Wake();
      case 6:
        return FallAsleep();
      case 7:
        return Collect(table);
      default:
        return Model::Step(table);
    }
  }

  // (Each reads every version that is kept.)
  void Collect(Table& table) override {
    if (random_() % 4 == 0) CollectNow(table);
  }

  void Meanwhile() override {
    Model::Meanwhile();
    if (random_() % 4 == 0) CollectNow(Any());
    if (random_() % 2 == 0) Read();
  }

  // Time goes by. Whoever is awake gives signs of life.
  void Pass(int64_t us) {
    const auto step = static_cast<int64_t>(kTtlSeconds / 3 * kSecondUs);
    for (int64_t left = us; left > 0; left -= step) {
      *now_us_ += std::min(left, step);
      ForAll([&](Actor& actor) {
        if (!actor.asleep && !actor.lost) Renew(&actor);
      });
    }
    ForAll([&](Actor& actor) { CheckLost(&actor); });
  }

  template <typename Visit>
  void ForAll(const Visit& visit) {
    for (auto& reader : readers_) visit(*reader);
    for (auto& sleeper : sleepers_) visit(*sleeper);
  }

  bool CheckLost(Actor* actor) const {
    actor->lost = actor->lost || static_cast<double>(*now_us_ - actor->renewed_us) > kTtlSeconds * kSecondUs;
    return actor->lost;
  }
  void Renew(Actor* actor) {
    store_->Arm({});
    if (CheckLost(actor)) return;
    const Status renewed = actor->lease->Renew();
    ASSERT_TRUE(renewed.ok()) << renewed.ToString();
    actor->renewed_us = *now_us_;
  }
  void TakeLease(const Table& table, int64_t version, bool writes, Actor* actor) {
    store_->Arm({});
    LeaseTerms terms{"somebody", kTtlSeconds, table.id().ToString(), version, writes};
    ASSERT_VALUE(actor->lease,
                 Lease::Take(store_, table.id().ToString() + "-" + Uuid::Random().ToString(), terms));
    actor->renewed_us = *now_us_;
  }

  void StartReader(Table& table) {
    if (readers_.size() >= 4 || oracle_.rows.size() > 2'000) return;
    store_->Arm({});
    ASSERT_VALUE(const View view, table.At());
    auto reader = std::make_unique<Reader>(Reader{{}, view, oracle_});
    TakeLease(table, view.snapshot().version, false, reader.get());
    readers_.push_back(std::move(reader));
  }
  void Read() {
    if (readers_.empty()) return;
    store_->Arm({});
    const size_t which = random_() % readers_.size();
    Reader& reader = *readers_[which];
    // Not by what is open already: as another process of the same job would.
    const auto view = Any().At("v" + std::to_string(reader.view.snapshot().version));
    const bool held = !CheckLost(&reader);
    if (held) {
      ++counts_->reads;
      const View& there = view.ok() && random_() % 2 == 0 ? *view : reader.view;
      Check(there, reader.then);
    } else {
      counts_->gone += !view.ok();
      if (view.ok()) Check(*view, reader.then);  // it has not expired, so nothing of it may be gone
      CheckUnheld(reader.view, reader.then);
    }
    if (random_() % 8 != 0) return;
    if (held) ASSERT_OK(reader.lease->Release(true));
    readers_.erase(readers_.begin() + static_cast<std::ptrdiff_t>(which));
  }
  // Files may be gone by now; what is read is right, or an error.
  void CheckUnheld(const View& view, const Oracle& then) {
    const auto all = ReadAll(view, {.with_row_ids = true});
    if (!all.ok()) {
      EXPECT_NE(all.status().ToString().find("there is no object"), std::string::npos)
          << all.status().ToString();
      return;
    }
    CompareAll(then, **all);
  }

  void StartSleeper(Table& table) {
    if (sleepers_.size() >= 4) return;
    store_->Arm({});
    auto sleeper = std::make_unique<Sleeper>();
    sleeper->column = AnyColumn();
    ASSERT_VALUE(const View view, table.At());
    TakeLease(table, view.snapshot().version, true, sleeper.get());
    ASSERT_VALUE(sleeper->appender, table.StartAppend({sleeper->column}, {}));
    arrow::Int64Builder values;
    for (uint64_t i = 0, rows = 1 + random_() % 3; i < rows; ++i) {
      sleeper->values.push_back(static_cast<int64_t>(random_() % 100));
      ASSERT_TRUE(values.Append(sleeper->values.back()).ok());
    }
    const auto column = values.Finish().ValueOrDie();
    ASSERT_OK(sleeper->appender->Write(*arrow::RecordBatch::Make(
        arrow::schema({arrow::field(sleeper->column, arrow::int64())}), column->length(), {column})));
    sleepers_.push_back(std::move(sleeper));
  }
  // One commits what it began, or is killed.
  void Wake() {
    if (sleepers_.empty()) return;
    const size_t which = random_() % sleepers_.size();
    const std::unique_ptr<Sleeper> sleeper = std::move(sleepers_[which]);
    sleepers_.erase(sleepers_.begin() + static_cast<std::ptrdiff_t>(which));
    if (random_() % 4 == 0) {
      store_->Arm({.at = 0, .fault = store::Fault::kCrash});
      sleeper->appender.reset();
      store_->Arm({});
      return;
    }
    store_->Arm({});
    const bool held = !CheckLost(sleeper.get());
    const auto committed = sleeper->appender->Commit();
    if (held) ASSERT_OK(sleeper->lease->Release(true));
    if (committed.ok()) {
      ++counts_->woken;
      for (const int64_t value : sleeper->values) oracle_.rows.push_back({{sleeper->column, Cell(value)}});
      return;
    }
    ASSERT_TRUE(committed.status().Is(Code::kConflict)) << committed.status().ToString();
    const bool fenced = committed.status().ToString().find("garbage collection") != std::string::npos;
    counts_->fenced += fenced;
    // Otherwise its column was dropped or renamed.
    ASSERT_FALSE(fenced && held) << committed.status().ToString();
  }
  void FallAsleep() {
    std::vector<Actor*> all;
    ForAll([&](Actor& actor) { all.push_back(&actor); });
    if (!all.empty()) all[random_() % all.size()]->asleep = true;
  }

  void CollectNow(Table& table) {
    store_->Arm({});
    CollectOptions options;
    options.keep_us = 1 + static_cast<int64_t>(random_() % (2 * kHourUs));
    options.grace_us = static_cast<int64_t>(random_() % kHourUs);
    options.monotonic = [this] { return static_cast<double>(*now_us_) / kSecondUs; };
    options.wait = [this](double seconds) {
      Pass(static_cast<int64_t>(seconds * kSecondUs) + 1);
      return !HasFailure();
    };
    ASSERT_VALUE(const auto done, table.Collect(options, {}));
    ASSERT_TRUE(done.damaged.empty()) << done.damaged[0];
    counts_->collected += done.deleted.objects;
  }

  void Finished(int) override {
    ASSERT_VALUE(const auto verified, Any().Verify({}, {}));
    EXPECT_TRUE(verified.damaged.empty());
    counts_->filled += filled_;
    counts_->overtaken += overtaken_;
  }

  std::shared_ptr<int64_t> now_us_;
  std::vector<std::unique_ptr<Reader>> readers_;
  std::vector<std::unique_ptr<Sleeper>> sleepers_;
  Counts* counts_;
};

TEST(Simulation, NothingThatIsHeldIsLost) {
  const char* given = getenv("HEADRACE_SEED");
  const uint64_t first = given != nullptr ? std::strtoull(given, nullptr, 10) : 20261129;
  const char* steps = getenv("HEADRACE_STEPS");
  const char* in_long = getenv("HEADRACE_TEST_LONG");
  int total = testing::Scaled(testing::InCi() ? 20'000 : 2'000);
  if (in_long != nullptr && *in_long != '\0') total = 1'000'000;
  if (steps != nullptr) total = std::atoi(steps);
  constexpr int kSteps = 2'000;  // of one table
  Counts counts;
  for (int done = 0; done < total && !HasFailure(); done += kSteps) {
    const uint64_t seed = first + static_cast<uint64_t>(done / kSteps);
    SCOPED_TRACE("HEADRACE_SEED=" + std::to_string(seed));
    Simulation(seed, std::make_shared<int64_t>(1'700'000'000 * kSecondUs), &counts)
        .Run(std::min(kSteps, total - done));
  }
  if (total < 2'000) return;
  EXPECT_GT(counts.collected, total / 20);
  EXPECT_GT(counts.reads, total / 100);
  if (total < 20'000) return;
  for (const int64_t some : {counts.gone, counts.woken, counts.fenced, counts.filled, counts.overtaken})
    EXPECT_GT(some, 0);
}

}  // namespace
}  // namespace headrace::table
