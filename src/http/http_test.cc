// Connections against plain sockets: what is sent byte by byte, and what comes back.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

#include "http/gzip.h"
#include "http/http_server.h"
#include "testing.h"

namespace headrace::http {
namespace {

class Peer {
 public:
  explicit Peer(uint16_t port, double seconds = 20) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval wait{static_cast<time_t>(seconds), 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~Peer() { Close(); }
  void Close() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }
  void Say(std::string_view text) { (void)!send(socket_, text.data(), text.size(), MSG_NOSIGNAL); }
  // Until the peer closes, or `end` was read.
  std::string Hear(const std::string& end = "\1") {
    std::string text;
    char buffer[4096];
    while (text.find(end) == std::string::npos) {
      const ssize_t got = recv(socket_, buffer, sizeof buffer, 0);
      if (got <= 0) break;
      text.append(buffer, static_cast<size_t>(got));
    }
    return text;
  }
  int handle() const { return socket_; }

 private:
  int socket_;
};

std::unique_ptr<HttpServer> Serve(Handler handler, HttpOptions options = {}) {
  options.port = 0;
  auto server = HttpServer::Start(std::move(options), std::move(handler));
  EXPECT_TRUE(server.ok()) << server.status().ToString();
  return std::move(*server);
}

TEST(Http, AnswersAndStreams) {
  std::vector<std::thread> threads;
  const auto server = Serve([&](std::shared_ptr<Exchange> exchange) {
    if (exchange->request().path == "/stream") {
      threads.emplace_back([exchange] {
        exchange->Begin({200, {{"X-A", "b"}}, "", "text/plain"});
        for (int i = 0; i < 100; ++i) exchange->Send("piece " + std::to_string(i) + "\n");
        exchange->End("");
      });
    } else {
      exchange->Answer({200,
                        {},
                        exchange->request().method + " " + exchange->request().path + "?" +
                            exchange->request().query + " " + exchange->request().body + " " +
                            std::string(exchange->request().Header("x-CASE"))});
    }
  });
  Peer peer(server->port());
  peer.Say("POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-Case: y\r\nContent-Length: 4\r\n\r\nbody");
  EXPECT_NE(peer.Hear(" y").find("POST /a b?c=d body y"), std::string::npos);
  peer.Say("GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");  // the same connection
  const std::string stream = peer.Hear();
  EXPECT_NE(stream.find("Transfer-Encoding: chunked"), std::string::npos);
  EXPECT_NE(stream.find("piece 0\n"), std::string::npos);
  EXPECT_TRUE(stream.ends_with("\r\n0\r\n\r\n"));
  for (auto& thread : threads) thread.join();
}

TEST(Http, SlowSendersAreTold) {
  const auto server = Serve(
      [](auto exchange) {
        exchange->Answer({200, {}, "ok"});
      },
      {.header_seconds = 0.3, .idle_seconds = 0.6, .body_seconds = 0.4});
  Peer header(server->port()), body(server->port()), nothing(server->port());
  header.Say("GET / HT");
  body.Say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_TRUE(header.Hear().starts_with("HTTP/1.1 408"));
  EXPECT_TRUE(body.Hear().starts_with("HTTP/1.1 408"));
  EXPECT_EQ(nothing.Hear(), "");  // nobody asked
  EXPECT_EQ(server->stats().too_slow, 2);
}

TEST(Http, HangUpsAreTold) {
  std::atomic<int> gone{0};
  std::vector<std::shared_ptr<Exchange>> waiting;
  std::mutex mutex;
  const auto server = Serve([&](std::shared_ptr<Exchange> exchange) {
    exchange->OnGone([&] { ++gone; });
    if (exchange->request().path == "/begun") exchange->Begin({});
    const std::lock_guard lock(mutex);
    waiting.push_back(std::move(exchange));
  });
  for (const char* path : {"/", "/begun"}) {
    Peer peer(server->port());
    peer.Say("GET " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n\r\n");
    while (true) {
      const std::lock_guard lock(mutex);
      if (!waiting.empty()) break;
    }
    usleep(20000);
    peer.Close();
    for (int i = 0; i < 500 && gone == 0; ++i) usleep(10000);
    EXPECT_EQ(gone.exchange(0), 1) << path;
    const std::lock_guard lock(mutex);
    waiting[0]->Send("late");  // harmless
    waiting[0]->End("");
    waiting.clear();
  }
  // A peer that has its answer is not gone.
  Peer peer(server->port());
  peer.Say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  for (bool answered = false; !answered;) {
    const std::lock_guard lock(mutex);
    if (waiting.empty()) continue;
    waiting[0]->Answer({200, {}, "there"});
    answered = true;
  }
  EXPECT_TRUE(peer.Hear("there").ends_with("there"));
  peer.Close();
  usleep(100000);
  EXPECT_EQ(gone, 0);
}

TEST(Http, AReaderThatTakesNothingIsDropped) {
  std::atomic<bool> gone{false};
  const auto server = Serve(
      [&](std::shared_ptr<Exchange> exchange) {
        exchange->OnGone([&] { gone = true; });
        exchange->Begin({});
        for (int i = 0; i < 300; ++i) exchange->Send(std::string(100'000, 'x'));
        exchange->End("");
      },
      {.write_seconds = 0.5});
  Peer peer(server->port());
  peer.Say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  for (int i = 0; i < 500 && !gone; ++i) usleep(10000);
  EXPECT_TRUE(gone);
  EXPECT_EQ(server->stats().too_slow, 1);
}

TEST(Http, LimitsOfConnectionsAndDrain) {
  const auto server = Serve([](auto exchange) { exchange->Answer({200, {}, "ok"}); }, {.max_connections = 2});
  Peer one(server->port()), two(server->port());
  one.Say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(one.Hear("ok").starts_with("HTTP/1.1 200"));
  two.Say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(two.Hear("ok").starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(Peer(server->port()).Hear().starts_with("HTTP/1.1 503"));
  server->Drain();
  EXPECT_EQ(one.Hear(), "");  // idle: closed
}

TEST(Http, WaitsUntilAllIsAnswered) {
  std::promise<std::shared_ptr<Exchange>> came;
  const auto server = Serve([&](std::shared_ptr<Exchange> exchange) { came.set_value(exchange); });
  EXPECT_TRUE(server->WaitUntilAnswered(0, {}));
  Peer peer(server->port());
  peer.Say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto exchange = came.get_future().get();
  EXPECT_FALSE(server->WaitUntilAnswered(0, {}));
  StopSource stop;
  std::promise<bool> answered, stopped;
  std::thread waiter([&] {
    stopped.set_value(server->WaitUntilAnswered(1e12, stop.token()));
    answered.set_value(server->WaitUntilAnswered(1e12, {}));
  });
  stop.Stop();
  EXPECT_FALSE(stopped.get_future().get());
  exchange->Answer({200, {}, "ok"});
  EXPECT_TRUE(answered.get_future().get());
  waiter.join();
}

// Exchanges are in many hands: what they do once the server is gone is nothing.
TEST(Http, ExchangesOutliveTheServer) {
  std::mutex mutex;
  std::vector<std::shared_ptr<Exchange>> waiting;
  auto server = Serve([&](std::shared_ptr<Exchange> exchange) {
    const std::lock_guard lock(mutex);
    waiting.push_back(std::move(exchange));
  });
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < 3; ++i) {
    peers.push_back(std::make_unique<Peer>(server->port()));
    peers.back()->Say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  }
  for (size_t have = 0; have < 3;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const std::lock_guard lock(mutex);
    have = waiting.size();
  }
  waiting[0]->Begin({});
  waiting[0]->Send("x");
  server.reset();
  for (const auto& exchange : waiting) {
    exchange->Begin({});
    exchange->Send("late");
    exchange->OnGone([] { ADD_FAILURE(); });
    exchange->Post([] { ADD_FAILURE(); });
    exchange->Answer({200, {}, "late"});
    exchange->End("");
  }
}

// Answers with what the header and the body say.
Handler Echo() {
  return [](const std::shared_ptr<Exchange>& exchange) {
    const Status decoded = exchange->DecodeBody();
    const HttpRequest& request = exchange->request();
    exchange->Answer({200,
                      {},
                      request.path + " " + std::string(request.Header("host")) + " " +
                          (decoded.ok() ? request.body : decoded.ToString()) + "."});
  };
}

// What comes back: the status, and the body of a 200.
std::string Said(const HttpServer& server, const std::string& head, std::string_view body = "") {
  Peer peer(server.port());
  peer.Say(head + "Connection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n");
  peer.Say(body);
  const std::string text = peer.Hear();
  if (text.size() < 12) return text;
  return text.substr(9, 3) + (text.substr(9, 3) == "200" ? " " + text.substr(text.find("\r\n\r\n") + 4) : "");
}

TEST(Http, TargetsAndHosts) {
  const auto server = Serve(Echo());
  EXPECT_EQ(Said(*server, "GET http://a.example:8000/x?y=1 HTTP/1.1\r\nHost: b\r\n"),
            "200 /x a.example:8000 .");
  EXPECT_EQ(Said(*server, "GET HTTP://a HTTP/1.1\r\nHost: a\r\n"), "200 / a .");
  EXPECT_EQ(Said(*server, "GET /http://b/c HTTP/1.1\r\nHost: a\r\n"), "200 /http://b/c a .");
  EXPECT_EQ(Said(*server, "GET ftp://a/x HTTP/1.1\r\nHost: a\r\n"), "400");
  EXPECT_EQ(Said(*server, "GET /x HTTP/1.1\r\n"), "400");
  EXPECT_EQ(Said(*server, "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n"), "400");
  EXPECT_EQ(Said(*server, "GET /x HTTP/1.0\r\n"), "200 /x  .");
}

TEST(Http, PackedBodies) {
  const auto server = Serve(Echo(), {.max_body = 1000});
  // Of Python's gzip: "a body, packed; a body, packed", then "!" of a file "n.txt"; 100,000 times "x".
  static constexpr char kTwo[] =
      "\037\213\010\000\000\000\000\000\002\377\113\124\110\312\117\251\324\121\050\110\114\316\116\115"
      "\261\126\110\104\341\003\000\235\306\160\037\036\000\000\000\037\213\010\010\000\000\000\000\002"
      "\377\156\056\164\170\164\000\123\004\000\323\377\153\236\001\000\000\000";
  static constexpr char kBomb[] =
      "\037\213\010\000\000\000\000\000\002\377\355\301\061\001\000\000\000\302\240\332\213\157\015\017"
      "\240\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
      "\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
      "\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
      "\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
      "\000\200\127\003\161\021\007\376\240\206\001\000";
  const std::string two(kTwo, sizeof kTwo - 1), bomb(kBomb, sizeof kBomb - 1);
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: ";
  EXPECT_EQ(Said(*server, head + "gzip\r\n", two), "200 / a a body, packed; a body, packed!.");
  EXPECT_EQ(Said(*server, head + "identity\r\n", "plain"), "200 / a plain.");
  EXPECT_EQ(Said(*server, head + "gzip\r\n", bomb), "200 / a the body is larger than 1000 bytes, inflated.");
  EXPECT_TRUE(Said(*server, head + "br\r\n", "x").starts_with("200 / a a body in the encoding 'br'"));
  for (size_t cut = 1; cut < two.size(); ++cut) {
    if (cut == 39) continue;  // the first member is whole
    EXPECT_EQ(Gunzip(two.substr(0, cut), 1000).status().code(), Code::kInvalid) << cut;
  }
  for (size_t at = 0; at < 39; ++at) {
    std::string bad = two;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    if (at < 4 || (at > 9 && at != 30)) {  // time, level, system and the last bits say nothing of the bytes
      EXPECT_FALSE(Gunzip(bad, 1000).ok()) << at;
    }
  }
}

// Who may not ask is told before the body is there, and the body is not taken.
TEST(Http, HeadersAreLookedAtFirst) {
  HttpOptions options;
  options.on_header = [](const HttpRequest& head) -> std::optional<HttpResponse> {
    if (head.Header("x-key") == "good") return std::nullopt;
    return HttpResponse{401, {}, "no"};
  };
  const auto server = Serve(Echo(), std::move(options));
  Peer peer(server->port());
  peer.Say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_TRUE(peer.Hear("no").starts_with("HTTP/1.1 401"));
  EXPECT_EQ(Said(*server, "POST / HTTP/1.1\r\nHost: a\r\nX-Key: good\r\n", "body"), "200 / a body.");
}

TEST(Http, BodiesShareTheirRoom) {
  std::mutex mutex;
  std::vector<std::shared_ptr<Exchange>> waiting;
  const auto server = Serve(
      [&](std::shared_ptr<Exchange> exchange) {
        const std::lock_guard lock(mutex);
        waiting.push_back(std::move(exchange));
      },
      {.max_body = 100'000, .max_bodies = 150'000});
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
  const std::string chunked =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" + std::string(100'000, 'x');
  Peer one(server->port());
  one.Say(head + std::string(100'000, 'x'));
  const auto answer = [&] {
    for (;;) {
      const std::lock_guard lock(mutex);
      if (waiting.empty()) continue;
      waiting[0]->Answer({200, {}, "done"});
      waiting.clear();
      return;
    }
  };
  for (bool there = false; !there;) {
    const std::lock_guard lock(mutex);
    there = !waiting.empty();
  }
  for (const std::string& text : {head + std::string(100'000, 'x'), chunked}) {
    Peer two(server->port());
    two.Say(text);
    const std::string refused = two.Hear();
    EXPECT_TRUE(refused.starts_with("HTTP/1.1 503")) << refused;
    EXPECT_NE(refused.find("Retry-After: 1"), std::string::npos);
  }
  answer();
  EXPECT_TRUE(one.Hear("done").starts_with("HTTP/1.1 200"));
  one.Close();
  Peer three(server->port());  // the room is free again
  three.Say(head + std::string(100'000, 'x'));
  answer();
  EXPECT_TRUE(three.Hear("done").starts_with("HTTP/1.1 200"));
}

// A peer that sent the beginning of a next request, or that asks its second one, hangs up like others.
TEST(Http, HangUpsBehindPipelinedRequestsAreTold) {
  std::atomic<int> gone{0}, asked{0};
  std::vector<std::shared_ptr<Exchange>> waiting;
  const auto server = Serve([&](std::shared_ptr<Exchange> exchange) {
    if (exchange->request().path == "/quick") return exchange->Answer({200, {}, "ok"});
    exchange->OnGone([&] { ++gone; });
    waiting.push_back(std::move(exchange));
    ++asked;
  });
  const std::string slow = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n",
                    quick = "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n";
  for (const std::string& text : {slow + "GET /qui", slow + quick, quick + slow, quick + slow + "GET"}) {
    Peer peer(server->port());
    peer.Say(text);
    while (asked == 0) usleep(1000);
    peer.Close();
    for (int i = 0; i < 1000 && gone == 0; ++i) usleep(10000);
    EXPECT_EQ(gone.exchange(0), 1) << text;
    asked = 0;
  }
}

// Time is given for each piece that a peer takes, not for all of them.
TEST(Http, ASlowReaderThatReadsGetsAllOfIt) {
  const std::string body(16 << 20, 'x');
  const auto server = Serve(
      [&](std::shared_ptr<Exchange> exchange) {
        if (exchange->request().path == "/whole") return exchange->Answer({200, {}, body});
        exchange->Begin({});
        exchange->Send(body);
        exchange->End("");
      },
      {.write_seconds = 0.5});
  for (const char* path : {"/whole", "/stream"}) {
    Peer peer(server->port());
    const int small = 1 << 16;
    setsockopt(peer.handle(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    peer.Say("GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    size_t all = 0;
    std::string buffer(256 << 10, 0);
    for (;;) {
      const ssize_t got = recv(peer.handle(), buffer.data(), buffer.size(), 0);
      if (got <= 0) break;
      if (all / (1 << 20) != (all + static_cast<size_t>(got)) / (1 << 20)) usleep(80'000);
      all += static_cast<size_t>(got);
    }
    EXPECT_GE(all, body.size()) << path;
  }
  EXPECT_EQ(server->stats().too_slow, 0);
}

// Many at once, from many threads, with peers that come and go.
TEST(Http, Threads) {
  std::atomic<int> answered{0};
  std::vector<std::thread> workers;
  std::mutex mutex;
  const auto server = Serve(
      [&](std::shared_ptr<Exchange> exchange) {
        const std::lock_guard lock(mutex);
        workers.emplace_back([exchange, &answered] {
          exchange->OnGone([] {});
          exchange->Begin({});
          for (int i = 0; i < 20; ++i) exchange->Send("x");
          exchange->Post([exchange, &answered] {
            ++answered;
            exchange->End("");
          });
        });
      },
      {});
  std::vector<std::thread> peers;
  for (int t = 0; t < 4; ++t)
    peers.emplace_back([&, t] {
      for (int i = 0; i < testing::Scaled(100); ++i) {
        Peer peer(server->port());
        peer.Say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        if ((i + t) % 3 != 0) {
          EXPECT_TRUE(peer.Hear("0\r\n\r\n").ends_with("0\r\n\r\n"));
        }
      }
    });
  for (auto& peer : peers) peer.join();
  usleep(100000);
  const std::lock_guard lock(mutex);
  for (auto& worker : workers) worker.join();
  EXPECT_GT(answered, 0);
}

}  // namespace
}  // namespace headrace::http
