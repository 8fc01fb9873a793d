// Loads for `./dev bench engine`: the same requests to our engine in this process, or to a llama-server over
// HTTP. One kind of work a run; prints one JSON object. Clients are threads that do nothing but wait, parse
// and note times.
//
//   engine_load WORK ours MODEL [key=value…]
//   engine_load WORK URL  MODEL [key=value…]
//   engine_load idle URL  MODEL [key=value…]     both
#include <curl/curl.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "base/clock.h"
#include "engine_adapters.h"
#include "engine_raw.h"
#include "engine_schemas.h"
#include "engine_sides.h"

namespace headrace::bench {
namespace {

using model::Token;
using nlohmann::json;

struct Options {
  std::map<std::string, std::string> words;
  int64_t operator()(const std::string& name, int64_t otherwise) const {
    const auto found = words.find(name);
    return found == words.end() ? otherwise : std::strtoll(found->second.c_str(), nullptr, 10);
  }
};

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())))];
}

class Prompts {
 public:
  Prompts(const model::Model& model, uint64_t seed) : random_(seed) {
    words_ = *model.Tokenize(
        " the river runs down to a mill and turns its wheel, while people of the town carry grain, talk "
        "about rain and wait for bread;"
        " nobody knows who built it first, but every child has heard of the night when water stood still and "
        "stones went on turning.",
        false, false);
    bos_ = model.bos();
  }
  // `count` tokens of text that nobody has sent before.
  std::vector<Token> Fresh(int64_t count, bool begins) {
    std::vector<Token> tokens;
    if (begins) tokens.push_back(bos_);
    while (static_cast<int64_t>(tokens.size()) < count) tokens.push_back(words_[random_() % words_.size()]);
    return tokens;
  }

 private:
  std::mt19937_64 random_;
  std::vector<Token> words_;
  Token bos_;
};

std::vector<Result> Together(Side* side, const std::vector<Request>& requests, double apart = 0) {
  std::vector<Result> results(requests.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < requests.size(); ++i) {
    threads.emplace_back([&, i] { results[i] = side->Ask(requests[i]); });
    if (apart > 0) std::this_thread::sleep_for(std::chrono::duration<double>(apart));
  }
  for (auto& thread : threads) thread.join();
  return results;
}

