#include "serve/server.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/json.h"
#include "serve/services.h"
#include "testing.h"
#include "tiny_model.h"

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

// A server of one tiny model at random, with a template of its own that knows no tools.
class TinyServer : public ::testing::Test {
 protected:
  void SetUp() override {
    // What was never tried is tried by a program that finds nothing wrong; nothing is kept outside the
    // folder.
    setenv("HEADRACE_PROGRAM", "/bin/true", 1);
    setenv("HEADRACE_CACHE", folder_.path().c_str(), 1);
    const std::string file = folder_.path() + "/tiny.gguf";
    testing::WriteTinyModel(file,
                            {.context = 1024,
                             .chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}"
                                              "{% endfor %}<assistant>"});
    ServeOptions options;
    options.http.port = 0;
    options.models = {{"tiny", file}};
    ASSERT_VALUE(server_, Server::Start(nullptr, options));
  }
  void TearDown() override {
    server_.reset();
    unsetenv("HEADRACE_PROGRAM");
    unsetenv("HEADRACE_CACHE");
  }
  nlohmann::json Post(const std::string& path, const nlohmann::json& body) {
    const std::string text = body.dump();
    const std::string answer =
        Ask(server_->port(), "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" +
                                 "Content-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text);
    const size_t at = answer.find("\r\n\r\n");
    if (at == std::string::npos) return nullptr;
    return ParseJson(answer.substr(at + 4));
  }

  testing::TempFolder folder_;
  std::unique_ptr<Server> server_;
};

// Answers, counts and tokens of one conversation are of the same prompt.
TEST_F(TinyServer, OneConversationIsOnePrompt) {
  const nlohmann::json messages = {{{"role", "system"}, {"content", "be"}},
                                   {{"role", "user"}, {"content", "a cab"}}};
  const auto chat =
      Post("/v1/chat/completions", {{"messages", messages}, {"max_tokens", 3}, {"ignore_eos", true}});
  ASSERT_TRUE(chat.contains("usage")) << chat;
  const auto tokens = Post("/tokenize", {{"messages", messages}});
  ASSERT_TRUE(tokens.contains("count")) << tokens;
  EXPECT_EQ(chat["usage"]["prompt_tokens"], tokens["count"]);
  EXPECT_EQ(Post("/v1/chat/completions/input_tokens", {{"messages", messages}})["input_tokens"],
            tokens["count"]);
  EXPECT_EQ(Post("/apply-template", {{"messages", messages}})["prompt"], "<system>be<user>a cab<assistant>");
  EXPECT_EQ(Post("/detokenize", {{"tokens", tokens["tokens"]}})["prompt"],
            " <system>be<user>a cab<assistant>");
  // Tokens are a prompt as they are, beside texts too.
  const auto whole = Post("/v1/completions", {{"prompt", tokens["tokens"]}, {"max_tokens", 1}});
  EXPECT_EQ(whole["usage"]["prompt_tokens"], tokens["count"]) << whole;
  const auto echo = Post("/v1/completions", {{"prompt", "a cab"}, {"max_tokens", 1}, {"echo", true}});
  EXPECT_EQ(echo["choices"][0]["text"].get<std::string>().substr(0, 5), "a cab") << echo;
  const auto mixed = Post("/completion", {{"prompt", {"a", 5, "b"}}, {"n_predict", 1}});
  EXPECT_GT(mixed["tokens_evaluated"], 2) << mixed;
}

TEST_F(TinyServer, ATemplateThatKnowsNoToolsIsToldInWords) {
  const nlohmann::json call = {{"id", "1"},
                               {"type", "function"},
                               {"function", {{"name", "weather"}, {"arguments", "{\"city\": \"Bern\"}"}}}};
  const nlohmann::json messages = {{{"role", "user"}, {"content", "and"}},
                                   {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", {call}}},
                                   {{"role", "tool"}, {"tool_call_id", "1"}, {"content", "rain"}}};
  const nlohmann::json tools = {
      {{"type", "function"}, {"function", {{"name", "weather"}, {"parameters", {{"type", "object"}}}}}}};
  const auto told = Post("/apply-template", {{"messages", messages}, {"tools", tools}});
  ASSERT_TRUE(told.contains("prompt")) << told;
  const std::string prompt = told["prompt"];
  EXPECT_TRUE(prompt.starts_with("<system>")) << prompt;  // which tools there are
  EXPECT_NE(
      prompt.find("<assistant><tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n"
                  "</tool_call><user><tool_response>\nrain\n</tool_response>"),
      std::string::npos)
      << prompt;
}

TEST_F(TinyServer, WhatCannotBeAPromptIsRefusedByItsField) {
  const auto error = [&](const std::string& path, const nlohmann::json& body) {
    const auto answer = Post(path, body);
    return answer.contains("error") ? answer["error"] : answer;
  };
  const std::string longest(200'000, 'a');
  const auto chat = error("/v1/chat/completions", {{"messages", {{{"role", "user"}, {"content", longest}}}}});
  EXPECT_EQ(chat["code"], "context_length_exceeded") << chat;
  EXPECT_EQ(chat["param"], "messages");
  EXPECT_EQ(chat["n_ctx"], 1024);
  const auto text = error("/v1/completions", {{"prompt", {"a", longest}}});
  EXPECT_EQ(text["param"], "prompt[1]") << text;
  const auto token = error("/v1/completions", {{"prompt", {5, 100'000}}, {"max_tokens", 1}});
  EXPECT_EQ(token["param"], "prompt[1]") << token;
  EXPECT_EQ(error("/tokenize", {{"content", longest}})["param"], "content");
  EXPECT_EQ(error("/detokenize", {{"tokens", {5, 6, 100'000}}})["param"], "tokens[2]");
}

}  // namespace
}  // namespace headrace::serve
