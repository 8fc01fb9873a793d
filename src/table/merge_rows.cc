// Upserts: a source's rows brought into a table by a key.
#include <arrow/array.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include <algorithm>
#include <deque>
#include <future>

#include "table/arrow_bridge.h"
#include "table/conform.h"
#include "table/key_table.h"
#include "table/row_updater.h"
#include "table/table.h"

namespace headrace::table {
namespace {

using BatchPtr = std::shared_ptr<arrow::RecordBatch>;

// A row of the table whose key a source row has.
struct KeyMatch {
  int64_t row_id;
  int64_t source;
};

Result<BatchPtr> TakeRows(const BatchPtr& source, const std::vector<int64_t>& rows) {
  const arrow::Int64Array picks(static_cast<int64_t>(rows.size()),
                                arrow::Buffer::Wrap(rows.data(), rows.size()));
  arrow::ArrayVector arrays;
  for (const auto& column : source->columns()) {
    std::shared_ptr<arrow::Array> array;
    HEADRACE_ARROW_ASSIGN(array, arrow::compute::Take(*column, picks));
    arrays.push_back(std::move(array));
  }
  return arrow::RecordBatch::Make(source->schema(), static_cast<int64_t>(rows.size()), std::move(arrays));
}

}  // namespace

// One source and one table, at one version.
class RowMerger {
 public:
  RowMerger(const View& view, BatchPtr source, const MergeOptions& rules, const CommitOptions& options)
      : view_(view), source_(std::move(source)), rules_(rules), options_(options) {}

  // Finds which rows match. Invalid where the source has columns that the table has not, no value of a key,
  // or one key twice.
  Status Match();
  bool nothing() const { return updated_ + deleted_ + added_ == 0; }
  // What is to be committed; the files are written.
  Result<Change> Write(Operation operation);
  void Discard();
  MergeResult result() const {
    MergeResult result;
    result.updated = updated_;
    result.deleted = deleted_;
    result.added = added_;
    result.rows = updated_ + deleted_ + added_;
    result.bytes = (updater_ ? updater_->bytes() : 0) + (writer_ ? writer_->bytes() : 0);
    return result;
  }

 private:
  Status FindFields();
  Result<std::vector<KeyMatch>> FindMatches(const KeyTable& keys) const;
  Status WriteUpdates(Change* change);
  Status WriteNew(Change* change);
  bool updates() const { return rules_.matched == MergeOptions::Matched::kUpdate && !values_.empty(); }

  View view_;
  std::shared_ptr<const void> pin_ = view_.PinWrites();
  BatchPtr source_;
  const MergeOptions& rules_;
  const CommitOptions& options_;
  std::vector<Field> keys_;
  std::vector<Field> values_;  // the source's other columns
  std::shared_ptr<const KeyTable> table_of_keys_;
  RowSets rows_;                                   // that match, by fragment
  std::vector<std::vector<int64_t>> source_rows_;  // of each of those rows, in order
  std::vector<int64_t> new_rows_;                  // of the source
  int64_t updated_ = 0;
  int64_t deleted_ = 0;
  int64_t added_ = 0;
  std::unique_ptr<RowUpdater> updater_;
  std::unique_ptr<DataWriter> writer_;
};

Status RowMerger::FindFields() {
  for (const auto& name : rules_.on) {
    HEADRACE_ASSIGN(const Field* field, view_.schema().Get(name));
    if (!source_->GetColumnByName(name))
      return Status::Invalid("the source has no column '" + name + "', its key");
    keys_.push_back(*field);
  }
  if (keys_.empty()) return Status::Invalid("say which columns are the key");
  arrow::ArrayVector arrays;
  arrow::FieldVector names;
  for (int i = 0; i < source_->num_columns(); ++i) {
    const std::string& name = source_->column_name(i);
    HEADRACE_ASSIGN(const Field* field, view_.schema().Get(name));
    const bool key = std::find(rules_.on.begin(), rules_.on.end(), name) != rules_.on.end();
    if (!key) values_.push_back(*field);
    // Rows are taken from it, which Arrow does not do for views of text.
    HEADRACE_ASSIGN(auto array, ConformArray(source_->column(i), *field));
    names.push_back(arrow::field(name, array->type()));
    arrays.push_back(std::move(array));
  }
  source_ = arrow::RecordBatch::Make(arrow::schema(std::move(names)), source_->num_rows(), std::move(arrays));
  return Status::Ok();
}

Result<std::vector<KeyMatch>> RowMerger::FindMatches(const KeyTable& keys) const {
  ScanOptions scan;
  scan.columns = rules_.on;
  scan.with_row_ids = true;
  scan.stop = options_.stop;
  HEADRACE_ASSIGN(const auto tasks, view_.StartScan(scan));
  const auto find = [&](size_t task) -> Result<std::vector<KeyMatch>> {
    HEADRACE_ASSIGN(const auto batch, tasks->Run(task));
    HEADRACE_ASSIGN(const auto columns,
                    KeyColumns::Of(arrow::ArrayVector(batch->columns().begin(), batch->columns().end() - 1)));
    const auto& ids = static_cast<const arrow::Int64Array&>(*batch->column(batch->num_columns() - 1));
    std::vector<KeyMatch> matches;
    std::string buffer;
    std::string_view key;
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      if (!columns.KeyOf(i, &buffer, &key)) continue;
      const int64_t source = keys.Find(key);
      if (source >= 0) matches.push_back({ids.Value(i), source});
    }
    return matches;
  };
  TaskPool& pool = view_.environment()->pool;
  std::deque<std::future<Result<std::vector<KeyMatch>>>> running;
  std::vector<KeyMatch> all;
  Status failed;
  const auto drain = [&](size_t keep) {
    while (running.size() > keep) {
      auto part = running.front().get();
      running.pop_front();
      if (!part.ok() && failed.ok()) failed = part.status();
      if (part.ok()) all.insert(all.end(), part->begin(), part->end());
    }
  };
  for (size_t task = 0; task < tasks->tasks() && failed.ok(); ++task) {
    running.push_back(pool.Submit([&find, task] { return find(task); }));
    drain(static_cast<size_t>(pool.threads()) + 1);
  }
  drain(0);
  if (!failed.ok()) return failed;
  return all;
}

