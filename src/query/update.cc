// New values from SQL expressions for the rows that pass a filter.
#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include <algorithm>

#include "base/limits.h"
#include "query/names.h"
#include "query/query.h"
#include "query/result_reader.h"
#include "table/arrow_bridge.h"
#include "table/place_name.h"

namespace headrace::query {
namespace {

using BatchPtr = std::shared_ptr<arrow::RecordBatch>;

// Rows of a query, as many at a time as are asked for.
class RowsInTurn {
 public:
  explicit RowsInTurn(std::shared_ptr<arrow::RecordBatchReader> reader) : reader_(std::move(reader)) {}

  Result<BatchPtr> Next(int64_t count) {
    arrow::RecordBatchVector parts;
    while (count > 0) {
      if (!current_ || at_ == current_->num_rows()) {
        HEADRACE_ARROW_TRY(reader_->ReadNext(&current_));
        at_ = 0;
        if (!current_) break;
      }
      const int64_t take = std::min(count, current_->num_rows() - at_);
      parts.push_back(current_->Slice(at_, take));
      at_ += take;
      count -= take;
    }
    if (parts.empty()) return arrow::RecordBatch::MakeEmpty(reader_->schema()).ValueOrDie();
    HEADRACE_ARROW_ASSIGN(const auto table, arrow::Table::FromRecordBatches(parts));
    BatchPtr batch;
    HEADRACE_ARROW_ASSIGN(batch, table->CombineChunksToBatch());
    return batch;
  }

 private:
  std::shared_ptr<arrow::RecordBatchReader> reader_;
  BatchPtr current_;
  int64_t at_ = 0;
};

// The query's rows are those of `ids`, in order.
bool SameRows(const arrow::RecordBatch& rows, const arrow::Array& ids) {
  return rows.num_rows() == ids.length() && rows.column(0)->Equals(ids);
}

}  // namespace

Result<table::CommitResult> Update(table::Catalog* catalog, SqlEngine* engine,
                                   const std::vector<Assignment>& set, const std::string& where,
                                   const std::string& name, const table::CommitOptions& options) {
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable(name));
  for (int64_t tries = 0;; ++tries) {
    HEADRACE_ASSIGN(const table::View view, table->At());
    HEADRACE_TRY(table::CheckPlaceName(view.schema()));
    std::vector<std::string> inputs = {std::string(table::kRowIdColumn)};
    std::vector<std::string> columns;
    std::string select = "select " + inputs[0];
    for (const auto& one : set) {
      HEADRACE_TRY(view.schema().Get(one.column).status());
      columns.push_back(one.column);
      select += ", (" + one.expression + "\n) as " + QuotedName(one.column);
    }
    for (const auto& column : ColumnsNamedIn(select, view.schema())) inputs.push_back(column);
    const std::string filter = where.empty() ? "true" : where;
    HEADRACE_ASSIGN(auto result,
                    engine->Query(select + "\nfrom " + FromVersion(name, view.snapshot().version) +
                                      " where (" + filter + "\n) order by _row_place",
                                  {options.stop, {}}));
    RowsInTurn rows(ForTable(std::move(result)));
    bool moved = false;  // the table's rows are not those of the query any more
    const auto next = [&](BatchPtr in) -> Result<BatchPtr> {
      HEADRACE_ASSIGN(auto values, rows.Next(in->num_rows()));
      if (!SameRows(*values, *in->column(0))) {
        moved = true;
        return Status::Conflict("the rows that pass changed meanwhile; nothing was committed");
      }
      return values
          ->SelectColumns([&] {
            std::vector<int> given;
            for (int i = 1; i < values->num_columns(); ++i) given.push_back(i);
            return given;
          }())
          .ValueOrDie();
    };
    auto done = table->Update({filter}, inputs, columns, next, options);
    if (!moved || tries == limits::kMaxRecomputes) return done;
  }
}

}  // namespace headrace::query
