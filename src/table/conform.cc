#include "table/conform.h"

#include <arrow/array.h>
#include <arrow/array/concatenate.h>
#include <arrow/array/util.h>
#include <arrow/builder.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/extension_type.h>
#include <arrow/scalar.h>
#include <arrow/type.h>
#include <arrow/util/utf8.h>

#include <algorithm>
#include <set>

#include "table/arrow_bridge.h"
#include "table/default_value.h"
#include "table/json_text.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;

Result<ArrayPtr> Conform(const ArrayPtr& input, const Field& field, std::vector<RowFault>* faults);

Status EnsureCompute() {
  static const arrow::Status initialized = arrow::compute::Initialize();
  return FromArrow(initialized);
}

Status Wrong(const Field& field, const arrow::DataType& given) {
  return Status::Invalid("column '" + field.name + "' is " + given.ToString() + " and the table's is " +
                         field.type.ToString());
}

void FindBadText(const arrow::BinaryArray& strings, const std::string& column,
                 std::vector<RowFault>* faults) {
  arrow::util::InitializeUTF8();
  for (int64_t i = 0; i < strings.length(); ++i) {
    if (strings.IsNull(i)) continue;
    const std::string_view text = strings.GetView(i);
    if (!arrow::util::ValidateUTF8(reinterpret_cast<const uint8_t*>(text.data()),
                                   static_cast<int64_t>(text.size()))) {
      faults->push_back({i, column, "the text is not valid UTF-8; fix its encoding or store it as binary"});
    }
  }
}

void FindBadJson(const arrow::BinaryArray& texts, const std::string& column, std::vector<RowFault>* faults) {
  for (int64_t i = 0; i < texts.length(); ++i) {
    if (texts.IsNull(i)) continue;
    const Status json = CheckJson(texts.GetView(i));
    if (!json.ok()) faults->push_back({i, column, json.message()});
  }
}

// Bytes given for a blob column: wrapped into the struct with everything else unknown; the writer fills in
// the rest.
Result<ArrayPtr> WrapBytes(const ArrayPtr& array, const Field& field, std::vector<RowFault>* faults) {
  HEADRACE_ASSIGN(const ArrayPtr bytes, ExactCast(array, arrow::binary(), field.name, faults));
  arrow::ArrayVector children;
  for (const auto& child : field.type.children) {
    if (child.name == "inline") {
      children.push_back(bytes);
    } else {
      HEADRACE_ARROW_ASSIGN(auto nulls, arrow::MakeArrayOfNull(ToArrow(child.type), array->length()));
      children.push_back(nulls);
    }
  }
  // The struct's validity is that of the bytes, brought to offset 0 as the children are.
  HEADRACE_ASSIGN(auto validity, ValidityOf(*bytes));
  return ArrayPtr(std::make_shared<arrow::StructArray>(ToArrow(field.type), array->length(), children,
                                                       validity, bytes->null_count()));
}

// A struct's children, each conformed; children are matched by name and missing ones are null.
Result<ArrayPtr> ConformStruct(const ArrayPtr& array, const Field& field, std::vector<RowFault>* faults) {
  const auto& source = static_cast<const arrow::StructArray&>(*array);
  for (const auto& given : source.type()->fields()) {
    bool known = false;
    for (const auto& child : field.type.children) known |= child.name == given->name();
    if (!known) return Status::Invalid("column '" + field.name + "' has no field '" + given->name() + "'");
    if (source.struct_type()->GetAllFieldIndices(given->name()).size() > 1)
      return Status::Invalid("column '" + field.name + "' has two fields named '" + given->name() + "'");
  }
  arrow::ArrayVector children;
  for (const auto& child : field.type.children) {
    const ArrayPtr given = source.GetFieldByName(child.name);
    if (!given) {
      HEADRACE_ARROW_ASSIGN(auto nulls, arrow::MakeArrayOfNull(ToArrow(child.type), array->length()));
      children.push_back(nulls);
      continue;
    }
    Field named = child;
    named.name = field.name + "." + child.name;
    std::vector<RowFault> inside;
    HEADRACE_ASSIGN(auto conformed, Conform(given, named, &inside));
    for (auto& fault : inside) {
      if (source.IsValid(fault.row)) faults->push_back(std::move(fault));
    }
    children.push_back(conformed);
  }
  HEADRACE_ASSIGN(auto validity, ValidityOf(source));
  return ArrayPtr(std::make_shared<arrow::StructArray>(ToArrow(field.type), array->length(), children,
                                                       validity, source.null_count()));
}