Status RowMerger::Match() {
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);
  HEADRACE_TRY(FindFields());
  arrow::ArrayVector key_columns;
  for (const auto& field : keys_) key_columns.push_back(source_->GetColumnByName(field.name));
  HEADRACE_ASSIGN(const auto columns, KeyColumns::Of(key_columns));
  HEADRACE_ASSIGN(auto keys, KeyTable::Build(columns, rules_.on));
  table_of_keys_ = std::make_shared<const KeyTable>(std::move(keys));
  HEADRACE_ASSIGN(const auto matches, FindMatches(*table_of_keys_));
  std::vector<bool> matched(static_cast<size_t>(source_->num_rows()));
  std::vector<int64_t> ids;  // ascend: tasks do
  for (const auto& match : matches) {
    matched[static_cast<size_t>(match.source)] = true;
    ids.push_back(match.row_id);
  }
  HEADRACE_ASSIGN(const auto fragments, view_.Fragments());
  rows_.resize(fragments->size());
  source_rows_.resize(fragments->size());
  if (updates() || rules_.matched == MergeOptions::Matched::kDelete) {
    HEADRACE_ASSIGN(rows_, view_.SelectIds(ids));
    size_t next = 0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      for (int64_t n = rows_[i] == nullptr ? 0 : rows_[i]->count(); n > 0; --n)
        source_rows_[i].push_back(matches[next++].source);
    }
    (updates() ? updated_ : deleted_) = static_cast<int64_t>(matches.size());
  }
  if (!rules_.add) return Status::Ok();
  for (int64_t row = 0; row < source_->num_rows(); ++row) {
    if (!matched[static_cast<size_t>(row)]) new_rows_.push_back(row);
  }
  added_ = static_cast<int64_t>(new_rows_.size());
  return Status::Ok();
}

Status RowMerger::WriteUpdates(Change* change) {
  HEADRACE_ASSIGN(const auto fragments, view_.Fragments());
  updater_ = std::make_unique<RowUpdater>(view_, values_, options_.write);
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i] == nullptr) continue;
    const auto values = [&](size_t first, const std::vector<int64_t>& rows) -> Result<BatchPtr> {
      HEADRACE_TRY(options_.stop.Check());
      const auto begin = source_rows_[i].begin() + static_cast<std::ptrdiff_t>(first);
      return TakeRows(source_, {begin, begin + static_cast<std::ptrdiff_t>(rows.size())});
    };
    HEADRACE_TRY(updater_->Add((*fragments)[i], rows_[i], values));
    if (options_.progress)
      options_.progress({"merging rows", updater_->rows(), updated_, updater_->bytes(), 0});
  }
  const auto used = updater_->used(IdsOf(change->fields_used));
  change->values_used.insert(change->values_used.end(), used.begin(), used.end());
  HEADRACE_ASSIGN(std::get<MergeRows>(change->what).update.entries, updater_->Finish());
  return Status::Ok();
}

