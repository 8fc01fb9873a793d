// The engine's threads, over a false model: delivery, what waits for its grammar, and the end.
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <random>
#include <thread>

#include "engine/engine.h"
#include "engine/fake_decoder.h"
#include "engine/grammar_queue.h"
#include "testing.h"

namespace headrace::engine {
namespace {

std::unique_ptr<Engine> MakeEngine(EngineOptions options, GrammarQueue::Compile compile = nullptr) {
  model::DecoderFacts facts;
  facts.vocabulary = 40;
  facts.cells = 600;
  facts.context = 600;
  facts.paths = 8;
  facts.max_rows = 32;
  static double clock = 0;
  return Engine::StartWith(std::make_unique<FakeDecoder>(facts, &clock, 1),
                           std::make_unique<FakeVocabulary>(40), std::move(options), CostTable(1, 1e-4),
                           std::move(compile));
}

Delta Last(Stream* stream) {
  Delta last;
  while (auto delta = stream->Next()) last = std::move(*delta);
  return last;
}

// Many threads ask, read, hang up and cancel while the engine runs (under ThreadSanitizer in CI).
TEST(Threads, QueuesAndDelivery) {
  EngineOptions options;
  options.core.slots = 6;
  auto engine = MakeEngine(options);
  std::atomic<int64_t> ended{0}, tokens{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < 60; ++i) {
        Request request;
        for (uint32_t n = 1 + random() % 30; n > 0; --n)
          request.prompt.Add(std::vector<Token>{static_cast<Token>(random() % 40)});
        request.max_tokens = static_cast<int32_t>(random() % 40);
        request.key = std::string(1, static_cast<char>('a' + t % 3));
        request.sampling.seed = random();
        auto stream = engine->Submit(request);
        ASSERT_TRUE(stream.ok());
        const uint32_t how = random() % 4;
        if (how == 0) continue;  // hangs up at once
        int read = 0;
        while (auto delta = (*stream)->Next()) {
          tokens += static_cast<int64_t>(delta->tokens.size());
          if (how == 1 && ++read == 2) (*stream)->Cancel();
          if (delta->finish != Finish::kNone) ++ended;
        }
        (void)engine->stats();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_GT(ended, 100);
  EXPECT_GT(tokens, 500);
  // Whoever still reads when the engine goes gets an end.
  Request request;
  request.prompt = {1, 2, 3};
  request.ignore_end = true;
  auto stream = engine->Submit(request);
  engine.reset();
  Finish last = Finish::kNone;
  while (auto delta = (*stream)->Next()) last = delta->finish;
  EXPECT_NE(last, Finish::kNone);
}

// A compiler that takes as long as the test wants, and knows one grammar, of the schema "good".
class SlowCompiler {
 public:
  GrammarQueue::Compile Function() {
    return [this](const Structure& structure) -> Result<std::shared_ptr<const CompiledGrammar>> {
      ++calls_;
      go_.wait();
      if (structure.text != "good") return Status::Invalid("no grammar: " + structure.text);
      std::vector<std::string> pieces;
      for (int t = 0; t < 40; ++t) pieces.emplace_back(1, static_cast<char>('0' + t));
      return Grammars(pieces, {0}).Compile({Structure::Kind::kRegex, "[1-9]{1,8}"});
    };
  }
  void Go() { may_.set_value(); }
  int calls() const { return calls_; }

 private:
  std::promise<void> may_;
  std::shared_future<void> go_ = may_.get_future().share();
  std::atomic<int> calls_{0};
};

Request Structured(const std::string& text, double timeout = 0) {
  Request request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 4;
  request.structure = {Structure::Kind::kSchema, text};
  request.timeout = timeout;
  return request;
}

// Nobody waits for a compilation whose request is over: not who hung up, not who is out of time.
TEST(GrammarQueue, WaitingEndsInTime) {
  SlowCompiler compiler;
  EngineOptions options;
  options.grammar.seconds = 0.2;
  const auto engine = MakeEngine(options, compiler.Function());
  ASSERT_VALUE(const auto first, engine->Submit(Structured("slow")));
  ASSERT_VALUE(const auto timed, engine->Submit(Structured("slow", 0.05)));
  ASSERT_VALUE(const auto cancelled, engine->Submit(Structured("other", 100)));
  cancelled->Cancel();
  EXPECT_EQ(Last(timed.get()).finish, Finish::kTimeout);
  EXPECT_EQ(Last(cancelled.get()).finish, Finish::kCancelled);
  const Delta late = Last(first.get());
  EXPECT_EQ(late.finish, Finish::kError);
  EXPECT_TRUE(late.error.Is(Code::kUnavailable)) << late.error.ToString();
  compiler.Go();
}

// Nothing looks at those that wait in between: what changes the next end wakes who waits for it.
TEST(GrammarQueue, ACancelAndAnEarlierDeadlineAreSeen) {
  SlowCompiler compiler;
  EngineOptions options;
  options.grammar.seconds = 1e6;
  const auto engine = MakeEngine(options, compiler.Function());
  ASSERT_VALUE(const auto first, engine->Submit(Structured("slow")));
  while (compiler.calls() == 0) std::this_thread::yield();
  ASSERT_VALUE(const auto timed, engine->Submit(Structured("slow", 0.05)));
  EXPECT_EQ(Last(timed.get()).finish, Finish::kTimeout);
  first->Cancel();
  EXPECT_EQ(Last(first.get()).finish, Finish::kCancelled);
  compiler.Go();
}

TEST(GrammarQueue, TooManyAreRefusedAndOneCompilationServesAll) {
  SlowCompiler compiler;
  EngineOptions options;
  options.grammar.structures = 2;
  options.grammar.requests = 5;
  const auto engine = MakeEngine(options, compiler.Function());
  std::vector<std::shared_ptr<Stream>> good, bad;
  for (int i = 0; i < 2; ++i) {
    ASSERT_VALUE(good.emplace_back(), engine->Submit(Structured("good")));
    ASSERT_VALUE(bad.emplace_back(), engine->Submit(Structured("bad")));
  }
  EXPECT_TRUE(engine->Submit(Structured("third")).status().Is(Code::kUnavailable));
  ASSERT_VALUE(good.emplace_back(), engine->Submit(Structured("good")));
  EXPECT_TRUE(engine->Submit(Structured("good")).status().Is(Code::kUnavailable));
  compiler.Go();
  for (const auto& stream : good) {
    const Delta last = Last(stream.get());
    EXPECT_EQ(last.error.ToString(), Status::Ok().ToString());
    EXPECT_NE(last.finish, Finish::kError);
  }
  for (const auto& stream : bad) EXPECT_EQ(Last(stream.get()).error.ToString(), "no grammar: bad");
  EXPECT_EQ(compiler.calls(), 2);
}

// The engine stops while a grammar compiles: its reader is told, and does not wait for the compiler.
TEST(GrammarQueue, StoppingEndsWhoeverWaits) {
  SlowCompiler compiler;
  auto engine = MakeEngine({}, compiler.Function());
  ASSERT_VALUE(const auto compiling, engine->Submit(Structured("good")));
  ASSERT_VALUE(const auto waiting, engine->Submit(Structured("bad")));
  while (compiler.calls() == 0) std::this_thread::yield();
  std::thread stopper([&] { engine->Stop(); });
  for (const auto& stream : {compiling, waiting}) {
    const Delta last = Last(stream.get());
    EXPECT_TRUE(last.error.Is(Code::kCancelled)) << last.error.ToString();
  }
  compiler.Go();
  stopper.join();
  const auto after = engine->Submit(Structured("good"));
  EXPECT_TRUE(!after.ok() || Last(after->get()).error.Is(Code::kCancelled));
  Request plain;
  plain.prompt = {1, 2, 3};
  const auto none = engine->Submit(plain);
  EXPECT_TRUE(!none.ok() || Last(none->get()).error.Is(Code::kCancelled));
}

}  // namespace
}  // namespace headrace::engine
