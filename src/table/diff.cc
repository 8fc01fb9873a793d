#include "table/diff.h"

#include <arrow/array/builder_binary.h>
#include <arrow/array/builder_nested.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>

#include "table/arrow_bridge.h"
#include "table/diff_cursor.h"
#include "table/retype.h"

namespace headrace::table {
namespace {

std::shared_ptr<arrow::Schema> RowsSchema() {
  return arrow::schema({arrow::field("row_id", arrow::int64(), false),
                        arrow::field("change", arrow::utf8(), false),
                        arrow::field("columns", arrow::list(arrow::utf8()))});
}

class DiffReader final : public arrow::RecordBatchReader {
 public:
  DiffReader(std::unique_ptr<DiffCursor> cursor, std::vector<DiffColumn> columns)
      : cursor_(std::move(cursor)), columns_(std::move(columns)), schema_(RowsSchema()) {}

  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* batch) override {
    *batch = nullptr;
    for (;;) {
      DiffChunk chunk;
      const auto more = cursor_->Next(&chunk);
      if (!more.ok()) return ToArrow(more.status());
      if (!*more) return arrow::Status::OK();
      if (chunk.added.empty() && chunk.deleted.empty() && chunk.changed.empty()) continue;
      ARROW_ASSIGN_OR_RAISE(*batch, Rows(chunk));
      return arrow::Status::OK();
    }
  }

 private:
  // The chunk's rows, ascending.
  arrow::Result<std::shared_ptr<arrow::RecordBatch>> Rows(const DiffChunk& chunk) const {
    struct Row {
      int64_t id;
      const char* change;
      const DiffChunk::Changed* changed;
    };
    std::vector<Row> rows;
    for (const int64_t id : chunk.added) rows.push_back({id, "added", nullptr});
    for (const int64_t id : chunk.deleted) rows.push_back({id, "deleted", nullptr});
    for (const auto& changed : chunk.changed) rows.push_back({changed.row_id, "changed", &changed});
    std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.id < b.id; });
    arrow::Int64Builder ids;
    arrow::StringBuilder changes;
    auto names = std::make_shared<arrow::StringBuilder>();
    arrow::ListBuilder lists(arrow::default_memory_pool(), names);
    for (const Row& row : rows) {
      ARROW_RETURN_NOT_OK(ids.Append(row.id));
      ARROW_RETURN_NOT_OK(changes.Append(row.change));
      ARROW_RETURN_NOT_OK(row.changed == nullptr ? lists.AppendNull() : lists.Append());
      for (size_t i = 0; row.changed != nullptr && i < row.changed->columns.size(); ++i)
        ARROW_RETURN_NOT_OK(names->Append(*columns_[row.changed->columns[i]].after));
    }
    arrow::ArrayVector arrays(3);
    ARROW_RETURN_NOT_OK(ids.Finish(arrays.data()));
    ARROW_RETURN_NOT_OK(changes.Finish(&arrays[1]));
    ARROW_RETURN_NOT_OK(lists.Finish(&arrays[2]));
    return arrow::RecordBatch::Make(schema_, static_cast<int64_t>(rows.size()), std::move(arrays));
  }

  std::unique_ptr<DiffCursor> cursor_;
  std::vector<DiffColumn> columns_;
  std::shared_ptr<arrow::Schema> schema_;
};

}  // namespace

Result<Diff> Diff::Between(const View& before, const View& after, const std::vector<std::string>& columns) {
  if (before.snapshot().table != after.snapshot().table)
    return Status::Invalid("these are versions of two tables; a diff is of one");
  Diff diff(before, after);
  const auto in = [](const Schema& schema, int32_t id) -> const Field* {
    const auto found = std::find_if(schema.fields.begin(), schema.fields.end(),
                                    [&](const Field& field) { return field.id == id; });
    return found == schema.fields.end() ? nullptr : &*found;
  };
  for (const auto& name : columns) HEADRACE_TRY(after.schema().Get(name).status());
  for (const Field& field : after.schema().fields) {
    const bool compared =
        columns.empty() || std::find(columns.begin(), columns.end(), field.name) != columns.end();
    const Field* old = in(before.schema(), field.id);
    DiffColumn column{field, old != nullptr ? std::optional(old->name) : std::nullopt,
                      std::optional(field.name), compared};
    const bool retyped = old != nullptr && !old->type.Equals(field.type);
    if (retyped) column.retyped.emplace(old->type.ToString(), field.type.ToString());
    if (retyped && CanWiden(field.type, old->type)) column.field = *old;
    if (retyped && compared && !CanWiden(field.type, old->type) && !CanWiden(old->type, field.type)) {
      return Status::Unsupported("column '" + field.name + "' was " + old->type.ToString() + " at version " +
                                 std::to_string(before.snapshot().version) + " and is " +
                                 field.type.ToString() + " at version " +
                                 std::to_string(after.snapshot().version) +
                                 "; its values cannot be compared (others can be chosen)");
    }
    diff.columns_.push_back(std::move(column));
  }
  for (const Field& field : before.schema().fields) {
    if (in(after.schema(), field.id) == nullptr)
      diff.columns_.push_back({field, std::optional(field.name), std::nullopt});
  }
  return diff;
}

Result<DiffCounts> Diff::Count(const StopToken& stop) const {
  DiffCounts counts;
  counts.changed_in.resize(columns_.size());
  HEADRACE_ASSIGN(const auto cursor, DiffCursor::Open(*this, stop));
  for (;;) {
    DiffChunk chunk;
    HEADRACE_ASSIGN(const bool more, cursor->Next(&chunk));
    if (!more) break;
    counts.added += static_cast<int64_t>(chunk.added.size());
    counts.deleted += static_cast<int64_t>(chunk.deleted.size());
    counts.changed += static_cast<int64_t>(chunk.changed.size());
    for (const auto& changed : chunk.changed) {
      for (const size_t column : changed.columns) ++counts.changed_in[column];
    }
  }
  counts.same = before_.snapshot().rows - counts.deleted - counts.changed;
  return counts;
}

Result<std::shared_ptr<arrow::RecordBatchReader>> Diff::Rows(const StopToken& stop) const {
  HEADRACE_ASSIGN(auto cursor, DiffCursor::Open(*this, stop));
  return std::shared_ptr<arrow::RecordBatchReader>(std::make_shared<DiffReader>(std::move(cursor), columns_));
}

}  // namespace headrace::table
