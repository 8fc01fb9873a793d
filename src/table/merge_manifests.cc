#include "table/merge_manifests.h"

#include <algorithm>
#include <map>

#include "base/limits.h"
#include "table/keys.h"
#include "table/load_manifest.h"
#include "table/size_tier.h"

namespace headrace::table {
namespace {

// Which top-level field each field lies in, by id.
using TopFields = std::map<int32_t, int32_t>;

// Of two entries of a fragment, which are `joined` without its statistics: those of the files that count.
StatsByField JoinStats(const Fragment& a, const Fragment& b, const Fragment& joined, const TopFields& tops) {
  StatsByField stats;
  const auto add = [&](const Fragment& entry) {
    for (const auto& [leaf, known] : entry.stats) {
      const auto top = tops.find(leaf);
      if (top == tops.end()) continue;  // the column was dropped
      const DataFile* brought = entry.FileOf(top->second);
      const DataFile* counts = joined.FileOf(top->second);
      if (brought != nullptr && counts != nullptr && brought->id == counts->id) stats[leaf] = known;
    }
  };
  add(a);
  add(b);
  return stats;
}

// Entries of one fragment joined into one.
std::vector<Fragment> JoinEntries(std::vector<Fragment> entries, const TopFields& tops) {
  std::map<int64_t, Fragment> by_id;
  for (auto& entry : entries) {
    const int64_t id = entry.id;
    auto [it, fresh] = by_id.try_emplace(id, std::move(entry));
    if (fresh) continue;
    Fragment& joined = it->second;
    const Fragment before = joined;
    JoinEntry(&joined, entry);
    joined.stats = JoinStats(before, entry, joined, tops);
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
  const TopFields& tops;
  std::vector<std::string>* written;

  Result<std::vector<Fragment>> Read(const ManifestRef& ref) const {
    HEADRACE_ASSIGN(auto bytes, env->store->Get(ManifestKey(prefix, ref.id)));
    HEADRACE_ASSIGN(const auto manifest, Manifest::Load(std::move(bytes), ref));
    return manifest->LoadAll();
  }
  Result<ManifestRef> Write(std::vector<Fragment> entries) const {
    HEADRACE_ASSIGN(const auto manifest, EncodeManifest(JoinEntries(std::move(entries), tops)));
    written->push_back(ManifestKey(prefix, manifest.ref.id));
    HEADRACE_TRY(store::PutFresh(env->store.get(), written->back(), manifest.bytes));
    return manifest.ref;
  }
};

}  // namespace

Status MergeManifests(Environment* env, const std::string& prefix, Snapshot* next,
                      std::vector<std::string>* written) {
  const TopFields tops = next->schema.TopFields();
  const ManifestFolder folder{env, prefix, tops, written};
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

Status DropEntries(Environment* env, const std::string& prefix, const std::set<int64_t>& fragments,
                   Snapshot* next, std::vector<std::string>* written) {
  const TopFields tops = next->schema.TopFields();
  const ManifestFolder folder{env, prefix, tops, written};
  const auto goes = [&](const Fragment& entry) { return fragments.contains(entry.id); };
  std::erase_if(next->inline_entries, goes);
  std::vector<ManifestRef> kept;
  std::vector<Fragment> left;
  for (const auto& ref : next->manifests) {
    HEADRACE_ASSIGN(const auto manifest, LoadManifest(env, prefix, ref));
    if (std::none_of(manifest->entries().begin(), manifest->entries().end(), goes)) {
      kept.push_back(ref);
      continue;
    }
    HEADRACE_ASSIGN(auto entries, manifest->LoadAll());
    std::erase_if(entries, goes);
    left.insert(left.end(), std::make_move_iterator(entries.begin()), std::make_move_iterator(entries.end()));
  }
  next->manifests = std::move(kept);
  if (left.empty()) return Status::Ok();
  // A few ride inline again: a manifest is a file, which every reader opens.
  if (static_cast<int64_t>(left.size() + next->inline_entries.size()) <= limits::kInlineFragments / 2) {
    next->inline_entries.insert(next->inline_entries.begin(), std::make_move_iterator(left.begin()),
                                std::make_move_iterator(left.end()));
    return Status::Ok();
  }
  HEADRACE_ASSIGN(const ManifestRef ref, folder.Write(std::move(left)));
  next->manifests.push_back(ref);
  return Status::Ok();
}

}  // namespace headrace::table
