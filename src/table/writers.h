// Exactly-once commits: the snapshot keeps the last sequence number of each named writer (its mark), so a
// commit that is tried again after its answer was lost is not made twice. A mark is kept for kMarkUs at
// least; a writer that comes back when its mark is gone is refused (docs/decisions/033).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "table/snapshot.h"

namespace headrace::table {

// A mark stays for so long after its writer's last commit, by the store's clock: 30 days.
inline constexpr int64_t kMarkUs = int64_t{30} * 24 * 3600 * 1'000'000;
// Where limits::kMaxWriters are reached, so many go at once, the stalest first.
inline constexpr int64_t kMarksForgotten = 512;

// A commit's place among those of its writer.
struct WriterClaim {
  std::string writer;              // empty: nobody in particular, and nothing below counts
  int64_t sequence = -1;           // 0 or more, rising from commit to commit
  std::optional<int64_t> after{};  // the sequence that must be the last one there; -1: none may be
  int64_t since = 0;               // a version of which it is known that it does not have this commit
};

// What is said about a writer apart from its commits.
struct WriterChange {
  enum class Kind {
    kKeep,     // its mark never goes by age; one that has none begins here
    kRelease,  // it may go again
    kForget    // it goes now
  };
  Kind kind = Kind::kKeep;
  std::string writer;
};

// The version that holds this commit already. With `after`, only the same sequence counts as the same commit;
// without, every one up to the last.
std::optional<int64_t> FindCommitted(const Snapshot& head, const WriterClaim& claim);

// For a claim that FindCommitted does not find. Conflict where `after` is given and is not the last sequence
// there; Unknown where the writer's mark may have gone since `since`, so that nobody knows whether the commit
// was made.
Status CheckClaim(const Snapshot& head, const WriterClaim& claim);

// Notes the claim as committed by `next`.
void NoteCommitted(const WriterClaim& claim, Snapshot* next);

// NotFound where a writer without a mark is to be released or forgotten.
Status ChangeWriter(const WriterChange& change, Snapshot* next);

// Where `next` has more than limits::kMaxWriters marks, the stalest go whose writers, other than `writer`,
// last committed kMarkUs ago. `put_us` tells when a version was put, by the store's clock; 0: nobody knows.
// Limit where none may go.
Status MakeRoom(const std::string& writer, const std::function<Result<int64_t>(int64_t version)>& put_us,
                Snapshot* next);

}  // namespace headrace::table
