// Data files: small ones share a commit, a large one has its own. A file's rows are brought into the table's
// types before any of them is written, so a file that does not fit leaves nothing behind.
#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <arrow/util/byte_size.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>

#include "ingest/item_reader.h"
#include "ingest/items.h"
#include "ingest/row_fit.h"
#include "ingest/run_state.h"
#include "table/arrow_bridge.h"
#include "table/conform.h"
#include "table/type_arrow.h"

namespace headrace::ingest {
namespace {

using table::Field;
using table::Schema;

// A fault of the file is a row of the errors table; a fault of ours (disk, store, a stop) ends the run.
bool OfTheFile(const Status& status) {
  switch (status.code()) {
    case Code::kInvalid:
    case Code::kCorrupt:
    case Code::kUnsupported:
    case Code::kLimit:
    case Code::kAlreadyExists:
    case Code::kPermission:
    case Code::kNotFound:
      return true;
    default:
      return false;
  }
}

// A file being read: its columns, and the rows that are in memory.
struct Opened {
  std::shared_ptr<arrow::RecordBatchReader> reader;
  std::vector<std::string> names;  // of the columns that have a type
  arrow::FieldVector typed;
  Batches rows;
  int64_t first_row = 0;  // of them, in the file
  int64_t bytes = 0;
  bool ended = false;
};

class DataFiles {
 public:
  DataFiles(const std::vector<FoundFile>& files, RunState* run)
      : run_(run), files_(files), total_(static_cast<int64_t>(files.size())) {
    for (const auto& file : files) todo_.push_back(&file);
  }

  Status Take() {
    HEADRACE_ASSIGN(items_, Items::Load(*run_, files_));
    for (;;) {
      while (!todo_.empty()) {
        HEADRACE_TRY(run_->options.stop.Check());
        const FoundFile* file = todo_.front();
        todo_.pop_front();
        const size_t errors = run_->report.errors.size();
        const Status taken = One(*file);
        for (size_t i = errors; i < run_->report.errors.size(); ++i) {
          run_->report.errors[i].source = file->source;
        }
        if (!taken.ok()) {
          if (!OfTheFile(taken)) return taken;
          run_->Fail(*file, taken);
        }
        run_->Tell("reading files", total_ - static_cast<int64_t>(todo_.size()), total_, run_->report.bytes);
        if (pending_.bytes >= run_->options.commit_bytes ||
            static_cast<int64_t>(pending_.files.size()) >= run_->options.commit_files) {
          HEADRACE_TRY(Flush());
        }
      }
      HEADRACE_TRY(Flush());
      if (todo_.empty()) break;
    }
    HEADRACE_TRY(LookAtTable());
    if (!table_ && empty_) HEADRACE_TRY(MakeColumns(*empty_).status());
    return TellColumns();
  }

 private:
  // The sizes of the report's lists at some moment, to roll back to.
  struct Mark {
    size_t errors = 0, changed = 0, same_bytes = 0;
  };
  Mark Here() const {
    const IngestReport& report = run_->report;
    return {report.errors.size(), report.changed.size(), report.same_bytes.size()};
  }
  // Removes what was reported of these files since.
  void Back(const Mark& mark, const std::vector<const FoundFile*>& files) {
    std::set<std::string> sources, names;
    for (const auto* file : files) {
      sources.insert(file->source);
      names.insert(file->relative);
    }
    const auto erase = [](auto* list, size_t from, const auto& of_these) {
      list->erase(std::remove_if(list->begin() + static_cast<std::ptrdiff_t>(from), list->end(), of_these),
                  list->end());
    };
    IngestReport* report = &run_->report;
    erase(&report->errors, mark.errors, [&](const IngestError& e) { return sources.contains(e.source); });
    erase(&report->changed, mark.changed, [&](const std::string& name) { return names.contains(name); });
    erase(&report->same_bytes, mark.same_bytes,
          [&](const IngestReport::Copy& copy) { return names.contains(copy.path); });
  }

