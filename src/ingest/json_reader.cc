#include "ingest/json_reader.h"

#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <deque>
#include <map>

#include "ingest/json_records.h"
#include "ingest/json_types.h"
#include "ingest/json_values.h"
#include "table/arrow_bridge.h"
#include "table/schema.h"
#include "table/type_arrow.h"

namespace headrace::ingest {
namespace {

using table::Field;

// A row's object, or why the record is none.
Status ReadRow(const JsonChunk& chunk, const JsonRecord& record, JsonTape* tape) {
  if (!record.fault.ok()) return record.fault;
  const Status read = tape->Read(chunk.Text(record), /*non_finite=*/true);
  if (read.Is(Code::kCorrupt)) return Status::Corrupt("it is not JSON: " + read.message());
  if (!read.ok()) return read;
  if ((*tape)[0].kind != JsonKind::kObject) return Status::Corrupt("it is not a JSON object");
  return Status::Ok();
}

JsonGuess GuessOf(const JsonChunk& chunk) {
  JsonGuess guess;
  JsonTape tape;
  for (const auto& record : chunk.records) {
    if (ReadRow(chunk, record, &tape).ok()) guess.AddRow(tape, 0);
  }
  return guess;
}

// What a file's rows become.
struct Columns {
  struct Column {
    Field field;
    bool given = false;     // its values are looked at before they are taken
    bool no_value = false;  // null in every row
  };
  std::vector<Column> columns;
  std::map<std::string, size_t, std::less<>> index;
  std::map<std::string, Status, std::less<>> bad_names;  // keys that no column may have
};

Result<Columns> ColumnsOf(const JsonGuess& guess, const std::vector<Field>& given) {
  if (guess.fields().size() > static_cast<size_t>(limits::kMaxColumns)) {
    return Status::Limit("its objects have more than " + std::to_string(limits::kMaxColumns) +
                         " different keys; at most so many columns are allowed");
  }
  Columns result;
  for (const auto& [name, values] : guess.fields()) {
    Status valid = table::ValidateName("column", name);
    if (!valid.ok()) {
      result.bad_names.emplace(name, std::move(valid));
      continue;
    }
    Columns::Column column;
    column.field.name = name;
    const auto type = values->Type(0);
    column.no_value = !type;
    if (type) column.field.type = *type;
    for (const auto& field : given) {
      if (field.name != name || !type) continue;
      column.given = true;
      column.field.type = field.type;
    }
    result.index.emplace(name, result.columns.size());
    result.columns.push_back(std::move(column));
  }
  return result;
}

// The rows of one chunk, and what could not become one.
struct Rows {
  std::shared_ptr<arrow::RecordBatch> batch;
  std::vector<std::pair<int64_t, Status>> faults;  // by record number
};

class RowBuilder {
 public:
  RowBuilder(const Columns* columns, std::shared_ptr<arrow::Schema> schema)
      : columns_(columns), schema_(std::move(schema)), places_(columns->columns.size()) {}

  Result<Rows> Build(const JsonChunk& chunk) {
    for (const auto& column : columns_->columns) {
      HEADRACE_ARROW_ASSIGN(
          auto builder,
          arrow::MakeBuilder(column.no_value ? arrow::null() : table::ToArrow(column.field.type)));
      builders_.push_back(std::move(builder));
    }
    Rows rows;
    int64_t count = 0;
    for (const auto& record : chunk.records) {
      Status fault = ReadRow(chunk, record, &tape_);
      if (fault.ok()) fault = FindPlaces();
      if (!fault.ok()) {
        rows.faults.emplace_back(record.number, std::move(fault));
        continue;
      }
      for (size_t i = 0; i < places_.size(); ++i) {
        const auto appended =
            places_[i] == 0 ? builders_[i]->AppendNull()
                            : Append(tape_, places_[i], columns_->columns[i].field.type, builders_[i].get());
        if (!appended.ok()) return Status::Invalid("the file was changed while it was read");
      }
      ++count;
    }
    arrow::ArrayVector arrays;
    for (const auto& builder : builders_) {
      HEADRACE_ARROW_ASSIGN(auto array, builder->Finish());
      arrays.push_back(std::move(array));
    }
    rows.batch = arrow::RecordBatch::Make(schema_, count, std::move(arrays));
    return rows;
  }

