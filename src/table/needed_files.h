// The files of a table that a version needs. What needs them, by kind, is keys.h.
#pragma once

#include <functional>

#include "table/keys.h"
#include "table/view.h"

namespace headrace::table {

using NeededFileFn = std::function<void(ObjectKind kind, const Uuid& id)>;

// Its manifests and lists of what was taken in: known from the snapshot alone.
void ForEachListFile(const Snapshot& snapshot, const NeededFileFn& fn);
// Data files, packs and sets of rows of the fragments, overlays among them. A tensor's sums have its id.
Status ForEachDataFile(const View& view, const NeededFileFn& fn);

}  // namespace headrace::table
