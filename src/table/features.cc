#include "table/features.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "table/taken.h"

namespace headrace::table {
namespace {

// In the order in which they came.
constexpr std::string_view kFeatures[] = {kTakenFeature};

bool Has(std::string_view feature) {
  for (const std::string_view known : kFeatures) {
    if (known == feature) return true;
  }
  return false;
}

}  // namespace

Status CheckFeatures(const nlohmann::json& in) {
  if (!in.contains("requires")) return Status::Ok();
  std::string missing;
  for (const auto& entry : in.at("requires")) {
    const auto& feature = entry.get_ref<const std::string&>();
    if (!Has(feature)) missing += (missing.empty() ? "'" : ", '") + feature + "'";
  }
  if (missing.empty()) return Status::Ok();
  return Status::Unsupported(
      "it needs " + missing +
      ", which this program does not have: a newer Headrace wrote it; update this one");
}

}  // namespace headrace::table
