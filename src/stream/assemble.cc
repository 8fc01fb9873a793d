#include "stream/assemble.h"

#include <arrow/array.h>
#include <arrow/array/builder_binary.h>
#include <arrow/array/concatenate.h>
#include <arrow/array/util.h>

#include <cstring>

#include "table/arrow_bridge.h"

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
    std::memcpy(out, data->buffers[1]->data() + first * data->type->byte_width(), static_cast<size_t>(column.row_bytes));
    return Status::Ok();
  }
  std::memcpy(out, data->buffers[1]->data() + first * column.row_bytes, static_cast<size_t>(column.row_bytes));
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
      HEADRACE_ARROW_TRY(builder.Append(static_cast<const Array&>(*sample.chunk->values[index]).GetView(sample.row)));
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
  if (type->id() == arrow::Type::STRING) return GatherText<arrow::StringArray, arrow::StringBuilder>(index, samples);
  if (type->id() == arrow::Type::BINARY) return GatherText<arrow::BinaryArray, arrow::BinaryBuilder>(index, samples);
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

}  // namespace headrace::stream
