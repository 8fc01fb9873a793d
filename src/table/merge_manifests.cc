#include "table/merge_manifests.h"
#include "table/keys.h"

#include <algorithm>
#include <map>

#include "base/limits.h"
#include "table/manifest.h"
#include "table/size_tier.h"

namespace headrace::table {
namespace {

// Entries of one fragment joined into one.
std::vector<Fragment> JoinEntries(std::vector<Fragment> entries) {
  std::map<int64_t, Fragment> by_id;
  for (auto& entry : entries) {
    const int64_t id = entry.id;
    auto [it, fresh] = by_id.try_emplace(id, std::move(entry));
    if (fresh) continue;
    Fragment& joined = it->second;
    joined.files.insert(joined.files.end(), entry.files.begin(), entry.files.end());
    joined.packs.insert(joined.packs.end(), entry.packs.begin(), entry.packs.end());
    joined.version = std::max(joined.version, entry.version);
    joined.stats.merge(entry.stats);
  }
  std::vector<Fragment> joined;
  joined.reserve(by_id.size());
  for (auto& [id, entry] : by_id) joined.push_back(std::move(entry));
  return joined;
}

// Which manifests are to become one now, by index; none where they are few enough.
std::vector<size_t> ChooseMerge(const std::vector<ManifestRef>& manifests) {
  const auto tiers = ByTier(manifests, [](const ManifestRef& ref) { return ref.entries; });
  std::vector<size_t> chosen = FullTier(tiers);
  if (!chosen.empty() || static_cast<int64_t>(manifests.size()) <= limits::kMaxManifests) return chosen;
  for (const auto& [tier, members] : tiers) {
    chosen.insert(chosen.end(), members.begin(), members.end());
    if (chosen.size() > 1) break;
  }
  return chosen;
}

// One table's store, and the keys written to it.
struct ManifestFolder {
  Environment* env;
  const std::string& prefix;
  std::vector<std::string>* written;

  Result<std::vector<Fragment>> Read(const ManifestRef& ref) const {
    HEADRACE_ASSIGN(auto bytes, env->store->Get(ManifestKey(prefix, ref.id)));
    HEADRACE_ASSIGN(const auto manifest, Manifest::Load(std::move(bytes), ref));
    return manifest->LoadAll();
  }
  Result<ManifestRef> Write(std::vector<Fragment> entries) const {
    HEADRACE_ASSIGN(const auto manifest, EncodeManifest(JoinEntries(std::move(entries))));
    written->push_back(ManifestKey(prefix, manifest.ref.id));
    HEADRACE_TRY(store::PutFresh(env->store.get(), written->back(), manifest.bytes));
    return manifest.ref;
  }
};

}  // namespace

Status MergeManifests(Environment* env, const std::string& prefix, Snapshot* next,
                      std::vector<std::string>* written) {
  const ManifestFolder folder{env, prefix, written};
  if (static_cast<int64_t>(next->inline_entries.size()) > limits::kInlineFragments) {
    HEADRACE_ASSIGN(const ManifestRef ref, folder.Write(std::move(next->inline_entries)));
    next->inline_entries.clear();
    next->manifests.push_back(ref);
  }
  for (;;) {
    const std::vector<size_t> chosen = ChooseMerge(next->manifests);
    if (chosen.empty()) return Status::Ok();
    std::vector<Fragment> entries;
    std::vector<ManifestRef> kept;
    for (size_t i = 0; i < next->manifests.size(); ++i) {
      if (std::find(chosen.begin(), chosen.end(), i) == chosen.end()) {
        kept.push_back(next->manifests[i]);
        continue;
      }
      HEADRACE_ASSIGN(auto all, folder.Read(next->manifests[i]));
      entries.insert(entries.end(), std::make_move_iterator(all.begin()), std::make_move_iterator(all.end()));
    }
    HEADRACE_ASSIGN(const ManifestRef merged, folder.Write(std::move(entries)));
    kept.push_back(merged);
    next->manifests = std::move(kept);
  }
}

}  // namespace headrace::table
