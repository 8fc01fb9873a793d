#include "stream/memory.h"

#include <future>
#include <thread>

#include "testing.h"

namespace headrace::stream {
namespace {

// What is returned in a moment wakes who waits for it: no time limit is near.
TEST(MemoryBudget, MemoryThatComesBackWakesWhoWaits) {
  const auto budget = std::make_shared<MemoryBudget>(1000);
  MemoryBudget::Grant held;
  ASSERT_TRUE(budget->Take({600}, 300, &held));
  MemoryBudget::Grant more;
  ASSERT_FALSE(budget->Take({500}, 0, &more));
  ASSERT_FALSE(budget->TakeWithin(0.001, {}, {500}, 0, &more));
  for (const bool buffers : {false, true}) {
    std::promise<void> waiting;
    MemoryBudget::Grant next;
    std::thread waiter([&] {
      waiting.set_value();
      EXPECT_TRUE(budget->TakeWithin(1e6, {}, {buffers ? 600 : 100}, 250, &next));
    });
    waiting.get_future().wait();
    buffers ? held.buffers.clear() : held.extra.reset();
    waiter.join();
  }
}

TEST(MemoryBudget, AStopWakesWhoWaits) {
  const auto budget = std::make_shared<MemoryBudget>(1000);
  MemoryBudget::Grant held, more;
  ASSERT_TRUE(budget->Take({600}, 0, &held));
  StopSource source;
  std::promise<void> waiting;
  std::thread waiter([&] {
    waiting.set_value();
    EXPECT_FALSE(budget->TakeWithin(1e6, source.token(), {500}, 0, &more));
  });
  waiting.get_future().wait();
  source.Stop();
  waiter.join();
}

}  // namespace
}  // namespace headrace::stream
