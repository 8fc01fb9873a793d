// Writers' marks: how long they stay, and that a writer without one never commits twice.
#include <nlohmann/json.hpp>

#include <random>
#include <set>

#include "base/hash.h"
#include "base/limits.h"
#include "table/collect_testing.h"
#include "table/writers.h"

namespace headrace::table {
namespace {

constexpr int64_t kMost = limits::kMaxWriters;

// Writer i has committed at version i + 1, for `count` of them; the next version is being made.
Snapshot WithWriters(int64_t count) {
  Snapshot snapshot;
  for (int64_t i = 0; i < count; ++i) snapshot.writers["w" + std::to_string(i)] = {0, i + 1};
  snapshot.version = count + 1;
  return snapshot;
}

// Versions up to `old` were put `age_us` before the last.
auto Aged(int64_t old, int64_t age_us) {
  return [=](int64_t version) -> Result<int64_t> { return 2 * kMarkUs - (version <= old ? age_us : 0); };
}

TEST(Writers, MarksGoOnlyWhereThereIsNoRoom) {
  for (const int64_t count : {kMost - 1, kMost, kMost + 1}) {
    Snapshot next = WithWriters(count);
    ASSERT_OK(MakeRoom("w1", Aged(1, kMarkUs), &next));
    EXPECT_EQ(static_cast<int64_t>(next.writers.size()), std::min(count, kMost));
    EXPECT_EQ(next.writers_forgotten, count > kMost ? 1 : 0);
    EXPECT_EQ(next.writers.contains("w0"), count <= kMost);
  }
}

TEST(Writers, MarksStayForThirtyDays) {
  for (const int64_t age_us : {kMarkUs - 1, kMarkUs, kMarkUs + 1}) {
    Snapshot next = WithWriters(kMost + 1);
    const Status made = MakeRoom("new", Aged(1, age_us), &next);
    EXPECT_EQ(made.Is(Code::kLimit), age_us < kMarkUs) << made.ToString();
    EXPECT_EQ(next.writers.contains("w0"), age_us < kMarkUs);
  }
  // A store that does not say when it got something keeps them.
  Snapshot next = WithWriters(kMost + 1);
  EXPECT_TRUE(MakeRoom(
                  "new", [](int64_t) -> Result<int64_t> { return 0; }, &next)
                  .Is(Code::kLimit));
}

TEST(Writers, SomeGoAtOnce) {
  for (const int64_t old : {kMarksForgotten - 1, kMarksForgotten, kMarksForgotten + 1}) {
    Snapshot next = WithWriters(kMost + 1);
    ASSERT_OK(MakeRoom("new", Aged(old, kMarkUs), &next));
    const int64_t gone = std::min(old, kMarksForgotten);
    EXPECT_EQ(static_cast<int64_t>(next.writers.size()), kMost + 1 - gone);
    EXPECT_EQ(next.writers_forgotten, gone);
    EXPECT_FALSE(next.writers.contains("w" + std::to_string(gone - 1)));
    EXPECT_TRUE(next.writers.contains("w" + std::to_string(gone)));
  }
}

TEST(Writers, SomeNeverGo) {
  Snapshot next = WithWriters(kMost - 1);
  next.writers["file:a"] = {0, 1};
  next.writers["flow"] = {0, 2};
  ASSERT_OK(ChangeWriter({WriterChange::Kind::kKeep, "w0"}, &next));
  ASSERT_OK(MakeRoom("flow", Aged(3, kMarkUs), &next));
  EXPECT_TRUE(next.writers.contains("file:a") && next.writers.contains("flow") &&
              next.writers.contains("w0"));
  EXPECT_FALSE(next.writers.contains("w1") || next.writers.contains("w2"));
  // Until they are let go.
  next = WithWriters(kMost + 1);
  for (auto& [name, mark] : next.writers) mark.keep = true;
  EXPECT_TRUE(MakeRoom("", Aged(kMost, kMarkUs), &next).Is(Code::kLimit));
  ASSERT_OK(ChangeWriter({WriterChange::Kind::kRelease, "w7"}, &next));
  ASSERT_OK(MakeRoom("", Aged(kMost, kMarkUs), &next));
  EXPECT_FALSE(next.writers.contains("w7"));
  EXPECT_EQ(next.writers_forgotten, 8);
  ASSERT_OK(ChangeWriter({WriterChange::Kind::kForget, "w100"}, &next));
  EXPECT_EQ(next.writers_forgotten, 101);
  EXPECT_TRUE(ChangeWriter({WriterChange::Kind::kForget, "w100"}, &next).Is(Code::kNotFound));
  EXPECT_TRUE(ChangeWriter({WriterChange::Kind::kRelease, "w100"}, &next).Is(Code::kNotFound));
}

TEST(Writers, WhoseMarkMayBeGoneIsRefused) {
  Snapshot head;
  EXPECT_OK(CheckClaim(head, {"w", 7}));  // none is gone: it never committed
  head.writers_forgotten = 40;
  for (const int64_t since : {0, 39, 40, 41}) {
    for (const std::optional<int64_t> after : {std::optional<int64_t>(), std::optional<int64_t>(-1)}) {
      EXPECT_EQ(CheckClaim(head, {"w", 0, after, since}).Is(Code::kUnknown), since < 40);
    }
  }
  EXPECT_OK(CheckClaim(head, {}));
  head.writers["w"] = {4, 41};
  EXPECT_OK(CheckClaim(head, {"w", 5}));
  // One that is declared begins there.
  ASSERT_OK(ChangeWriter({WriterChange::Kind::kKeep, "flow"}, &head));
  EXPECT_OK(CheckClaim(head, {"flow", 0, -1}));
  EXPECT_FALSE(FindCommitted(head, {"flow", 0}));
}

TEST(Writers, ReadAsTheyWereWritten) {
  Snapshot snapshot = WithWriters(3);
  snapshot.table = Uuid::Random();
  EXPECT_EQ(EncodeSnapshot(snapshot).find("requires"), std::string::npos);
  snapshot.writers["w1"].keep = true;
  snapshot.writers_forgotten = 2;
  const std::string text = EncodeSnapshot(snapshot);
  EXPECT_NE(text.find(R"("requires":["writers"])"), std::string::npos) << text;
  ASSERT_VALUE(const Snapshot read, DecodeSnapshot(text, "k"));
  EXPECT_EQ(read.writers_forgotten, 2);
  EXPECT_TRUE(read.writers.at("w1").keep);
  EXPECT_FALSE(read.writers.at("w2").keep);
}

// Programs that did not say which marks were gone let the stalest go at kMost.
TEST(Writers, OfEarlierPrograms) {
  for (const int64_t count : {kMost - 1, kMost}) {
    Snapshot snapshot = WithWriters(count);
    snapshot.table = Uuid::Random();
    snapshot.writers["w0"].version = 77;
    nlohmann::json body = nlohmann::json::parse(EncodeSnapshot(snapshot)).at("snapshot");
    EXPECT_EQ(body.erase("writers_forgotten"), count < kMost ? 0U : 1U);
    body.erase("requires");
    const std::string dumped = body.dump();
    ASSERT_VALUE(
        const Snapshot read,
        DecodeSnapshot("{\"xxh3\":\"" + Hex64(Xxh3(dumped)) + "\",\"snapshot\":" + dumped + "}", "k"));
    EXPECT_EQ(read.writers_forgotten, count < kMost ? 0 : 2);
  }
}

// Random claims, of writers that come, stay away and come back with old commits. The oracle remembers every
// commit.
class RandomWriters {
 public:
  explicit RandomWriters(uint64_t seed) : random_(seed) {
    head_ = WithWriters(kMost - 50);
    for (const auto& [name, mark] : head_.writers) made_[name].push_back({0, mark.version - 1});
    put_us_.assign(static_cast<size_t>(head_.version) + 1, 1);
  }

