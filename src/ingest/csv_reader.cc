#include "ingest/csv_reader.h"

#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/record_batch.h>
#include <arrow/scalar.h>
#include <arrow/type.h>
#include <arrow/type_traits.h>
#include <arrow/util/key_value_metadata.h>
#include <arrow/util/utf8.h>

#include <set>

#include "base/json_tape.h"
#include "ingest/csv_types.h"
#include "table/arrow_bridge.h"

namespace headrace::ingest {
namespace {

constexpr int64_t kBatchRows = 16 << 10;
constexpr int64_t kBatchBytes = 8 << 20;

bool IsUtf8(const std::string& text) {
  return arrow::util::ValidateUTF8(reinterpret_cast<const uint8_t*>(text.data()),
                                   static_cast<int64_t>(text.size()));
}

// The columns' names. Reads the header, where there is one.
Result<std::vector<std::string>> Header(CsvText* text, const CsvOptions& options) {
  if (!options.header && !options.names.empty()) return options.names;
  CsvRecord first;
  HEADRACE_ASSIGN(const bool more, text->Next(&first));
  if (!more) return Status::Corrupt("the file holds no text");
  if (!options.names.empty()) return options.names;
  std::vector<std::string> names;
  if (!options.header) {
    for (size_t i = 0; i < first.cells.size(); ++i) names.push_back("column" + std::to_string(i + 1));
    return names;
  }
  if (!first.fault.ok()) return first.fault;
  std::set<std::string> seen;
  for (const auto& cell : first.cells) {
    if (!IsUtf8(cell.text)) {
      return Status::Corrupt("its text is not valid UTF-8; say how it is encoded: --encoding latin-1");
    }
    const bool fresh = seen.insert(cell.text).second;
    if (cell.text.empty() || !fresh) {
      return Status::Invalid((cell.text.empty() ? "a column has no name in the first line"
                                                : "two of its columns are named '" + cell.text + "'") +
                             "; rename it there, or give all names: --header --names a,b,c");
    }
    names.push_back(cell.text);
  }
  return names;
}

bool IsJson(const arrow::Field& field) {
  return field.metadata() && field.metadata()->Get("ARROW:extension:name").ValueOr("") == "arrow.json";
}

// Why the record cannot be a row of these columns.
Status Fault(const CsvRecord& record, const arrow::Schema& schema) {
  if (!record.fault.ok()) return record.fault;
  const auto columns = static_cast<size_t>(schema.num_fields());
  if (record.cells.size() != columns) {
    return Status::Corrupt("the row has " + std::to_string(record.cells.size()) + " cells and there are " +
                           std::to_string(columns) + " columns");
  }
  for (size_t i = 0; i < columns; ++i) {
    const auto& cell = record.cells[i];
    const auto& field = *schema.field(static_cast<int>(i));
    const std::string where = "column '" + field.name() + "': ";
    if (!IsUtf8(cell.text)) {
      return Status::Corrupt(where +
                             "the text is not valid UTF-8; say how it is encoded: --encoding latin-1");
    }
    if (cell.IsNull() || field.type()->id() == arrow::Type::NA) continue;
    if (IsJson(field)) {
      const std::string not_json = WhyNotJson(cell.text);
      if (!not_json.empty()) return Status::Invalid(where + "it is not JSON: " + not_json);
    }
    const std::string why = WhyNot(cell.text, *field.type());
    if (!why.empty()) return Status::Invalid(where + why);
  }
  return Status::Ok();
}

// Times of day from texts that are such; Arrow has no cast for them.
Result<std::shared_ptr<arrow::Array>> TimesOf(const arrow::StringArray& texts,
                                              const std::shared_ptr<arrow::DataType>& type) {
  HEADRACE_ARROW_ASSIGN(auto builder, arrow::MakeBuilder(type));
  for (int64_t i = 0; i < texts.length(); ++i) {
    if (texts.IsNull(i)) {
      HEADRACE_ARROW_TRY(builder->AppendNull());
      continue;
    }
    HEADRACE_ARROW_ASSIGN(const auto time, arrow::Scalar::Parse(type, texts.GetView(i)));
    HEADRACE_ARROW_TRY(builder->AppendScalar(*time));
  }
  HEADRACE_ARROW_ASSIGN(auto times, builder->Finish());
  return times;
}

class CsvReader final : public arrow::RecordBatchReader {
 public:
  CsvReader(std::unique_ptr<CsvText> text, std::shared_ptr<arrow::Schema> schema, std::string name,
            std::vector<IngestError>* errors)
      : text_(std::move(text)), schema_(std::move(schema)), name_(std::move(name)), errors_(errors) {}

  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* batch) override {
    auto next = Next();
    if (!next.ok()) return table::ToArrow(next.status());
    *batch = *next;
    return arrow::Status::OK();
  }

