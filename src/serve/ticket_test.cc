// A ticket's account, whatever becomes of its request: nothing stays reserved or in flight, each request is
// counted once and has one end in the spool.
#include "serve/ticket.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "base/ids.h"
#include "serve/fake_exchange.h"
#include "serve/refusal.h"
#include "testing.h"

namespace headrace::serve {
namespace {

using nlohmann::json;
using testing::TempFolder;

// What a server has, on a catalog of its own.
struct Bench {
  Bench() {
    auto made = table::Catalog::Init(folder.path() + "/c", {.sync = false});
    EXPECT_TRUE(made.ok());
    catalog = *made;
    auto recorder = Recorder::Start(catalog, RecordMode::kFull, 600);
    EXPECT_TRUE(recorder.ok());
    services.recorder = std::move(*recorder);
    services.metrics = Metrics::Make();
  }

  std::shared_ptr<Ticket> Make(int64_t concurrent = 0) {
    Caller caller;
    caller.request_id = Uuid::Random().ToString();
    caller.route = "/v1/test";
    caller.key.id = "key";
    caller.key.concurrent = concurrent;
    caller.key.tokens_per_minute = 1000;
    caller.arrived = MonotonicSeconds();
    caller.arrived_us = NowMicros();
    exchange = std::make_shared<FakeExchange>();
    return std::make_shared<Ticket>(&services, exchange, caller);
  }

  // Records of the spool, by kind.
  int Records(trace::Kind kind) const {
    int count = 0;
    for (const std::string& writer : trace::SpoolFolders(trace::SpoolRoot(*catalog)))
      EXPECT_TRUE(trace::ReadSpool(writer, {}, [&](const trace::Record& record) {
                    if (record.kind != kind) return Status::Ok();
                    ++count;
                    last = json::parse(record.payload);
                    return Status::Ok();
                  }).ok());
    return count;
  }

  std::string Counted() const {
    const std::string text = services.metrics->Text({}, {}, {}, 0, 0);
    std::string lines;
    for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
      if (text.compare(at, 24, "headrace_requests_total{") == 0) lines += text.substr(at, end - at) + "\n";
    return lines;
  }