  // What the next commit holds.
  struct PendingCommit {
    std::unique_ptr<table::Appender> appender;
    std::vector<Field> fields;  // columns of every row
    std::vector<const FoundFile*> files;
    int64_t bytes = 0;
    int64_t replaced = 0;  // files whose earlier rows go
    Mark before;           // it
  };

  Status One(const FoundFile& file) {
    if (file.bytes == 0) return Status::Corrupt("the file is empty");
    table::TakenItem item;
    const Mark before = Here();
    if (!file.source.empty()) {
      if (!run_->options.again && items_.Unchanged(file)) {
        ++run_->report.skipped;
        return Status::Ok();
      }
      HEADRACE_ASSIGN(const uint64_t content, HashFile(file));
      HEADRACE_ASSIGN(const auto answer, items_.Decide(file, content, run_, &item));
      if (answer != Items::Answer::kTake) {
        ++run_->report.skipped;
        return Status::Ok();
      }
    }
    HEADRACE_ASSIGN(Opened opened, Open(file));
    HEADRACE_TRY(Read(run_->options.commit_bytes, &opened));
    if (opened.ended && !file.source.empty()) HEADRACE_TRY(CheckUnchanged(file));
    if (opened.ended && opened.rows.empty()) return NoRows(file, before, opened, std::move(item));
    if (opened.names.empty()) return Status::Corrupt("it holds no columns with values");
    const bool alone = !opened.ended;
    if (alone) HEADRACE_TRY(Flush());
    // A table or a column is made for rows that fit it only.
    HEADRACE_ASSIGN(const Schema schema, table::SchemaFromArrow(*arrow::schema(opened.typed)));
    HEADRACE_ASSIGN(const auto planned, Plan(schema));
    Refused refused;
    HEADRACE_ASSIGN(Batches rows, RowsThatFit(opened.rows, opened.first_row, planned, &refused));
    if (rows.empty() && opened.ended) {
      Tell(file, refused);
      return Status::Corrupt("none of its rows could be taken in");
    }
    HEADRACE_TRY(AllOrNothing(file, before, refused));
    OfferTensors(file, rows);
    HEADRACE_ASSIGN(auto fields, MakeColumns(schema));
    if (!SameTypes(planned, fields)) {
      refused.clear();
      HEADRACE_ASSIGN(rows, RowsThatFit(opened.rows, opened.first_row, fields, &refused));
    }
    Tell(file, refused);
    if (!Fits(fields)) HEADRACE_TRY(Flush());
    HEADRACE_TRY(Begin(std::move(fields), alone, before));
    const int64_t first_row = pending_.appender->rows();
    HEADRACE_TRY(Write(rows));
    if (alone) {
      Status rest = WriteRest(file, before, &opened);
      if (rest.ok() && !file.source.empty()) rest = CheckUnchanged(file);
      if (!rest.ok()) {
        pending_ = {};  // with what was written of it
        return rest;
      }
    }
    HEADRACE_TRY(Add(file, std::move(item), first_row));
    pending_.bytes += opened.bytes;
    return alone ? Flush() : Status::Ok();
  }

  // A file to the next commit, whose rows are written.
  Status Add(const FoundFile& file, table::TakenItem item, int64_t first_row) {
    item.first_row = first_row;
    item.rows = pending_.appender->rows() - first_row;
    pending_.replaced += item.replaced_rows > 0;
    if (!file.source.empty()) pending_.appender->Take(std::move(item));
    pending_.files.push_back(&file);
    return Status::Ok();
  }

  // Lists of one length, as other programs write vectors, that become a column.
  void OfferTensors(const FoundFile& file, const Batches& rows) {
    if (rows.empty()) return;
    for (const auto& field : rows.front()->schema()->fields()) {
      const std::string tensor = TensorOf(rows, field->name());
      if (tensor.empty() || (table_ && known_.Find(field->name()) != nullptr)) continue;
      run_->report.notices.push_back(
          "column '" + field->name() + "' of " + file.relative +
          " has lists of one length; as a tensor it is one array for numpy, streams and "
          "array_cosine_distance: --type \"" +
          field->name() + "=" + tensor + "\" when the table is made");
    }
  }