std::vector<Token> Plus(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

json Tokens(const std::vector<Result>& results, double seconds) {
  int64_t tokens = 0, forced = 0;
  for (const Result& r : results) {
    tokens += r.tokens;
    forced += r.forced;
  }
  return {{"tokens", tokens},
          {"forced", forced},
          {"seconds", seconds},
          {"rate", static_cast<double>(tokens) / seconds},
          {"asked_rate", static_cast<double>(tokens - forced) / seconds}};
}

json Burst(Side* side, Prompts* prompts, const Options& o) {
  const std::vector<Token> prefix = prompts->Fresh(o("prefix", 1500), true);
  std::vector<Request> requests(8);
  for (Request& r : requests) {
    r.prompt = Plus(prefix, prompts->Fresh(20, false));
    r.max_tokens = 16;
    r.ignore_end = true;
    r.sampling.temperature = 0;
  }
  std::vector<double> first;
  int64_t prefilled = 0;
  for (const Result& r : Together(side, requests, 0.1 / 8)) {
    first.push_back(r.at.empty() ? 1e9 : r.at[0] - r.sent);
    prefilled += r.prefilled;
  }
  return {{"prefilled", prefilled}, {"ttft", Quantile(first, 0.5)}};
}

json Turns(Side* side, Prompts* prompts, const Options& o) {
  const std::vector<Token> system = prompts->Fresh(o("system", 300), true);
  std::vector<std::vector<Token>> talks(24, system);
  int64_t prefilled = 0;
  const double start = MonotonicSeconds();
  for (int turn = 0; turn < 4; ++turn) {
    for (auto& talk : talks) {
      Request r;
      r.prompt = talk = Plus(talk, prompts->Fresh(60, false));
      r.max_tokens = 24;
      r.ignore_end = true;
      r.sampling.temperature = 0;
      prefilled += side->Ask(r).prefilled;
      talk = Plus(talk,
                  prompts->Fresh(24, false));  // what the user's side keeps of the answer: the same for both
    }
  }
  return {{"prefilled", prefilled}, {"seconds", MonotonicSeconds() - start}};
}

json Gap(Side* side, Prompts* prompts, const Options& o) {
  std::vector<Request> users(static_cast<size_t>(o("users", 4)));
  for (Request& r : users) {
    r.prompt = prompts->Fresh(60, true);
    r.max_tokens = static_cast<int32_t>(o("stream", 400));
    r.ignore_end = true;
    r.lookup = false;
  }
  std::vector<Result> streams(users.size());
  std::vector<std::thread> threads;
  std::atomic<int> begun{0};
  for (size_t i = 0; i < users.size(); ++i)
    threads.emplace_back([&, i] {
      ++begun;
      streams[i] = side->Ask(users[i]);
    });
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  Request r;
  r.prompt = prompts->Fresh(o("prompt", 4000), true);
  r.max_tokens = 1;
  r.sampling.temperature = 0;
  const Result big = side->Ask(r);
  for (auto& thread : threads) thread.join();
  double worst = 0;
  std::vector<double> gaps;
  const double from = big.sent, to = big.at.empty() ? big.sent : big.at[0];
  for (const Result& s : streams)
    for (size_t i = 1; i < s.at.size(); ++i)
      if (s.at[i] > from && s.at[i - 1] < to) {
        worst = std::max(worst, s.at[i] - s.at[i - 1]);
        gaps.push_back(s.at[i] - s.at[i - 1]);
      }
  return {{"worst", worst}, {"p99", Quantile(gaps, 0.99)}, {"prefill", to - from}, {"gaps", gaps.size()}};
}

json Sample(Side* side, Prompts* prompts, const Options& o) {
  std::vector<Request> requests(static_cast<size_t>(o("clients", 8)));
  for (size_t i = 0; i < requests.size(); ++i) {
    Request& r = requests[i];
    r.prompt = prompts->Fresh(40, true);
    r.max_tokens = static_cast<int32_t>(o("tokens", 64));
    r.ignore_end = true;
    r.sampling.temperature = o("greedy", 0) != 0 ? 0.0F : 1.0F;
    r.sampling.top_p = o("greedy", 0) != 0 ? 1.0F : 0.95F;
    r.sampling.seed = i;
    r.lookup = false;
    if (o("adapters", -1) >= 0)
      r.adapter = static_cast<int>(i % static_cast<size_t>(std::max<int64_t>(o("adapters", 1), 1)));
  }
  const double start = MonotonicSeconds();
  const auto results = Together(side, requests);
  return Tokens(results, MonotonicSeconds() - start);
}

// `lengths` (by document): as many tokens, without a structure; null: held to the schemas.
json Schemas(Side* side, const model::Model& model, const Options& o, std::vector<int64_t>* lengths) {
  const bool free = lengths != nullptr && !lengths->empty();
  std::vector<Result> results;
  std::mutex mutex;
  std::atomic<size_t> next{0};
  const size_t count = static_cast<size_t>(o("documents", kSchemaCount));
  const double start = MonotonicSeconds();
  std::vector<std::thread> threads;
  std::vector<json> documents;
  std::vector<int64_t> asked(count);
  for (int client = 0; client < 8; ++client) {
    threads.emplace_back([&] {
      for (size_t i = 0; (i = next++) < count;) {
        Request r;
        const std::string text = std::string("Schema: ") + kSchemas[i % kSchemaCount].schema +
                                 "\nAn example of " + kSchemas[i % kSchemaCount].what + " as JSON:\n";
        r.prompt = *model.Tokenize(text, true, false);
        if (!free) r.structure = {engine::Structure::Kind::kSchema, kSchemas[i % kSchemaCount].schema};
        r.max_tokens = free ? static_cast<int32_t>((*lengths)[i]) : 200;
        r.ignore_end = free;
        r.lookup = false;
        r.sampling.temperature = 0.7F;
        r.sampling.top_p = 0.95F;
        r.sampling.seed = i;
        Result result = side->Ask(r);
        const std::lock_guard lock(mutex);
        asked[i] = result.tokens - result.forced;
        documents.push_back({{"schema", i % kSchemaCount}, {"text", result.text}, {"finish", result.finish}});
        results.push_back(std::move(result));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  json out = Tokens(results, MonotonicSeconds() - start);
  if (lengths != nullptr) *lengths = asked;
  out["documents"] = documents;
  for (const auto& one : kSchemas) out["schemas"].push_back(json::parse(one.schema));
  return out;
}

// Tokens a second held to schemas and free, of equal requests and equal numbers of tokens that the model was
// asked for; schemas are compiled before, and what that took is told.
json Constrained(const std::function<std::unique_ptr<Side>()>& make, const model::Model& model,
                 const Options& o) {
  std::vector<int64_t> lengths;
  json out;
  double tokens[2] = {}, seconds[2] = {};
  for (const bool free : {false, true, true, false}) {  // the machine changes its speed: neither comes first
    if (!free) lengths.clear();
    const auto side = make();
    Request warm;
    warm.prompt = *model.Tokenize("A short story about a mill", true, false);
    warm.max_tokens = 8;
    warm.reuse = false;
    Together(side.get(), std::vector<Request>(8, warm));
    const double start = MonotonicSeconds();
    for (const auto& schema : kSchemas) {
      warm.structure = {engine::Structure::Kind::kSchema, schema.schema};
      warm.max_tokens = 1;
      if (!free) side->Ask(warm);
    }
    if (!free) out["compile_seconds"] = MonotonicSeconds() - start;
    const json pass = Schemas(side.get(), model, o, &lengths);
    out["passes"].push_back({free ? "free" : "held", pass["asked_rate"]});
    seconds[free ? 1 : 0] += pass["seconds"].get<double>();
    tokens[free ? 1 : 0] += pass["asked_rate"].get<double>() * pass["seconds"].get<double>();
  }
  out["held"] = {{"rate", tokens[0] / seconds[0]}, {"seconds", seconds[0]}};
  out["free"] = {{"rate", tokens[1] / seconds[1]}, {"seconds", seconds[1]}};
  return out;
}

json Copying(Side* side, Prompts* prompts, const model::Model& model, const Options& o) {
  Request r;
  if (o("novel", 0) != 0) {
    r.prompt = prompts->Fresh(100, true);
    r.sampling.temperature = 1;
    r.sampling.seed = static_cast<uint64_t>(o("round", 0));
  } else {
    // Repeats of a list, so that a small base model copies on.
    std::string text;
    for (int i = 0; i < 6; ++i)
      text +=
          "name: river mill, town: Ferndale, wheel: oak, grain: rye, rain: often, bread: dark\nname: stone "
          "mill, town: Aldbrook, wheel: iron, grain: wheat, rain: seldom, bread: white\n";
    r.prompt = *model.Tokenize(text, true, false);
    r.sampling.temperature = 0;
  }
  r.max_tokens = static_cast<int32_t>(o("tokens", 192));
  r.ignore_end = true;
  r.lookup = o("lookup", 1) != 0;
  Request warm = r;
  warm.max_tokens = 1;
  side->Ask(warm);
  const double start = MonotonicSeconds();
  const auto result = side->Ask(r);
  return Tokens({result}, MonotonicSeconds() - start);
}

// Both sides hold the same conversations; then they stream in turn, first the one, then the other.
json Idle(Side* ours, Side* theirs, Prompts* prompts, const Options& o) {
  const int64_t each = 3500;
  for (int64_t held = 0; held < o("idle", 28'000); held += each) {
    Request r;
    r.prompt = prompts->Fresh(each, true);
    r.max_tokens = 1;
    r.sampling.temperature = 0;
    for (Side* side : {ours, theirs}) side->Ask(r);
  }
  Options one = o;
  one.words["greedy"] = std::string(1, '1');
  json rates = json::array();
  for (int64_t round = 0; round <= o("rounds", 9); ++round) {
    const Prompts same = *prompts;
    double rate[2];
    for (const int turn : {0, 1}) {
      const int which = (static_cast<int>(round) + turn) % 2;
      *prompts = same;
      rate[which] = Sample(which == 0 ? ours : theirs, prompts, one)["rate"];
    }
    if (round > 0) rates.push_back({rate[0], rate[1]});  // the first warms both up
  }
  return {{"rates", rates}};
}

json EmbedMany(Side* side, const Options& o) {
  std::vector<std::string> texts;
  std::mt19937 random(5);
  const char* words[] = {"river", "mill",  "wheel", "town", "grain", "rain", "bread", "night",
                         "water", "stone", "child", "the",  "of",    "a",    "and"};
  const auto text = [&] {
    std::string t;
    for (uint32_t n = 5 + random() % 40; n > 0; --n) t += std::string(words[random() % 15]) + " ";
    return t;
  };
  const int64_t clients = o("clients", 1), each = o("each", 64), rounds = o("rounds", 8);
  std::vector<std::vector<std::string>> lots;
  for (int64_t i = 0; i < clients * rounds; ++i) {
    lots.emplace_back();
    for (int64_t j = 0; j < each; ++j) lots.back().push_back(text());
  }
  side->Embed(lots[0]);
  std::atomic<size_t> next{0};
  std::atomic<int64_t> vectors{0};
  const double start = MonotonicSeconds();
  std::vector<std::thread> threads;
  for (int64_t c = 0; c < clients; ++c)
    threads.emplace_back([&] {
      for (size_t i = 0; (i = next++) < lots.size();) vectors += side->Embed(lots[i]);
    });
  for (auto& thread : threads) thread.join();
  const double seconds = MonotonicSeconds() - start;
  return {
      {"vectors", vectors.load()}, {"seconds", seconds}, {"rate", static_cast<double>(vectors) / seconds}};
}

int Main(int argc, char** argv) {
  if (argc < 4) return 2;
  const std::string work = argv[1], where = argv[2], path = argv[3];
  Options o;
  for (int i = 4; i < argc; ++i) {
    const std::string word = argv[i];
    o.words[word.substr(0, word.find('='))] = word.substr(word.find('=') + 1);
  }
  const bool raw = work == "raw", both = work == "idle", ours = where == "ours" || both;
  auto loaded = Must(model::Model::Load(path, {.vocabulary_only = !ours && !raw}));
  if (raw) {
    std::printf(
        "%s\n",
        RawPairs(loaded, static_cast<int>(o("pairs", 15)), static_cast<int>(o("threads", 2))).dump().c_str());
    return 0;
  }
  std::unique_ptr<Side> side;
  engine::Engine* own = nullptr;
  if (ours) {
    engine::EngineOptions options;
    options.decoder.cells = static_cast<int32_t>(o("cells", 8192));
    options.decoder.threads = static_cast<int32_t>(o("threads", 0));
    options.decoder.max_rows = static_cast<int32_t>(o("rows", 512));
    options.core.max_gap = static_cast<double>(o("max_itl_ms", 0)) / 1000;
    std::vector<std::string> adapters;
    for (int64_t a = 0; a < o("adapters", 0); ++a) {
      adapters.push_back(WriteAdapter(path, loaded->facts().architecture, static_cast<uint64_t>(a + 1), 8));
      Must(loaded->LoadAdapter(adapters.back()));
    }
    options.core.jump = o("jump", 1) != 0;
    side = MakeOurs(loaded, options, work == "embed", &own);
    for (const std::string& adapter : adapters) std::remove(adapter.c_str());
  }
  std::unique_ptr<Side> theirs;
  if (where != "ours") (both ? theirs : side) = MakeTheirs(where);
  Prompts prompts(*loaded, static_cast<uint64_t>(o("seed", 1)));
  if (ours && work != "embed") {  // as a server is warm: one request of many rows, one of few
    Request r;
    r.prompt = prompts.Fresh(600, true);
    r.max_tokens = 8;
    r.ignore_end = true;
    r.reuse = false;
    side->Ask(r);
    Together(side.get(), std::vector<Request>(8, r));
  }
  json out;
  if (work == "burst") out = Burst(side.get(), &prompts, o);
  if (work == "turns") out = Turns(side.get(), &prompts, o);
  if (work == "gap") out = Gap(side.get(), &prompts, o);
  if (work == "sample") out = Sample(side.get(), &prompts, o);
  if (work == "schemas") out = Schemas(side.get(), *loaded, o, nullptr);
  if (work == "constrained")
    out = Constrained(
        [&] {
          engine::EngineOptions options;
          options.core.jump = o("jump", 1) != 0;
          return MakeOurs(loaded, options, false);
        },
        *loaded, o);
  if (work == "copying") out = Copying(side.get(), &prompts, *loaded, o);
  if (work == "idle") out = Idle(side.get(), theirs.get(), &prompts, o);
  if (work == "embed") out = EmbedMany(side.get(), o);
  if (own != nullptr) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const engine::CoreStats s = own->stats();
    out["stats"] = {{"steps", s.steps},
                    {"evictions", s.evictions},
                    {"restores", s.restores},
                    {"decode_seconds", s.decode_seconds},
                    {"sample_seconds", s.sample_seconds},
                    {"drafted", s.drafted},
                    {"accepted", s.accepted},
                    {"surprises", s.surprises}};
  }
  std::printf("%s\n", out.dump(-1, ' ', false, json::error_handler_t::replace).c_str());
  return 0;
}

}  // namespace
}  // namespace headrace::bench

int main(int argc, char** argv) {
  curl_global_init(CURL_GLOBAL_DEFAULT);
  return headrace::bench::Main(argc, argv);
}
