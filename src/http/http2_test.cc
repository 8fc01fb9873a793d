// HTTP/2 against plain sockets: nghttp2's client where all is well, frames made by hand where it is not.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <random>
#include <thread>

#include "http/http2_session.h"
#include "http/http_server.h"
#include "http2_client.h"
#include "testing.h"

namespace headrace::http {
namespace {

using namespace testing::http2;

std::unique_ptr<HttpServer> Serve(Handler handler, HttpOptions options = {}, int max_streams = 100) {
  options.port = 0;
  options.http2 = Http2Options{0, max_streams, [](int status, const std::string& message) {
                                 return HttpResponse{200, {{"x-fault", std::to_string(status)}}, message};
                               }};
  auto server = HttpServer::Start(std::move(options), std::move(handler));
  EXPECT_TRUE(server.ok()) << server.status().ToString();
  return std::move(*server);
}

Handler Echo() {
  return [](const std::shared_ptr<Exchange>& exchange) {
    const HttpRequest& request = exchange->request();
    exchange->Answer(
        {200,
         {{"X-Names", "Case"}, {"connection", "no"}},
         request.method + " " + request.path + " " + std::string(request.Header("host")) + " " + request.body,
         "text/plain",
         {{"x-end", "yes"}}});
  };
}

// Exchanges that wait for the test.
class Waiting {
 public:
  Handler handler() {
    return [this](std::shared_ptr<Exchange> exchange) {
      exchange->OnGone([this] { ++gone; });
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(exchange));
    };
  }
  size_t size() {
    const std::lock_guard lock(mutex_);
    return waiting_.size();
  }
  void Await(size_t count) {
    while (size() < count) usleep(1000);
  }
  std::vector<std::shared_ptr<Exchange>> Take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(waiting_, {});
  }
  std::atomic<int> gone{0};

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<Exchange>> waiting_;
};

TEST(Http2, AnswersWithTrailers) {
  const auto server = Serve(Echo());
  Client client(server->http2_port());
  const std::string large(3 << 20, 'x');  // beyond every window
  for (const std::string& body : {std::string("body"), std::string(), large}) {
    Told told = client.Ask("/a%20b?c=d", body);
    EXPECT_EQ(told.body, "POST /a b localhost " + body);
    EXPECT_EQ(told.fields[":status"], "200");
    EXPECT_EQ(told.fields["x-names"], "Case");
    EXPECT_EQ(told.fields["x-end"], "yes");
    EXPECT_EQ(told.fields["content-type"], "text/plain");
    EXPECT_FALSE(told.fields.contains("connection"));
    EXPECT_EQ(told.error, kNoError);
  }
  EXPECT_TRUE(server->WaitUntilAnswered(20, {}));
}

TEST(Http2, ManyAtOnceFromManyThreads) {
  std::vector<std::thread> workers;
  std::mutex mutex;
  const auto server = Serve([&](std::shared_ptr<Exchange> exchange) {
    const std::lock_guard lock(mutex);
    workers.emplace_back([exchange] {
      exchange->OnGone([] {});
      exchange->Begin({200, {}, "", "text/plain"});
      exchange->Send(exchange->request().body);
      exchange->End("!");
    });
  });
  std::vector<std::thread> peers;
  for (int t = 0; t < 4; ++t)
    peers.emplace_back([&, t] {
      for (int round = 0; round < testing::Scaled(10); ++round) {
        Client client(server->http2_port());
        std::vector<int32_t> asked;
        for (int i = 0; i < 20; ++i) asked.push_back(client.Send("/", std::to_string(t * 1000 + i)));
        EXPECT_TRUE(client.Until([&] {
          return std::all_of(asked.begin(), asked.end(), [&](int32_t id) { return client.told[id].closed; });
        }));
        for (int i = 0; i < 20; ++i)
          EXPECT_EQ(client.told[asked[i]].body, std::to_string(t * 1000 + i) + "!");
      }
    });
  for (auto& peer : peers) peer.join();
  const std::lock_guard lock(mutex);
  for (auto& worker : workers) worker.join();
}

