// Columns added to rows that are there: computed from others, given in row order, or empty.
#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>

#include "table/arrow_bridge.h"
#include "table/default_value.h"
#include "table/row_map.h"
#include "table/table.h"

namespace headrace::table {

// Values for the holes of a version's fragments, written fragment by fragment and committed together.
class ColumnFiller {
 public:
  // `in_order`: values come for every fragment whether it needs them or not.
  ColumnFiller(Table* table, View view, const CommitOptions& options, bool in_order)
      : table_(*table),
        view_(std::move(view)),
        options_(options),
        in_order_(in_order),
        operation_(table->MakeOperation(options)) {}

  // The columns that values are computed from: a Conflict if they change before the commit.
  Status Uses(const std::vector<std::string>& inputs);
  // What the columns are: existing ones whose holes are filled, or new ones, which get their ids. Starts to
  // write.
  Status Begin(const arrow::Schema& schema);
  // Fills one fragment from `source`, if it needs it.
  Status Fill(const Fragment& fragment, const Table::FragmentSource& source);
  Result<CommitResult> Commit();

  const View& view() const { return view_; }
  // The fragments in the order in which they are to be filled.
  std::vector<const Fragment*> Order(const std::vector<Fragment>& fragments) const;

 private:
  // A fragment that is being filled.
  struct Progress {
    int64_t rows = 0;                       // got so far
    int64_t written = 0;                    // physical rows: those deleted get nulls
    std::shared_ptr<const RowSet> deleted;  // of the fragment; null: none
    std::shared_ptr<arrow::Schema> schema;  // of what came
    bool has_hole = true;                   // it has none of the columns
    bool complete = false;                  // it has all of them, and what comes is not written
  };
  bool HasAll(const Fragment& fragment) const {
    return CountFilled(fragment) == static_cast<int64_t>(fields_.size());
  }
  int64_t CountFilled(const Fragment& fragment) const {
    return std::count_if(fields_.begin(), fields_.end(),
                         [&](const Field& f) { return fragment.FilledRows(f.id) == Filled::kAll; });
  }
  // Ids for those of the fields that are new, so that they stand in the files.
  Status AddNewFields(const std::vector<Field>& incoming);
  std::vector<int32_t> StatFieldsOf() const;
  Status Write(const Fragment& fragment, const arrow::RecordBatch& batch, Progress* progress);
  // Writes the batch, whose rows are the next that were not deleted, with nulls for those that were up to
  // `end`.
  Status WriteAmongDeleted(const arrow::RecordBatch& batch, int64_t end, Progress* progress);

