// A fragment: some whole rows, and the files that hold their columns. The unit of conflict is (fragment,
// field).
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "table/row_set_file.h"
#include "table/stats.h"

namespace headrace::table {

enum class FileKind : uint8_t { kParquet, kTensor };

const char* FileKindName(FileKind kind);                  // "parquet", "tensor"
Result<FileKind> ParseFileKind(const std::string& name);  // Unsupported for kinds of a newer Headrace

// Columns of a fragment that were written together. Shared by all fragments of one write.
struct ColumnGroup {
  FileKind kind = FileKind::kParquet;
  std::vector<int32_t> fields;  // top-level field ids, ascending
  bool operator==(const ColumnGroup&) const = default;
  auto operator<=>(const ColumnGroup&) const = default;
};

// The end of a Parquet file: its page indexes and its footer.
struct ParquetTail {
  int64_t bytes = 0;  // from the first page index, or the footer where there is none, to the end of the file
  uint64_t sum = 0;   // XXH3 of them; bytes == 0: nothing is known (files written before sums were)
};

struct DataFile {
  Uuid id;
  int64_t bytes = 0;
  std::shared_ptr<const ColumnGroup> column_group;
  ParquetTail tail;  // of a Parquet file
  int64_t decoded =
      0;  // bytes of its pages without compression; 0: they have none, or it was not written down
  // Of the update that wrote it to stand for older values of its fields; 0: there were none.
  int64_t version = 0;

  // What its values take in memory, about.
  int64_t decoded_bytes() const { return std::max(bytes, decoded); }
};

// New values for some rows of a fragment, laid over its files: what an update of few rows writes.
struct Overlay {
  int64_t version = 0;          // of the update that wrote it
  RowSetRef rows;               // the rows that it has values for
  int64_t first = 0;            // their first value in the files, which may be shared with other fragments
  std::vector<DataFile> files;  // of the columns that it has values of
  StatsByField stats;           // of all values in the files
  // Values for a hole, which was to be a file of a fragment that compaction has put into this one meanwhile.
  // Nobody has updated these rows of it since that fill began, or it would not be here.
  bool fill = false;

  const DataFile* FileOf(int32_t field) const;
};

// How many of a fragment's rows have a place for a field's value.
enum class Filled : uint8_t { kNone, kSome, kAll };

struct PackUse {
  Uuid id;
  int64_t live_bytes = 0;
};

// One manifest entry. Several entries may speak of one fragment: what they say adds up (a column added later
// is an entry with just its file), so a commit costs what it changes and not what the table holds.
struct Fragment {
  int64_t id = 0;
  int64_t first_row_id = 0;
  int64_t rows = 0;     // in its files, those deleted among them
  int64_t version = 0;  // of the commit that wrote this entry
  std::vector<DataFile> files;
  std::vector<PackUse> packs;
  StatsByField stats;  // of the files; empty when loaded from a manifest: those are read by field, on demand
  RowSetRef deleted;   // all rows deleted so far; empty: the entry says nothing of it
  std::vector<Overlay> overlays;  // oldest first
  // Of fields whose values compaction has gathered: the newest update among them. Absent: there was none.
  std::map<int32_t, int64_t> gathered;
  // The fields by which compaction has sorted the rows; empty: it has not, or the entry says nothing of it.
  std::vector<int32_t> sorted_by;

  int64_t end_row_id() const { return first_row_id + rows; }
  int64_t live_rows() const { return rows - deleted.count; }
  // The file that holds this top-level field, or null: a hole. Overlays are not looked at.
  const DataFile* FileOf(int32_t field) const;
  bool Fills(int32_t field) const { return FileOf(field) != nullptr; }
  // Whether an overlay has values of this field.
  bool Overlaid(int32_t field) const;
  // By files and fills. Rows that were only updated have values, but the field is a hole to be filled.
  Filled FilledRows(int32_t field) const;
  // Whether it needs a reader that knows deletes, or updates.
  bool HasUpdates() const;
};

// Adds what another entry of the same fragment says. Of values for the same field those of the later commit
// count, in whatever order the entries come; files and overlays of which nothing is left are dropped.
// Statistics are left alone.
void JoinEntry(Fragment* fragment, const Fragment& other);

// Whether the values of this field are the same in both, two versions of one fragment.
bool SameValues(const Fragment& a, const Fragment& b, int32_t field);

// Corrupt where the fragment says that more rows are deleted or laid over than it has.
Status CheckRowSets(const Fragment& fragment);

// Of files and packs, as far as these fragments use them.
int64_t BytesOf(const std::vector<Fragment>& fragments);

}  // namespace headrace::table