  TempFolder folder;
  std::shared_ptr<table::Catalog> catalog;
  Services services;
  std::shared_ptr<FakeExchange> exchange;
  mutable json last;  // the last record that Records saw
};

std::shared_ptr<Ticket> Begun(Bench* bench, int64_t tokens = 100) {
  auto ticket = bench->Make();
  EXPECT_EQ(ticket->Admit(tokens), std::nullopt);
  ticket->Start("asked", "served", {{"model_sha256", "abc"}});
  ticket->Enter("served", 60, [] {});
  return ticket;
}

TEST(InFlightList, WaitsUntilItIsEmpty) {
  Bench bench;
  const InFlightList& list = bench.services.in_flight;
  EXPECT_TRUE(list.WaitUntilEmpty(0, {}));
  const auto first = Begun(&bench), second = Begun(&bench);
  EXPECT_FALSE(list.WaitUntilEmpty(0, {}));
  StopSource stop;
  std::promise<bool> stopped, emptied;
  std::thread waiter([&] {
    stopped.set_value(list.WaitUntilEmpty(1e12, stop.token()));
    emptied.set_value(list.WaitUntilEmpty(1e12, {}));
  });
  stop.Stop();
  EXPECT_FALSE(stopped.get_future().get());
  first->Answer("{}");
  EXPECT_FALSE(list.WaitUntilEmpty(0, {}));
  second->Answer("{}");
  EXPECT_TRUE(emptied.get_future().get());
  waiter.join();
}

struct Ending {
  const char* name;
  std::function<void(const std::shared_ptr<Ticket>&)> end;
  int status;
  const char* finish;
};

// However it ends, and whatever is tried after that.
TEST(Ticket, EveryEndSettlesTheAccountOnce) {
  Outcome answered;
  answered.usage.prompt_tokens = 60;
  answered.usage.answer_tokens = 10;
  Outcome gone;
  gone.status = 499;
  const Ending endings[] = {
      {"answered", [&](const auto& ticket) { ticket->Answer("{}", answered); }, 200, "stop"},
      {"refused",
       [](const auto& ticket) {
         ticket->Refuse({500, "", "field", "broke"});
       },
       500, "error"},
      {"out of time",
       [](const auto& ticket) {
         ticket->Refuse({408, "", "", "late"});
       },
       408, "timeout"},
      {"a stream", [&](const auto& ticket) { ticket->End(answered); }, 200, "stop"},
      {"hung up", [&](const auto& ticket) { ticket->End(gone); }, 499, "cancelled"},
      {"let go", [](const auto&) {}, 500, "error"},
  };
  for (const Ending& ending : endings) {
    SCOPED_TRACE(ending.name);
    Bench bench;
    {
      const auto ticket = Begun(&bench);
      EXPECT_EQ(bench.services.meter.running("key"), 1);
      EXPECT_EQ(bench.services.in_flight.size(), 1U);
      EXPECT_EQ(bench.Records(trace::Kind::kStart), 1);
      EXPECT_EQ(bench.last["model"], "asked");
      EXPECT_EQ(bench.last["model_sha256"], "abc");
      ending.end(ticket);
      if (ticket->ended()) {
        EXPECT_FALSE(ticket->Refuse(ShuttingDown()));
        EXPECT_FALSE(ticket->Answer("again"));
        EXPECT_FALSE(ticket->End(answered));
      }
    }
    EXPECT_EQ(bench.services.meter.running("key"), 0);
    EXPECT_EQ(bench.services.in_flight.size(), 0U);
    EXPECT_EQ(bench.Records(trace::Kind::kStart), 1);
    ASSERT_EQ(bench.Records(trace::Kind::kEnd), 1);
    EXPECT_EQ(bench.last["status"], ending.status);
    EXPECT_EQ(bench.last["finish"], ending.finish);
    EXPECT_EQ(
        bench.Counted(),
        "headrace_requests_total{endpoint=\"/v1/test\",key_class=\"default\",model=\"served\",status=\"" +
            std::to_string(ending.status) + "\"} 1\n");
    EXPECT_LE(bench.exchange->answers.size(), 1U);
    // What was reserved and not used is there again: all but the 70 tokens of an answer.
    const int64_t used = ending.status == 200 ? 70 : 0;
    const auto rest = bench.Make(), more = bench.Make();
    EXPECT_EQ(rest->Admit(1000 - used), std::nullopt);
    EXPECT_NE(more->Admit(900), std::nullopt);
  }
}

TEST(Ticket, RefusedBeforeItBegan) {
  Bench bench;
  const auto first = Begun(&bench);
  {
    const auto second = bench.Make(1);
    const auto fault = second->Admit(10);
    ASSERT_TRUE(fault);
    EXPECT_EQ(fault->status, 429);
    EXPECT_TRUE(second->Refuse(*fault));
    EXPECT_EQ(bench.exchange->answers.at(0).status, 429);
  }
  EXPECT_EQ(bench.services.meter.running("key"), 1);  // the first's
  EXPECT_EQ(bench.Records(trace::Kind::kStart), 1);
  EXPECT_EQ(bench.Records(trace::Kind::kEnd), 1);
  EXPECT_EQ(bench.last["endpoint"], "/v1/test");  // it has no start row: all is in its end
  EXPECT_NE(bench.Counted().find("model=\"\",status=\"429\"} 1"), std::string::npos);
}

TEST(Ticket, AnswersWithoutAModelAreCountedAlone) {
  Bench bench;
  EXPECT_TRUE(bench.Make()->Answer("{}"));
  EXPECT_EQ(bench.Records(trace::Kind::kEnd), 0);
  EXPECT_NE(bench.Counted().find("status=\"200\"} 1"), std::string::npos);
  const std::string counted = bench.Counted();
  EXPECT_TRUE(bench.Make()->Tell({200, {}, "about the server"}));
  EXPECT_EQ(bench.Counted(), counted);
}

// Two that end it at the same time: one of them does.
TEST(Ticket, EndsOnceAmongThreads) {
  Bench bench;
  for (int i = 0; i < testing::Scaled(100); ++i) {
    const auto ticket = Begun(&bench, 1);
    std::atomic<int> first{0};
    std::jthread stopping([&] { first += ticket->Refuse(ShuttingDown()); });
    first += ticket->Answer("{}");
    stopping.join();
    ASSERT_EQ(first, 1);
  }
  EXPECT_EQ(bench.services.meter.running("key"), 0);
  EXPECT_EQ(bench.Records(trace::Kind::kEnd), testing::Scaled(100));
}

}  // namespace
}  // namespace headrace::serve