  Table& table_;
  View view_;
  std::shared_ptr<const void> pin_ = view_.PinWrites();
  const CommitOptions& options_;
  bool in_order_;
  Operation operation_;
  std::vector<Field> fields_used_;
  std::vector<Field> fields_;      // of the columns that are written
  std::vector<Field> new_fields_;  // those of them that the version does not have
  std::unique_ptr<DataWriter> writer_;
  std::vector<const Fragment*> filled_;
  int64_t rows_done_ = 0;
  int64_t rows_filled_ = 0;
};

Status ColumnFiller::Uses(const std::vector<std::string>& inputs) {
  for (const auto& input : inputs) {
    HEADRACE_ASSIGN(const auto projected, ProjectColumns(view_.schema(), {input}));
    if (const Field* top = view_.schema().FindId(projected[0].top.id)) fields_used_.push_back(*top);
  }
  return Status::Ok();
}

Status ColumnFiller::Begin(const arrow::Schema& schema) {
  HEADRACE_ASSIGN(const Schema incoming, SchemaFromArrow(schema));
  if (incoming.fields.empty()) return Status::Invalid("there are no columns to add");
  for (const auto& field : incoming.fields) {
    const Field* existing = view_.schema().Find(field.name);
    if (existing == nullptr) continue;
    if (existing->type.ToString() != field.type.ToString()) {
      return Status::AlreadyExists("there is a column '" + field.name + "' already, a " +
                                   existing->type.ToString() + "; the new one is a " + field.type.ToString());
    }
    fields_.push_back(*existing);
    fields_used_.push_back(*existing);
  }
  HEADRACE_TRY(AddNewFields(incoming.fields));
  WriteOptions write = options_.write.Unsplit();
  write.stop = options_.stop;
  writer_ = NewDataWriter(view_, fields_, StatFieldsOf(), write);
  return Status::Ok();
}

Status ColumnFiller::AddNewFields(const std::vector<Field>& incoming) {
  for (const auto& field : incoming) {
    if (view_.schema().Find(field.name) == nullptr) new_fields_.push_back(field);
  }
  if (new_fields_.empty()) return Status::Ok();
  std::vector<Field> counted = new_fields_;
  int32_t needed = 0;
  AssignIds(&counted, &needed);
  HEADRACE_ASSIGN(int32_t next, table_.ReserveFields(needed, options_));
  AssignIds(&new_fields_, &next);
  fields_.insert(fields_.end(), new_fields_.begin(), new_fields_.end());
  return Status::Ok();
}

std::vector<int32_t> ColumnFiller::StatFieldsOf() const {
  Schema after = view_.schema();
  after.fields.insert(after.fields.end(), new_fields_.begin(), new_fields_.end());
  Schema written;
  written.fields = fields_;
  const auto own = StatFields(written);
  const auto allowed = StatFields(after);
  std::vector<int32_t> stats;
  std::copy_if(own.begin(), own.end(), std::back_inserter(stats),
               [&](int32_t id) { return std::find(allowed.begin(), allowed.end(), id) != allowed.end(); });
  return stats;
}

std::vector<const Fragment*> ColumnFiller::Order(const std::vector<Fragment>& fragments) const {
  std::vector<const Fragment*> order;
  for (const auto& fragment : fragments) order.push_back(&fragment);
  if (in_order_) return order;
  // A function tells what it makes only once it is called: it begins where most columns are missing, which is
  // where its own are.
  const auto& all = view_.schema().fields;
  const auto there = [&](const Fragment* fragment) {
    return std::count_if(all.begin(), all.end(),
                         [&](const Field& f) { return fragment->FilledRows(f.id) == Filled::kAll; });
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](const Fragment* a, const Fragment* b) { return there(a) < there(b); });
  return order;
}

Status ColumnFiller::Fill(const Fragment& fragment, const Table::FragmentSource& source) {
  if (fragment.live_rows() == 0) return Status::Ok();
  if (!in_order_ && writer_ && HasAll(fragment)) {
    rows_done_ += fragment.live_rows();  // nothing to compute here
    return Status::Ok();
  }
  Progress progress;
  HEADRACE_ASSIGN(progress.deleted, view_.Deleted(fragment));
  const Status read = source(
      view_, fragment, [&](const arrow::RecordBatch& batch) { return Write(fragment, batch, &progress); });
  if (progress.complete) {
    rows_done_ += fragment.live_rows();
    return Status::Ok();
  }
  HEADRACE_TRY(read);
  if (progress.rows != fragment.live_rows()) {
    return Status::Invalid("the new columns have " + std::to_string(progress.rows) + " values for " +
                           std::to_string(fragment.live_rows()) + " rows from row " +
                           std::to_string(fragment.first_row_id) + "; give one for each");
  }
  rows_done_ += progress.rows;
  if (!progress.has_hole) return Status::Ok();
  if (progress.written < fragment.rows) {
    HEADRACE_ARROW_ASSIGN(const auto none, arrow::RecordBatch::MakeEmpty(progress.schema));
    HEADRACE_TRY(WriteAmongDeleted(*none, fragment.rows, &progress));
  }
  HEADRACE_TRY(writer_->EndFragment());
  filled_.push_back(&fragment);
  rows_filled_ += progress.rows;
  return Status::Ok();
}

