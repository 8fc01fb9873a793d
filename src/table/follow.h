// Fills that follow their rows into fragments which compaction wrote meanwhile.
//
// A fill writes files for fragments as they were when it began, and a backfill takes days. Compaction need
// not wait for it: what was to be a file of a fragment becomes an overlay of the one that has its rows now,
// if the values that it was computed from are still the same there (docs/decisions/035).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "table/change.h"
#include "table/view.h"

namespace headrace::table {

// Whether the rows of `before`, as a change read them whose base is version `base`, have the same values of
// this field in `now`, another fragment, which compaction wrote since then.
Result<bool> SameValuesGathered(const View& head, const Fragment& before, const Fragment& now, int32_t field,
                                int64_t base);

// Adds the entries of a fill to `next`: each for its fragment, or for the one that has its rows in `head`.
// Puts a file where sets of rows are large, and adds its key to `written`. Conflicts have been checked.
Status WriteFills(const FillColumns& fill, const View& head, Snapshot* next,
                  std::vector<std::string>* written);

}  // namespace headrace::table
