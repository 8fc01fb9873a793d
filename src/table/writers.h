// Exactly-once commits: the snapshot keeps the last sequence number of each named writer, so a commit that is
// tried again after its answer was lost is not made twice.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "table/snapshot.h"

namespace headrace::table {

// A commit's place among those of its writer.
struct WriterClaim {
  std::string writer;              // empty: nobody in particular, and nothing below counts
  int64_t sequence = -1;           // 0 or more, rising from commit to commit
  std::optional<int64_t> after{};  // the sequence that must be the last one there; -1: none may be
};

// The version that holds this commit already. With `after`, only the same sequence counts as the same commit;
// without, every one up to the last.
std::optional<int64_t> FindCommitted(const Snapshot& head, const WriterClaim& claim);

// Conflict where `after` is given and is not the last sequence there.
Status CheckAfter(const Snapshot& head, const WriterClaim& claim);

// Notes the claim as committed by `next`. Of more than limits::kMaxWriters writers the one that committed
// longest ago is forgotten.
void NoteCommitted(const WriterClaim& claim, Snapshot* next);

}  // namespace headrace::table
