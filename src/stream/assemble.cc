#include "stream/assemble.h"

#include <arrow/array.h>
#include <arrow/array/builder_binary.h>
#include <arrow/array/concatenate.h>
#include <arrow/array/util.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <cstring>

#include "table/arrow_bridge.h"
#include "table/type_arrow.h"

namespace headrace::stream {

Status CopyTensor(const Column& column, const arrow::Array& values, int64_t row, uint8_t* out) {
  if (values.IsNull(row)) {
    return Status::Invalid("it is null; add \"" + column.name + " is not null\" to the filter");
  }
  if (column.bits) {
    *out = static_cast<const arrow::BooleanArray&>(values).Value(row) ? 1 : 0;
    return Status::Ok();
  }
  const arrow::ArrayData* data = values.data().get();
  int64_t first = data->offset + row;
  if (values.type_id() == arrow::Type::FIXED_SIZE_LIST) {
    const auto& list = static_cast<const arrow::FixedSizeListArray&>(values);
    first = list.value_offset(row) + list.values()->data()->offset;
    data = list.values()->data().get();
    std::memcpy(out, data->buffers[1]->data() + first * data->type->byte_width(),
                static_cast<size_t>(column.row_bytes));
    return Status::Ok();
  }
  std::memcpy(out, data->buffers[1]->data() + first * column.row_bytes,
              static_cast<size_t>(column.row_bytes));
  return Status::Ok();
}

namespace {

template <typename Array, typename Builder>
Result<std::shared_ptr<arrow::Array>> GatherText(size_t index, const std::vector<Sample>& samples) {
  Builder builder;
  HEADRACE_ARROW_TRY(builder.Reserve(static_cast<int64_t>(samples.size())));
  for (const auto& sample : samples) {
    if (!sample.wanted || !sample.bad.ok() || sample.chunk->values[index]->IsNull(sample.row)) {
      HEADRACE_ARROW_TRY(builder.AppendNull());
    } else {
      HEADRACE_ARROW_TRY(
          builder.Append(static_cast<const Array&>(*sample.chunk->values[index]).GetView(sample.row)));
    }
  }
  std::shared_ptr<arrow::Array> array;
  HEADRACE_ARROW_TRY(builder.Finish(&array));
  return array;
}

}  // namespace

Result<std::shared_ptr<arrow::Array>> GatherValues(const Column& column, size_t index,
                                                   const std::vector<Sample>& samples) {
  table::Field field = column.projection.leaf;
  const auto type = table::ToArrow(field)->type();
  if (type->id() == arrow::Type::STRING)
    return GatherText<arrow::StringArray, arrow::StringBuilder>(index, samples);
  if (type->id() == arrow::Type::BINARY)
    return GatherText<arrow::BinaryArray, arrow::BinaryBuilder>(index, samples);
  arrow::ArrayVector pieces;
  std::shared_ptr<arrow::Array> hole;
  for (const auto& sample : samples) {
    if (sample.wanted && sample.bad.ok()) {
      pieces.push_back(sample.chunk->values[index]->Slice(sample.row, 1));
      continue;
    }
    if (!hole) {
      HEADRACE_ARROW_ASSIGN(hole, arrow::MakeArrayOfNull(type, 1));
    }
    pieces.push_back(hole);
  }
  std::shared_ptr<arrow::Array> joined;
  if (pieces.empty()) {
    HEADRACE_ARROW_ASSIGN(joined, arrow::MakeArrayOfNull(type, 0));
  } else {
    HEADRACE_ARROW_ASSIGN(joined, arrow::Concatenate(pieces));
  }
  return joined;
}

namespace {

std::shared_ptr<arrow::DataType> ElementType(const std::string& dtype) {
  const auto parsed = table::ParseType(dtype == "bfloat16" ? "uint16" : dtype);
  HEADRACE_CHECK(parsed.ok());
  return table::ToArrow(*parsed);
}

std::shared_ptr<arrow::Array> TensorArray(const std::shared_ptr<const Batch>& batch,
                                          const BatchColumn& column) {
  int64_t width = 1;
  for (size_t d = 1; d < column.shape.size(); ++d) width *= column.shape[d];
  const bool bits = column.dtype == "bool";
  const auto type = ElementType(bits ? "uint8" : column.dtype);
  const auto buffer = table::ToBuffer(store::Bytes(batch, column.data->data(), column.data->size()));
  const auto values = arrow::MakeArray(arrow::ArrayData::Make(type, batch->rows * width, {nullptr, buffer}));
  if (column.shape.size() == 1) return values;
  return std::make_shared<arrow::FixedSizeListArray>(
      arrow::fixed_size_list(type, static_cast<int32_t>(width)), batch->rows, values);
}

template <typename T>
std::shared_ptr<arrow::Array> VectorArray(const std::shared_ptr<const Batch>& batch,
                                          const std::shared_ptr<arrow::DataType>& type,
                                          const std::vector<T>& values) {
  const auto buffer = table::ToBuffer(store::Bytes(batch, reinterpret_cast<const uint8_t*>(values.data()),
                                                   static_cast<int64_t>(values.size() * sizeof(T))));
  return arrow::MakeArray(arrow::ArrayData::Make(type, batch->rows, {nullptr, buffer}));
}

}  // namespace

Result<std::shared_ptr<arrow::RecordBatch>> BatchToArrow(std::shared_ptr<const Batch> batch) {
  arrow::FieldVector fields;
  arrow::ArrayVector arrays;
  const auto add = [&](const std::string& name, std::shared_ptr<arrow::Array> array) {
    fields.push_back(arrow::field(name, array->type()));
    arrays.push_back(std::move(array));
  };
  for (const auto& column : batch->columns) {
    if (column.data) {
      add(column.name, TensorArray(batch, column));
    } else if (column.values) {
      add(column.name, column.values);
    } else {
      arrow::BinaryBuilder builder;
      for (const auto& blob : column.blobs) {
        if (blob) {
          HEADRACE_ARROW_TRY(builder.Append(blob->view()));
        } else {
          HEADRACE_ARROW_TRY(builder.AppendNull());
        }
      }
      std::shared_ptr<arrow::Array> array;
      HEADRACE_ARROW_TRY(builder.Finish(&array));
      add(column.name, std::move(array));
    }
  }
  add("valid", VectorArray(batch, arrow::uint8(), batch->valid));
  add("epoch", VectorArray(batch, arrow::int64(), batch->epoch));
  add("position", VectorArray(batch, arrow::int64(), batch->position));
  add("row_id", VectorArray(batch, arrow::int64(), batch->row_id));
  if (!batch->source.empty()) add("source", VectorArray(batch, arrow::int32(), batch->source));
  return arrow::RecordBatch::Make(arrow::schema(std::move(fields)), batch->rows, std::move(arrays));
}

}  // namespace headrace::stream