  // Rows that do not fit, in the report.
  void Tell(const FoundFile& file, const Refused& refused) {
    for (const auto& [row, fault] : refused) {
      run_->report.errors.push_back({file.relative + ":row " + std::to_string(row),
                                     Status::Invalid("column '" + fault.column + "': " + fault.why),
                                     file.source});
    }
  }

  // With on_error "fail": an error if any row of the file was refused.
  Status AllOrNothing(const FoundFile& file, const Mark& before, const Refused& refused) {
    if (run_->options.on_error != "fail") return Status::Ok();
    if (refused.empty() && run_->report.errors.size() == before.errors) return Status::Ok();
    Tell(file, refused);
    ++run_->report.refused;
    return Status::Invalid(
        "nothing of it was taken in: not all of its rows can be (on_error is fail; with skip, the others "
        "come in)");
  }

  Result<Opened> Open(const FoundFile& file) {
    HEADRACE_ASSIGN(const auto given, Given());
    Opened opened;
    HEADRACE_ASSIGN(opened.reader, file.reader->Open(file, given, run_));
    opened_any_ = true;
    for (const auto& field : opened.reader->schema()->fields()) {
      const auto known = std::find_if(given.begin(), given.end(),
                                      [&](const Field& each) { return each.name == field->name(); });
      if (known == given.end() && field->type()->id() == arrow::Type::NA) {
        auto& [first, more] = without_values_[field->name()];
        first.empty() ? first = file.relative : (++more, first);
        continue;
      }
      types_used_.insert(field->name());
      opened.names.push_back(field->name());
      opened.typed.push_back(known == given.end() ? field : table::ToArrow(*known));
    }
    return opened;
  }

  // A file with columns and no rows takes nothing in; if there is no table in the end, it makes one. Rows
  // whose place it takes go.
  Status NoRows(const FoundFile& file, const Mark& before, const Opened& opened, table::TakenItem item) {
    const auto schema = opened.reader->schema();
    if (schema->num_fields() == 0 || run_->report.errors.size() > before.errors)
      return Status::Corrupt("it holds no rows");
    run_->report.notices.push_back(file.relative + " holds no rows");
    if (item.replaced_rows > 0) {
      HEADRACE_TRY(LookAtTable());
      HEADRACE_TRY(Begin({known_.fields.front()}, false, before));
      return Add(file, std::move(item), pending_.appender->rows());
    }
    if (empty_) return Status::Ok();
    arrow::FieldVector fields = opened.typed;
    for (const auto& field : schema->fields()) {
      const auto told = without_values_.find(field->name());
      if (told != without_values_.end() && told->second.first == file.relative) without_values_.erase(told);
      const bool typed =
          std::find(opened.names.begin(), opened.names.end(), field->name()) != opened.names.end();
      if (!typed) fields.push_back(field->WithType(arrow::utf8()));
    }
    HEADRACE_ASSIGN(empty_, table::SchemaFromArrow(*arrow::schema(fields)));
    return Status::Ok();
  }

  // Columns that were left out, and types that were given for none.
  Status TellColumns() {
    auto* notices = &run_->report.notices;
    for (const auto& [name, where] : without_values_) {
      if (table_ && known_.Find(name) != nullptr) continue;  // it reads null, as it was
      const std::string more =
          where.second == 0 ? "" : " and " + std::to_string(where.second) + " more files";
      notices->push_back("column '" + name + "' of " + where.first + more +
                         " has no values and was left out; to keep it, give its type: --type " + name +
                         "=string");
    }
    for (const auto& [name, type] : run_->options.types) {
      if (opened_any_ && !types_used_.contains(name))
        notices->push_back("no file has the column '" + name + "' of --type");
    }
    return Status::Ok();
  }

