// Size tiers, as in a log-structured merge tree: lists of about one size are merged once there are enough of
// them, so that a list of n items has been rewritten log(n) times.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "base/limits.h"

namespace headrace::table {

// Tier 0 holds up to kInlineFragments items, each further one kManifestFanIn times as many.
constexpr int SizeTier(int64_t items) {
  int tier = 0;
  for (int64_t size = limits::kInlineFragments; size < items; size *= limits::kManifestFanIn) ++tier;
  return tier;
}

// The lists, by index, that are to be merged now: those of the lowest tier that is full. None where none is.
inline std::vector<size_t> FullTier(const std::map<int, std::vector<size_t>>& tiers) {
  for (const auto& [tier, lists] : tiers) {
    if (static_cast<int64_t>(lists.size()) >= limits::kManifestFanIn) return lists;
  }
  return {};
}

// The indices of `lists` by tier; `items` gives a list's size.
template <typename List, typename Items>
std::map<int, std::vector<size_t>> ByTier(const std::vector<List>& lists, Items items) {
  std::map<int, std::vector<size_t>> tiers;
  for (size_t i = 0; i < lists.size(); ++i) tiers[SizeTier(items(lists[i]))].push_back(i);
  return tiers;
}

}  // namespace headrace::table
