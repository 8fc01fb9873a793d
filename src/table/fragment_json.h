// Manifest entries as JSON: how they ride inside a snapshot, and how manifests hold overlays.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "table/fragment.h"

namespace headrace::table {

// The readers throw what nlohmann's does where a member is missing or of another type, std::out_of_range for
// numbers that do not fit.
nlohmann::json FragmentToJson(const Fragment& fragment);
Result<Fragment> FragmentFromJson(const nlohmann::json& in);
nlohmann::json RowSetToJson(const RowSetRef& rows);
Result<RowSetRef> RowSetFromJson(const nlohmann::json& in);
nlohmann::json OverlaysToJson(const std::vector<Overlay>& overlays);
Result<std::vector<Overlay>> OverlaysFromJson(const nlohmann::json& in);
nlohmann::json GatheredToJson(const std::map<int32_t, int64_t>& gathered);
std::map<int32_t, int64_t> GatheredFromJson(const nlohmann::json& in);

}  // namespace headrace::table
