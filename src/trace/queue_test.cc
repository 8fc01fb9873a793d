// Queues: many annotators, some of whom die: nobody gets an item twice, and none goes to more than it should.
#include "trace/queue.h"

#include <arrow/api.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <set>

#include "store/faulty_store.h"
#include "store/memory_store.h"
#include "testing.h"
#include "trace/annotator.h"
#include "trace/labels_column.h"
#include "trace/tables.h"

namespace headrace::trace {
namespace {

using nlohmann::json;
using store::Fault;

Rubric GoodOrBad() { return {.name = "quality", .labels = {{"", "good"}, {"", "bad"}}, .instructions = {}}; }

// Rows with a target each.
RunSql Targets(int64_t count) {
  return [count](const std::string&) -> Result<SqlRows> {
    arrow::StringBuilder targets, texts;
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_TRUE(targets.Append("run:r" + std::to_string(i)).ok());
      EXPECT_TRUE(texts.Append("text " + std::to_string(i)).ok());
    }
    const auto schema =
        arrow::schema({arrow::field("target", arrow::utf8()), arrow::field("text", arrow::utf8())});
    auto batch = arrow::RecordBatch::Make(schema, count, {*targets.Finish(), *texts.Finish()});
    return SqlRows{arrow::RecordBatchReader::Make({batch}, schema).ValueOrDie(), {"runs@3"}};
  };
}

// What annotators kept, as scores_now has it: the last row of each id.
struct Kept {
  std::map<std::string, json> by_id;
  std::function<Status(const json&)> writer() {
    return [this](const json& row) {
      json& there = by_id[row.at("id").get<std::string>()];
      if (there.is_null() || there.at("time") <= row.at("time")) there = row;
      return Status::Ok();
    };
  }
  std::map<std::string, std::multiset<std::string>> labels() const {
    std::map<std::string, std::multiset<std::string>> people;
    for (const auto& [id, row] : by_id)
      if (!row.contains("state")) people[row.at("target").get<std::string>()].insert(row.at("who"));
    return people;
  }
};

class Queues : public ::testing::Test {
 protected:
  void Make(int64_t items, int64_t overlap) {
    ASSERT_VALUE(catalog_, table::Catalog::InitOn(store_, {.threads = 1}));
    Queue queue{
        .name = "q", .id = {}, .sql = "select …", .inputs = {}, .rubric = GoodOrBad(), .overlap = overlap};
    ASSERT_VALUE(queue_, CreateQueue(catalog_.get(), queue, Targets(items), {}));
  }
  std::unique_ptr<Annotator> Sit(const std::string& who, double ttl = 60) {
    auto opened =
        Annotator::Open(catalog_, queue_, {.who = who, .write = kept_.writer(), .ttl_seconds = ttl});
    EXPECT_TRUE(opened.ok()) << opened.status().ToString();
    return std::move(opened).value();
  }

