// Connections against plain sockets: what is sent byte by byte, and what comes back.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <thread>

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
