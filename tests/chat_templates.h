// Chat templates that tests go through.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "model/chat.h"

namespace headrace::testing {

// A chat template: its name, and its text, or the name again where the library knows it.
struct Source {
  std::string name, text;
};
// Those with a name in llama.cpp, and the templates of its own tests (HEADRACE_LLAMA_TEMPLATES), by name.
inline std::vector<Source> Sources() {
  std::vector<Source> all;
  for (const std::string& name : model::ChatTemplate::Names()) all.push_back({name, name});
  for (const auto& file : std::filesystem::directory_iterator(HEADRACE_LLAMA_TEMPLATES)) {
    if (file.path().extension() != ".jinja") continue;
    std::ifstream in(file.path());
    all.push_back({file.path().stem(), std::string(std::istreambuf_iterator<char>(in), {})});
  }
  std::sort(all.begin(), all.end(), [](const Source& a, const Source& b) { return a.name < b.name; });
  return all;
}

}  // namespace headrace::testing
