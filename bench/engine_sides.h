// Who answers a bench's requests: our engine in this process, or a llama-server over HTTP.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace headrace::bench {

using engine::Request;

struct Result {
  std::vector<double> at;  // when each piece came; the first is the time to the first token's end
  double sent = 0;
  int64_t tokens = 0;     // of the answer
  int64_t forced = 0;     // of those, without asking the model
  int64_t prefilled = 0;  // of the prompt, computed
  std::string text;
  std::string finish;
};

class Side {
 public:
  virtual ~Side() = default;
  virtual Result Ask(const Request& request) = 0;
  virtual int64_t Embed(const std::vector<std::string>& texts) = 0;  // vectors given
};

// The value, or the program ends with the error.
template <typename T>
T Must(headrace::Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
    std::exit(1);
  }
  return std::move(result).value();
}

// `embeds`: an embedder instead. `*engine`: the engine, for what it says of itself.
std::unique_ptr<Side> MakeOurs(const std::shared_ptr<model::Model>& model,
                               const engine::EngineOptions& options, bool embeds,
                               engine::Engine** engine = nullptr);
std::unique_ptr<Side> MakeTheirs(std::string url);

}  // namespace headrace::bench
