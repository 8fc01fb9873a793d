// What was sampled since the last summary: least, mean and most of each figure.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace headrace::trace {

struct SystemFigure {
  std::string key;  // below sys/; its last word is the unit: "gpu.0/power_watts"
  double min = 0, mean = 0, max = 0;
  int64_t samples = 0;  // at least 1
};

// Thread-safe: whoever takes the summary never waits for the one who samples.
class SystemSummary {
 public:
  // A number for Add(). Figures are reported in the order in which they were declared.
  size_t Declare(std::string key);
  void Add(size_t figure, double value);  // NaN, for what could not be read, is passed over
  // What a person should hear of, in a sentence.
  void Say(std::string what);

  // The figures that were sampled since the last call.
  std::vector<SystemFigure> Take();
  std::vector<std::string> TakeSaid();

 private:
  struct Sum {
    std::string key;
    double min = 0, max = 0, total = 0;
    int64_t samples = 0;
  };
  std::mutex mutex_;
  std::vector<Sum> sums_;
  std::vector<std::string> said_;
};

}  // namespace headrace::trace
