// What a table has taken in: one item for each file or object whose rows were appended, committed together
// with those rows. Ingest asks here whether something is in the table; the commit checks it again.
//
// The snapshot names a few immutable lists, tables/<uuid>/taken/<id>, merged by size tier as manifests are:
// snapshots stay small, and nothing is ever forgotten.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "table/environment.h"
#include "table/snapshot.h"

namespace headrace::table {

// What a program must know to commit to a table that has such lists (features.h), and ones with rows.
inline constexpr const char* kTakenFeature = "taken";
inline constexpr const char* kOriginsFeature = "origins";

struct TakenItem {
  std::string source;       // its key: an absolute place or URI, as bytes
  int64_t bytes = 0;        // its size
  int64_t modified_ns = 0;  // its time of change
  uint64_t content = 0;     // XXH3 of its bytes
  // The version that took it. In an append: the version that is expected there, 0 if the item must be new.
  int64_t version = 0;
  // Its rows, in order: of the id `first_row` and those after it. In an append: counted from the first row of
  // the append. -1: nothing is known of them (taken in by an earlier program).
  int64_t first_row = -1;
  int64_t rows = 0;
  // In an append: the rows that these take the place of. They are deleted by the same commit.
  int64_t replaced_first = 0;
  int64_t replaced_rows = 0;
};

struct Taken {
  std::unordered_map<std::string, TakenItem> items;  // by source
  int64_t rows_before = 0;  // rows that the table had before its first item: nothing is known of them
};

Result<Taken> LoadTaken(Environment* env, const std::string& prefix, const Snapshot& snapshot);

// Conflict where somebody has taken one of these in since: the head has another version of it than the item
// expects.
Status CheckTaken(Environment* env, const std::string& prefix, const Snapshot& head,
                  const std::vector<TakenItem>& items);

// Adds the items of an append, once they are checked, to the snapshot that is about to be put; `head` is the
// one below it. Adds the keys that it wrote to `written`.
Status AddTaken(Environment* env, const std::string& prefix, const Snapshot& head,
                const std::vector<TakenItem>& items, Snapshot* next, std::vector<std::string>* written);

}  // namespace headrace::table