// A list's or map's arrays for exactly its rows, whatever its offset: offsets from 0, and validity. Offsets
// come from outside: they are proven before anyone follows them.
struct Lists {
  std::shared_ptr<arrow::Buffer> offsets, validity;
  int64_t begin = 0, count = 0;  // of its values
};

Result<Lists> ListsOf(const arrow::ListArray& list, const std::string& column) {
  Lists lists;
  const int64_t rows = list.length();
  arrow::TypedBufferBuilder<int32_t> offsets;
  HEADRACE_ARROW_TRY(offsets.Append(0));
  for (int64_t i = 0; i < rows; ++i) {
    if (list.value_offset(i) < 0 || list.value_offset(i) > list.value_offset(i + 1) ||
        list.value_offset(i + 1) > list.values()->length()) {
      return Status::Invalid("column '" + column + "' is not a valid Arrow array: the offsets of row " +
                             std::to_string(i) + " are wrong");
    }
    if (i == 0) lists.begin = list.value_offset(0);
    HEADRACE_ARROW_TRY(offsets.Append(static_cast<int32_t>(list.value_offset(i + 1) - lists.begin)));
    lists.count = list.value_offset(i + 1) - lists.begin;
  }
  HEADRACE_ARROW_ASSIGN(lists.offsets, offsets.Finish());
  HEADRACE_ASSIGN(lists.validity, ValidityOf(list));
  return lists;
}

// Faults of values as faults of the rows that hold them, one each.
void TellRows(std::vector<RowFault> inside, const arrow::ListArray& list, const Lists& lists,
              std::vector<RowFault>* faults) {
  std::sort(inside.begin(), inside.end(), [](const RowFault& a, const RowFault& b) { return a.row < b.row; });
  size_t at = 0;
  for (int64_t row = 0; row < list.length(); ++row) {
    bool told = list.IsNull(row);
    for (; at < inside.size() && inside[at].row < list.value_offset(row + 1) - lists.begin; ++at) {
      if (!told) faults->push_back({row, inside[at].column, inside[at].why});
      told = true;
    }
  }
}

bool IsList(const arrow::Array& array) {
  switch (array.type_id()) {
    case arrow::Type::LIST:
    case arrow::Type::LARGE_LIST:
    case arrow::Type::LIST_VIEW:
    case arrow::Type::LARGE_LIST_VIEW:
    case arrow::Type::FIXED_SIZE_LIST:
      return true;
    default:
      return false;
  }
}

// Any list as arrow::list of the same values.
Result<std::shared_ptr<arrow::ListArray>> PlainList(const ArrayPtr& array, const Field& field) {
  if (!IsList(*array)) return Wrong(field, *array->type());
  if (array->type_id() == arrow::Type::LIST) return std::static_pointer_cast<arrow::ListArray>(array);
  const arrow::Status full = array->ValidateFull();
  if (!full.ok()) return FromArrow(full).Wrap("column '" + field.name + "' is not a valid Arrow array");
  HEADRACE_TRY(EnsureCompute());
  HEADRACE_ARROW_ASSIGN(const auto plain, arrow::compute::Cast(*array, arrow::list(array->type()->field(0))));
  return std::static_pointer_cast<arrow::ListArray>(plain);
}

Result<ArrayPtr> ConformList(const ArrayPtr& array, const Field& field, std::vector<RowFault>* faults) {
  HEADRACE_ASSIGN(const auto list, PlainList(array, field));
  HEADRACE_ASSIGN(const Lists lists, ListsOf(*list, field.name));
  Field item = field.type.children[0];
  item.name = field.name + "[]";
  std::vector<RowFault> inside;
  HEADRACE_ASSIGN(const auto values, Conform(list->values()->Slice(lists.begin, lists.count), item, &inside));
  TellRows(std::move(inside), *list, lists, faults);
  return ArrayPtr(std::make_shared<arrow::ListArray>(ToArrow(field.type), list->length(), lists.offsets,
                                                     values, lists.validity, list->null_count()));
}

