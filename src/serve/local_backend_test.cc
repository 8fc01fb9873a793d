// A backend's states, with loads that the test ends when it likes.
#include "serve/local_backend.h"

#include <atomic>
#include <thread>

#include "base/ids.h"
#include "serve/fake_exchange.h"
#include "serve/recorder.h"
#include "serve/with_model.h"
#include "testing.h"

namespace headrace::serve {
namespace {

using State = BackendReport::State;

// What calls came to, by name.
using Log = std::vector<std::string>;

std::shared_ptr<LocalBackend> Make(int* begun, double retry = Backend::kRetrySeconds,
                                   size_t most_waiting = 100) {
  LocalBackend::Options options;
  options.name = "m";
  options.retry_seconds = retry;
  options.most_waiting = most_waiting;
  options.begin_load = [begun] { ++*begun; };
  return std::make_shared<LocalBackend>(std::move(options));
}

// Says "name ready", or "name" and its error; keeps the leases.
Backend::Done Told(Log* log, const char* name, std::vector<Lease>* leases) {
  return [=](Result<Lease> lease) {
    log->push_back(std::string(name) + " " + (lease.ok() ? "ready" : lease.status().ToString()));
    if (lease.ok() && leases != nullptr) leases->push_back(std::move(*lease));
  };
}

TEST(LocalBackend, LoadsOnceWhenItIsFirstAskedFor) {
  int begun = 0;
  Log log;
  std::vector<Lease> leases;
  const auto backend = Make(&begun);
  EXPECT_EQ(backend->TryAcquire(), nullptr);
  EXPECT_EQ(begun, 0);
  EXPECT_EQ(backend->report().state, State::kAsleep);
  for (const char* name : {"a", "b", "c"})
    EXPECT_NE(backend->Acquire(Told(&log, name, &leases)), Backend::kNoWait);
  EXPECT_EQ(begun, 1);
  EXPECT_TRUE(log.empty());
  EXPECT_EQ(backend->report().state, State::kLoading);
  EXPECT_EQ(backend->report().waiting, 3);
  const auto served = std::make_shared<Served>();
  EXPECT_TRUE(backend->Loaded(served, 1.5));
  EXPECT_FALSE(backend->Loaded(served, 1.5));  // nobody asked for another
  EXPECT_EQ(log, (Log{"a ready", "b ready", "c ready"}));
  EXPECT_EQ(backend->report().leases, 3);
  EXPECT_EQ(backend->report().load_seconds, 1.5);
  EXPECT_EQ(leases[0].get(), served.get());
  EXPECT_EQ(backend->Acquire(Told(&log, "d", nullptr)), Backend::kNoWait);  // at once
  EXPECT_EQ(log.back(), "d ready");
  EXPECT_EQ(backend->report().leases, 3);
  EXPECT_EQ(begun, 1);
}

TEST(LocalBackend, WhoIsCancelledWaitsNoLonger) {
  int begun = 0;
  Log log;
  const auto backend = Make(&begun);
  const auto first = backend->Acquire(Told(&log, "a", nullptr));
  const auto second = backend->Acquire(Told(&log, "b", nullptr));
  EXPECT_TRUE(backend->Cancel(first));
  EXPECT_FALSE(backend->Cancel(first));
  EXPECT_FALSE(backend->Cancel(Backend::kNoWait));
  EXPECT_EQ(backend->report().waiting, 1);
  backend->Loaded(std::make_shared<Served>(), 0);
  EXPECT_EQ(log, Log{"b ready"});
  EXPECT_FALSE(backend->Cancel(second));
}

TEST(LocalBackend, AFailureIsToldAndTriedAgain) {
  int begun = 0;
  Log log;
  const auto patient = Make(&begun, 1000);
  patient->Acquire(Told(&log, "a", nullptr));
  patient->Loaded(Status::Corrupt("it is torn"), 1);
  EXPECT_EQ(log, Log{"a 'm' cannot be loaded: it is torn"});
  EXPECT_EQ(patient->report().state, State::kAsleep);
  EXPECT_EQ(patient->report().trouble, "it is torn");
  patient->Acquire(Told(&log, "b", nullptr));  // too soon: told the same, and nothing is loaded
  EXPECT_EQ(log.back(), "b 'm' cannot be loaded: it is torn");
  EXPECT_EQ(begun, 1);
  const auto eager = Make(&begun, 0);
  eager->Acquire(Told(&log, "a", nullptr));
  eager->Loaded(Status::Corrupt("it is torn"), 1);
  EXPECT_NE(eager->Acquire(Told(&log, "c", nullptr)), Backend::kNoWait);
  EXPECT_EQ(begun, 3);
  eager->Loaded(std::make_shared<Served>(), 1);
  EXPECT_EQ(log.back(), "c ready");
  EXPECT_EQ(eager->report().trouble, "");
}

TEST(LocalBackend, SleepsWhenNobodyHoldsALease) {
  int begun = 0;
  std::vector<Lease> leases;
  Log log;
  const auto backend = Make(&begun);
  backend->Acquire(Told(&log, "a", &leases));
  auto served = std::make_shared<Served>();
  const std::weak_ptr<Served> kept = served;
  backend->Loaded(std::move(served), 0);
  EXPECT_LT(backend->idle_seconds(), 0);
  EXPECT_EQ(backend->Sleep(0), nullptr);
  leases.clear();
  EXPECT_GE(backend->idle_seconds(), 0);
  EXPECT_EQ(backend->Sleep(1000), nullptr);  // not idle for so long
  EXPECT_NE(backend->Sleep(0), nullptr);
  EXPECT_TRUE(kept.expired());
  EXPECT_EQ(backend->report().state, State::kAsleep);
  EXPECT_EQ(backend->report().sleeps, 1);
  EXPECT_EQ(backend->TryAcquire(), nullptr);
  backend->Acquire(Told(&log, "b", nullptr));
  EXPECT_EQ(begun, 2);
}

// A lease keeps what it began with, also where the name got another.
TEST(LocalBackend, AReplacedModelStaysWithItsLeases) {
  int begun = 0;
  std::vector<Lease> leases;
  Log log;
  const auto backend = Make(&begun);
  EXPECT_EQ(backend->Replace(std::make_shared<Served>()), nullptr);  // asleep: nothing to replace
  backend->Acquire(Told(&log, "a", &leases));
  backend->Loaded(std::make_shared<Served>(), 0);
  const auto next = std::make_shared<Served>();
  auto old = backend->Replace(next);
  EXPECT_EQ(old.get(), leases[0].get());
  EXPECT_EQ(old.use_count(), 2);
  EXPECT_EQ(backend->TryAcquire().get(), next.get());
  leases.clear();
  EXPECT_EQ(old.use_count(), 1);
}

TEST(LocalBackend, TooManyAreRefusedAndTheEndIsTold) {
  int begun = 0;
  Log log;
  auto backend = Make(&begun, 5, 2);
  for (const char* name : {"a", "b", "c"}) backend->Acquire(Told(&log, name, nullptr));
  EXPECT_EQ(log, Log{"c too many requests wait for 'm' to be loaded"});
  backend.reset();
  EXPECT_EQ(log.size(), 3U);
  EXPECT_EQ(log.back(), "b the server is shutting down");
}

// Many at once: each call is told once or was cancelled, and at the end nobody holds or waits.
TEST(LocalBackend, ManyThreads) {
  std::atomic<int> loads{0};
  LocalBackend::Options options;
  options.name = "m";
  options.retry_seconds = 0;
  options.begin_load = [&] { ++loads; };
  const auto backend = std::make_shared<LocalBackend>(std::move(options));
  std::atomic<int> asked{0}, told{0}, cancelled{0};
  std::atomic<bool> over{false};
  std::thread loader([&] {
    for (int done = 0; !over || done < loads;) {
      if (done == loads) {
        std::this_thread::yield();
        continue;
      }
      ++done;
      backend->Loaded(done % 3 == 0 ? Result<std::shared_ptr<Served>>(Status::Io("no"))
                                    : Result<std::shared_ptr<Served>>(std::make_shared<Served>()),
                      0);
    }
  });
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < testing::Scaled(3000); ++i) {
          ++asked;
          const auto wait = backend->Acquire([&](const Result<Lease>&) { ++told; });
          if (i % 5 == t && backend->Cancel(wait)) ++cancelled;
          if (i % 7 == t) (void)backend->Sleep(0);
          if (i % 11 == t) (void)backend->Replace(std::make_shared<Served>());
        }
      });
  }
  over = true;
  loader.join();
  EXPECT_EQ(asked, told + cancelled);
  EXPECT_EQ(backend->report().waiting, 0);
  EXPECT_EQ(backend->report().leases, 0);
}

