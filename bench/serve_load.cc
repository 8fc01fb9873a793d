// Loads for `./dev bench serve`: clients of /v1/completions, ours or llama-server's alike, over libcurl. One
// kind of work a run; prints one JSON object. Clients are threads that wait and note times.
//
//   serve_load fair     URL [key=value…]   closed loop of `heavy` requests beside one light request every 2 s
//   serve_load overload URL [key=value…]   Poisson arrivals at `rate`; half hang up; a deadline
//   serve_load closed   URL [key=value…]   closed loop of `clients`: the capacity
//
// seconds, tokens (of an answer), words (of a prompt), heavy, rate, clients, deadline, seed; heavy_key and
// light_key are sent as bearer tokens.
#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using nlohmann::json;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Options {
  std::map<std::string, std::string> words;
  double operator()(const std::string& name, double otherwise) const {
    const auto found = words.find(name);
    return found == words.end() ? otherwise : std::strtod(found->second.c_str(), nullptr);
  }
  std::string text(const std::string& name) const {
    const auto found = words.find(name);
    return found == words.end() ? "" : found->second;
  }
};

struct Outcome {
  double begun = 0, first = 0, ended = 0;
  int64_t tokens = 0;  // that arrived
  int64_t prompt = 0;  // of its prompt, where the answer is whole
  bool whole = false;  // the answer came to its end
  long status = 0;
  std::vector<double> gaps;  // between pieces
};

struct Ask {
  std::string url, body, key;
  double hang_up = 0;  // seconds after its begin, 0: never
};

struct Reading {
  Outcome* outcome;
  std::string rest;
  double last = 0, until = 0;
};

size_t Read(char* data, size_t size, size_t count, void* user) {
  auto& reading = *static_cast<Reading*>(user);
  reading.rest.append(data, size * count);
  const double now = Now();
  for (size_t end; (end = reading.rest.find("\n\n")) != std::string::npos; reading.rest.erase(0, end + 2)) {
    const std::string_view event(reading.rest.data(), end);
    if (!event.starts_with("data: ")) continue;
    if (event == "data: [DONE]") {
      reading.outcome->whole = true;
      continue;
    }
    if (event.find("\"usage\":{") != std::string_view::npos) {
      const size_t at = event.find("\"completion_tokens\":");
      if (at != std::string_view::npos)
        reading.outcome->tokens = std::strtoll(event.data() + at + 20, nullptr, 10);
      const size_t prompt = event.find("\"prompt_tokens\":");
      if (prompt != std::string_view::npos)
        reading.outcome->prompt = std::strtoll(event.data() + prompt + 16, nullptr, 10);
      continue;
    }
    if (event.find("\"text\":\"\"") != std::string_view::npos) continue;
    if (reading.outcome->first == 0) reading.outcome->first = now;
    if (reading.last > 0) reading.outcome->gaps.push_back(now - reading.last);
    reading.last = now;
    ++reading.outcome->tokens;
  }
  return reading.until > 0 && now > reading.until ? 0 : size * count;
}

int Watch(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& reading = *static_cast<Reading*>(user);
  return reading.until > 0 && Now() > reading.until ? 1 : 0;
}

Outcome Send(CURL* curl, const Ask& ask) {
  Outcome outcome;
  outcome.begun = Now();
  Reading reading{&outcome, "", 0, ask.hang_up > 0 ? outcome.begun + ask.hang_up : 0};
  curl_easy_reset(curl);
  curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
  headers = curl_slist_append(headers, "Expect:");
  if (!ask.key.empty()) headers = curl_slist_append(headers, ("Authorization: Bearer " + ask.key).c_str());
  curl_easy_setopt(curl, CURLOPT_URL, ask.url.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, ask.body.c_str());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(ask.body.size()));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, Read);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reading);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
  if (ask.hang_up > 0) {
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, Watch);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &reading);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, std::max(1L, static_cast<long>(ask.hang_up * 1000)));
  }
  curl_easy_perform(curl);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &outcome.status);
  curl_slist_free_all(headers);
  outcome.ended = Now();
  return outcome;
}

// Prompts that nobody has sent before.
std::string Prompt(std::mt19937_64* random, int words) {
  static const char* kWords[] = {"river", "mill",  "bread", "stone", "night", "child",  "town", "wheel",
                                 "water", "grain", "cloud", "field", "horse", "bridge", "song", "winter"};
  std::string text = "Story " + std::to_string((*random)() % 1000000) + ":";
  for (int i = 0; i < words; ++i) text += std::string(" ") + kWords[(*random)() % 16];
  return text;
}

std::string Body(std::mt19937_64* random, const Options& o, int words, int tokens, double deadline) {
  json body = {{"model", o.text("model")},
               {"prompt", Prompt(random, words)},
               {"max_tokens", tokens},
               {"temperature", 0},
               {"ignore_eos", true},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  if (deadline > 0) body["deadline"] = deadline;
  return body.dump();
}

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())))];
}

class Crowd {
 public:
  Crowd(const Options& o, std::string url) : o_(o), url_(std::move(url)) {}

