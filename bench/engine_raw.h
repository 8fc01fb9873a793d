// The engine against llama.cpp's own loop in one process: equal threads, equal cache, alternating.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "model/model.h"

namespace headrace::bench {

// {"decode1": [[ours, theirs], …], "decode8": …, "prefill": …} in tokens a second.
nlohmann::json RawPairs(const std::shared_ptr<model::Model>& model, int pairs, int threads);

}  // namespace headrace::bench