// ---------------------------------------------------------------- calls that wait for it

class WithModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_VALUE(services_.recorder, Recorder::Start(nullptr, RecordMode::kFull, 600));
    services_.metrics = Metrics::Make();
  }
  void Ask() {
    Caller caller;
    caller.request_id = Uuid::Random().ToString();
    caller.route = "/v1/test";
    exchange_ = std::make_shared<FakeExchange>();
    WithModel(std::make_shared<Ticket>(&services_, exchange_, caller), {backend_, ""}, 0,
              [this](const Chosen& chosen) {
                waited_ = chosen.waited;
                ++went_;
              });
  }

  int begun_ = 0;
  std::atomic<int> went_{0};
  double waited_ = -1;
  std::shared_ptr<LocalBackend> backend_ = Make(&begun_);
  std::shared_ptr<FakeExchange> exchange_;
  Services services_;  // ends first
};

TEST_F(WithModelTest, GoesOnWhenItIsLoaded) {
  Ask();
  EXPECT_EQ(begun_, 1);
  ASSERT_EQ(services_.in_flight.size(), 1U);
  EXPECT_EQ(services_.in_flight.all()[0]->state, InFlight::State::kLoading);
  EXPECT_EQ(went_, 0);
  backend_->Loaded(std::make_shared<Served>(), 0);
  services_.workers.Close();
  EXPECT_EQ(went_, 1);
  EXPECT_GT(waited_, 0);
  Ask();  // it is there: at once, on this thread
  EXPECT_EQ(went_, 2);
  EXPECT_EQ(waited_, 0);
}

