#include "base/cancel.h"

#include <poll.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/stop_event.h"
#include "testing.h"

namespace headrace {
namespace {

TEST(StopToken, WakesWhoWaits) {
  StopSource source;
  std::promise<void> waiting;
  bool stopped = false;
  std::thread waiter([&, token = source.token()] {
    waiting.set_value();
    stopped = token.WaitFor(1e12);  // longer than any clock holds
    token.Wait();                   // does not wait again
  });
  waiting.get_future().wait();
  source.Stop();
  waiter.join();
  EXPECT_TRUE(stopped);
  EXPECT_TRUE(source.token().Check().Is(Code::kCancelled));
}

TEST(StopToken, OfNobodyIsNeverStopped) {
  EXPECT_FALSE(StopToken().WaitFor(0.001));
  const StopCallback never(StopToken(), [] { FAIL(); });
}

TEST(StopCallback, RunsOnceOnTheThreadThatStops) {
  StopSource source;
  int calls = 0;
  std::thread::id on;
  const StopCallback callback(source.token(), [&] {
    ++calls;
    on = std::this_thread::get_id();
  });
  EXPECT_EQ(calls, 0);
  std::thread stopper([&] { source.Stop(); });
  const std::thread::id expected = stopper.get_id();
  stopper.join();
  source.Stop();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(on, expected);
}

TEST(StopCallback, RunsAtOnceWhereTheTokenIsStoppedAlready) {
  StopSource source;
  source.Stop();
  bool called = false;
  const StopCallback callback(source.token(), [&] { called = true; });
  EXPECT_TRUE(called);
}

TEST(StopCallback, IsOverOnceDestroyed) {
  StopSource source;
  bool called = false;
  {
    const StopCallback callback(source.token(), [&] { called = true; });
  }
  source.Stop();
  EXPECT_FALSE(called);

  // The destructor waits for a call that is under way on another thread.
  StopSource other;
  std::promise<void> began, go_on;
  std::atomic<bool> ended{false};
  auto callback = std::make_unique<StopCallback>(other.token(), [&] {
    began.set_value();
    go_on.get_future().wait();
    ended = true;
  });
  std::thread stopper([&] { other.Stop(); });
  began.get_future().wait();
  std::thread releaser([&] { go_on.set_value(); });
  callback.reset();
  EXPECT_TRUE(ended);
  stopper.join();
  releaser.join();
}

TEST(StopEvent, IsReadableFromTheStopOn) {
  StopSource source;
  ASSERT_VALUE(const auto event, StopEvent::Make(source.token()));
  pollfd wait{event->fd(), POLLIN, 0};
  EXPECT_EQ(poll(&wait, 1, 0), 0);
  std::thread stopper([&] { source.Stop(); });
  EXPECT_EQ(poll(&wait, 1, -1), 1);
  stopper.join();
  EXPECT_EQ(poll(&wait, 1, 0), 1);
  ASSERT_VALUE(const auto after, StopEvent::Make(source.token()));
  wait.fd = after->fd();
  EXPECT_EQ(poll(&wait, 1, 0), 1);
}

}  // namespace
}  // namespace headrace