Result<ArrayPtr> ConformMap(const ArrayPtr& array, const Field& field, std::vector<RowFault>* faults) {
  if (array->type_id() != arrow::Type::MAP) return Wrong(field, *array->type());
  const auto& map = static_cast<const arrow::MapArray&>(*array);
  HEADRACE_ASSIGN(const Lists lists, ListsOf(map, field.name));
  Field key = field.type.children[0], value = field.type.children[1];
  key.name = field.name + ".key";
  value.name = field.name + ".value";
  std::vector<RowFault> inside;
  HEADRACE_ASSIGN(const auto keys, Conform(map.keys()->Slice(lists.begin, lists.count), key, &inside));
  HEADRACE_ASSIGN(const auto values, Conform(map.items()->Slice(lists.begin, lists.count), value, &inside));
  for (int64_t i = 0; keys->null_count() > 0 && i < keys->length(); ++i) {
    if (keys->IsNull(i)) inside.push_back({i, field.name, "a key of a map is null"});
  }
  TellRows(std::move(inside), map, lists, faults);
  return ArrayPtr(std::make_shared<arrow::MapArray>(ToArrow(field.type), map.length(), lists.offsets, keys,
                                                    values, lists.validity, map.null_count()));
}

// Lists as fixed-size lists of the tensor's size; those of another length are at fault.
Result<ArrayPtr> FixedSize(const ArrayPtr& array, int32_t size, const Field& field,
                           std::vector<RowFault>* faults) {
  HEADRACE_ASSIGN(const auto list, PlainList(array, field));
  HEADRACE_TRY(ListsOf(*list, field.name).status());
  arrow::Int64Builder picks;
  for (int64_t row = 0; row < list->length(); ++row) {
    const bool fits = list->IsValid(row) && list->value_length(row) == size;
    if (list->IsValid(row) && !fits) {
      faults->push_back({row, field.name,
                         "a list of " + std::to_string(list->value_length(row)) + " is no value of " +
                             field.type.ToString()});
    }
    for (int32_t i = 0; i < size; ++i)
      HEADRACE_ARROW_TRY(fits ? picks.Append(list->value_offset(row) + i) : picks.AppendNull());
  }
  HEADRACE_ARROW_ASSIGN(const auto indices, picks.Finish());
  HEADRACE_TRY(EnsureCompute());
  HEADRACE_ARROW_ASSIGN(const auto values, arrow::compute::Take(*list->values(), *indices));
  HEADRACE_ASSIGN(auto validity, ValidityOf(*list));
  return ArrayPtr(std::make_shared<arrow::FixedSizeListArray>(
      arrow::fixed_size_list(values->type(), size), list->length(), values, validity, list->null_count()));
}

// A tensor's elements in its type; rows with null among them are at fault.
Result<ArrayPtr> Elements(const arrow::FixedSizeListArray& typed, const Field& field,
                          const arrow::FixedSizeListType& target, std::vector<RowFault>* faults) {
  const int64_t size = target.list_size();
  // The elements of exactly these rows, whatever the array's offset.
  ArrayPtr values = typed.values()->Slice(typed.value_offset(0), typed.length() * size);
  if (field.type.element == Kind::kBFloat16 && values->type_id() != arrow::Type::UINT16)
    return Wrong(field, *typed.type());  // it holds bits
  std::vector<RowFault> inside;
  HEADRACE_ASSIGN(values, ExactCast(values, target.value_type(), field.name, &inside));
  int64_t last = -1;
  const auto tell = [&](int64_t row, std::string why) {
    if (row != last && typed.IsValid(row)) faults->push_back({row, field.name, std::move(why)});
    last = row;
  };
  for (auto& fault : inside) tell(fault.row / size, std::move(fault.why));
  if (values->null_count() == 0) return values;
  std::set<int64_t> told;
  for (const auto& fault : *faults) told.insert(fault.row);
  for (int64_t row = 0; row < typed.length(); ++row) {
    if (typed.IsNull(row) || told.contains(row)) continue;
    for (int64_t i = row * size; i < (row + 1) * size; ++i) {
      if (values->IsNull(i))
        tell(row, "a tensor's elements may not be null (NaN may); fill it, or make the cell null");
    }
  }
  HEADRACE_TRY(EnsureCompute());
  HEADRACE_ARROW_ASSIGN(const auto zero, arrow::Scalar::Parse(target.value_type(), "0"));
  HEADRACE_ARROW_ASSIGN(const auto filled, arrow::compute::CallFunction("coalesce", {values, zero}));
  return filled.make_array();
}