 private:
  Result<std::shared_ptr<arrow::RecordBatch>> Next() {
    std::vector<arrow::StringBuilder> columns(static_cast<size_t>(schema_->num_fields()));
    int64_t rows = 0, bytes = 0;
    CsvRecord record;
    while (rows < kBatchRows && bytes < kBatchBytes) {
      HEADRACE_ASSIGN(const bool more, text_->Next(&record));
      if (!more) break;
      Status fault = Fault(record, *schema_);
      if (!fault.ok()) {
        errors_->push_back({name_ + ":" + std::to_string(record.line), std::move(fault)});
        continue;
      }
      for (size_t i = 0; i < columns.size(); ++i) {
        const auto& cell = record.cells[i];
        bytes += static_cast<int64_t>(cell.text.size());
        HEADRACE_ARROW_TRY(cell.IsNull() ? columns[i].AppendNull() : columns[i].Append(cell.text));
      }
      ++rows;
    }
    if (rows == 0) return std::shared_ptr<arrow::RecordBatch>();
    arrow::ArrayVector typed;
    for (size_t i = 0; i < columns.size(); ++i) {
      HEADRACE_ARROW_ASSIGN(auto array, columns[i].Finish());
      const auto& type = schema_->field(static_cast<int>(i))->type();
      if (type->id() == arrow::Type::NA) {
        array = std::make_shared<arrow::NullArray>(rows);
      } else if (arrow::is_time(type->id())) {
        HEADRACE_ASSIGN(array, TimesOf(static_cast<const arrow::StringArray&>(*array), type));
      } else if (type->id() != arrow::Type::STRING) {
        HEADRACE_ARROW_ASSIGN(array, arrow::compute::Cast(*array, type));
      }
      typed.push_back(std::move(array));
    }
    return arrow::RecordBatch::Make(schema_, rows, std::move(typed));
  }

  std::unique_ptr<CsvText> text_;
  std::shared_ptr<arrow::Schema> schema_;
  std::string name_;
  std::vector<IngestError>* errors_;
};

}  // namespace

Result<std::shared_ptr<arrow::RecordBatchReader>> OpenCsv(const std::string& path, const std::string& name,
                                                          const CsvOptions& options,
                                                          const arrow::Schema& wanted,
                                                          std::vector<IngestError>* errors) {
  static const arrow::Status compute = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute);
  arrow::util::InitializeUTF8();
  HEADRACE_ASSIGN(auto probe, CsvText::Open(path, options));
  HEADRACE_ASSIGN(const auto names, Header(probe.get(), options));
  if (!options.header && options.names.empty()) {  // the row that was counted is data
    HEADRACE_ASSIGN(probe, CsvText::Open(path, options));
  }
  std::vector<ColumnGuess> guesses(names.size());
  CsvRecord record;
  for (;;) {
    HEADRACE_ASSIGN(const bool more, probe->Next(&record));
    if (!more) break;
    if (!record.fault.ok() || record.cells.size() != names.size()) continue;
    for (size_t i = 0; i < names.size(); ++i) {
      if (!record.cells[i].IsNull()) guesses[i].Add(record.cells[i].text);
    }
  }
  arrow::FieldVector fields;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto given = wanted.GetFieldByName(names[i]);
    const auto guessed = guesses[i].Type();
    fields.push_back(given && guessed->id() != arrow::Type::NA ? given : arrow::field(names[i], guessed));
  }
  HEADRACE_ASSIGN(auto text, CsvText::Open(path, options));
  if (options.header) HEADRACE_TRY(Header(text.get(), options).status());
  return std::shared_ptr<arrow::RecordBatchReader>(
      std::make_shared<CsvReader>(std::move(text), arrow::schema(fields), name, errors));
}

}  // namespace headrace::ingest
