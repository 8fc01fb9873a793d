// A change that somebody wants to commit to a table: one struct for each kind of commit, and what all have in
// common. A new kind is a struct here, a row and a column of the matrix (conflict.h) and an overload in
// apply.cc.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "table/snapshot.h"
#include "table/taken.h"
#include "table/writers.h"

namespace headrace::table {

class KeyTable;

// New rows, in fragments of their own.
struct AppendRows {
  static constexpr OperationKind kKind = OperationKind::kAppend;
  std::vector<Fragment> fragments;  // without id and first_row_id: they get them where they land
  std::vector<TakenItem> taken;     // the items whose rows these are
};

// Values for holes of existing rows, of new columns or of existing ones. New columns without any values are
// one of these without entries.
struct FillColumns {
  static constexpr OperationKind kKind = OperationKind::kAddColumns;
  std::vector<Field> new_fields;  // with reserved ids; empty where only existing columns are filled
  std::vector<Fragment> entries;  // id, first_row_id, rows, files and statistics, for existing fragments
};

struct ChangeSchema {
  static constexpr OperationKind kKind = OperationKind::kSchemaChange;
  struct Rename {
    int32_t id;
    std::string to;
  };
  std::vector<Rename> renames;
  std::vector<int32_t> drops;    // ids of top-level fields
  std::vector<Field> widened{};  // top-level fields as they are from now on (retype.h)
};

// A tag is put on a version, moved, or taken away.
struct MoveTag {
  static constexpr OperationKind kKind = OperationKind::kTag;
  std::string tag;
  std::optional<int64_t> version;  // none: the tag goes
  bool from_anywhere = false;      // false: where the tag is on another version, that is AlreadyExists
};

// Field ids for columns that are about to be written: they stand in the files before the columns exist.
struct ReserveFieldIds {
  static constexpr OperationKind kKind = OperationKind::kReserve;
  int32_t count = 0;
};

// Rows of one fragment.
struct RowsOfFragment {
  Fragment fragment;  // as it was read: without statistics
  std::shared_ptr<const RowSet> rows;
};

struct DeleteRows {
  static constexpr OperationKind kKind = OperationKind::kDelete;
  std::vector<RowsOfFragment> rows;  // ascending by fragment
  bool erase = false;                // their bytes go too, once they are collected
};

// New values for rows that are there.
struct UpdateRows {
  static constexpr OperationKind kKind = OperationKind::kUpdate;
  std::vector<Fragment> entries;  // overlays, or files that stand for the older ones; both without versions
};

// Rows of another table brought into this one by a key: those that match change or go, the others are new.
// One commit.
// Also items that were taken in before, and have changed: `append` has their rows, `deletes` the earlier
// ones.
struct MergeRows {
  static constexpr OperationKind kKind = OperationKind::kMerge;
  UpdateRows update;
  DeleteRows deletes;
  AppendRows append;
  // The key's columns, and the keys of all rows that were brought in (null: there is no key); rows from
  // `next_row_id` on came after the version that was read.
  std::vector<std::string> on;
  std::shared_ptr<const KeyTable> keys;
  int64_t next_row_id = 0;
  // The rows whose keys matched, and that change: they must still be there.
  std::vector<RowsOfFragment> matched{};
};

// The table as it was at another version: its rows, columns and values, but not its tags and counters.
struct RestoreVersion {
  static constexpr OperationKind kKind = OperationKind::kRestore;
  std::shared_ptr<const Snapshot> version;
};

// Fragments written anew, with the same rows: in the same order, or sorted by the table's key.
struct CompactFragments {
  static constexpr OperationKind kKind = OperationKind::kCompact;
  struct Part {
    std::vector<Fragment> replaced;  // neighbours, as they were read: without statistics
    // Without ids: one; several where a column is filled for some of the rows; none where all are deleted.
    std::vector<Fragment> merged;
  };
  std::vector<Part> parts;
};

// What the table keeps: how long versions once a newer one is there (0: for ever), and whose marks.
struct KeepVersions {
  static constexpr OperationKind kKind = OperationKind::kRetain;
  std::optional<int64_t> keep_us;  // none: as before
  std::vector<WriterChange> writers{};
};

// Versions expire, and files may go: collect.h.
struct ExpireVersions {
  static constexpr OperationKind kKind = OperationKind::kExpire;
  int64_t before = 0;     // all earlier versions expire, except those with tags
  int64_t collected = 0;  // Snapshot::collected
  int64_t erased = 0;     // what was to be erased at this version is gone from the newest version's files
};

// By what compaction sorts the rows of a fragment: top-level fields; none: they stay in order of their ids.
struct SortRows {
  static constexpr OperationKind kKind = OperationKind::kSort;
  std::vector<int32_t> fields;
};

// Values that were read to make a change, or that it replaces. Others may change other rows meanwhile.
struct UsedValues {
  Fragment fragment;                   // as it was read: without statistics
  std::shared_ptr<const RowSet> rows;  // null: every row
  std::vector<int32_t> fields;         // top-level
};

struct Change {
  std::variant<AppendRows, FillColumns, ChangeSchema, MoveTag, ReserveFieldIds, DeleteRows, UpdateRows,
               MergeRows, RestoreVersion, CompactFragments, KeepVersions, ExpireVersions, SortRows>
      what;
  Operation operation;             // for the log; its kind is given by `what`
  WriterClaim claim;               // exactly-once; may be empty
  std::vector<Field> fields_used;  // top-level fields, as they were when they were read or written
  std::vector<UsedValues> values_used{};
  // The version that was the newest, or a later one, before the first file of it was written; 0: it brings
  // none.
  int64_t base = 0;

  OperationKind kind() const {
    return std::visit([](const auto& part) { return std::decay_t<decltype(part)>::kKind; }, what);
  }
};

// The rows that a change adds; null where it adds none.
inline const AppendRows* AppendOf(const Change& change) {
  if (const auto* merge = std::get_if<MergeRows>(&change.what)) return &merge->append;
  return std::get_if<AppendRows>(&change.what);
}

}  // namespace headrace::table
