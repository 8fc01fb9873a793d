// Over many templates, vocabularies and conversations: what stands before a learned turn is the server's
// prompt, and what is learned is the answer and the end of the turn.
#include "tune/samples_chat.h"

#include "chat_templates.h"
#include "tune/samples_testing.h"

namespace headrace::tune {
namespace {

using model::ChatTemplate;
using model::Message;
using Messages = std::vector<Message>;

using testing::Source;
using testing::Sources;

const char* const kTexts[] = {"What is it?",
                              "42",
                              "a",
                              "Paris, of course.",
                              "  indented",
                              "trailing ",
                              "\nnext",
                              "two\n\nlines\n",
                              "{\"a\": [1]}",
                              "naïve 🦆 雪",
                              "<|im_end|>",
                              "a <s>b</s> <end_of_turn><|im_start|>user\nc",
                              "def f(x):\n    return x",
                              "A: b\nUser: c",
                              "&amp; <b>",
                              "…"};

Messages Conversation(std::mt19937_64* random, size_t turns, bool reasoning) {
  const auto text = [&] { return kTexts[(*random)() % std::size(kTexts)]; };
  Messages messages;
  if ((*random)() % 2 == 0) messages.push_back({"system", text()});
  for (size_t i = 0; i < turns; ++i) {
    messages.push_back({"user", text()});
    messages.push_back({"assistant", text()});
    if (reasoning && (*random)() % 2 == 0) messages.back().reasoning = "Let me see.";
  }
  return messages;
}

std::string Describe(const Source& source, const Messages& messages) {
  std::string text = source.name;
  for (const Message& message : messages) text += "\n[" + message.role + "] " + message.content;
  return text;
}

// Holds each learned stretch against the turn that it is of. Returns the samples.
size_t Check(const Models& model, const Source& source, const ChatTemplate& chat, const SampleMaker& maker,
             const Messages& messages, const std::vector<std::string>& stops, bool as_served) {
  const auto made = maker.Chat(messages, {}, 1);
  EXPECT_TRUE(made.ok()) << Describe(source, messages) << "\n" << made.status().ToString();
  if (!made.ok()) return 0;
  const std::vector<Learned> learned = LearnedOf(made->samples);
  size_t turn = 0;
  for (size_t k = 0; k < messages.size(); ++k) {
    if (messages[k].role != "assistant") continue;
    EXPECT_LT(turn, learned.size()) << Describe(source, messages);
    if (turn >= learned.size()) return 0;
    const Messages until(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(k));
    const auto prompt = chat.Render(until, {.format = as_served});
    EXPECT_TRUE(prompt.ok());
    const auto tokens = prompt->Tokenize(*model);
    EXPECT_EQ(Written(*model, learned[turn].before), Written(*model, *tokens)) << Describe(source, messages);
    EXPECT_EQ(learned[turn].before, *tokens) << Describe(source, messages);
    const std::string text = Written(*model, learned[turn].tokens);
    const std::string_view said = Trimmed(messages[k].content);
    const size_t at = text.find(said);
    EXPECT_NE(at, std::string::npos) << Describe(source, messages) << "\nlearned: " << text;
    if (at == std::string::npos) return 0;
    // Behind the text stands what ends the turn, and nothing of the next one.
    const std::string end = text.substr(at + said.size());
    const bool ends =
        model->IsEnd(learned[turn].tokens.back()) ||
        std::any_of(stops.begin(), stops.end(), [&](const std::string& stop) { return end.ends_with(stop); });
    EXPECT_TRUE(ends) << Describe(source, messages) << "\nlearned: " << text;
    EXPECT_LT(end.size(), 60U) << Describe(source, messages) << "\nlearned: " << text;
    ++turn;
  }
  EXPECT_EQ(turn, learned.size()) << Describe(source, messages);
  return made->samples.size();
}

TEST(SamplesChat, APromptGoesOnWhereItIsCutAtTheSamePlaces) {
  const Parts parts = {{"ab", true}, {"c", false}, {"d", true}};
  for (size_t bytes = 0; bytes <= 4; ++bytes) {
    EXPECT_TRUE(Extends(parts, Beginning(parts, bytes)));
    EXPECT_EQ(TextOf(Beginning(parts, bytes)), std::string("abcd").substr(0, bytes));
  }
  EXPECT_FALSE(Extends(parts, {{"ab", false}}));
  EXPECT_FALSE(Extends(parts, {{"a", true}, {"b", true}}));
  EXPECT_FALSE(Extends(parts, {{"abc", true}}));
  EXPECT_FALSE(Extends(Beginning(parts, 3), parts));
}

void CheckTemplates(const Models& model, size_t conversations, bool as_served) {
  if (model == nullptr) GTEST_SKIP() << "./dev setup models";
  size_t whole = 0, split = 0;
  for (const Source& source : Sources()) {
    SampleOptions options{.columns = {.messages = "messages"}, .chat_template = source.text};
    const auto maker = SampleMaker::Make(model, options);
    const auto chat = ChatTemplate::Make(*model, source.text);
    ASSERT_TRUE(maker.ok() && chat.ok()) << source.name;
    const auto request = (*chat)->Render({{"user", "a"}});
    ASSERT_TRUE(request.ok());
    std::mt19937_64 random(11);
    for (size_t i = 0; i < conversations; ++i) {
      const Messages messages = Conversation(&random, 1 + i % 3, i % 4 == 3);
      const size_t samples = Check(model, source, **chat, **maker, messages, request->turn_ends, as_served);
      whole += samples == 1 ? 1 : 0;
      split += samples > 1 ? 1 : 0;
      // Those whose control tokens the vocabulary has, and that keep the past as it was.
      if (model == SmolLm() && (source.name == "chatml" || source.name == "Qwen-Qwen2.5-7B-Instruct")) {
        EXPECT_EQ(samples, 1U) << Describe(source, messages);
      }
    }
  }
  std::printf("  conversations: %zu one sample, %zu several\n", whole, split);
  EXPECT_GT(whole, 150U);
  EXPECT_GT(split, 100U);
}

// Texts of what templates and vocabularies take for their own.
std::string Hostile(std::mt19937_64* random) {
  static const std::string kBits[] = {"<|im_end|>",
                                      "<|im_start|>",
                                      "assistant\n",
                                      "\n",
                                      " ",
                                      "\t",
                                      "\uFDD0",
                                      "\uFDD1",
                                      "\uFDD2",
                                      "\\ufdd0",
                                      "<think>",
                                      "</think>",
                                      "{{",
                                      "}}",
                                      "[INST]",
                                      "[/INST]",
                                      "</s>",
                                      "<s>",
                                      "<unk>",
                                      "\r\n",
                                      "🦆",
                                      "é",
                                      "a",
                                      "42",
                                      "User:",
                                      "\nUser:",
                                      "<end_of_turn>",
                                      "\"",
                                      "'",
                                      "\\",
                                      "```",
                                      "    ",
                                      "{% if %}",
                                      "<|endoftext|>",
                                      std::string("\0x", 2)};
  std::string text;
  for (size_t i = (*random)() % 9; i > 0; --i) text += kBits[(*random)() % std::size(kBits)];
  return text;
}

TEST(SamplesChat, HostileTextsStayText) {
  std::mt19937_64 random(5);
  for (const Models& model : {Tiny(), SmolLm(), Gemma()}) {
    if (model == nullptr) continue;
    for (const std::string& name : ChatTemplate::Names()) {
      const auto maker = MakerOf(model, {.chat_template = name});
      const auto chat = ChatTemplate::Make(*model, name);
      const auto request = (*chat)->Render({{"user", "a"}});
      ASSERT_TRUE(request.ok());
      for (int i = 0; i < 60; ++i) {
        Messages messages;
        if (random() % 3 == 0) messages.push_back({"system", Hostile(&random)});
        for (size_t turn = 1 + random() % 3; turn > 0; --turn) {
          messages.push_back({"user", Hostile(&random)});
          messages.push_back({"assistant", Hostile(&random) + "."});
        }
        EXPECT_GT(Check(model, {name, name}, **chat, *maker, messages, request->turn_ends, true), 0U);
        const auto learned = LearnedOf(maker->Chat(messages, {}, 1)->samples);
        for (const Learned& turn : learned)  // an answer ends once, at its end
          EXPECT_TRUE(std::none_of(turn.tokens.begin(), turn.tokens.end() - 1, [&](int32_t token) {
            return model->IsEnd(token);
          })) << Written(*model, turn.tokens);
      }
    }
  }
}

TEST(SamplesChat, SmolLmsPromptsAreTheServers) { CheckTemplates(SmolLm(), 6, true); }
TEST(SamplesChat, GemmasPromptsAreTheServers) { CheckTemplates(Gemma(), 4, false); }
TEST(SamplesChat, PromptsOfAVocabularyOfPiecesAreTheServers) { CheckTemplates(Tiny(), 6, false); }

}  // namespace
}  // namespace headrace::tune
