// What a reader must know to read a file: "requires", a list of names in catalog.json, in each snapshot and
// in each manifest. Members that a reader does not know are ignored; a change that would make ignoring them
// wrong (deleted rows, another file kind) names a feature here, and a reader without it refuses, by that
// name.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "table/fragment.h"

namespace headrace::table {

inline constexpr std::string_view kDeletesFeature =
    "deletes";  // rows of fragments that are not there any more
inline constexpr std::string_view kUpdatesFeature =
    "updates";  // overlays, and files that stand for older ones

inline constexpr std::string_view kExpiryFeature = "expiry";    // versions that expire, files that go
inline constexpr std::string_view kWritersFeature = "writers";  // marks that are kept, or may be gone
inline constexpr std::string_view kStubFeature = "stub";        // what is left of an expired version
// Fills that may follow their rows: what was updated when, before compaction gathered it.
inline constexpr std::string_view kFollowFeature = "follow";

// Fragments whose rows lie in another order than their ids, and tables that want it so.
inline constexpr std::string_view kSortedFeature = "sorted";

// What a reader of these entries must know.
std::vector<std::string_view> FeaturesOf(const std::vector<Fragment>& entries);

// `in`: an object that may have "requires". Unsupported if that names what this program does not have. Throws
// as nlohmann::json does where it is no list of strings.
Status CheckFeatures(const nlohmann::json& in);

}  // namespace headrace::table
