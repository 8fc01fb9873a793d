// Keeps a table's manifests few, whatever the number of its commits.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "table/environment.h"
#include "table/snapshot.h"

namespace headrace::table {

// Before a snapshot of the table at `prefix` is put: moves its inline entries into a manifest where they are
// more than limits::kInlineFragments, and merges manifests of one size tier, or the smallest where they are
// more than limits::kMaxManifests. Adds the keys that it wrote to `written`, also when it fails.
Status MergeManifests(Environment* env, const std::string& prefix, Snapshot* next,
                      std::vector<std::string>* written);

// Takes the entries of the fragments with these ids out of `next`: the manifests that hold any of them are
// written anew.
Status DropEntries(Environment* env, const std::string& prefix, const std::set<int64_t>& fragments,
                   Snapshot* next, std::vector<std::string>* written);

}  // namespace headrace::table
