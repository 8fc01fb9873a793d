#include "query/widen.h"

#include <arrow/array.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>

#include "table/arrow_bridge.h"

namespace headrace::query {

std::shared_ptr<arrow::DataType> Widened(const std::shared_ptr<arrow::DataType>& type) {
  switch (type->id()) {
    case arrow::Type::HALF_FLOAT:
      return arrow::float32();
    case arrow::Type::DECIMAL256:
      return arrow::utf8();
    case arrow::Type::DURATION:
      return static_cast<const arrow::DurationType&>(*type).unit() == arrow::TimeUnit::NANO
                 ? arrow::duration(arrow::TimeUnit::MICRO)
                 : type;
    case arrow::Type::TIMESTAMP: {
      const auto& time = static_cast<const arrow::TimestampType&>(*type);
      const bool finer = time.unit() == arrow::TimeUnit::NANO && !time.timezone().empty();
      return finer ? arrow::timestamp(arrow::TimeUnit::MICRO, time.timezone()) : type;
    }
    case arrow::Type::MAP: {
      const auto& map = static_cast<const arrow::MapType&>(*type);
      return std::make_shared<arrow::MapType>(map.key_field()->WithType(Widened(map.key_type())),
                                              map.item_field()->WithType(Widened(map.item_type())));
    }
    case arrow::Type::LIST: {
      const auto& item = static_cast<const arrow::ListType&>(*type).value_field();
      return arrow::list(item->WithType(Widened(item->type())));
    }
    case arrow::Type::FIXED_SIZE_LIST: {
      const auto& list = static_cast<const arrow::FixedSizeListType&>(*type);
      return arrow::fixed_size_list(list.value_field()->WithType(Widened(list.value_type())),
                                    list.list_size());
    }
    case arrow::Type::STRUCT: {
      arrow::FieldVector fields;
      for (const auto& field : type->fields()) fields.push_back(field->WithType(Widened(field->type())));
      return arrow::struct_(fields);
    }
    default:
      return type;
  }
}

Result<std::shared_ptr<arrow::RecordBatch>> Widened(std::shared_ptr<arrow::RecordBatch> batch) {
  for (int i = 0; i < batch->num_columns(); ++i) {
    const auto& column = batch->column(i);
    const auto type = Widened(column->type());
    if (type->Equals(*column->type())) continue;
    static const arrow::Status ready = arrow::compute::Initialize();
    HEADRACE_ARROW_TRY(ready);
    auto wide = arrow::compute::Cast(*column, type);
    if (!wide.ok()) {
      return table::FromArrow(wide.status())
          .Wrap("SQL cannot take the column '" + batch->column_name(i) + "' as " + type->ToString());
    }
    HEADRACE_ARROW_ASSIGN(batch, batch->SetColumn(i, batch->schema()->field(i)->WithType(type), *wide));
  }
  return batch;
}

std::shared_ptr<arrow::Field> Widened(const arrow::Field& field) {
  const std::string key = "ARROW:extension:name";
  const std::string name = field.metadata() ? field.metadata()->Get(key).ValueOr("") : "";
  return arrow::field(field.name(), Widened(field.type()), field.nullable(),
                      name.empty() ? nullptr : arrow::key_value_metadata({key}, {name}));
}

}  // namespace headrace::query
