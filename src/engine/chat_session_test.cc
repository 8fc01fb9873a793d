// One model, opened once: prompts of conversations and texts, and what cannot be one.
#include "engine/chat_session.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

#include "tiny_model.h"

namespace headrace::engine {
namespace {

constexpr char kTemplate[] =
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

// Opens a tiny model, and lets the trying of new files do nothing: what it finds is probe's to test.
class ChatSessionTest : public ::testing::Test {
 protected:
  void SetUp() override { setenv("HEADRACE_PROGRAM", "/bin/true", 1); }
  void TearDown() override {
    unsetenv("HEADRACE_PROGRAM");
    std::remove(path_.c_str());
  }
  std::shared_ptr<ChatSession> Open(const testing::TinyModel& shape, const SessionOptions& options = {}) {
    testing::WriteTinyModel(path_, shape);
    auto session = ChatSession::Open(path_, options);
    EXPECT_TRUE(session.ok()) << session.status().ToString();
    return session.ok() ? *session : nullptr;
  }
  const std::string path_ = ::testing::TempDir() + "/headrace_session_" + std::to_string(getpid()) + ".gguf";
};

TEST_F(ChatSessionTest, AConversationBecomesPositions) {
  const auto session = Open({.chat_template = kTemplate});
  ASSERT_NE(session, nullptr);
  EXPECT_EQ(session->context(), 2048);
  auto prompt = session->Chat({{"system", "be"}, {"user", "a cab"}});
  ASSERT_TRUE(prompt.ok()) << prompt.status().ToString();
  EXPECT_EQ(prompt->text, "<system>be\n<user>a cab\n<assistant>");
  EXPECT_EQ(session->model().Detokenize(prompt->prompt.keys()),
            " " + prompt->text);  // as SentencePiece begins
  Request request;
  prompt->MoveInto(&request);
  EXPECT_EQ(request.prompt.pieces().size(), 1U);
  const auto text = session->Text("a cab");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->keys().front(), session->model().bos());
  EXPECT_EQ(session->FirstUnknown(text->keys()), -1);
  EXPECT_EQ(session->FirstUnknown(std::vector<Token>{5, 1 << 20, -1}), 1);
  EXPECT_EQ(session->FirstUnknown(std::vector<Token>{-1}), 0);
}

// A template that knows no tools is told of earlier calls in words.
TEST_F(ChatSessionTest, CallsInWords) {
  const auto session = Open({.chat_template = kTemplate});
  ASSERT_NE(session, nullptr);
  model::Message called{"assistant", ""};
  called.tool_calls = {{"1", "weather", R"({"city": "Bern"})"}};
  const auto prompt = session->Chat({{"user", "and"}, called, {"tool", "rain"}});
  ASSERT_TRUE(prompt.ok()) << prompt.status().ToString();
  EXPECT_NE(prompt->text.find("<assistant><tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": "
                              "\"Bern\"}}\n</tool_call>\n<user><tool_response>\nrain\n</tool_response>"),
            std::string::npos)
      << prompt->text;
}

TEST_F(ChatSessionTest, TemplatesAreReplacedOrNot) {
  const SessionOptions given{.chat_template = "chatml"};
  auto own = Open({.chat_template = kTemplate}, given)->Chat({{"user", "a"}});
  ASSERT_TRUE(own.ok());
  EXPECT_TRUE(own->text.starts_with("<user>a")) << own->text;
  auto replaced = Open({.chat_template = kTemplate}, {.chat_template = "chatml", .replace_template = true});
  EXPECT_TRUE(replaced->Chat({{"user", "a"}})->text.starts_with("<|im_start|>user\na"));
  EXPECT_TRUE(Open({}, given)->Chat({{"user", "a"}})->text.starts_with("<|im_start|>user\na"));
  const auto none = Open({});
  EXPECT_EQ(none->chat(), nullptr);
  EXPECT_FALSE(none->chat_problem().ok());
  EXPECT_EQ(none->Chat({{"user", "a"}}).status().ToString(), none->chat_problem().ToString());
}

TEST_F(ChatSessionTest, WhatCannotFitIsNotCut) {
  const auto session = Open({.chat_template = kTemplate}, {.context = 100});
  ASSERT_NE(session, nullptr);
  EXPECT_EQ(session->context(), 100);
  EXPECT_FALSE(session->CannotFit(100));
  const auto fault = session->CannotFit(1 << 20);
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->context, 100);
  EXPECT_GT(fault->tokens, 100);
  const std::string longest(1 << 20, 'a');
  for (const Status& status :
       {session->Text(longest).status(), session->Chat({{"user", longest}}).status()}) {
    EXPECT_TRUE(status.Is(Code::kLimit));
    EXPECT_NE(status.ToString().find("this model's context holds 100 tokens, and this text has at least"),
              std::string::npos)
        << status.ToString();
  }
}

}  // namespace
}  // namespace headrace::engine
