#include "engine_sides.h"

#include <curl/curl.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "engine/embedder.h"

namespace headrace::bench {
namespace {

using nlohmann::json;

class Ours : public Side {
 public:
  Ours(std::shared_ptr<model::Model> model, const engine::EngineOptions& options, bool embeds) {
    if (embeds) {
      embedder_ = Must(engine::Embedder::Start(model));
    } else {
      engine_ = Must(engine::Engine::Start(model, options));
    }
  }
  Result Ask(const Request& request) override {
    Result result;
    result.sent = MonotonicSeconds();
    const auto stream = Must(engine_->Submit(request));
    while (auto delta = stream->Next()) {
      if (!delta->tokens.empty()) result.at.push_back(MonotonicSeconds());
      result.tokens += static_cast<int64_t>(delta->tokens.size());
      result.text += delta->text;
      if (delta->finish != engine::Finish::kNone) {
        if (!delta->error.ok()) std::fprintf(stderr, "%s\n", delta->error.ToString().c_str());
        result.finish = engine::FinishName(delta->finish);
        result.forced = delta->usage.forced_tokens;
        result.prefilled = delta->usage.prompt_tokens - delta->usage.cached_tokens;
      }
    }
    return result;
  }
  int64_t Embed(const std::vector<std::string>& texts) override {
    return static_cast<int64_t>(Must(embedder_->Embed(texts)).values.size()) / embedder_->width();
  }
  engine::Engine* engine() { return engine_.get(); }

 private:
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<engine::Embedder> embedder_;
};

class Theirs : public Side {
 public:
  explicit Theirs(std::string url) : url_(std::move(url)) {}

  Result Ask(const Request& request) override {
    json body = {{"prompt", request.prompt.keys()},
                 {"n_predict", request.max_tokens},
                 {"stream", true},
                 {"cache_prompt", request.reuse},
                 {"ignore_eos", request.ignore_end},
                 {"temperature", request.sampling.temperature},
                 {"top_k", request.sampling.top_k},
                 {"top_p", request.sampling.top_p},
                 {"min_p", request.sampling.min_p},
                 {"repeat_penalty", 1.0},
                 {"seed", request.sampling.seed % 1'000'000}};
    if (request.structure.kind == engine::Structure::Kind::kSchema)
      body["json_schema"] = json::parse(request.structure.text);
    if (request.adapter >= 0) body["lora"] = json::array({{{"id", request.adapter}, {"scale", 1.0}}});
    struct State {
      Result result;
      std::string held;
    } state;
    state.result.sent = MonotonicSeconds();
    Post(
        "/completion", body.dump(),
        [](char* data, size_t size, size_t count, void* to) -> size_t {
          auto* s = static_cast<State*>(to);
          s->held.append(data, size * count);
          for (size_t end = 0; (end = s->held.find('\n')) != std::string::npos; s->held.erase(0, end + 1)) {
            if (s->held.rfind("data: ", 0) != 0) continue;
            const json piece = json::parse(s->held.substr(6, end - 6), nullptr, false);
            if (!piece.is_object()) continue;
            const std::string content = piece.value("content", "");
            s->result.text += content;
            if (piece.value("stop", false)) {
              s->result.tokens = piece.value("tokens_predicted", int64_t{0});
              s->result.finish = piece.value("stop_type", "");
              if (piece.contains("timings"))
                s->result.prefilled = piece["timings"].value("prompt_n", int64_t{0});
            } else {
              s->result.at.push_back(MonotonicSeconds());
            }
          }
          return size * count;
        },
        &state);
    return state.result;
  }

  int64_t Embed(const std::vector<std::string>& texts) override {
    std::string answer;
    Post(
        "/v1/embeddings", json({{"input", texts}, {"model", "m"}, {"encoding_format", "base64"}}).dump(),
        [](char* data, size_t size, size_t count, void* to) -> size_t {
          static_cast<std::string*>(to)->append(data, size * count);
          return size * count;
        },
        &answer);
    int64_t vectors = 0;
    for (size_t at = answer.find("\"embedding\":"); at != std::string::npos;
         at = answer.find("\"embedding\":", at + 1))
      ++vectors;
    return vectors;
  }

 private:
  void Post(const std::string& path, const std::string& body, curl_write_callback write, void* to) {
    thread_local CURL* handle = curl_easy_init();
    curl_easy_reset(handle);
    curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_setopt(handle, CURLOPT_URL, (url_ + path).c_str());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body.c_str());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, write);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, to);
    curl_easy_setopt(handle, CURLOPT_NOPROXY, "*");
    if (const CURLcode code = curl_easy_perform(handle); code != CURLE_OK)
      std::fprintf(stderr, "%s%s: %s\n", url_.c_str(), path.c_str(), curl_easy_strerror(code));
    curl_slist_free_all(headers);
  }
  std::string url_;
};

}  // namespace

std::unique_ptr<Side> MakeOurs(const std::shared_ptr<model::Model>& model,
                               const engine::EngineOptions& options, bool embeds, engine::Engine** engine) {
  auto side = std::make_unique<Ours>(model, options, embeds);
  if (engine != nullptr) *engine = side->engine();
  return side;
}

std::unique_ptr<Side> MakeTheirs(std::string url) { return std::make_unique<Theirs>(std::move(url)); }

}  // namespace headrace::bench
