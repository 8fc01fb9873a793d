// A snapshot: everything about a table at one version. Immutable once written.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "store/object_store.h"
#include "table/fragment.h"
#include "table/schema.h"

namespace headrace::table {

inline constexpr int kFormatVersion = 1;

enum class OperationKind {
  kCreate,
  kAppend,
  kAddColumns,
  kSchemaChange,
  kTag,
  kReserve,
  kDelete,
  kUpdate,
  kMerge,
  kRestore,
  kCompact,
  kRetain,
  kExpire,
  kSort
};
inline constexpr int kOperationKinds = 14;
const char* OperationName(OperationKind kind);

// What a commit did: one line of `headrace log`.
struct Operation {
  OperationKind kind = OperationKind::kCreate;
  std::string who;                   // "ada@laptop"
  std::string why;                   // free text, or empty
  std::string how;                   // the program or command, e.g. "headrace ingest photos/"
  int64_t rows = 0;                  // appended, deleted or changed
  int64_t fragments = 0;             // appended or filled
  int64_t bytes = 0;                 // written as data
  std::vector<std::string> columns;  // added, renamed or dropped, in words
  std::vector<int32_t> field_ids;    // added, filled, renamed or dropped
  std::vector<std::string> inputs;   // lineage: "table@version" read to make this, or a query's text
};

struct ManifestRef {
  Uuid id;
  int64_t entries = 0;
  int64_t rows = 0;
  int64_t bytes = 0;
  uint64_t checksum = 0;  // XXH3 of the file
};

// A list of items that the table has taken in (taken.h).
struct TakenRef {
  Uuid id;
  int64_t items = 0;
  int64_t bytes = 0;
  uint64_t checksum = 0;  // XXH3 of the file
};

struct WriterMark {
  int64_t sequence = 0;  // the last that was committed
  int64_t version = 0;   // by this version
  bool keep = false;     // it does not go by age
};

// Versions that are no more to be read: all before `before`, except those that were kept.
struct ExpiredVersions {
  int64_t before = 1;
  std::vector<int64_t> kept;  // ascending, each less than `before`

  bool Has(int64_t version) const;
  bool operator==(const ExpiredVersions&) const = default;
};

struct Snapshot {
  Uuid table;
  int64_t version = 0;
  std::string transaction;  // unique: tells one's own commit from another's after an ambiguous answer
  int64_t time_us = 0;      // strictly rising from version to version, whatever the clocks do
  Operation operation;
  Schema schema;
  int32_t next_field_id = 1;
  int64_t next_row_id = 0;
  int64_t next_fragment_id = 0;
  int64_t rows = 0;  // without those deleted
  std::vector<ManifestRef> manifests;
  std::vector<Fragment> inline_entries;
  std::map<std::string, WriterMark> writers;
  int64_t writers_forgotten = 0;  // marks of this version or earlier ones may be gone; 0: none is
  std::vector<TakenRef> taken;
  int64_t rows_before_taken = 0;  // the table's rows when its first item was taken in
  std::map<std::string, int64_t> tags;
  int64_t keep_us = 0;  // how long a version is kept after the next one came; 0: for ever
  // Compaction sorts the rows of a fragment by these top-level fields (sort_rows.h); empty: by nothing.
  std::vector<int32_t> sort_by;
  ExpiredVersions expired;
  // Files that were written for commits which began before this version, and that no version had named by
  // then, may be deleted: such commits are refused (docs/decisions/032).
  int64_t collected = 0;
  // Rows that were deleted by this version are to be erased: from files, and with every earlier version. 0:
  // none.
  int64_t erase = 0;
  // A fill that began before this version does not follow its rows into fragments that compaction wrote: a
  // version was restored since, or rows were deleted that are to be erased. 0: there was neither.
  int64_t follow_from = 0;
  // What is left of an expired version: who did what and when, the counters, and the number of rows.
  bool is_stub = false;
  bool is_lost = false;  // a stub that repair put where a version could not be read
};

std::string EncodeSnapshot(const Snapshot& snapshot);
// What stands for an expired version for ever: its number is taken, and its line in the log stays.
std::string EncodeStub(const Snapshot& snapshot);
// Of either. Corrupt if the checksum, the format or any number does not hold; Unsupported if a newer program
// wrote it.
Result<Snapshot> DecodeSnapshot(std::string_view text, const std::string& key);

}  // namespace headrace::table
