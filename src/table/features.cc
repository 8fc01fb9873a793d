#include "table/features.h"

#include <algorithm>
#include "base/json.h"
#include "table/retype.h"
#include "table/row_ids.h"
#include "table/taken.h"

namespace headrace::table {
namespace {

// In the order in which they came.
constexpr std::string_view kFeatures[] = {kTakenFeature,   kDeletesFeature, kUpdatesFeature, kExpiryFeature,
                                          kStubFeature,    kWritersFeature, kFollowFeature,  kOriginsFeature,
                                          kWidenedFeature, kSortedFeature};

bool Has(std::string_view feature) {
  for (const std::string_view known : kFeatures) {
    if (known == feature) return true;
  }
  return false;
}

}  // namespace

std::vector<std::string_view> FeaturesOf(const std::vector<Fragment>& entries) {
  std::vector<std::string_view> features;
  const auto any = [&](auto has) { return std::any_of(entries.begin(), entries.end(), has); };
  if (any([](const Fragment& entry) { return !entry.deleted.empty(); })) features.push_back(kDeletesFeature);
  if (any([](const Fragment& entry) { return entry.HasUpdates(); })) features.push_back(kUpdatesFeature);
  const auto follows = [](const Fragment& entry) {
    return !entry.gathered.empty() || std::any_of(entry.overlays.begin(), entry.overlays.end(),
                                                  [](const Overlay& overlay) { return overlay.fill; });
  };
  if (any(follows)) features.push_back(kFollowFeature);
  if (any(IsSorted)) features.push_back(kSortedFeature);
  return features;
}

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