 private:
  // Where in the object each column's value is (0: nowhere), or why it is no row.
  Status FindPlaces() {
    std::fill(places_.begin(), places_.end(), 0);
    size_t hint = 0;
    for (uint32_t i = 1; i < tape_[0].next; i = tape_[i + 1].next, ++hint) {
      const std::string text = tape_[i].escaped ? tape_.Text(i) : std::string();
      const std::string_view key = tape_[i].escaped ? text : tape_.Inner(i);
      size_t column = hint;
      if (hint >= places_.size() || columns_->columns[hint].field.name != key) {
        const auto known = columns_->index.find(key);
        if (known == columns_->index.end()) {
          const auto bad = columns_->bad_names.find(key);
          return bad != columns_->bad_names.end() ? bad->second
                                                  : Status::Invalid("the file was changed while it was read");
        }
        column = known->second;
      }
      if (tape_.IsNull(i + 1)) continue;
      const auto& into = columns_->columns[column];
      if (into.given || !tape_.finite()) {
        const std::string why = WhyNot(tape_, i + 1, into.field.type, "column '" + into.field.name + "'");
        if (!why.empty()) return Status::Invalid(why);
      }
      places_[column] = i + 1;
    }
    return Status::Ok();
  }

  const Columns* columns_;
  std::shared_ptr<arrow::Schema> schema_;
  JsonTape tape_;
  std::vector<uint32_t> places_;
  std::vector<std::unique_ptr<arrow::ArrayBuilder>> builders_;
};

// Maps a function over a file's chunks on the pool, with look-ahead; results in order.
template <typename Answer>
class Ahead {
 public:
  Ahead(JsonRecords* records, TaskPool* pool, std::function<Answer(const JsonChunk&)> ask)
      : records_(records), pool_(pool), ask_(std::move(ask)) {}
  ~Ahead() {
    for (auto& waiting : ahead_) waiting.wait();
  }
  Ahead(const Ahead&) = delete;
  Ahead& operator=(const Ahead&) = delete;

  // False at the end.
  Result<bool> Next(Answer* answer) {
    while (!ended_ && ahead_.size() < static_cast<size_t>(pool_->threads()) + 1) {
      auto chunk = std::make_shared<JsonChunk>();
      HEADRACE_ASSIGN(const bool more, records_->Next(chunk.get()));
      ended_ = !more;
      if (more) ahead_.push_back(pool_->Submit([this, chunk] { return ask_(*chunk); }));
    }
    if (ahead_.empty()) return false;
    *answer = ahead_.front().get();
    ahead_.pop_front();
    return true;
  }

 private:
  JsonRecords* records_;
  TaskPool* pool_;
  std::function<Answer(const JsonChunk&)> ask_;
  std::deque<std::future<Answer>> ahead_;
  bool ended_ = false;
};

class JsonReader final : public arrow::RecordBatchReader {
 public:
  JsonReader(JsonSource source, std::vector<IngestError>* errors)
      : source_(std::move(source)), errors_(errors) {}

  Status Begin() {
    HEADRACE_ASSIGN(const auto probe, OpenRecords());
    JsonGuess guess;
    {
      Ahead<JsonGuess> guesses(probe.get(), source_.pool, GuessOf);
      JsonGuess next;
      for (;;) {
        HEADRACE_TRY(source_.stop.Check());
        HEADRACE_ASSIGN(const bool more, guesses.Next(&next));
        if (!more) break;
        guess.Merge(std::move(next));
      }
    }
    HEADRACE_ASSIGN(columns_, ColumnsOf(guess, source_.given));
    arrow::FieldVector fields;
    for (const auto& column : columns_.columns) {
      fields.push_back(column.no_value ? arrow::field(column.field.name, arrow::null())
                                       : table::ToArrow(column.field));
    }
    schema_ = arrow::schema(fields);
    HEADRACE_ASSIGN(records_, OpenRecords());
    rows_ = std::make_unique<Ahead<Result<Rows>>>(
        records_.get(), source_.pool,
        [this](const JsonChunk& chunk) { return RowBuilder(&columns_, schema_).Build(chunk); });
    return Status::Ok();
  }

  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* batch) override {
    *batch = nullptr;
    Result<Rows> rows = Rows();
    const auto more = rows_->Next(&rows);
    if (!more.ok()) return table::ToArrow(more.status());
    if (!*more) return arrow::Status::OK();
    if (!rows.ok()) return table::ToArrow(rows.status());
    for (auto& [number, fault] : rows->faults)
      errors_->push_back({records_->NameOf(source_.name, number), std::move(fault)});
    *batch = rows->batch;
    return arrow::Status::OK();
  }

 private:
  Result<std::unique_ptr<JsonRecords>> OpenRecords() const {
    return JsonRecords::Open(source_.path, source_.encoding, source_.chunk_bytes, source_.record_bytes);
  }

  JsonSource source_;
  std::vector<IngestError>* errors_;
  Columns columns_;
  std::shared_ptr<arrow::Schema> schema_;
  std::unique_ptr<JsonRecords> records_;
  std::unique_ptr<Ahead<Result<Rows>>> rows_;
};

}  // namespace

Result<std::shared_ptr<arrow::RecordBatchReader>> OpenJson(const JsonSource& source,
                                                           std::vector<IngestError>* errors) {
  auto reader = std::make_shared<JsonReader>(source, errors);
  HEADRACE_TRY(reader->Begin());
  return std::shared_ptr<arrow::RecordBatchReader>(reader);
}

}  // namespace headrace::ingest
