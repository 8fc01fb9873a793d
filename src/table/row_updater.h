// New values for rows that are there, written as overlays, or as whole files where most rows of a fragment
// change or many overlays lie on it already.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "table/change.h"
#include "table/data_writer.h"
#include "table/view.h"

namespace headrace::table {

class RowUpdater {
 public:
  // Of a view's rows; `fields` are its columns that change.
  RowUpdater(const View& view, std::vector<Field> fields, const WriteOptions& options);

  // Values for rows [first, first + count) of the set of rows that is being written, in order: a batch with
  // the columns that change.
  using ValuesFn = std::function<Result<std::shared_ptr<arrow::RecordBatch>>(
      size_t first, const std::vector<int64_t>& rows)>;
  // Fragments ascend. Each set stays with what is relied on. `values` is called for runs of at most kRows
  // rows.
  Status Add(const Fragment& fragment, std::shared_ptr<const RowSet> rows, const ValuesFn& values);
  // Entries for the fragments, without versions; makes all files visible.
  Result<std::vector<Fragment>> Finish();
  // Deletes what was written, of which nothing may have become part of a table.
  void Discard();

  // What the change relies on: these fields of the rows that were added; of a fragment that is written whole
  // those of every row.
  std::vector<UsedValues> used(const std::vector<int32_t>& fields) const;
  int64_t rows() const { return rows_; }
  int64_t bytes() const { return overlays_->bytes() + files_->bytes() + set_bytes_; }

  static constexpr int64_t kRows = 16'384;
  static constexpr size_t kMaxOverlays = 8;  // on one column of a fragment, before it is written whole

 private:
  struct Pending {
    Fragment entry;
    size_t written;  // which fragment of the writer holds its values
    bool whole;
  };
  bool WritesWhole(const Fragment& fragment, const RowSet& rows) const;
  Status AddOverlay(const Fragment& fragment, const RowSet& rows, const ValuesFn& values);
  Status AddFiles(const Fragment& fragment, const RowSet& rows, const ValuesFn& values);
  Result<std::shared_ptr<arrow::RecordBatch>> Conformed(size_t first, const std::vector<int64_t>& rows,
                                                        const ValuesFn& values) const;

  View view_;
  std::vector<Field> fields_;
  std::vector<Projection> projections_;
  bool has_blob_ = false;
  std::unique_ptr<DataWriter> overlays_;
  std::unique_ptr<DataWriter> files_;
  RowSetWriter sets_;
  std::vector<std::string> keys_;  // of files with sets
  int64_t set_bytes_ = 0;
  std::vector<Pending> pending_;
  std::vector<UsedValues> used_;  // without fields
  size_t overlay_files_ = 0;      // fragments of the writer that are closed
  int64_t overlay_rows_ = 0;      // in the one that is open
  int64_t overlay_begun_ = 0;     // bytes that were written when it was opened
  size_t whole_files_ = 0;
  int64_t rows_ = 0;
};

}  // namespace headrace::table
