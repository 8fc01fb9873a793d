#include "table/stored_form.h"

#include <arrow/array.h>
#include <arrow/array/util.h>
#include <arrow/type.h>

#include "table/type_arrow.h"

namespace headrace::table {
namespace {

using Data = std::shared_ptr<arrow::ArrayData>;

// A type with other children, their names kept.
std::shared_ptr<arrow::DataType> WithChildren(const arrow::DataType& type,
                                              const std::vector<Data>& children) {
  arrow::FieldVector fields;
  for (size_t i = 0; i < children.size(); ++i)
    fields.push_back(type.field(static_cast<int>(i))->WithType(children[i]->type));
  switch (type.id()) {
    case arrow::Type::LIST:
      return arrow::list(fields[0]);
    case arrow::Type::MAP:
      return std::make_shared<arrow::MapType>(fields[0]);
    default:
      return arrow::struct_(fields);
  }
}

Data Retyped(const Data& data, const Type& type) {
  const auto id = data->type->id();
  Data copy = data->Copy();
  if (type.kind == Kind::kDuration && id == arrow::Type::INT64) {
    copy->type = ToArrow(type);
    return copy;
  }
  if (type.kind == Kind::kList && id == arrow::Type::LIST) {
    copy->child_data[0] = Retyped(copy->child_data[0], type.children[0].type);
  } else if (type.kind == Kind::kMap && id == arrow::Type::MAP) {
    Type entries;
    entries.kind = Kind::kStruct;
    entries.children = type.children;
    for (int i = 0; i < 2; ++i)
      entries.children[static_cast<size_t>(i)].name = data->child_data[0]->type->field(i)->name();
    copy->child_data[0] = Retyped(copy->child_data[0], entries);
  } else if (type.kind == Kind::kStruct && id == arrow::Type::STRUCT) {
    for (size_t i = 0; i < copy->child_data.size(); ++i) {
      for (const auto& child : type.children) {
        if (child.name != data->type->field(static_cast<int>(i))->name()) continue;
        copy->child_data[i] = Retyped(copy->child_data[i], child.type);
      }
    }
  } else {
    return data;
  }
  copy->type = WithChildren(*data->type, copy->child_data);
  return copy;
}

}  // namespace

std::shared_ptr<arrow::Array> FromStored(const std::shared_ptr<arrow::Array>& array, const Type& type) {
  return arrow::MakeArray(Retyped(array->data(), type));
}

}  // namespace headrace::table
