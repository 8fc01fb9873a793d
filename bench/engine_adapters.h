// LoRA adapters at random for the benches: of every linear layer of a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace headrace::bench {

// Writes one in the temporary folder; its path, "" if it could not be written.
std::string WriteAdapter(const std::string& model, const std::string& architecture, uint64_t seed, int rank);

}  // namespace headrace::bench