  // Rows into memory, until they have so many bytes or the file ends.
  Status Read(int64_t bytes, Opened* opened) {
    while (!opened->ended && opened->bytes < bytes) {
      HEADRACE_TRY(run_->options.stop.Check());
      std::shared_ptr<arrow::RecordBatch> batch;
      HEADRACE_ARROW_TRY(opened->reader->ReadNext(&batch));
      opened->ended = !batch;
      if (!batch) break;
      opened->bytes += arrow::util::TotalBufferSize(*batch);
      if (batch->num_rows() > 0) opened->rows.push_back(std::move(batch));
    }
    return Status::Ok();
  }

  // The columns whose type does not come from a file's values: the table's, and those of --type.
  Result<std::vector<Field>> Given() {
    HEADRACE_TRY(LookAtTable());
    std::vector<Field> given;
    if (table_) given = known_.fields;
    for (const auto& [name, text] : run_->options.types) {
      Field field;
      field.name = name;
      HEADRACE_ASSIGN(field.type, table::ParseType(text));
      const Field* there = table_ ? known_.Find(name) : nullptr;
      if (there == nullptr) {
        given.push_back(std::move(field));
      } else if (there->type.ToString() != field.type.ToString()) {
        return Status::Invalid("column '" + name + "' is " + there->type.ToString() +
                               " in the table, which --type " + name + "=" + text + " cannot change");
      }
    }
    return given;
  }

  // The columns that a file's will become: the table's, or its own where that has none.
  Result<std::vector<Field>> Plan(const Schema& schema) {
    HEADRACE_TRY(LookAtTable());
    if (!table_) return schema.fields;
    std::vector<Field> fields;
    for (const auto& field : schema.fields) {
      const Field* there = known_.Find(field.name);
      fields.push_back(there == nullptr ? field : *there);
    }
    return fields;
  }

  Status LookAtTable() {
    if (!table_) {
      const auto opened = run_->catalog->OpenTable(run_->options.table);
      if (opened.status().Is(Code::kNotFound)) return Status::Ok();
      if (!opened.ok()) return opened.status();
      table_ = *opened;
      stale_ = true;
    }
    if (stale_) {
      HEADRACE_ASSIGN(const auto view, table_->At());
      known_ = view.schema();
      stale_ = false;
    }
    return Status::Ok();
  }

  static bool SameTypes(const std::vector<Field>& a, const std::vector<Field>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const Field& x, const Field& y) { return x.type.ToString() == y.type.ToString(); });
  }

  // The same, after the table and its new columns were made.
  Result<std::vector<Field>> MakeColumns(const Schema& schema) {
    if (!table_) {
      HEADRACE_ASSIGN(table_, run_->catalog->OpenOrCreateTable(run_->options.table, schema, run_->commit));
      HEADRACE_ASSIGN(const auto view, table_->At());
      known_ = view.schema();
    }
    for (int tries = 1;; ++tries) {
      std::vector<Field> fresh, fields;
      for (const auto& field : schema.fields) {
        const Field* there = known_.Find(field.name);
        there == nullptr ? fresh.push_back(field) : fields.push_back(*there);
      }
      if (fresh.empty()) return fields;
      const Status added = table_->AddEmptyColumns(fresh, run_->commit).status();
      const bool raced = added.Is(Code::kAlreadyExists) || added.Is(Code::kConflict);
      if (!added.ok() && (!raced || tries == kMaxRedone)) return added;
      HEADRACE_ASSIGN(const auto view, table_->At());
      known_ = view.schema();
    }
  }

  bool Fits(const std::vector<Field>& fields) const {
    return std::all_of(fields.begin(), fields.end(), [&](const Field& field) {
      return std::any_of(pending_.fields.begin(), pending_.fields.end(),
                         [&](const Field& open) { return open.id == field.id; });
    });
  }

