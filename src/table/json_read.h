// Integers from JSON that may be damaged: a float or a number out of range is an error, never a silent
// conversion.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>
#include "base/json.h"

namespace headrace::table {

// Throws std::out_of_range, which the decoders turn into Corrupt.
template <typename T>
T JsonInt(const nlohmann::json& json) {
  const auto fail = [&] {
    throw std::out_of_range("'" + json.dump().substr(0, 40) + "' is not an integer that fits");
  };
  if (json.is_number_unsigned()) {
    const auto value = json.get<uint64_t>();
    if (value > static_cast<uint64_t>(std::numeric_limits<T>::max())) fail();
    return static_cast<T>(value);
  }
  if (!json.is_number_integer()) fail();
  const auto value = json.get<int64_t>();
  if (value < std::numeric_limits<T>::min() || value > std::numeric_limits<T>::max()) fail();
  return static_cast<T>(value);
}

inline std::vector<int32_t> JsonInts(const nlohmann::json& json) {
  std::vector<int32_t> values;
  for (const auto& entry : json) values.push_back(JsonInt<int32_t>(entry));
  return values;
}

}  // namespace headrace::table
