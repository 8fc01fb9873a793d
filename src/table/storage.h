// Where a table's bytes lie: by column in the newest version, by version, and what no version names.
//
//   HEADRACE_ASSIGN(const Storage storage, MeasureStorage(*photos, {}));
//
// It lists the table's objects, and reads every snapshot, each manifest once, and the ends of the newest
// version's Parquet files.
#pragma once

#include <string>
#include <vector>

#include "table/catalog.h"

namespace headrace::table {

// Objects and their bytes.
struct Amount {
  int64_t objects = 0;
  int64_t bytes = 0;
  void Add(int64_t more) {
    ++objects;
    bytes += more;
  }
};

// A column of one version. Columns of one Parquet file share it: each has its own pages.
struct ColumnBytes {
  Field field;
  Amount files;          // files that hold it, and the bytes of its pages there
  Amount overlays;       // of updates that wrote few rows
  int64_t filled = 0;    // physical rows of fragments that have a file of it; the others read as null
  int64_t overlaid = 0;  // rows with values in overlays
};

struct ColumnStorage {
  std::vector<ColumnBytes> columns;  // in the schema's order
  // Bytes of the version's data files that belong to no column of it: footers, page indexes and sums; and
  // values that an update or a dropped column left behind.
  int64_t overhead = 0;
  int64_t left_in_files = 0;
  Amount packs;            // media, of all blob columns
  int64_t packs_live = 0;  // of those bytes, what rows point at
};
// Reads the ends of the version's Parquet files, and lists the table's objects.
Result<ColumnStorage> MeasureColumns(const View& view, const StopToken& stop);

struct VersionBytes {
  int64_t version = 0;
  int64_t time_us = 0;
  Operation operation;
  std::vector<std::string> tags;
  Amount last;  // objects that no newer version names: what goes when this one and all before it expire
};

struct Storage {
  int64_t version = 0;  // the newest
  int64_t rows = 0;
  ColumnStorage newest_columns;
  // Each object counts once.
  Amount newest;                       // named by the newest version
  Amount older;                        // only by older ones
  Amount history;                      // snapshots: they are the log
  Amount derived;                      // streams' selections and locks: may go at any time
  Amount unnamed;                      // by no version: being written just now, or left behind by a crash
  std::vector<VersionBytes> versions;  // ascending; those that can be read
};

Result<Storage> MeasureStorage(const Table& table, const StopToken& stop);

// What a catalog holds beside its tables.
struct BesideTables {
  Amount dropped;  // tables that no name points at any more
  Amount models;
  Amount artifacts;  // of runs, and files of their checkpoints
};
Result<BesideTables> MeasureBeside(const Catalog& catalog, const StopToken& stop);

// How the fragments of a version lie.
struct Layout {
  int64_t fragments = 0;
  int64_t small = 0;  // of less than limits::kSmallFragmentRows
  int64_t least_rows = 0;
  int64_t median_rows = 0;
  int64_t most_rows = 0;
  int64_t deleted = 0;  // rows
  int64_t erased = 0;   // of them, those whose values are gone from the files
  int64_t overlays = 0;
  int64_t manifests = 0;
  int64_t inline_entries = 0;
};
Result<Layout> LayoutOf(const View& view);

}  // namespace headrace::table