  void Step() {
    put_us_.back() = now_us_ += static_cast<int64_t>(random_() % (kMarkUs / 400));
    const std::string name = "w" + std::to_string(random_() % (kMost + 1'000));
    auto& made = made_[name];
    const bool again = !made.empty() && random_() % 3 == 0;
    const Try what =
        again ? made[random_() % made.size()] : Try{static_cast<int64_t>(made.size()), Knows(made)};
    WriterClaim claim{name, what.sequence, {}, what.since};
    if (random_() % 4 == 0) claim.since = 0;
    if (random_() % 3 == 0) claim.after = what.sequence - 1;
    if (const auto found = FindCommitted(head_, claim)) {
      ASSERT_TRUE(again) << name << " " << what.sequence;
      return;
    }
    const Status checked = CheckClaim(head_, claim);
    const bool has_mark = head_.writers.contains(name);
    if (!made.empty() && now_us_ - put_us_[static_cast<size_t>(Last(name))] < kMarkUs) {
      ASSERT_TRUE(has_mark) << name << " went too early";
    }
    if (checked.ok()) {
      ASSERT_FALSE(again) << name << " commits " << what.sequence << " twice";
      Commit(claim, &made);
    } else if (checked.Is(Code::kUnknown)) {
      ASSERT_FALSE(has_mark);
      ASSERT_LT(claim.since, head_.writers_forgotten);
      refused_ += again;
    } else {
      ASSERT_TRUE(again || !has_mark) << checked.ToString();  // where it says what it follows
    }
  }
  int64_t refused() const { return refused_; }  // that had been made, and whose mark was gone

 private:
  struct Try {
    int64_t sequence;
    int64_t since;  // noted before it was first tried
  };
  // What a writer that keeps a note knows before its next commit.
  int64_t Knows(const std::vector<Try>&) const { return head_.version - 1; }
  int64_t Last(const std::string& name) const { return last_.contains(name) ? last_.at(name) : 1; }

  void Commit(const WriterClaim& claim, std::vector<Try>* made) {
    Snapshot next = head_;
    NoteCommitted(claim, &next);
    const Status room = MakeRoom(
        claim.writer,
        [&](int64_t version) -> Result<int64_t> { return put_us_[static_cast<size_t>(version)]; }, &next);
    if (room.Is(Code::kLimit)) return;
    ASSERT_OK(room);
    ASSERT_LE(static_cast<int64_t>(next.writers.size()), kMost);
    last_[claim.writer] = next.version;
    made->push_back({claim.sequence, claim.since});
    head_ = std::move(next);
    head_.version += 1;
    put_us_.push_back(now_us_);
  }

  std::mt19937_64 random_;
  Snapshot head_;  // its version: of the next
  std::map<std::string, std::vector<Try>> made_;
  std::map<std::string, int64_t> last_;
  std::vector<int64_t> put_us_;  // by version
  int64_t now_us_ = 1;
  int64_t refused_ = 0;
};

TEST(Writers, NoneCommitsTwice) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    RandomWriters random(seed);
    const int64_t steps = testing::Scaled(3'000);
    for (int64_t step = 0; step < steps && !::testing::Test::HasFatalFailure(); ++step) random.Step();
    if (steps >= 3'000) {  // in fewer, none may have been away for long enough
      EXPECT_GT(random.refused(), 0) << seed;
    }
  }
}

// The same through a table on a store with a clock.
TEST_F(CollectTest, WritersThatWereAwayForLongAreRefused) {
  CommitOptions first{.writer = "away", .sequence = 0};
  ASSERT_OK(table_->Append(ReaderOf({Rows(0, 5)}).get(), first).status());
  ASSERT_OK(table_->ChangeWriter({WriterChange::Kind::kKeep, "flow"}, {}).status());
  ASSERT_VALUE(const View begun, table_->At());
  Snapshot crowded = begun.snapshot();
  crowded.version += 1;
  for (int64_t i = 2; i < kMost; ++i) crowded.writers["w" + std::to_string(i)] = {0, crowded.version};
  ASSERT_OK(store_->PutIfAbsent(SnapshotKey(table_->prefix(), crowded.version), EncodeSnapshot(crowded)));
  const CommitOptions young{.writer = "young", .sequence = 0, .since = crowded.version};
  EXPECT_TRUE(table_->Append(ReaderOf({Rows(5, 6)}).get(), young).status().Is(Code::kLimit));

  store_->time = [&](const std::string& key, int64_t us) {
    const auto name = ParseKey(key);
    const bool snapshot = name && name->kind == ObjectKind::kSnapshot;
    return snapshot && name->number < crowded.version ? us - kMarkUs : us;
  };
  ASSERT_OK(table_->Append(ReaderOf({Rows(5, 6)}).get(), young).status());
  ASSERT_VALUE(const View now, table_->At());
  EXPECT_FALSE(now.snapshot().writers.contains("away"));
  EXPECT_TRUE(now.snapshot().writers.contains("flow"));
  const Status replayed = table_->Append(ReaderOf({Rows(0, 5)}).get(), first).status();
  EXPECT_TRUE(replayed.Is(Code::kUnknown)) << replayed.ToString();
  EXPECT_TRUE(table_->Delete({"id = 5"}, first).status().Is(Code::kUnknown));
  ASSERT_OK(table_->Restore("2", {}).status());
  EXPECT_TRUE(table_->Append(ReaderOf({Rows(0, 5)}).get(), first).status().Is(Code::kUnknown));
  first.sequence = 1;
  first.since = now.snapshot().version;
  EXPECT_TRUE(table_->Append(ReaderOf({Rows(6, 7)}).get(), first).status().Is(Code::kLimit));
  ASSERT_OK(table_->ChangeWriter({WriterChange::Kind::kForget, "w2"}, {}).status());
  ASSERT_OK(table_->Append(ReaderOf({Rows(6, 7)}).get(), first).status());
  EXPECT_TRUE(table_->ChangeWriter({WriterChange::Kind::kKeep, ""}, {}).status().Is(Code::kInvalid));
}

}  // namespace
}  // namespace headrace::table