Status ColumnFiller::Write(const Fragment& fragment, const arrow::RecordBatch& batch, Progress* progress) {
  HEADRACE_TRY(options_.stop.Check());
  if (!writer_) HEADRACE_TRY(Begin(*batch.schema()));
  if (progress->rows == 0) {
    progress->has_hole = CountFilled(fragment) == 0;
    if (!progress->has_hole && !HasAll(fragment)) {
      return Status::Unsupported(
          "some rows have one of these columns and not the others; add them one at a time");
    }
    progress->complete = !progress->has_hole && !in_order_;
    if (progress->complete) return Status::Cancelled();  // nothing to compute here either
  }
  const int64_t rows = progress->rows + batch.num_rows();
  if (rows > fragment.live_rows()) return Status::Invalid("the new columns have more rows than the table");
  if (progress->has_hole && batch.num_rows() > 0) {
    HEADRACE_TRY(progress->deleted == nullptr ? writer_->Write(batch)
                                              : WriteAmongDeleted(batch, fragment.rows, progress));
    if (progress->deleted == nullptr) progress->written = rows;
  }
  progress->rows = rows;
  if (options_.progress) {
    options_.progress(
        {"adding columns", rows_done_ + progress->rows, view_.snapshot().rows, writer_->bytes(), 0});
  }
  return Status::Ok();
}

Status ColumnFiller::WriteAmongDeleted(const arrow::RecordBatch& batch, int64_t end, Progress* progress) {
  progress->schema = batch.schema();
  arrow::Int64Builder places;  // of each physical row's value in the batch; null: it was deleted
  int64_t next = 0;
  for (; progress->written < end; ++progress->written) {
    if (progress->deleted->Contains(progress->written)) {
      HEADRACE_ARROW_TRY(places.AppendNull());
    } else if (next < batch.num_rows()) {
      HEADRACE_ARROW_TRY(places.Append(next++));
    } else {
      break;
    }
  }
  HEADRACE_ARROW_ASSIGN(const auto from, places.Finish());
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);
  arrow::ArrayVector arrays;
  for (const auto& column : batch.columns()) {
    std::shared_ptr<arrow::Array> array;
    HEADRACE_ARROW_ASSIGN(array, arrow::compute::Take(*column, *from));
    arrays.push_back(std::move(array));
  }
  return writer_->Write(*arrow::RecordBatch::Make(batch.schema(), from->length(), std::move(arrays)));
}

Result<CommitResult> ColumnFiller::Commit() {
  if (!writer_)
    return Status::Invalid("table '" + table_.name() +
                           "' has no rows from which new columns could be computed");
  if (filled_.empty() && view_.snapshot().rows > 0) {
    return Status::AlreadyExists("every row has a value of the column '" + fields_[0].name +
                                 "' already, and nothing was changed; only holes are filled, and a null that "
                                 "was written is none. To have other values, update it, or add them under "
                                 "another name");
  }
  HEADRACE_ASSIGN(auto entries, writer_->Finish());
  if (entries.size() != filled_.size()) return Status::Invalid("a fragment got no values");
  for (size_t i = 0; i < filled_.size(); ++i) {
    entries[i].id = filled_[i]->id;
    entries[i].first_row_id = filled_[i]->first_row_id;
  }
  for (const auto& field : fields_) {
    operation_.columns.push_back(field.name);
    operation_.field_ids.push_back(field.id);
  }
  operation_.fragments = static_cast<int64_t>(filled_.size());
  operation_.bytes = writer_->bytes();
  CommitResult result{0, rows_filled_, operation_.bytes, operation_.fragments, false};
  Change change{FillColumns{new_fields_, std::move(entries)}, operation_, {}, fields_used_};
  change.base = view_.snapshot().version;
  for (const Fragment* fragment : filled_)
    change.values_used.push_back({*fragment, nullptr, IdsOf(fields_used_)});
  Attempt attempt;
  const Result<Committed> committed = table_.log_->Commit(change, options_.stop, &attempt);
  if (!committed.ok() && attempt.unsettled == 0) writer_->Discard();
  if (!committed.ok()) return committed.status();
  result.version = committed->version;
  return result;
}

Result<CommitResult> Table::FillHoles(View view, const FragmentSource& source,
                                      const std::vector<std::string>& inputs,
                                      const std::shared_ptr<arrow::Schema>& known_schema,
                                      const CommitOptions& options) {
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  ColumnFiller filler(this, std::move(view), options, /*in_order=*/known_schema != nullptr);
  HEADRACE_TRY(filler.Uses(inputs));
  if (known_schema) HEADRACE_TRY(filler.Begin(*known_schema));
  for (const Fragment* fragment : filler.Order(*fragments)) HEADRACE_TRY(filler.Fill(*fragment, source));
  return filler.Commit();
}