Result<ArrayPtr> ConformTensor(const ArrayPtr& array, const Field& field, std::vector<RowFault>* faults) {
  const auto target = std::static_pointer_cast<arrow::FixedSizeListType>(ToArrow(field.type));
  ArrayPtr lists = array;
  if (array->type_id() != arrow::Type::FIXED_SIZE_LIST) {
    HEADRACE_ASSIGN(lists, FixedSize(array, target->list_size(), field, faults));
  }
  const auto& typed = static_cast<const arrow::FixedSizeListArray&>(*lists);
  const auto& given = static_cast<const arrow::FixedSizeListType&>(*typed.type());
  if (given.list_size() != target->list_size()) {
    return Status::Invalid("column '" + field.name + "' has cells of " + std::to_string(given.list_size()) +
                           " elements and the table's is " + field.type.ToString());
  }
  HEADRACE_ASSIGN(const auto values, Elements(typed, field, *target, faults));
  HEADRACE_ASSIGN(auto validity, ValidityOf(typed));
  return ArrayPtr(std::make_shared<arrow::FixedSizeListArray>(target, typed.length(), values, validity,
                                                              typed.null_count()));
}

// Intervals of SQL as durations: days are 24 hours, months have no length.
Result<ArrayPtr> DurationsOf(const arrow::MonthDayNanoIntervalArray& intervals, const Field& field,
                             std::vector<RowFault>* faults) {
  constexpr int64_t kUnitNs[] = {1'000'000'000, 1'000'000, 1'000, 1};
  constexpr __int128 kDayNs = __int128{86'400} * 1'000'000'000;
  const int64_t unit = kUnitNs[static_cast<int>(field.type.unit)];
  arrow::DurationBuilder out(ToArrow(field.type), arrow::default_memory_pool());
  for (int64_t i = 0; i < intervals.length(); ++i) {
    if (intervals.IsNull(i)) {
      HEADRACE_ARROW_TRY(out.AppendNull());
      continue;
    }
    const auto value = intervals.Value(i);
    const __int128 nanos = value.days * kDayNs + value.nanoseconds;
    const auto count = static_cast<int64_t>(nanos / unit);
    if (value.months != 0 || nanos % unit != 0 || count != nanos / unit) {
      faults->push_back(
          {i, field.name,
           "an interval of months, or one that is no " + field.type.ToString() + "; write it as text"});
    }
    HEADRACE_ARROW_TRY(out.Append(count));
  }
  HEADRACE_ARROW_ASSIGN(auto made, out.Finish());
  return made;
}

// Strings and bytes whose offsets are proven, and that are UTF-8 where they are text.
Result<ArrayPtr> CheckText(const ArrayPtr& array, const Field& field, std::vector<RowFault>* faults) {
  // As bytes: ValidateFull checks UTF-8 too, but does not say which row.
  const auto as_binary = array->data()->Copy();
  as_binary->type = arrow::binary();
  const auto offsets = arrow::MakeArray(as_binary);
  const arrow::Status full = offsets->ValidateFull();
  if (!full.ok()) return FromArrow(full).Wrap("column '" + field.name + "' is not a valid Arrow array");
  const auto& texts = static_cast<const arrow::BinaryArray&>(*offsets);
  if (field.type.kind == Kind::kJson) {
    FindBadJson(texts, field.name, faults);
  } else if (array->type_id() == arrow::Type::STRING) {
    FindBadText(texts, field.name, faults);
  }
  return array;
}

Result<ArrayPtr> Conform(const ArrayPtr& input, const Field& field, std::vector<RowFault>* faults) {
  ArrayPtr array = input;
  const arrow::Status valid = array->Validate();
  if (!valid.ok()) return FromArrow(valid).Wrap("column '" + field.name + "' is not a valid Arrow array");
  if (array->type_id() == arrow::Type::EXTENSION) {
    array = static_cast<const arrow::ExtensionArray&>(*array).storage();
  }
  const auto type = ToArrow(field.type);
  // Nothing but nulls fits any column, whatever type it is said to have.
  if (array->type_id() == arrow::Type::NA || array->null_count() == array->length()) {
    HEADRACE_ARROW_ASSIGN(auto nulls, arrow::MakeArrayOfNull(type, array->length()));
    return nulls;
  }
  if (array->type_id() == arrow::Type::DICTIONARY) {
    HEADRACE_TRY(EnsureCompute());
    auto decoded =
        arrow::compute::Cast(*array, static_cast<const arrow::DictionaryType&>(*array->type()).value_type());
    if (!decoded.ok()) return FromArrow(decoded.status()).Wrap("column '" + field.name + "'");
    array = *decoded;
  }
  switch (field.type.kind) {
    case Kind::kTensor:
      return ConformTensor(array, field, faults);
    case Kind::kBlob:
      if (array->type_id() != arrow::Type::STRUCT) return WrapBytes(array, field, faults);
      return ConformStruct(array, field, faults);
    case Kind::kStruct:
      if (array->type_id() != arrow::Type::STRUCT) return Wrong(field, *array->type());
      return ConformStruct(array, field, faults);
    case Kind::kList:
      return ConformList(array, field, faults);
    case Kind::kMap:
      return ConformMap(array, field, faults);
    case Kind::kDuration:
      if (array->type_id() == arrow::Type::INTERVAL_MONTH_DAY_NANO)
        return DurationsOf(static_cast<const arrow::MonthDayNanoIntervalArray&>(*array), field, faults);
      break;
    case Kind::kJson:
      if (!arrow::is_string(array->type_id()) && array->type_id() != arrow::Type::STRING_VIEW) {
        return Status::Invalid("column '" + field.name + "' is " + array->type()->ToString() +
                               " and the table's is json; give each value as JSON text");
      }
      break;
    default:
      break;
  }
  if (arrow::is_binary_view_like(array->type_id())) {
    // Views point anywhere: proven before they are followed, as bytes.
    const auto bytes = array->data()->Copy();
    bytes->type = arrow::binary_view();
    array = arrow::MakeArray(bytes);
    const arrow::Status full = array->ValidateFull();
    if (!full.ok()) return FromArrow(full).Wrap("column '" + field.name + "' is not a valid Arrow array");
  }
  HEADRACE_ASSIGN(array, ExactCast(array, type, field.name, faults));
  if (type->id() == arrow::Type::STRING || type->id() == arrow::Type::BINARY)
    return CheckText(array, field, faults);
  return array;
}

}  // namespace

