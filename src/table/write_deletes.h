// The sets of deleted rows that a commit leaves behind.
#pragma once

#include <string>
#include <vector>

#include "table/change.h"
#include "table/view.h"

namespace headrace::table {

// What a change deletes; null where it deletes nothing.
const DeleteRows* DeletesOf(const Change& change);

// Adds an entry to `next` for every fragment that loses rows: those deleted in `head` and those of the change
// together. Takes them from the count of rows; a row that is gone already counts once. Puts a file where the
// sets are large, and adds its key to `written`. Conflicts have been checked: the fragments are there.
Status WriteDeletes(const DeleteRows& deletes, const View& head, Snapshot* next,
                    std::vector<std::string>* written);

}  // namespace headrace::table