Result<CommitResult> Table::AddColumns(arrow::RecordBatchReader* columns, const CommitOptions& options) {
  HEADRACE_ASSIGN(const View newest, At());
  return AddColumns(newest, columns, {}, options);
}

Result<CommitResult> Table::AddColumns(const View& rows, arrow::RecordBatchReader* columns,
                                       const std::vector<std::string>& inputs, const CommitOptions& options) {
  if (rows.prefix() != prefix_) return Status::Invalid("these are rows of another table");
  std::shared_ptr<arrow::RecordBatch> current;
  int64_t at = 0;
  const auto more = [&]() -> Status {
    while (!current || at >= current->num_rows()) {
      HEADRACE_ARROW_TRY(columns->ReadNext(&current));
      at = 0;
      if (!current) return Status::Ok();
    }
    return Status::Ok();
  };
  return FillHoles(
      rows,
      [&](const View&, const Fragment& fragment, const auto& write) -> Status {
        for (int64_t need = fragment.live_rows(); need > 0;) {
          HEADRACE_TRY(more());
          if (!current) return Status::Ok();  // too few: the caller counts
          const int64_t take = std::min(need, current->num_rows() - at);
          HEADRACE_TRY(write(*current->Slice(at, take)));
          at += take;
          need -= take;
        }
        return Status::Ok();
      },
      inputs, columns->schema(), options);
}

Result<CommitResult> Table::AddColumns(const std::vector<std::string>& inputs, const BatchFn& fn,
                                       const CommitOptions& options) {
  HEADRACE_ASSIGN(View newest, At());
  return FillHoles(
      std::move(newest),
      [&](const View& view, const Fragment& fragment, const auto& write) -> Status {
        HEADRACE_ASSIGN(const auto projections, ProjectColumns(view.schema(), inputs));
        const auto schema = table::ToArrow(projections);
        const int64_t step = 16'384;
        HEADRACE_ASSIGN(const auto deleted, view.Deleted(fragment));
        for (int64_t begin = 0; begin < fragment.rows; begin += step) {
          const int64_t end = std::min(fragment.rows, begin + step);
          std::vector<int64_t> live;
          if (deleted) deleted->AppendOthers(begin, end, &live);
          if (deleted && live.empty()) continue;
          const Rows rows = deleted ? Rows::Picks(live) : Rows::Range(begin, end);
          arrow::ArrayVector arrays;
          for (const auto& column : projections) {
            HEADRACE_ASSIGN(auto array, view.reader().ReadPath(fragment, column, rows));
            arrays.push_back(std::move(array));
          }
          HEADRACE_ASSIGN(const auto batch, fn(arrow::RecordBatch::Make(schema, rows.count(), arrays)));
          if (batch->num_rows() != rows.count()) {
            return Status::Invalid("the function got " + std::to_string(rows.count()) + " rows and gave " +
                                   std::to_string(batch->num_rows()) + "; it must give one for each");
          }
          HEADRACE_TRY(write(*batch));
        }
        return Status::Ok();
      },
      inputs, nullptr, options);
}

Result<CommitResult> Table::AddEmptyColumns(std::vector<Field> fields, const CommitOptions& options) {
  Operation operation = MakeOperation(options);
  int32_t needed = 0;
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  for (auto& field : fields) {
    HEADRACE_TRY(ValidateName("column", field.name));
    if (head->schema.Find(field.name) != nullptr)
      return Status::AlreadyExists("there is a column '" + field.name + "' already");
    if (field.has_default) HEADRACE_TRY(DefaultOf(field).status());
    field.id = -1;
    operation.columns.push_back(field.name);
  }
  auto counted = fields;
  AssignIds(&counted, &needed);
  HEADRACE_ASSIGN(int32_t next, ReserveFields(needed, options));
  AssignIds(&fields, &next);
  for (const auto& field : fields) operation.field_ids.push_back(field.id);
  return CommitSmall({FillColumns{std::move(fields), {}}, std::move(operation), {}, {}}, options);
}

}  // namespace headrace::table
