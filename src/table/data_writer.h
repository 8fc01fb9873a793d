// Turns record batches into the files of fragments: scalars, strings, lists and structs into one Parquet
// file, each tensor into an Arrow file of its own, large blobs into packs. Nothing is part of a table before
// a commit names it.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/cancel.h"
#include "base/limits.h"
#include "table/fragment.h"
#include "table/schema.h"

namespace headrace::table {

class View;

struct WriteOptions {
  int64_t fragment_rows = limits::kFragmentRows;
  int64_t fragment_bytes = limits::kFragmentBytes;
  int64_t row_group_rows = limits::kRowGroupRows;
  int64_t row_group_bytes = limits::kRowGroupBytes;
  int64_t pack_bytes = limits::kPackBytes;
  int64_t inline_blob_bytes = 2048;  // smaller blobs stay in their cell
  std::set<Uuid> copied_packs;       // of this table, whose blobs are copied into new ones and not shared
  bool share_equal_blobs = false;    // equal bytes of one write are stored once
  StopToken stop;

  // The same, but a fragment ends only where EndFragment says so.
  WriteOptions Unsplit() const {
    WriteOptions options = *this;
    options.fragment_rows = INT64_MAX;
    options.fragment_bytes = INT64_MAX;
    return options;
  }
};

class DataWriter {
 public:
  virtual ~DataWriter() = default;  // without Finish: Discard
  // Columns are matched by name and conformed. Rows are split into fragments as they come.
  virtual Status Write(const arrow::RecordBatch& batch) = 0;
  // Closes the current fragment here although it is not full (to follow another's boundaries).
  virtual Status EndFragment() = 0;
  // The fragments written, without ids or row ids; makes all their files visible.
  virtual Result<std::vector<Fragment>> Finish() = 0;
  // Deletes the files written, of which nothing may have become part of a table. A failure leaves them to
  // garbage collection.
  virtual void Discard() = 0;
  virtual int64_t rows() const = 0;
  virtual int64_t bytes() const = 0;  // of files finished
};

// `base`: the version that the files are written for; until the writer goes, they are held against garbage
// collection. `fields`: the columns that will come, with ids.
std::unique_ptr<DataWriter> NewDataWriter(const View& base, std::vector<Field> fields,
                                          std::vector<int32_t> stat_fields, WriteOptions options);

}  // namespace headrace::table
