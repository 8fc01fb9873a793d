// header: what the head of a GGUF file says, without its weights and vocabulary. For files that a probe has
// passed (probe.h).
#pragma once

#include <string>

#include "model/model.h"

namespace headrace::model {

// Of the facts: name, architecture, trained_context, ranks and memory, as far as they can be told (an
// encoder, or not); the rest is as in no model.
Result<Facts> ReadHeader(const std::string& path);

// Whether a file's model has weights that make a score of a pair.
Result<bool> HasRankHead(const std::string& path);

}  // namespace headrace::model