  // Starts a batch with these columns and those of the one before, so that files of alternating schemas share
  // commits.
  Status Begin(std::vector<Field> fields, bool alone, const Mark& before) {
    if (pending_.appender) return Status::Ok();
    if (!alone) {
      for (const auto& field : last_fields_) {
        const bool has = std::any_of(fields.begin(), fields.end(),
                                     [&](const Field& other) { return other.id == field.id; });
        if (!has && known_.FindId(field.id) != nullptr) fields.push_back(field);
      }
      last_fields_ = fields;
    }
    std::vector<std::string> names;
    for (const auto& field : fields) names.push_back(field.name);
    HEADRACE_ASSIGN(pending_.appender, table_->StartAppend(names, run_->commit));
    pending_.fields = std::move(fields);
    pending_.before = before;
    return Status::Ok();
  }

  Status Write(const Batches& batches) {
    for (const auto& batch : batches) {
      arrow::ArrayVector columns;
      arrow::FieldVector named;
      for (const auto& field : pending_.fields) {
        std::shared_ptr<arrow::Array> column = batch->GetColumnByName(field.name);
        if (!column) {
          HEADRACE_ASSIGN(column, table::HoleArray(field, batch->num_rows()));
        }
        named.push_back(arrow::field(field.name, column->type()));
        columns.push_back(std::move(column));
      }
      HEADRACE_TRY(pending_.appender->Write(
          *arrow::RecordBatch::Make(arrow::schema(named), batch->num_rows(), columns)));
    }
    return Status::Ok();
  }

  Status WriteRest(const FoundFile& file, const Mark& before, Opened* opened) {
    while (!opened->ended) {
      for (const auto& batch : opened->rows) opened->first_row += batch->num_rows();
      opened->rows.clear();
      opened->bytes = 0;
      HEADRACE_TRY(Read(8 << 20, opened));
      Refused refused;
      HEADRACE_ASSIGN(const Batches rows,
                      RowsThatFit(opened->rows, opened->first_row, pending_.fields, &refused));
      HEADRACE_TRY(AllOrNothing(file, before, refused));
      Tell(file, refused);
      HEADRACE_TRY(Write(rows));
      run_->Tell("reading rows", run_->report.rows + pending_.appender->rows(), -1,
                 run_->report.bytes + pending_.appender->bytes());
    }
    return Status::Ok();
  }

  // Commits the batch. On a conflict (another process took some of its files in) all its files are queued
  // again.
  Status Flush() {
    if (!pending_.appender) return Status::Ok();
    PendingCommit pending = std::move(pending_);
    pending_ = {};
    stale_ = true;
    const auto committed = pending.appender->Commit();
    if (committed.ok()) {
      run_->Add(*committed);
      run_->report.files += static_cast<int64_t>(pending.files.size());
      run_->report.replaced += pending.replaced;
      return Status::Ok();
    }
    if (!committed.status().Is(Code::kConflict) || ++redone_ == kMaxRedone) return committed.status();
    Back(pending.before, pending.files);
    todo_.insert(todo_.begin(), pending.files.begin(), pending.files.end());
    last_fields_.clear();
    HEADRACE_ASSIGN(items_, Items::Load(*run_, files_));
    return Status::Ok();
  }

  RunState* run_;
  const std::vector<FoundFile>& files_;
  int64_t total_;
  std::deque<const FoundFile*> todo_;
  Items items_;
  std::shared_ptr<table::Table> table_;
  Schema known_;        // the table's, when we last looked
  bool stale_ = false;  // look again before the next file
  std::vector<Field> last_fields_;
  PendingCommit pending_;
  int redone_ = 0;
  std::map<std::string, std::pair<std::string, int64_t>>
      without_values_;  // column → first file, how many more
  std::set<std::string> types_used_;
  std::optional<Schema> empty_;  // of a file without rows
  bool opened_any_ = false;
};

}  // namespace

Status TakeDataFiles(const std::vector<FoundFile>& files, RunState* run) {
  return DataFiles(files, run).Take();
}

}  // namespace headrace::ingest