Status RowMerger::WriteNew(Change* change) {
  std::vector<Field> fields = keys_;
  fields.insert(fields.end(), values_.begin(), values_.end());
  WriteOptions write = options_.write;
  write.stop = options_.stop;
  writer_ = NewDataWriter(view_, fields, StatFields(view_.schema()), write);
  constexpr size_t kStep = 65'536;
  for (size_t first = 0; first < new_rows_.size(); first += kStep) {
    const auto begin = new_rows_.begin() + static_cast<std::ptrdiff_t>(first);
    const size_t count = std::min(kStep, new_rows_.size() - first);
    HEADRACE_ASSIGN(const auto some, TakeRows(source_, {begin, begin + static_cast<std::ptrdiff_t>(count)}));
    HEADRACE_TRY(writer_->Write(*some));
  }
  HEADRACE_ASSIGN(std::get<MergeRows>(change->what).append.fragments, writer_->Finish());
  return Status::Ok();
}

Result<Change> RowMerger::Write(Operation operation) {
  Change change{MergeRows{}, std::move(operation), ClaimOf(options_), keys_};
  change.base = view_.snapshot().version;
  auto& merge = std::get<MergeRows>(change.what);
  merge.on = rules_.on;
  merge.keys = table_of_keys_;
  merge.next_row_id = view_.snapshot().next_row_id;
  if (updated_ > 0 || added_ > 0) {
    change.fields_used.insert(change.fields_used.end(), values_.begin(), values_.end());
  }
  HEADRACE_ASSIGN(const auto fragments, view_.Fragments());
  for (size_t i = 0; i < fragments->size(); ++i) {
    // Where rows are added, none may come to have a key of theirs.
    if (added_ > 0) change.values_used.push_back({(*fragments)[i], nullptr, IdsOf(keys_)});
    if (rows_[i] != nullptr && updated_ > 0) merge.matched.push_back({(*fragments)[i], rows_[i]});
    if (rows_[i] == nullptr || deleted_ == 0) continue;
    change.values_used.push_back({(*fragments)[i], rows_[i], IdsOf(keys_)});
    merge.deletes.rows.push_back({(*fragments)[i], rows_[i]});
  }
  if (updated_ > 0) HEADRACE_TRY(WriteUpdates(&change));
  if (added_ > 0) HEADRACE_TRY(WriteNew(&change));
  for (const auto& field : values_) {
    change.operation.columns.push_back(field.name);
    change.operation.field_ids.push_back(field.id);
  }
  change.operation.rows = updated_ + deleted_ + added_;
  change.operation.bytes = result().bytes;
  return change;
}

void RowMerger::Discard() {
  if (updater_) updater_->Discard();
  if (writer_) writer_->Discard();
}

Result<MergeResult> Table::Merge(arrow::RecordBatchReader* source, const MergeOptions& rules,
                                 const CommitOptions& options) {
  const auto whole = source->ToTable();
  if (!whole.ok()) return FromArrow(whole.status());
  std::shared_ptr<arrow::RecordBatch> rows;
  HEADRACE_ARROW_ASSIGN(rows, (*whole)->num_rows() == 0 ? arrow::RecordBatch::MakeEmpty((*whole)->schema())
                                                        : (*whole)->CombineChunksToBatch());
  MergeResult result;
  const auto once = [&](const View& view) -> Result<CommitResult> {
    RowMerger merger(view, rows, rules, options);
    const Status matched = merger.Match();
    if (!matched.ok()) return matched.Wrap("cannot merge into '" + name_ + "'");
    result = merger.result();
    if (merger.nothing()) return CommitResult{.version = view.snapshot().version};
    auto change = merger.Write(MakeOperation(options));
    if (!change.ok()) {
      merger.Discard();
      return change.status().Wrap("cannot merge into '" + name_ + "'");
    }
    CommitResult done = merger.result();
    Attempt attempt;
    const auto committed = log_->Commit(*change, options.stop, &attempt);
    if ((!committed.ok() && attempt.unsettled == 0) || (committed.ok() && committed->repeated))
      merger.Discard();
    if (!committed.ok()) return committed.status();
    done.version = committed->version;
    done.repeated = committed->repeated;
    return done;
  };
  HEADRACE_ASSIGN(static_cast<CommitResult&>(result), CommitAgain(options, once));
  return result;
}

}  // namespace headrace::table