Result<ArrayPtr> ConformRows(const ArrayPtr& array, const Field& field, std::vector<RowFault>* faults) {
  return Conform(array, field, faults);
}

Result<ArrayPtr> ConformArray(const ArrayPtr& array, const Field& field) {
  std::vector<RowFault> faults;
  HEADRACE_ASSIGN(auto conformed, Conform(array, field, &faults));
  if (faults.empty()) return conformed;
  const auto& first = *std::min_element(faults.begin(), faults.end(),
                                        [](const RowFault& a, const RowFault& b) { return a.row < b.row; });
  return Status::Invalid("column '" + first.column + "', row " + std::to_string(first.row) + ": " +
                         first.why);
}

Result<ArrayPtr> HoleArray(const Field& field, int64_t rows) {
  const auto type = ToArrow(field.type);
  if (!field.has_default) {
    HEADRACE_ARROW_ASSIGN(auto nulls, arrow::MakeArrayOfNull(type, rows));
    return nulls;
  }
  HEADRACE_ASSIGN(const auto one, DefaultOf(field));
  HEADRACE_ARROW_ASSIGN(const auto scalar, one->GetScalar(0));
  HEADRACE_ARROW_ASSIGN(auto constant, arrow::MakeArrayFromScalar(*scalar, rows));
  return constant;
}

}  // namespace headrace::table
