#include "ingest/image_facts.h"

#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>

#include <optional>
#include <utility>
#include <vector>

#include "media/media.h"
#include "table/arrow_bridge.h"
#include "table/conform.h"
#include "table/type_arrow.h"

namespace headrace::ingest {
namespace {

using table::Field;
using ArrayPtr = std::shared_ptr<arrow::Array>;

// The blob struct of the bytes, with what ProbeImage says of them.
Result<ArrayPtr> BlobsFromBytes(const Field& field, const ArrayPtr& bytes) {
  HEADRACE_ASSIGN(const auto wrapped, table::ConformArray(bytes, field));
  const auto& cells = static_cast<const arrow::StructArray&>(*wrapped);
  const auto inline_bytes = std::static_pointer_cast<arrow::BinaryArray>(cells.GetFieldByName("inline"));
  arrow::StringBuilder media_type;
  arrow::Int32Builder width, height;
  arrow::Int8Builder orientation;
  for (int64_t i = 0; i < cells.length(); ++i) {
    const auto facts = inline_bytes->IsValid(i) ? media::ProbeImage(inline_bytes->GetView(i))
                                                : Result<media::ImageFacts>(Status::NotFound("no bytes"));
    HEADRACE_ARROW_TRY(facts.ok() ? media_type.Append(facts->media_type) : media_type.AppendNull());
    HEADRACE_ARROW_TRY(facts.ok() ? width.Append(facts->width) : width.AppendNull());
    HEADRACE_ARROW_TRY(facts.ok() ? height.Append(facts->height) : height.AppendNull());
    HEADRACE_ARROW_TRY(facts.ok() ? orientation.Append(facts->orientation) : orientation.AppendNull());
  }
  arrow::ArrayVector children = cells.fields();
  const auto replace = [&](const char* name, arrow::ArrayBuilder* builder) -> Status {
    const int index = static_cast<const arrow::StructType&>(*cells.type()).GetFieldIndex(name);
    HEADRACE_ARROW_ASSIGN(children[static_cast<size_t>(index)], builder->Finish());
    return Status::Ok();
  };
  HEADRACE_TRY(replace("media_type", &media_type));
  HEADRACE_TRY(replace("width", &width));
  HEADRACE_TRY(replace("height", &height));
  HEADRACE_TRY(replace("orientation", &orientation));
  return ArrayPtr(std::make_shared<arrow::StructArray>(cells.type(), cells.length(), std::move(children),
                                                       cells.null_bitmap(), cells.null_count()));
}

bool HoldsBytes(const arrow::DataType& type) {
  switch (type.id()) {
    case arrow::Type::BINARY:
    case arrow::Type::LARGE_BINARY:
    case arrow::Type::BINARY_VIEW:
    case arrow::Type::FIXED_SIZE_BINARY:
    case arrow::Type::STRING:
    case arrow::Type::LARGE_STRING:
    case arrow::Type::STRING_VIEW:
      return true;
    case arrow::Type::DICTIONARY:
      return HoldsBytes(*static_cast<const arrow::DictionaryType&>(type).value_type());
    default:
      return false;
  }
}

// The blob column that the field's bytes go into.
std::optional<Field> BlobOf(const arrow::Field& field, const table::Schema& schema) {
  const Field* there = schema.Find(field.name());
  const bool is_blob = there != nullptr
                           ? there->type.kind == table::Kind::kBlob
                           : field.metadata() != nullptr && field.metadata()->Contains("headrace.media");
  if (!is_blob || !HoldsBytes(*field.type())) return std::nullopt;
  Field blob;
  blob.name = field.name();
  blob.type.kind = table::Kind::kBlob;
  blob.type.children = table::BlobFields();
  return blob;
}

class ImageFactsReader final : public arrow::RecordBatchReader {
 public:
  ImageFactsReader(std::shared_ptr<arrow::RecordBatchReader> rows, const table::Schema& schema)
      : rows_(std::move(rows)) {
    arrow::FieldVector fields = rows_->schema()->fields();
    for (auto& field : fields) {
      blobs_.push_back(BlobOf(*field, schema));
      if (blobs_.back()) field = table::ToArrow(*blobs_.back());
    }
    schema_ = arrow::schema(std::move(fields));
  }

  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }

  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* out) override {
    std::shared_ptr<arrow::RecordBatch> batch;
    *out = nullptr;
    ARROW_RETURN_NOT_OK(rows_->ReadNext(&batch));
    if (!batch) return arrow::Status::OK();
    arrow::ArrayVector columns = batch->columns();
    for (size_t i = 0; i < columns.size(); ++i) {
      if (!blobs_[i]) continue;
      auto blobs = BlobsFromBytes(*blobs_[i], columns[i]);
      if (!blobs.ok()) return table::ToArrow(blobs.status());
      columns[i] = std::move(blobs).value();
    }
    *out = arrow::RecordBatch::Make(schema_, batch->num_rows(), std::move(columns));
    return arrow::Status::OK();
  }

 private:
  std::shared_ptr<arrow::RecordBatchReader> rows_;
  std::shared_ptr<arrow::Schema> schema_;
  std::vector<std::optional<Field>> blobs_;  // by column: what it becomes
};

}  // namespace

std::shared_ptr<arrow::RecordBatchReader> WithImageFacts(std::shared_ptr<arrow::RecordBatchReader> rows,
                                                         const table::Schema& schema) {
  return std::make_shared<ImageFactsReader>(std::move(rows), schema);
}

}  // namespace headrace::ingest
