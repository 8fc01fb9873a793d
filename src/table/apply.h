// The next snapshot: a head with a change applied to it.
#pragma once

#include "table/change.h"

namespace headrace::table {

// The version after `head`, without a transaction; its manifests and lists of taken items are the head's.
// Pure. The caller has checked conflicts (conflict.h). Limit where ids or columns are used up; NotFound for a
// tag or a version that is not there.
Result<Snapshot> Apply(const Change& change, const Snapshot& head);

// What is expired once all versions before `before` expire that no tag of `head` keeps.
ExpiredVersions ExpiredAfter(const Snapshot& head, int64_t before);

}  // namespace headrace::table
