#include "serve/server.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "testing.h"

namespace headrace::serve {
namespace {

// One request on a connection of its own; what came back, as far as it came.
std::string Ask(uint16_t port, const std::string& request) {
  const int peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval wait{20, 0};
  setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string text;
  if (connect(peer, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
      send(peer, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
    char buffer[4096];
    for (ssize_t got; (got = recv(peer, buffer, sizeof buffer, 0)) > 0;)
      text.append(buffer, static_cast<size_t>(got));
  }
  close(peer);
  return text;
}

// A server that ends while requests come: each is answered or its connection closed, and none finds the
// threads gone that read bodies.
TEST(Server, EndsWhileRequestsCome) {
  const std::string body = R"({"model": "none", "prompt": "a"})";
  const std::string request =
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  int answered = 0;
  for (int round = 0; round < testing::Scaled(60); ++round) {
    ServeOptions options;
    options.http.port = 0;
    ASSERT_VALUE(auto server, Server::Start(nullptr, options));
    const uint16_t port = server->port();
    std::atomic<bool> over = false;
    std::atomic<int> whole = 0;
    std::vector<std::jthread> peers;
    for (int i = 0; i < 4; ++i)
      peers.emplace_back([&] {
        while (!over) {
          const std::string answer = Ask(port, request);
          if (answer.empty()) continue;
          EXPECT_TRUE(answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 503")) << answer;
          ++whole;
        }
      });
    while (whole < 1 + round % 8) std::this_thread::yield();
    server.reset();
    over = true;
    peers.clear();
    answered += whole;
  }
  EXPECT_GT(answered, testing::Scaled(60));
}

}  // namespace
}  // namespace headrace::serve