TEST(Http2, HeadersAreLookedAtFirst) {
  HttpOptions options;
  options.on_header = [](const HttpRequest& head) -> std::optional<HttpResponse> {
    EXPECT_TRUE(head.http2);
    if (head.Header("X-Key") == "good") return std::nullopt;
    return HttpResponse{401, {}, "no"};
  };
  const auto server = Serve(Echo(), std::move(options));
  Client client(server->http2_port());
  EXPECT_EQ(client.Ask("/", "body", {{"x-key", "good"}}).body, "POST / localhost body");
  Told told = client.Ask("/", std::string(8 << 20, 'x'));  // of which the windows let a part through
  EXPECT_EQ(told.fields[":status"], "401");
  EXPECT_EQ(told.error, kNoError);
  EXPECT_EQ(client.Ask("/", "body", {{"x-key", "good"}}).body, "POST / localhost body");  // it goes on
}

TEST(Http2, LimitsOfBodies) {
  Waiting waiting;
  const auto server = Serve(waiting.handler(), {.max_body = 100'000, .max_bodies = 150'000});
  Client client(server->http2_port());
  EXPECT_EQ(client.Ask("/", std::string(100'001, 'x')).fields["x-fault"], "413");
  const int32_t first = client.Send("/", std::string(100'000, 'x'));
  client.Until([&] { return waiting.size() == 1; });
  EXPECT_EQ(client.Ask("/", std::string(60'000, 'x')).fields["x-fault"], "503");
  for (const auto& exchange : waiting.Take()) exchange->Answer({200, {}, "done"});
  client.Until([&] { return client.told[first].closed; });
  EXPECT_EQ(client.told[first].body, "done");
  const int32_t second = client.Send("/", std::string(100'000, 'x'));
  client.Until([&] { return waiting.size() == 1; });
  for (const auto& exchange : waiting.Take()) exchange->Answer({200, {}, "done"});
  client.Until([&] { return client.told[second].closed; });
  EXPECT_EQ(client.told[second].body, "done");
}

TEST(Http2, SlowPeers) {
  Waiting waiting;
  const auto server =
      Serve(waiting.handler(),
            {.header_seconds = 0.3, .idle_seconds = 0.6, .body_seconds = 0.4, .write_seconds = 0.5});
  Wire nothing(server->http2_port()), half(server->http2_port()), head(server->http2_port()),
      body(server->http2_port()), idle(server->http2_port()), window(server->http2_port());
  half.Say(std::string_view(kMagic).substr(0, 10));
  head.Say(Hello() + FrameOf(kHeaders, kEndStream, 1, Head()));  // its end does not come
  body.Say(Hello() + FrameOf(kHeaders, kEndHeaders, 1, Head()) + FrameOf(kData, 0, 1, "abc"));
  idle.Say(Hello() + std::string(2, '\0'));  // and the beginning of a frame
  // It takes no byte of the answer: SETTINGS_INITIAL_WINDOW_SIZE is 0.
  window.Say(std::string(kMagic) + FrameOf(kSettings, 0, 0, Number(4, 2) + Number(0, 4)) +
             FrameOf(kHeaders, kEndHeaders | kEndStream, 1, Head()));
  waiting.Await(1);
  waiting.Take()[0]->Answer({200, {}, "body"});
  EXPECT_EQ(head.Next(kGoAway).error(), kCalm);
  EXPECT_EQ(body.Next(kReset).error(), kNoError);  // after the answer that says so
  EXPECT_EQ(idle.Next(kGoAway).error(), kNoError);
  EXPECT_EQ(window.Next(kReset).error(), kCancel);
  nothing.All();  // closed
  half.All();
  EXPECT_EQ(idle.Next().type, 0xff);
  EXPECT_EQ(waiting.gone, 1);  // the one whose answer nobody took
  EXPECT_TRUE(server->WaitUntilAnswered(20, {}));
}

TEST(Http2, AReaderThatTakesNothingIsDropped) {
  const auto server = Serve(
      [](auto exchange) {
        exchange->Answer({200, {}, std::string(64 << 20, 'x')});
      },
      {.write_seconds = 0.5});
  Wire wire(server->http2_port());
  // A window of 2 GiB, for the stream and the connection.
  wire.Say(std::string(kMagic) + FrameOf(kSettings, 0, 0, Number(4, 2) + Number(0x7fffffff, 4)) +
           FrameOf(kWindowUpdate, 0, 0, Number(0x7fff0000, 4)) +
           FrameOf(kHeaders, kEndHeaders | kEndStream, 1, Head()));
  EXPECT_EQ(wire.Next().type, kSettings);
  for (int i = 0; i < 2000 && server->stats().connections > 0; ++i) usleep(10'000);
  EXPECT_EQ(server->stats().connections, 0);
  EXPECT_EQ(server->stats().too_slow, 1);
}

TEST(Http2, HangUpsAndResetsAreTold) {
  Waiting waiting;
  const auto server = Serve(waiting.handler());
  Wire wire(server->http2_port());
  wire.Say(Hello() + FrameOf(kHeaders, kEndHeaders | kEndStream, 1, Head()) +
           FrameOf(kHeaders, kEndHeaders | kEndStream, 3, Head()));
  waiting.Await(2);
  wire.Say(FrameOf(kReset, 0, 1, Number(kCancel, 4)));
  while (waiting.gone < 1) usleep(1000);
  wire.Close();
  while (waiting.gone < 2) usleep(1000);
  for (const auto& exchange : waiting.Take()) exchange->Answer({200, {}, "late"});  // harmless
  EXPECT_TRUE(server->WaitUntilAnswered(20, {}));
  EXPECT_EQ(server->stats().gone, 2);
}

TEST(Http2, ClosedInTheMiddleOfABody) {
  std::atomic<int> handled{0};
  const auto server = Serve([&](auto exchange) {
    ++handled;
    exchange->Answer({});
  });
  {
    Wire wire(server->http2_port());
    wire.Say(Hello() + FrameOf(kHeaders, kEndHeaders, 1, Head()) + FrameOf(kData, 0, 1, "abc"));
    EXPECT_EQ(wire.Next().type, kSettings);
  }
  while (server->stats().connections > 0) usleep(1000);
  EXPECT_EQ(handled, 0);
}

TEST(Http2, DrainSaysGoAwayAndAnswers) {
  Waiting waiting;
  const auto server = Serve(waiting.handler());
  Wire idle(server->http2_port());
  idle.Say(Hello());
  EXPECT_EQ(idle.Next().type, kSettings);
  Client client(server->http2_port());
  const int32_t id = client.Send("/", "x");
  client.Until([&] { return waiting.size() == 1; });
  server->Drain();
  EXPECT_EQ(idle.Next(kGoAway).error(), kNoError);
  EXPECT_EQ(idle.Next().type, 0xff);
  EXPECT_FALSE(server->WaitUntilAnswered(0, {}));
  waiting.Take()[0]->Answer({200, {}, "done"});
  EXPECT_TRUE(server->WaitUntilAnswered(20, {}));
  EXPECT_FALSE(client.Until([] { return false; }));  // closed
  EXPECT_EQ(client.told[id].body, "done");
}

TEST(Http2, ConnectionsShareTheLimit) {
  const auto server = Serve(Echo(), {.max_connections = 1});
  Wire one(server->http2_port());
  one.Say(Hello());
  EXPECT_EQ(one.Next().type, kSettings);
  EXPECT_EQ(Wire(server->http2_port()).All(), "");
  EXPECT_TRUE(Wire(server->port()).All().starts_with("HTTP/1.1 503"));
  EXPECT_EQ(server->stats().refused, 2);
}

// What is no HTTP/2, and what is against its rules.
TEST(Http2, WhatIsWrongIsTold) {
  const auto server = Serve(Echo());
  const auto told = [&](const std::string& bytes) {
    Wire wire(server->http2_port());
    wire.Say(bytes);
    return wire.Next(kGoAway).error();
  };
  const auto reset = [&](const std::string& bytes) {
    Wire wire(server->http2_port());
    wire.Say(bytes);
    return wire.Next(kReset).error();
  };
  Wire old(server->http2_port());
  old.Say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(old.All().find("HTTP/2"), std::string::npos);
  Wire noise(server->http2_port());
  noise.Say(std::string(100, '\x16'));
  EXPECT_EQ(noise.All().find("HTTP/1.1"), std::string::npos);
  const uint8_t whole = kEndHeaders | kEndStream;
  EXPECT_EQ(told(kMagic + FrameOf(kPing, 0, 0, "12345678")), kProtocolError);      // SETTINGS is first
  EXPECT_EQ(told(Hello() + FrameOf(kHeaders, whole, 2, Head())), kProtocolError);  // an even stream
  EXPECT_EQ(told(Hello() + FrameOf(kData, 0, 0, "x")), kProtocolError);
  EXPECT_EQ(told(Hello() + FrameOf(kData, 0, 1, "x")), kProtocolError);  // of no stream
  EXPECT_NE(told(Hello() + FrameOf(kHeaders, whole, 1, "\xff\xff\xff\xff\xff\xff\xff")), kNoError);
  EXPECT_NE(told(Hello() + FrameOf(kData, 0, 1, std::string(20'000, 'x'))), kNoError);  // too long a frame
  EXPECT_EQ(told(Hello() + FrameOf(kHeaders, 0, 1, Head()) + FrameOf(kPing, 0, 0, "12345678")),
            kProtocolError);
  for (const std::string& bad : {Field("Upper", "x"), Field("connection", "close"), Field(":path", "/again"),
                                 Field("content-length", "7"), Field(":unknown", "x"), Field("te", "gzip")})
    EXPECT_EQ(reset(Hello() + FrameOf(kHeaders, whole, 1, Head("/", bad))), kProtocolError) << bad;
  EXPECT_EQ(reset(Hello() + FrameOf(kHeaders, whole, 1, Field(":method", "POST"))), kProtocolError);
  EXPECT_TRUE(server->WaitUntilAnswered(20, {}));
}

// Floods: the connection ends, and others are served.
TEST(Http2, FloodsEndTheirConnection) {
  Waiting waiting;
  const auto server = Serve(waiting.handler(), {}, 10);
  const auto flood = [&](const std::function<std::string(uint32_t)>& piece) {
    Wire wire(server->http2_port());
    wire.Say(Hello());
    std::jthread sender([&] {
      for (uint32_t i = 0; i < 200'000; ++i) {
        std::string some;
        for (uint32_t last = i + 100; i < last; ++i) some += piece(i);
        if (!wire.Say(some)) return;
      }
    });
    const Frame end = wire.Next(kGoAway);
    wire.All();
    return end.type == kGoAway ? end.error() : kNoError;
  };
  const uint8_t whole = kEndHeaders | kEndStream;
  EXPECT_EQ(flood([](uint32_t) { return FrameOf(kPing, 0, 0, "12345678"); }), kCalm);
  EXPECT_EQ(flood([](uint32_t) { return FrameOf(kSettings, 0, 0); }), kCalm);
  EXPECT_EQ(flood([](uint32_t) { return FrameOf(kPriority, 0, 1, Number(0, 4) + "x"); }), kCalm);
  EXPECT_EQ(flood([](uint32_t i) {
              return (i == 0 ? FrameOf(kHeaders, kEndHeaders, 1, Head()) : "") + FrameOf(kData, 0, 1);
            }),
            kCalm);  // data that is empty
  // Rapid reset (CVE-2023-44487): whoever works for those that were given up counts.
  waiting.Take();
  EXPECT_NE(flood([&](uint32_t i) {
              return FrameOf(kHeaders, whole, 2 * i + 1, Head()) +
                     FrameOf(kReset, 0, 2 * i + 1, Number(8, 4));
            }),
            kNoError);
  EXPECT_LE(waiting.size(), 10);
  waiting.Take();
  // Streams that the server has to reset, which no limit of the peer's resets counts (CVE-2025-8671).
  EXPECT_EQ(
      flood([&](uint32_t i) { return FrameOf(kHeaders, whole, 2 * i + 1, Head("/", Field("Upper", "x"))); }),
      kCalm);
  EXPECT_EQ(waiting.size(), 0);
  // A header without end (CVE-2024-28182), and one of many references to one long field.
  Wire endless(server->http2_port());
  endless.Say(Hello() + FrameOf(kHeaders, 0, 1, Head()));
  for (int i = 0; i < 1000 && endless.Say(FrameOf(kContinuation, 0, 1, Field("a", "b"))); ++i) {
  }
  endless.All();
  Wire bomb(server->http2_port());
  const std::string entry = "\x40" + Field("a", std::string(3000, 'x')).substr(1);
  bomb.Say(Hello() + FrameOf(kHeaders, whole, 1, Head("/", entry + std::string(13'000, '\xbe'))));
  EXPECT_EQ(bomb.Next(kReset).stream, 1);
  EXPECT_EQ(waiting.size(), 0);
  // Others are served.
  Client client(server->http2_port());
  const int32_t id = client.Send("/", "x");
  client.Until([&] { return waiting.size() == 1; });
  waiting.Take()[0]->Answer({200, {}, "ok"});
  client.Until([&] { return client.told[id].closed; });
  EXPECT_EQ(client.told[id].body, "ok");
}

TEST(Http2, MoreStreamsThanAllowedAreRefused) {
  Waiting waiting;
  const auto server = Serve(waiting.handler(), {}, 3);
  Wire wire(server->http2_port());
  std::string all = Hello();
  for (uint32_t i = 0; i < 4; ++i) all += FrameOf(kHeaders, kEndHeaders | kEndStream, 2 * i + 1, Head());
  wire.Say(all);
  const Frame refused = wire.Next(kReset);
  EXPECT_EQ(refused.stream, 7);
  EXPECT_EQ(refused.error(), kRefusedStream);
  waiting.Await(3);
  // One that the peer gives up is still worked for.
  wire.Say(FrameOf(kReset, 0, 1, Number(kCancel, 4)) +
           FrameOf(kHeaders, kEndHeaders | kEndStream, 9, Head()));
  EXPECT_EQ(wire.Next(kReset).error(), kRefusedStream);
  for (const auto& exchange : waiting.Take()) exchange->Answer({200, {}, ""});
  while (server->stats().answering > 0) usleep(1000);
  wire.Say(FrameOf(kHeaders, kEndHeaders | kEndStream, 11, Head()));
  waiting.Await(1);
}

// Damaged bytes end in nothing worse than a connection that is over.
TEST(Http2, DamagedBytes) {
  const auto shared = std::make_shared<Shared>();
  boost::asio::io_context io;
  shared->loop = std::make_shared<Loop>(&io);
  shared->loop->IsThisThread();
  shared->options.http2 = Http2Options{};
  std::mt19937 random(7);
  int handled = 0;
  shared->handler = [&](const std::shared_ptr<Exchange>& exchange) {
    ++handled;
    if (random() % 4 == 0) return;
    exchange->Answer({200, {}, exchange->request().body, "text/plain", {{"x", "y"}}});
  };
  std::string good = Hello() + FrameOf(kSettings, kAck, 0);
  for (uint32_t i = 0; i < 4; ++i)
    good += FrameOf(kHeaders, kEndHeaders, 2 * i + 1, Head("/a?b", Field("x-y", "z"))) +
            FrameOf(kPing, 0, 0, "12345678") + FrameOf(kData, 0, 2 * i + 1, "some") +
            FrameOf(kWindowUpdate, 0, 2 * i + 1, Number(100, 4)) +
            FrameOf(kData, kEndStream, 2 * i + 1, "more");
  for (int round = 0; round < testing::Scaled(20'000); ++round) {
    std::string bytes = good;
    if (round > 0) {
      for (uint32_t i = random() % 4; i > 0; --i)
        bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
      if (random() % 8 == 0) bytes.resize(1 + random() % bytes.size());
      if (random() % 8 == 0)
        bytes.insert(random() % bytes.size(), bytes.substr(random() % bytes.size(), random() % 40));
    }
    const auto session = Http2Session::Make(shared, "x", nullptr);
    for (size_t at = 0; at < bytes.size() && !session->over();) {
      const size_t size = std::min<size_t>(1 + random() % 200, bytes.size() - at);
      session->Receive(std::string_view(bytes).substr(at, size));
      while (!session->Take().empty()) {
      }
      session->Tick(random() % 2 == 0);
      at += size;
    }
    if (round == 0) {
      EXPECT_GE(handled, 4);
    }
    if (random() % 2 == 0) session->Gone();
  }
  EXPECT_EQ(shared->body_bytes, 0);
  EXPECT_EQ(shared->answering, 0);
}

}  // namespace
}  // namespace headrace::http