  // `clients` that ask again and again until `until`.
  void Closed(int clients, double until, const std::string& key) {
    for (int c = 0; c < clients; ++c)
      threads_.emplace_back([this, c, until, key] {
        std::mt19937_64 random(static_cast<uint64_t>(o_("seed", 1)) * 1000 + static_cast<uint64_t>(c));
        CURL* curl = curl_easy_init();
        while (Now() < until) {
          const Outcome outcome = Send(curl, {url_,
                                              Body(&random, o_, static_cast<int>(o_("words", 60)),
                                                   static_cast<int>(o_("tokens", 64)), 0),
                                              key, until - Now()});
          Keep(&crowd_, outcome);
        }
        curl_easy_cleanup(curl);
      });
  }
  // Light requests, one every two seconds on the average, whatever became of the others.
  void Light(double until, const std::string& key) {
    threads_.emplace_back([this, until, key] {
      std::mt19937_64 random(77);
      std::exponential_distribution<double> wait(0.5);
      std::vector<std::thread> asking;
      for (double next = Now(); next < until; next += wait(random)) {
        while (Now() < next) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        asking.emplace_back(
            [this, until, key, body = Body(&random, o_, static_cast<int>(o_("light_words", 60)), 16, 0)] {
              CURL* curl = curl_easy_init();
              Keep(&light_, Send(curl, {url_, body, key, std::max(1.0, until + 20 - Now())}));
              curl_easy_cleanup(curl);
            });
      }
      for (auto& thread : asking) thread.join();
    });
  }
  // Open loop: whoever arrives asks, whatever became of the others.
  void Poisson(double rate, double until, double deadline, const std::string& key) {
    std::mt19937_64 random(static_cast<uint64_t>(o_("seed", 1)));
    std::exponential_distribution<double> wait(rate);
    std::uniform_real_distribution<double> patience(0.01, 5);
    for (double next = Now(); next < until; next += wait(random)) {
      while (Now() < next) std::this_thread::sleep_for(std::chrono::microseconds(500));
      const bool leaves = random() % 2 == 0;
      const double hang_up = leaves ? patience(random) : 30;
      std::string body = Body(&random, o_, static_cast<int>(o_("words", 60)),
                              static_cast<int>(o_("tokens", 64)), o_("send_deadline", 0) > 0 ? deadline : 0);
      threads_.emplace_back([this, leaves, hang_up, key, body = std::move(body)] {
        CURL* curl = curl_easy_init();
        const Outcome outcome = Send(curl, {url_, body, key, hang_up});
        Keep(leaves ? &left_ : &crowd_, outcome);
        curl_easy_cleanup(curl);
      });
    }
  }
  void Join() {
    for (auto& thread : threads_) thread.join();
  }

  std::vector<Outcome> crowd_, light_, left_;

 private:
  void Keep(std::vector<Outcome>* list, const Outcome& outcome) {
    const std::lock_guard lock(mutex_);
    list->push_back(outcome);
  }
  const Options& o_;
  std::string url_;
  std::mutex mutex_;
  std::vector<std::thread> threads_;
};

json Times(const std::vector<Outcome>& outcomes) {
  std::vector<double> first, gaps;
  int64_t tokens = 0, whole = 0, failed = 0;
  for (const Outcome& o : outcomes) {
    if (o.first > 0) first.push_back(o.first - o.begun);
    gaps.insert(gaps.end(), o.gaps.begin(), o.gaps.end());
    tokens += o.tokens;
    whole += o.whole;
    failed += o.status >= 400;
  }
  return {{"count", outcomes.size()},
          {"whole", whole},
          {"failed", failed},
          {"tokens", tokens},
          {"ttft_p50", Quantile(first, 0.5)},
          {"ttft_p95", Quantile(first, 0.95)},
          {"itl_p95", Quantile(gaps, 0.95)}};
}

int Main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string work = argv[1];
  Options o;
  for (int i = 3; i < argc; ++i) {
    const std::string word = argv[i];
    o.words[word.substr(0, word.find('='))] = word.substr(word.find('=') + 1);
  }
  curl_global_init(CURL_GLOBAL_DEFAULT);
  const double begun = Now(), seconds = o("seconds", 20), until = begun + seconds;
  Crowd crowd(o, std::string(argv[2]) + "/v1/completions");
  if (work == "fair") {
    crowd.Closed(static_cast<int>(o("heavy", 40)), until, o.text("heavy_key"));
    crowd.Light(until, o.text("light_key"));
  } else if (work == "closed") {
    crowd.Closed(static_cast<int>(o("clients", 8)), until, o.text("heavy_key"));
  } else {
    crowd.Poisson(o("rate", 1), until, o("deadline", 10), o.text("heavy_key"));
  }
  crowd.Join();
  json out = {{"seconds", Now() - begun},
              {"crowd", Times(crowd.crowd_)},
              {"light", Times(crowd.light_)},
              {"left", Times(crowd.left_)}};
  int64_t in_time = 0, tokens_in_time = 0, arrived = 0, read = 0;
  for (const auto* some : {&crowd.crowd_, &crowd.left_})  // who would have left, but was answered before
    for (const Outcome& one : *some) {
      arrived += one.tokens, read += one.prompt;
      if (!one.whole || one.ended - one.begun > o("deadline", 10)) continue;
      ++in_time;
      tokens_in_time += one.tokens;
    }
  for (const Outcome& one : crowd.light_) arrived += one.tokens, read += one.prompt;
  out["in_time"] = in_time;
  out["goodput"] = static_cast<double>(in_time) / seconds;  // answers a second, whole and in time
  out["token_rate"] = static_cast<double>(arrived) / seconds;
  out["all_rate"] = static_cast<double>(arrived + read) / seconds;  // and of their prompts
  out["token_goodput"] = static_cast<double>(tokens_in_time) / seconds;
  std::printf("%s\n", out.dump().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return Main(argc, argv); }
