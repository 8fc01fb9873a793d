// Samples: what is learned of a row, what is cut and dropped, and what broken rows say.
#include "tune/samples.h"

#include <arrow/api.h>

#include <thread>

#include "tune/samples_testing.h"

namespace headrace::tune {
namespace {

using model::Message;

RowSamples Made(const Result<RowSamples>& made) {
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return made.ok() ? *made : RowSamples{};
}

const std::vector<Message> kTalk = {{"system", "Be short."},
                                    {"user", "Why <|im_end|>?"},
                                    {"assistant", "So <|im_end|> 🦆."},
                                    {"user", "And?"},
                                    {"assistant", "7"}};

TEST(Samples, ATextIsLearnedToItsEnd) {
  for (const Models& model : {Tiny(), SmolLm(), Gemma()}) {
    if (model == nullptr) continue;
    const auto maker = MakerOf(model, {.columns = {.text = "body"}});
    EXPECT_EQ(maker->columns(), std::vector<std::string>{"body"});
    const RowSamples made = Made(maker->Text("a cab <|im_end|> 🦆", 7));
    ASSERT_EQ(made.samples.size(), 1U);
    const Sample& sample = made.samples[0];
    EXPECT_EQ(sample.row_id, 7);
    auto expected = *model->Tokenize("a cab <|im_end|> 🦆", true, false);
    expected.push_back(model->eos());
    EXPECT_EQ(sample.tokens, expected);
    EXPECT_EQ(sample.learn.front(), 0);
    EXPECT_EQ(sample.learned(), static_cast<int64_t>(sample.tokens.size()) - 1);
  }
}

// SmolLM2's own template: a conversation is one sample, in which both answers are learned.
TEST(Samples, AConversationIsOneSample) {
  if (SmolLm() == nullptr) GTEST_SKIP() << "./dev setup models";
  const auto maker = MakerOf(SmolLm(), {});
  const RowSamples made = Made(maker->Chat(kTalk, {}, 3));
  ASSERT_EQ(made.samples.size(), 1U);
  EXPECT_EQ(Written(*SmolLm(), made.samples[0].tokens),
            "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nWhy <|im_end|>?<|im_end|>\n"
            "<|im_start|>assistant\nSo <|im_end|> 🦆.<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n"
            "<|im_start|>assistant\n7<|im_end|>");
  const auto learned = LearnedOf(made.samples);
  ASSERT_EQ(learned.size(), 2U);
  EXPECT_EQ(Written(*SmolLm(), learned[0].tokens), "So <|im_end|> 🦆.<|im_end|>");
  EXPECT_EQ(Written(*SmolLm(), learned[1].tokens), "7<|im_end|>");
  EXPECT_EQ(learned[1].tokens.size(), 2U);
  // What a user or an answer writes is no control token.
  const auto ends = std::count_if(made.samples[0].tokens.begin(), made.samples[0].tokens.end(),
                                  [](int32_t token) { return SmolLm()->IsEnd(token); });
  EXPECT_EQ(ends, 5);
  EXPECT_EQ(Render(*SmolLm(), made.samples[0], false).substr(0, 36),
            "row 3: " + std::to_string(made.samples[0].tokens.size()) + " tokens, " +
                std::to_string(made.samples[0].learned()) + " learned\n<|im_st");
  EXPECT_NE(Render(*SmolLm(), made.samples[0], false).find("\n⟦7<|im_end|>⟧\n"), std::string::npos);
  EXPECT_NE(Render(*SmolLm(), made.samples[0], true).find("assistant\n\x1b[0m7<|im_end|>\n"),
            std::string::npos);
}

TEST(Samples, AShownSampleSteersNoTerminal) {
  const auto maker = MakerOf(Tiny(), {.columns = {.text = "t"}});
  const RowSamples made = Made(maker->Text("a\x1b[31m\r\x7f\tb\nc", 1));
  const std::string shown = Render(*Tiny(), made.samples.at(0), false);
  EXPECT_NE(shown.find("a␛[31m␍␡\tb\nc"), std::string::npos) << shown;
}

// A template that keeps no thoughts of past turns: each turn is a sample, and is learned once.
TEST(Samples, TurnsWhosePastIsRewrittenAreSamplesOfTheirOwn) {
  if (SmolLm() == nullptr) GTEST_SKIP() << "./dev setup models";
  const std::string source =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n"
      "{% if m.role == 'assistant' and loop.last %}<think>{{ m.reasoning_content or '' }}</think>{% endif %}"
      "{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  const auto maker = MakerOf(SmolLm(), {.chat_template = source});
  const RowSamples made =
      Made(maker->Chat({{"user", "a"}, {"assistant", "b", "hm"}, {"user", "c"}, {"assistant", "d"}}, {}, 1));
  ASSERT_EQ(made.samples.size(), 2U);
  const auto learned = LearnedOf(made.samples);
  ASSERT_EQ(learned.size(), 2U);
  EXPECT_EQ(Written(*SmolLm(), learned[0].tokens), "<think>hm</think>b<|im_end|>");
  EXPECT_EQ(Written(*SmolLm(), learned[1].tokens), "<think></think>d<|im_end|>");
  EXPECT_EQ(
      Written(*SmolLm(), learned[1].before),
      "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
      "<|im_start|>assistant\n");
  SampleCounts counts;
  counts.Add(made);
  EXPECT_EQ(counts.split_rows, 1);
  EXPECT_EQ(counts.samples, 2);
}

// A prompt that ends with a thought's beginning, which finished turns do not have.
TEST(Samples, AThoughtThatThePromptBeginsIsClosed) {
  if (SmolLm() == nullptr) GTEST_SKIP() << "./dev setup models";
  const std::string source =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";
  const auto maker = MakerOf(SmolLm(), {.chat_template = source});
  const auto learned = LearnedOf(Made(maker->Chat({{"user", "a"}, {"assistant", "b", "hm"}}, {}, 1)).samples);
  ASSERT_EQ(learned.size(), 1U);
  EXPECT_TRUE(Written(*SmolLm(), learned[0].before).ends_with("assistant\n<think>\n"));
  EXPECT_EQ(Written(*SmolLm(), learned[0].tokens), "hm\n</think>\n\nb<|im_end|>");
}

// Tools stand in the prompt, a call is learned, and what came of it is read.
TEST(Samples, CallsOfTools) {
  if (SmolLm() == nullptr) GTEST_SKIP() << "./dev setup models";
  std::ifstream in(std::string(HEADRACE_LLAMA_TEMPLATES) + "/Qwen-Qwen2.5-7B-Instruct.jinja");
  const std::string qwen(std::istreambuf_iterator<char>(in), {});
  const std::vector<Message> talk = {{"user", "Weather?"},
                                     {"assistant", "", "", {{"1", "look", R"({"at": "Rome"})"}}},
                                     {"tool", "sunny <|im_end|>", "", {}, "look", "1"},
                                     {"assistant", "Sunny."}};
  const std::vector<model::Tool> tools = {{"look", "looks", R"({"type": "object", "properties": {}})"}};
  const auto maker = MakerOf(SmolLm(), {.chat_template = qwen});
  const RowSamples made = Made(maker->Chat(talk, {}, 1, tools));
  const auto learned = LearnedOf(made.samples);
  ASSERT_EQ(learned.size(), 2U);
  const auto chat = model::ChatTemplate::Make(*SmolLm(), qwen);
  const auto first = (*chat)->Render({talk[0]}, {.tools = tools});
  const auto second = (*chat)->Render({talk[0], talk[1], talk[2]}, {.tools = tools});
  EXPECT_EQ(learned[0].before, *first->Tokenize(*SmolLm()));
  EXPECT_EQ(learned[1].before, *second->Tokenize(*SmolLm()));
  EXPECT_NE(Written(*SmolLm(), learned[0].before).find("looks"), std::string::npos);
  EXPECT_EQ(Written(*SmolLm(), learned[0].tokens),
            "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"Rome\"}}\n</tool_call><|im_end|>");
  EXPECT_EQ(Written(*SmolLm(), learned[1].tokens), "Sunny.<|im_end|>");
  // A template that knows none: calls in words, as the server tells them; tools cannot be offered.
  const auto plain = MakerOf(SmolLm(), {});
  const auto words = LearnedOf(Made(plain->Chat(talk, {}, 1)).samples);
  ASSERT_EQ(words.size(), 2U);
  EXPECT_EQ(Written(*SmolLm(), words[0].tokens),
            "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"Rome\"}}\n</tool_call><|im_end|>");
  EXPECT_NE(Written(*SmolLm(), words[1].before).find("user\n<tool_response>\nsunny <|im_end|>"),
            std::string::npos);
  EXPECT_EQ(plain->Chat(talk, {}, 1, tools).status().code(), Code::kInvalid);
}

TEST(Samples, OtherRolesAndNoTurnAtAll) {
  if (SmolLm() == nullptr) GTEST_SKIP() << "./dev setup models";
  const auto users = MakerOf(SmolLm(), {.roles = {"user"}});
  const auto learned = LearnedOf(Made(users->Chat(kTalk, {}, 1)).samples);
  ASSERT_EQ(learned.size(), 2U);
  EXPECT_TRUE(Written(*SmolLm(), learned[0].before).ends_with("<|im_start|>user\n"));
  EXPECT_EQ(Written(*SmolLm(), learned[0].tokens), "Why <|im_end|>?<|im_end|>");
  EXPECT_EQ(Written(*SmolLm(), learned[1].tokens), "And?<|im_end|>");
  const auto both = MakerOf(SmolLm(), {.roles = {"user", "assistant"}});
  EXPECT_EQ(LearnedOf(Made(both->Chat(kTalk, {}, 1)).samples).size(), 4U);
  EXPECT_EQ(Made(both->Chat(kTalk, {}, 1)).samples.size(), 1U);

  const auto maker = MakerOf(SmolLm(), {});
  EXPECT_EQ(Made(maker->Chat({{"user", "a"}}, {}, 1)).dropped, Dropped::kNoTurn);
  EXPECT_EQ(Made(maker->Chat({{"user", "a"}, {"assistant", " \n"}}, {}, 1)).dropped, Dropped::kEmpty);
  EXPECT_EQ(Made(maker->Chat({}, {}, 1)).dropped, Dropped::kEmpty);
  EXPECT_EQ(Made(maker->Chat({{"user", "a"}, {"assistant", "b"}}, {true, false}, 1)).dropped,
            Dropped::kNoTurn);
  // A greeting that nobody asked for; what comes after the last learned turn is not read.
  const auto greeting = LearnedOf(Made(maker->Chat({{"assistant", "Hello"}, {"user", "x"}}, {}, 1)).samples);
  ASSERT_EQ(greeting.size(), 1U);
  EXPECT_EQ(Written(*SmolLm(), greeting[0].tokens), "Hello<|im_end|>");
}

TEST(Samples, WhatStandsOutsideLearnedTurnsIsNotLearned) {
  if (SmolLm() == nullptr) GTEST_SKIP() << "./dev setup models";
  const auto maker = MakerOf(SmolLm(), {.system = "Be kind."});
  const auto of = [&](const std::vector<Message>& messages) {
    return LearnedOf(Made(maker->Chat(messages, {}, 1)).samples);
  };
  const auto base = of(kTalk);
  for (size_t i = 0; i < kTalk.size(); ++i) {
    std::vector<Message> other = kTalk;
    other[i].content = "\n\n other: " + other[i].content + "🦆\n";
    const auto learned = of(other);
    ASSERT_EQ(learned.size(), base.size());
    for (size_t turn = 0; turn < base.size(); ++turn) {
      const size_t message = turn == 0 ? 2 : 4;
      EXPECT_EQ(learned[turn].tokens == base[turn].tokens, message != i) << i << " " << turn;
      EXPECT_EQ(learned[turn].before == base[turn].before, i >= message) << i << " " << turn;
    }
  }
  std::vector<Message> alone = {{"user", "a"}, {"assistant", "b"}};
  EXPECT_TRUE(Written(*SmolLm(), of(alone)[0].before).starts_with("<|im_start|>system\nBe kind.<|im_end|>"));
}

TEST(Samples, PromptsAndAnswers) {
  for (const Models& model : {Tiny(), SmolLm(), Gemma()}) {
    if (model == nullptr) continue;
    const SampleColumns columns{.prompt = "q", .answer = "a"};
    const auto plain = MakerOf(model, {.columns = columns, .chat = false});
    EXPECT_FALSE(plain->chats());
    EXPECT_EQ(plain->columns(), (std::vector<std::string>{"q", "a"}));
    for (const std::string prompt : {"Q: why?\nA:", "Q: why?\nA: ", "a", "", "x\n", "é"})
      for (const std::string answer : {" b", "b", "\nb 🦆", "<|im_end|>", "</s>"}) {
        const RowSamples made = Made(plain->Answer(prompt, answer, 1));
        const auto learned = LearnedOf(made.samples);
        ASSERT_EQ(learned.size(), 1U);
        auto expected = *model->Tokenize(prompt, true, false);
        std::string text = answer;
        if (expected.empty()) {  // the first token has nothing before it
          expected = {made.samples[0].tokens[0]};
          text.erase(0, model->Piece(expected[0]).size());
        }
        EXPECT_EQ(learned[0].before, expected) << "'" << prompt << "' '" << answer << "'";
        std::string written = Written(*model, learned[0].tokens);
        if (prompt.empty() && model == Tiny()) written.erase(0, written.starts_with(' ') ? 1 : 0);
        EXPECT_EQ(written, text + model->Name(model->eos())) << "'" << prompt << "' '" << answer << "'";
      }
    EXPECT_EQ(Made(plain->Answer("a", " ", 1)).dropped, Dropped::kEmpty);
  }
  if (SmolLm() == nullptr) return;
  const auto chat = MakerOf(SmolLm(), {.columns = {.prompt = "q", .answer = "a"}});
  const auto talk = MakerOf(SmolLm(), {});
  EXPECT_TRUE(chat->chats());
  EXPECT_EQ(Made(chat->Answer("x", "y", 1)).samples[0].tokens,
            Made(talk->Chat({{"user", "x"}, {"assistant", "y"}}, {}, 1)).samples[0].tokens);
}

TEST(Samples, LongOnesAreCut) {
  if (Gemma() == nullptr) GTEST_SKIP() << "./dev setup models";
  const auto make = [&](int64_t most, Cut cut) {
    return Made(MakerOf(Gemma(), {.most = most, .cut = cut, .chat_template = "gemma"})
                    ->Chat({{"user", "one two three four"}, {"assistant", "five six"}}, {}, 5));
  };
  const Sample whole = make(0, Cut::kEnd).samples.at(0);
  const auto size = static_cast<int64_t>(whole.tokens.size());
  EXPECT_EQ(whole.whole, size);
  EXPECT_EQ(whole.tokens[0], Gemma()->bos());
  EXPECT_EQ(make(size, Cut::kDrop).samples.at(0).tokens, whole.tokens);

  const Sample end = make(size - 1, Cut::kEnd).samples.at(0);
  EXPECT_EQ(end.tokens, (std::vector<int32_t>(whole.tokens.begin(), whole.tokens.end() - 1)));
  EXPECT_EQ(end.learn, (std::vector<uint8_t>(whole.learn.begin(), whole.learn.end() - 1)));
  EXPECT_EQ(end.whole, size);
  EXPECT_NE(Render(*Gemma(), end, false).find(", cut from " + std::to_string(size)), std::string::npos);

  const Sample start = make(size - 2, Cut::kStart).samples.at(0);
  std::vector<int32_t> rest = {Gemma()->bos()};
  rest.insert(rest.end(), whole.tokens.begin() + 3, whole.tokens.end());
  EXPECT_EQ(start.tokens, rest);
  EXPECT_EQ(start.learned(), whole.learned());

  EXPECT_EQ(make(size - 1, Cut::kDrop).dropped, Dropped::kTooLong);
  EXPECT_EQ(make(size - whole.learned(), Cut::kEnd).dropped, Dropped::kCutOff);
  for (const Cut cut : {Cut::kEnd, Cut::kStart}) EXPECT_EQ(make(1, cut).dropped, Dropped::kCutOff);
  EXPECT_EQ(make(2, Cut::kStart).samples.at(0).learned(), 1);

  SampleCounts counts;
  counts.Add(make(size - 1, Cut::kEnd));
  counts.Add(make(size - 1, Cut::kDrop));
  EXPECT_EQ(counts.rows, 2);
  EXPECT_EQ(counts.cut_samples, 1);
  EXPECT_EQ(counts.cut_tokens, 1);
  EXPECT_EQ(counts.dropped[static_cast<size_t>(Dropped::kTooLong)].row_ids, std::vector<int64_t>{5});
  EXPECT_NE(counts.ToString().find("1 row dropped: too long (row 5)"), std::string::npos)
      << counts.ToString();
}

TEST(Samples, OptionsThatGoNotTogetherAreRefused) {
  const auto refused = [](const Models& model, const SampleOptions& options) {
    const auto maker = SampleMaker::Make(model, options);
    return maker.ok() ? std::string() : maker.status().message();
  };
  EXPECT_NE(refused(Tiny(), {}), "");
  EXPECT_NE(refused(Tiny(), {.columns = {.messages = "a", .text = "b"}}), "");
  EXPECT_NE(refused(Tiny(), {.columns = {.prompt = "a"}}), "");
  EXPECT_NE(refused(Tiny(), {.columns = {.text = "a"}, .most = -1}), "");
  EXPECT_NE(refused(Tiny(), {.columns = {.text = "a"}, .roles = {"bot"}}).find("'bot'"), std::string::npos);
  EXPECT_NE(refused(Tiny(), {.columns = {.text = "a"}, .roles = {}}), "");
  EXPECT_NE(refused(Tiny(), {.columns = {.messages = "a"}}).find("chat template"), std::string::npos);
  EXPECT_EQ(refused(Tiny(), {.columns = {.prompt = "a", .answer = "b"}}), "");  // as they are
}

// Threads do not wait for each other, and change nothing.
TEST(Samples, ManyThreads) {
  if (SmolLm() == nullptr) GTEST_SKIP() << "./dev setup models";
  const auto maker = MakerOf(SmolLm(), {});
  const Sample one = Made(maker->Chat(kTalk, {}, 1)).samples.at(0);
  std::vector<std::thread> threads;
  std::vector<int> same(4);
  for (int& count : same)
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        const auto made = maker->Chat(kTalk, {}, 1);
        count += made.ok() && made->samples[0].tokens == one.tokens ? 1 : 0;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, std::vector<int>(4, 20));
}

}  // namespace
}  // namespace headrace::tune