TEST_F(WithModelTest, SaysWhyItCannot) {
  Ask();
  backend_->Loaded(Status::Limit("it needs 3 GB"), 0);
  ASSERT_EQ(exchange_->answers.size(), 1U);
  const http::HttpResponse& answer = exchange_->answers[0];
  EXPECT_EQ(answer.status, 503);
  EXPECT_NE(answer.body.find("'m' cannot be loaded: it needs 3 GB"), std::string::npos) << answer.body;
  EXPECT_NE(answer.body.find("model_unavailable"), std::string::npos);
  bool told = false;
  for (const auto& [name, value] : answer.headers) told = told || (name == "Retry-After" && value == "5");
  EXPECT_TRUE(told);
  EXPECT_EQ(went_, 0);
  EXPECT_EQ(services_.in_flight.size(), 0U);
}

// Who has gone, and who the server's end sends away, wait no longer, and nothing is done for them.
TEST_F(WithModelTest, EndsWhileItWaits) {
  Ask();
  exchange_->gone();
  EXPECT_EQ(backend_->report().waiting, 0);
  EXPECT_EQ(services_.in_flight.size(), 0U);
  Ask();
  services_.in_flight.all()[0]->stop();
  ASSERT_EQ(exchange_->answers.size(), 1U);
  EXPECT_EQ(exchange_->answers[0].status, 503);
  EXPECT_NE(exchange_->answers[0].body.find("shutting_down"), std::string::npos);
  EXPECT_EQ(backend_->report().waiting, 0);
  Ask();
  const auto waiting = services_.in_flight.all()[0];
  backend_->Loaded(std::make_shared<Served>(), 0);
  services_.workers.Close();
  waiting->stop();  // too late: it goes on, and is stopped by what computes it
  EXPECT_EQ(went_, 1);
}

}  // namespace
}  // namespace headrace::serve