  std::shared_ptr<store::ObjectStore> store_ = store::NewMemoryStore();
  std::shared_ptr<table::Catalog> catalog_;
  Queue queue_;
  Kept kept_;
};

TEST_F(Queues, AreListedAndRemoved) {
  Make(3, 2);
  EXPECT_EQ(queue_.inputs, std::vector<std::string>{"runs@v3"});
  EXPECT_EQ(queue_.rubric.labels[0].key, "g");
  const Queue again{.name = "q", .id = {}, .sql = "", .inputs = {}, .rubric = GoodOrBad()};
  EXPECT_TRUE(CreateQueue(catalog_.get(), again, Targets(1), {}).status().Is(Code::kAlreadyExists));
  ASSERT_VALUE(const Queue found, FindQueue(*catalog_, "q"));
  EXPECT_EQ(ToJson(found), ToJson(queue_));
  ASSERT_VALUE(const auto items, QueueItems(*catalog_, found));
  ASSERT_EQ(items.size(), 3u);
  EXPECT_EQ(items[2].target, (Target{"run", "r2"}));
  EXPECT_EQ(items[2].shown.dump(), R"({"text":"text 2"})");
  ASSERT_OK(RemoveQueue(catalog_.get(), "q", {}).status());
  EXPECT_TRUE(FindQueue(*catalog_, "q").status().Is(Code::kNotFound));
  ASSERT_OK(CreateQueue(catalog_.get(), again, Targets(1), {}).status());
  ASSERT_VALUE(const auto all, ListQueues(*catalog_, true));
  EXPECT_EQ(all.size(), 2u);
  ASSERT_VALUE(const auto now, ListQueues(*catalog_));
  ASSERT_EQ(now.size(), 1u);
  EXPECT_EQ(now[0].items, 1);
}

TEST_F(Queues, OfTwoPeopleEachGetsAnItemOnce) {
  Make(4, 2);
  const auto ada = Sit("ada"), bob = Sit("bob"), carl = Sit("carl"), ada_too = Sit("ada");
  ASSERT_VALUE(const auto a, ada->Next());
  ASSERT_VALUE(const auto b, bob->Next());
  ASSERT_VALUE(const auto c, carl->Next());
  ASSERT_VALUE(const auto other, ada_too->Next());
  EXPECT_EQ(a->number, 0);
  EXPECT_EQ(b->number, 0);
  EXPECT_EQ(c->number, 1);      // 0 is with two people
  EXPECT_EQ(other->number, 1);  // ada has 0 elsewhere
  ASSERT_VALUE(const auto held, ada->Next());
  EXPECT_EQ(held->number, 0);  // until she says something of it
  EXPECT_TRUE(carl->Label(0, {.value = {}, .label = "good", .comment = {}}).status().Is(Code::kConflict));
  EXPECT_TRUE(ada->Label(0, {.value = {}, .label = "fine", .comment = {}}).status().Is(Code::kInvalid));
  ASSERT_OK(ada->Label(0, {.value = {}, .label = "good", .comment = "so"}).status());
  ASSERT_OK(
      ada->Label(0, {.value = {}, .label = "bad", .comment = {}}).status());  // corrected, or sent again
  ASSERT_EQ(kept_.by_id.size(), 1u);
  EXPECT_EQ(kept_.by_id.begin()->second.at("label"), "bad");
  ASSERT_OK(ada->Close());
  // What she has elsewhere she may judge here, and gets where nothing else is free.
  const auto third = Sit("ada");
  ASSERT_OK(third->Label(1, {.value = {}, .label = "good", .comment = {}}).status());
  for (const int64_t rest : {2, 3}) {
    ASSERT_VALUE(const auto more, third->Next());
    EXPECT_EQ(more->number, rest);
    if (rest == 2) ASSERT_OK(third->Label(rest, {.value = {}, .label = "bad", .comment = {}}).status());
  }
  ASSERT_VALUE(const auto taken, ada_too->Next());
  EXPECT_EQ(taken->number, 3);
  ASSERT_OK(ada_too->Label(3, {.value = {}, .label = "bad", .comment = {}}).status());
  ASSERT_VALUE(const auto over, third->Next());
  EXPECT_FALSE(over);
  ASSERT_OK(third->Close());
  ASSERT_OK(ada_too->Close());
  ASSERT_VALUE(const auto next, carl->Next());
  EXPECT_EQ(next->number, 1);
}

TEST_F(Queues, UndoAndSkip) {
  Make(2, 1);
  auto ada = Sit("ada");
  ASSERT_VALUE(const auto none, ada->Undo());
  EXPECT_FALSE(none);
  ASSERT_VALUE(const auto first, ada->Next());
  ASSERT_OK(ada->Label(first->number, {.value = {}, .label = "good", .comment = {}}).status());
  ASSERT_OK(ada->Close());
  ada = Sit("ada");  // in a later session, too
  ASSERT_VALUE(const auto undone, ada->Undo());
  ASSERT_TRUE(undone);
  EXPECT_EQ(undone->number, first->number);
  EXPECT_TRUE(kept_.labels().empty());
  ASSERT_VALUE(const auto again, ada->Next());
  EXPECT_EQ(again->number, first->number);
  ASSERT_OK(ada->Skip(again->number).status());
  EXPECT_TRUE(kept_.labels().empty());
  ASSERT_VALUE(const auto second, ada->Next());
  EXPECT_EQ(second->number, 1);
  const auto bob = Sit("bob");
  ASSERT_VALUE(const auto bobs, bob->Next());
  EXPECT_EQ(bobs->number, 0);  // it is free again, for others
  EXPECT_TRUE(ada->Undo().status().Is(Code::kConflict));
  ASSERT_OK(ada->Label(1, {.value = {}, .label = "bad", .comment = {}}).status());
  ASSERT_VALUE(const auto over, ada->Next());
  EXPECT_FALSE(over);
  ASSERT_VALUE(const auto progress, ada->Progress());
  EXPECT_EQ(progress.mine, 1);
  EXPECT_EQ(progress.left, 0);
  EXPECT_EQ(progress.wanted, 2);
}

// The proof: three people, overlap 2, 500 items; sessions die at random, with and without what they had said
// in the spool.
TEST_F(Queues, EachItemTwiceWhoeverDies) {
  constexpr int64_t kItems = 500;
  Make(kItems, 2);
  std::mt19937 random(7);
  const std::vector<std::string> people = {"ada", "bob", "carl"};
  std::map<std::string, std::unique_ptr<Annotator>> seats;
  int deaths = 0;
  for (std::set<std::string> idle; idle.size() < people.size();) {  // until there is nothing for anybody
    const std::string& who = people[random() % people.size()];
    auto& seat = seats[who];
    // A dead session has no lease any more, as if a long time had passed.
    if (!seat) seat = Sit(who);
    ASSERT_VALUE(const auto item, seat->Next());
    if (!item) {
      idle.insert(who);
      continue;
    }
    idle.clear();
    const auto fate = random() % 20;
    if (fate == 0) {  // with an item in hand
      seat.reset();
      ++deaths;
      ASSERT_VALUE(const auto leases, table::ListLeases(store_.get(), "queue-"));
      for (const auto& lease : leases)
        if (lease.terms.holder == who) ASSERT_OK(table::RemoveLease(store_.get(), lease));
      continue;
    }
    if (fate == 1) {
      ASSERT_OK(seat->Skip(item->number).status());
      ASSERT_OK(seat->Undo().status());
    }
    ASSERT_OK(seat->Label(item->number, {.value = {}, .label = fate % 2 == 0 ? "good" : "bad", .comment = {}})
                  .status());
  }
  EXPECT_GT(deaths, 10);
  const auto labels = kept_.labels();
  ASSERT_EQ(labels.size(), static_cast<size_t>(kItems));
  for (const auto& [target, who] : labels) {
    EXPECT_EQ(who.size(), 2u) << target;
    EXPECT_EQ((std::set<std::string>(who.begin(), who.end()).size()), 2u) << target;
  }
}

TEST_F(Queues, WhatADeadSessionHadNotStoredIsStoredByOthers) {
  Make(2, 1);
  {
    AnnotatorOptions options{.who = "ada", .write = [](const json&) { return Status::Io("a full disk"); }};
    ASSERT_VALUE(const auto ada, Annotator::Open(catalog_, queue_, options));
    ASSERT_VALUE(const auto item, ada->Next());
    ASSERT_OK(ada->Label(item->number, {.value = {}, .label = "good", .comment = {}}).status());
    EXPECT_FALSE(ada->Close().ok());
  }
  EXPECT_TRUE(kept_.by_id.empty());
  ASSERT_VALUE(const auto leases, table::ListLeases(store_.get(), "queue-"));
  for (const auto& lease : leases) ASSERT_OK(table::RemoveLease(store_.get(), lease));
  const auto bob = Sit("bob");
  ASSERT_VALUE(const auto item, bob->Next());  // ada's session had it in hand
  EXPECT_EQ(item->number, 1);
  ASSERT_EQ(kept_.labels().size(), 1u);
  EXPECT_EQ(kept_.labels().begin()->first, "r0");
}

TEST_F(Queues, ASessionThatWasTakenForDeadGoesOn) {
  Make(2, 1);
  const auto ada = Sit("ada");
  ASSERT_VALUE(const auto item, ada->Next());
  ASSERT_VALUE(const auto leases, table::ListLeases(store_.get(), "queue-"));
  for (const auto& lease : leases) ASSERT_OK(table::RemoveLease(store_.get(), lease));
  const auto bob = Sit("bob");
  ASSERT_VALUE(const auto first, bob->Next());
  EXPECT_EQ(first->number, 1);
  ASSERT_OK(bob->Label(1, {.value = {}, .label = "good", .comment = {}}).status());
  ASSERT_VALUE(const auto second, bob->Next());
  EXPECT_EQ(second->number, item->number);
  // Ada wakes up: the item is bob's now.
  const Judgement late{.value = {}, .label = "bad", .comment = {}};
  EXPECT_TRUE(ada->Label(item->number, late).status().Is(Code::kConflict));
  ASSERT_OK(bob->Close());  // he gives it back
  ASSERT_OK(ada->Label(item->number, late).status());
  EXPECT_EQ(kept_.labels().at("r0").size(), 1u);
}

// Whatever fails, and however it fails: no item gets more labels than it should, and all get theirs.
TEST_F(Queues, WhateverFailsInTheStore) {
  for (const Fault fault : {Fault::kFail, Fault::kAmbiguous, Fault::kDuplicate}) {
    for (int64_t n = 0;; ++n) {
      kept_ = {};
      store_ = store::NewMemoryStore();
      Make(2, 1);
      const auto faulty = store::NewFaultyStore(store_);
      ASSERT_VALUE(const auto through, table::Catalog::OpenOn(faulty, {.threads = 1}));
      faulty->Arm({.at = n, .fault = fault});
      {
        auto ada = Annotator::Open(through, queue_, {.who = "ada", .write = kept_.writer()});
        for (int i = 0; ada.ok() && i < 3; ++i) {
          const auto item = (*ada)->Next();
          if (item.ok() && *item)
            (void)(*ada)->Label((*item)->number, {.value = {}, .label = "good", .comment = {}}).ok();
        }
        if (ada.ok()) (void)(*ada)->Close().ok();
      }
      const bool fired = faulty->fired();
      faulty->Arm({});
      ASSERT_VALUE(const auto leases, table::ListLeases(store_.get(), "queue-"));
      for (const auto& lease : leases) ASSERT_OK(table::RemoveLease(store_.get(), lease));
      for (const char* who : {"bob", "carl"}) {
        const auto other = Sit(who);
        for (;;) {
          ASSERT_VALUE(const auto item, other->Next());
          if (!item) break;
          ASSERT_OK(other->Label(item->number, {.value = {}, .label = "bad", .comment = {}}).status());
        }
        ASSERT_OK(other->Close());
      }
      const auto labels = kept_.labels();
      ASSERT_EQ(labels.size(), 2u) << static_cast<int>(fault) << " at " << n;
      for (const auto& [target, who] : labels) ASSERT_EQ(who.size(), 1u) << target << " at " << n;
      if (!fired) break;
      ASSERT_LT(n, 200);
    }
  }
}

TEST(Rubrics, GiveKeys) {
  Rubric rubric{
      .name = "x", .labels = {{"", "sharp"}, {"", "soft"}, {"", "ugly"}, {"", "q"}}, .instructions = {}};
  ASSERT_OK(rubric.Complete());
  std::string keys;
  for (const auto& label : rubric.labels) keys += label.key;
  EXPECT_EQ(keys, "hog1");  // s, u, c and q are commands
  EXPECT_TRUE(Rubric({.name = "x", .labels = {{"a", "1"}, {"a", "2"}}, .instructions = {}})
                  .Complete()
                  .Is(Code::kInvalid));
  EXPECT_TRUE(
      Rubric({.name = "x", .labels = {{"u", "1"}}, .instructions = {}}).Complete().Is(Code::kInvalid));
  Rubric range{.name = "x", .labels = {}, .least = 1, .most = 5, .instructions = {}};
  ASSERT_OK(range.Complete());
  EXPECT_OK(range.Check(5.0, ""));
  EXPECT_TRUE(range.Check(5.5, "").Is(Code::kInvalid));
  ASSERT_VALUE(const Rubric read, Rubric::FromJson(range.ToJson()));
  EXPECT_EQ(read.ToJson(), range.ToJson());
}

TEST(QueueState, GoesThroughJson) {
  QueueState state;
  ASSERT_OK(state.Apply(json::parse(R"({"session": "s", "who": "ada", "stored": 0, "do": [
    {"op": "claim", "item": 3}, {"op": "label", "item": 3, "row": {"time": 5}}, {"op": "claim", "item": 4}]})")));
  ASSERT_OK(state.Apply(json::parse(R"({"session": "t", "who": "bob", "stored": 0, "do": [
    {"op": "claim", "item": 3}, {"op": "skip", "item": 3, "row": {"time": 6}}]})")));
  ASSERT_VALUE(const QueueState read, QueueState::FromJson(state.ToJson()));
  EXPECT_EQ(read.ToJson(), state.ToJson());
  EXPECT_EQ(read.number, 2);
  EXPECT_EQ(read.HeldBy("s"), 4);
  EXPECT_EQ(read.sessions.at("s").rows.size(), 1u);
  ASSERT_OK(state.Apply(json::parse(R"({"session": "s", "who": "ada", "stored": 1, "do": []})")));
  EXPECT_TRUE(state.sessions.at("s").rows.empty());
  EXPECT_FALSE(
      state.Apply(json::parse(R"({"session": "s", "who": "a", "stored": 0, "do": [{"op": "?"}]})")).ok());
  EXPECT_FALSE(state.Apply(json::parse(R"({"who": "a"})")).ok());
}

TEST(Labels, MostVotesOrTheMean) {
  const Agreed agreed = Agree(
      {{1, {}, "a"}, {1, {}, "b"}, {1, {}, "a"}, {2, {}, "a"}, {2, {}, "b"}, {3, 1.0, ""}, {3, 2.0, ""}});
  EXPECT_EQ(agreed.labels, (std::map<int64_t, std::string>{{1, "a"}}));
  EXPECT_EQ(agreed.ties, std::vector<int64_t>{2});
  EXPECT_EQ(agreed.means, (std::map<int64_t, double>{{3, 1.5}}));
}

}  // namespace
}  // namespace headrace::trace
