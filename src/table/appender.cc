#include "table/appender.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/limits.h"
#include "table/arrow_bridge.h"
#include "table/settle.h"
#include "table/table.h"

namespace headrace::table {

namespace {

void Report(const CommitOptions& options, const char* what, int64_t done, int64_t total, int64_t bytes) {
  if (options.progress) options.progress({what, done, total, bytes, 0});
}

}  // namespace

class TableAppender final : public Appender {
 public:
  TableAppender(Table* table, CommitOptions options, int64_t base, std::vector<Field> fields,
                std::unique_ptr<DataWriter> writer, int64_t repeated_version)
      : table_(*table),
        options_(std::move(options)),
        base_(base),
        fields_(std::move(fields)),
        writer_(std::move(writer)),
        repeated_version_(repeated_version) {}

  ~TableAppender() override {
    if (!landed_ && attempt_.unsettled == 0) writer_->Discard();
  }

  Status Write(const arrow::RecordBatch& batch) override {
    if (repeated_version_ > 0) return Status::Ok();  // it is there already
    if (change_) return Status::Invalid("rows were written after Commit");
    HEADRACE_TRY(broken_);
    broken_ = options_.stop.Check();
    if (broken_.ok()) broken_ = writer_->Write(batch);
    HEADRACE_TRY(broken_);
    Report(options_, "writing rows", writer_->rows(), -1, writer_->bytes());
    return Status::Ok();
  }
  void Take(TakenItem item) override { taken_.push_back(std::move(item)); }
  int64_t rows() const override { return writer_->rows(); }
  int64_t bytes() const override { return writer_->bytes(); }
  bool can_retry() const override { return change_.has_value(); }

  Result<CommitResult> Commit() override {
    CommitResult result;
    if (repeated_version_ > 0) {
      result.version = repeated_version_;
      result.repeated = true;
      return result;
    }
    if (!change_) HEADRACE_TRY(Finish());
    HEADRACE_ASSIGN(const Committed committed, replaces_ ? CommitReplacing() : CommitOnce());
    landed_ = !committed.repeated;
    repeated_version_ = committed.version;
    result.version = committed.version;
    result.repeated = committed.repeated;
    if (committed.repeated) return result;
    result.rows = change_->operation.rows;
    result.bytes = change_->operation.bytes;
    result.fragments = change_->operation.fragments;
    return result;
  }

 private:
  // The files are whole: what is to be committed is known.
  Status Finish() {
    HEADRACE_TRY(broken_);
    auto fragments = writer_->Finish();
    broken_ = fragments.status();
    HEADRACE_TRY(broken_);
    Operation operation = table_.MakeOperation(options_);
    for (const auto& fragment : *fragments) operation.rows += fragment.rows;
    operation.fragments = static_cast<int64_t>(fragments->size());
    operation.bytes = writer_->bytes();
    AppendRows append{std::move(*fragments), taken_};
    replaces_ = std::any_of(taken_.begin(), taken_.end(),
                            [](const TakenItem& item) { return item.replaced_rows > 0; });
    if (replaces_) {
      change_ = Change{MergeRows{{}, {}, std::move(append), {}, nullptr, 0}, std::move(operation),
                       ClaimOf(options_), fields_};
    } else {
      change_ = Change{std::move(append), std::move(operation), ClaimOf(options_), fields_};
    }
    change_->base = base_;
    return Status::Ok();
  }

  Result<Committed> CommitOnce() { return table_.log_->Commit(*change_, options_.stop, &attempt_); }

  // The fragments that hold the replaced rows may be written anew meanwhile.
  Result<Committed> CommitReplacing() {
    for (int64_t tries = 0;;) {
      HEADRACE_TRY(FindReplaced());
      auto committed = CommitOnce();
      if (committed.ok() || !committed.status().Is(Code::kConflict) || ++tries == limits::kMaxRecomputes)
        return committed;
      Backoff(tries);
    }
  }

  // Where the rows are that go. Conflict where somebody else has taken one of the items in.
  Status FindReplaced() {
    HEADRACE_ASSIGN(const View view, table_.At());
    HEADRACE_TRY(CheckTaken(view.environment().get(), view.prefix(), view.snapshot(), taken_));
    HEADRACE_ASSIGN(const auto fragments, view.Fragments());
    std::map<const Fragment*, std::vector<uint32_t>> places;
    for (const auto& item : taken_) {
      const int64_t end = item.replaced_first + item.replaced_rows;
      auto it = std::partition_point(fragments->begin(), fragments->end(), [&](const Fragment& fragment) {
        return fragment.end_row_id() <= item.replaced_first;
      });
      for (; it != fragments->end() && it->first_row_id < end; ++it) {
        HEADRACE_ASSIGN(const RowIds ids, view.reader().Ids(*it));
        const auto some = ids.PlacesIn(item.replaced_first, end);
        auto& all = places[&*it];
        all.insert(all.end(), some.begin(), some.end());
      }
    }
    auto& deletes = std::get<MergeRows>(change_->what).deletes;
    deletes.rows.clear();
    change_->values_used.clear();
    for (auto& [fragment, rows] : places) {
      std::sort(rows.begin(), rows.end());
      rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
      const auto set = RowSet::Of(rows);
      deletes.rows.push_back({*fragment, set});
      change_->values_used.push_back({*fragment, set, {}});
    }
    return Status::Ok();
  }

  Table table_;  // a handle of its own: the appender may outlive the caller's
  CommitOptions options_;
  int64_t base_;
  std::vector<Field> fields_;
  std::unique_ptr<DataWriter> writer_;
  int64_t repeated_version_;  // that has these rows; 0: none, as far as is known
  std::vector<TakenItem> taken_;
  Status broken_;                 // why the files will never be whole
  std::optional<Change> change_;  // once they are
  bool replaces_ = false;         // it deletes rows too
  Attempt attempt_;
  bool landed_ = false;  // a version names the files
};

Result<std::unique_ptr<Appender>> Table::StartAppend(const std::vector<std::string>& columns,
                                                     const CommitOptions& options) {
  if (!options.writer.empty() && options.sequence < 0) {
    return Status::Invalid("writer '" + options.writer + "' needs a sequence number, 0 or more");
  }
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  const int64_t repeated = FindCommitted(*head, ClaimOf(options)).value_or(0);
  std::vector<Field> fields;
  std::set<std::string> seen;
  for (const auto& name : columns) {
    const auto field = head->schema.Get(name);
    if (!field.ok()) return field.status().Wrap("cannot append to '" + name_ + "'");
    if (!seen.insert(name).second) return Status::Invalid("the column '" + name + "' is given twice");
    fields.push_back(**field);
  }
  if (fields.empty()) return Status::Invalid("rows without columns cannot be appended to '" + name_ + "'");
  WriteOptions write = options.write;
  write.stop = options.stop;
  auto writer = NewDataWriter(View(env_, prefix_, head), fields, StatFields(head->schema), write);
  return std::unique_ptr<Appender>(std::make_unique<TableAppender>(
      this, options, head->version, std::move(fields), std::move(writer), repeated));
}

Result<CommitResult> Table::Append(arrow::RecordBatchReader* rows, const CommitOptions& options) {
  HEADRACE_ASSIGN(const auto appender, StartAppend(rows->schema()->field_names(), options));
  for (;;) {
    HEADRACE_TRY(options.stop.Check());
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(rows->ReadNext(&batch));
    if (!batch) break;
    const Status written = appender->Write(*batch);
    if (!written.ok()) return written.Wrap("cannot append to '" + name_ + "'");
  }
  return appender->Commit();
}

}  // namespace headrace::table
