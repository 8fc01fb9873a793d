// Two versions of a table side by side, some thousand row ids at a time. Internal to diff.cc.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "table/diff.h"

namespace headrace::table {

// Of a range of row ids, all ascending.
struct DiffChunk {
  struct Changed {
    int64_t row_id = 0;
    std::vector<size_t> columns;  // indexes of Diff::columns()
  };
  std::vector<int64_t> added;
  std::vector<int64_t> deleted;
  std::vector<Changed> changed;
};

class DiffCursor {
 public:
  static Result<std::unique_ptr<DiffCursor>> Open(const Diff& diff, const StopToken& stop);

  // False at the end. Chunks may be empty, and ascend.
  Result<bool> Next(DiffChunk* chunk);

 private:
  // Row ids that at most one fragment of each version covers.
  struct Segment {
    int64_t begin = 0;
    int64_t end = 0;
    const Fragment* before = nullptr;
    const Fragment* after = nullptr;
  };
  // A column whose values may differ in the segment.
  struct Candidate {
    size_t column = 0;
    std::shared_ptr<const RowSet> rows;  // the physical rows where they may (of `after`); null: all
  };

  DiffCursor(Diff diff, StopToken stop) : diff_(std::move(diff)), stop_(std::move(stop)) {}
  void CutSegments();
  Status Enter();
  Result<std::shared_ptr<const RowSet>> OverlaidApart(const Fragment& a, const Fragment& b,
                                                      int32_t field) const;
  void ListRows(int64_t begin, int64_t end, DiffChunk* chunk) const;
  Status CompareRows(int64_t begin, int64_t end, DiffChunk* chunk) const;
  Result<std::vector<bool>> ValuesDiffer(const DiffColumn& column, const std::vector<int64_t>& ids) const;

  Diff diff_;
  StopToken stop_;
  std::shared_ptr<const std::vector<Fragment>> before_;
  std::shared_ptr<const std::vector<Fragment>> after_;
  std::vector<Segment> segments_;
  size_t segment_ = 0;
  int64_t at_ = -1;                               // the next row id of the segment; -1: it is not entered yet
  std::shared_ptr<const RowSet> deleted_before_;  // of the segment's fragments; null: none
  std::shared_ptr<const RowSet> deleted_after_;
  std::optional<RowIds> ids_before_, ids_after_;  // of the segment's fragments, where there are
  std::vector<Candidate> candidates_;
};

}  // namespace headrace::table
