// What is known of runs as names and values, and in what they differ.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace headrace::cli {

using NamedValues = std::map<std::string, nlohmann::ordered_json>;

// Names and values of nested objects, as "a.b".
void Flatten(const nlohmann::ordered_json& value, const std::string& name, NamedValues* out);
// An input or output of a run in a line: "photos@v7", "model.pt sha256:0123… 1.2 MB".
std::string InputText(const nlohmann::ordered_json& input);
// From the row of a run.
std::string TimeText(const nlohmann::ordered_json& time);
std::string TookText(const nlohmann::ordered_json& run);

struct Difference {
  std::string what;                            // "config.lr", "env.packages.numpy", "input table photos"
  std::vector<nlohmann::ordered_json> values;  // of each run; discarded where it has none
};
struct Differences {
  std::vector<Difference> rows;
  size_t same = 0;  // values of which all runs have the same
};
// Of rows of runs_now: state, project, host, config, summary, code, packages, data.
Differences DifferencesOf(const std::vector<nlohmann::ordered_json>& runs);

}  // namespace headrace::cli
