// What the numbers of a request may be: told once, for the parser of bodies and for the engine, which is
// asked by others too. (The description of the API repeats them where it does not take them from here;
// serve/openapi_test.cc compares.)
#pragma once

#include <cstdint>

namespace headrace::engine {

// From `least` to `most`, both of which are inside. NaN is not.
struct Range {
  double least = 0, most = 0;
  constexpr bool Holds(float value) const {
    return value >= static_cast<float>(least) && value <= static_cast<float>(most);
  }
};

// The same of whole numbers.
struct IntegerRange {
  int64_t least = 0, most = 0;
  constexpr bool Holds(int64_t value) const { return value >= least && value <= most; }
};

inline constexpr Range kTemperatures{0, 100};
inline constexpr Range kProbabilities{0, 1};  // top_p, min_p, xtc_probability, xtc_threshold
inline constexpr Range kRepetitionPenalties{0.01, 100};
inline constexpr Range kOpenAiPenalties{-2, 2};  // frequency and presence
inline constexpr Range kBiases{-100, 100};
inline constexpr Range kDryMultipliers{0, 100};
inline constexpr Range kDryBases{1, 100};
inline constexpr IntegerRange kPriorities{-1000, 1000};
inline constexpr IntegerRange kAnswers{1, 128};  // of one call

}  // namespace headrace::engine
