#include <Python.h>
#include <arrow/array.h>
#include <arrow/array/builder_binary.h>
#include <arrow/array/builder_decimal.h>
#include <arrow/array/builder_nested.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/array/builder_time.h>
#include <arrow/array/util.h>
#include <arrow/buffer_builder.h>
#include <arrow/type.h>
#include <arrow/util/decimal.h>
#include <arrow/util/float16.h>
#include <arrow/util/key_value_metadata.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/chrono.h>
#include <nanobind/stl/string.h>

#include <limits>

#include "bridge.h"
#include "objects.h"
#include "table/arrow_bridge.h"

namespace headrace::python {
namespace {

constexpr int64_t kSecond = 1'000'000;
constexpr int64_t kDay = 86'400 * kSecond;

void Do(const arrow::Status& status) {
  if (!status.ok()) Raise(table::FromArrow(status));
}

std::shared_ptr<arrow::DataType> NumberType(const std::string& width) {
  static const std::unordered_map<std::string, std::shared_ptr<arrow::DataType>> types = {
      {"int8", arrow::int8()},       {"int16", arrow::int16()},     {"int32", arrow::int32()},
      {"int64", arrow::int64()},     {"uint8", arrow::uint8()},     {"uint16", arrow::uint16()},
      {"uint32", arrow::uint32()},   {"uint64", arrow::uint64()},   {"float16", arrow::float16()},
      {"float32", arrow::float32()}, {"float64", arrow::float64()},
  };
  const auto found = types.find(width);
  return found == types.end() ? nullptr : found->second;
}

class Builder {
 public:
  explicit Builder(Objects* objects) : objects_(objects) {}

  void Add(const Node& node, arrow::ArrayBuilder* to, nb::handle given, int64_t row) {
    const nb::handle value = objects_->Plain(given, node, row);
    if (objects_->FormOf(value) == Form::kNull) return Do(to->AppendNull());
    switch (node.form) {
      case Form::kBool: {
        const int truth = PyObject_IsTrue(value.ptr());
        if (truth < 0) throw nb::python_error();
        return Do(static_cast<arrow::BooleanBuilder*>(to)->Append(truth == 1));
      }
      case Form::kInt:
        return Int(to, value);
      case Form::kFloat:
        return Float(to, value);
      case Form::kText:
        return Text(node, to, objects_->FormOf(value) == Form::kUuid ? nb::str(value) : value, row);
      case Form::kUuid: {
        const auto bytes = nb::cast<nb::bytes>(value.attr("bytes"));
        return Do(static_cast<arrow::FixedSizeBinaryBuilder*>(to)->Append(
            reinterpret_cast<const uint8_t*>(bytes.c_str())));
      }
      case Form::kBytes:
      case Form::kMedia:
        return Do(static_cast<arrow::LargeBinaryBuilder*>(to)->Append(
            reinterpret_cast<const uint8_t*>(PyBytes_AsString(value.ptr())), PyBytes_Size(value.ptr())));
      case Form::kInstant:
      case Form::kDatetime:
        return Datetime(node, to, value, row);
      case Form::kDate:
        return Do(static_cast<arrow::Date32Builder*>(to)->Append(
            static_cast<int32_t>(CalendarTime::Of(value).days())));
      case Form::kTime:
        return Time(node, to, value, row);
      case Form::kDelta:
        return Delta(node, to, value, row);
      case Form::kDecimal:
        return Decimal(to, value);
      case Form::kJson:
        return Json(node, to, value, row);
      case Form::kList: {
        auto* list = static_cast<arrow::ListBuilder*>(to);
        Do(list->Append());
        for (const nb::handle item : nb::iter(value)) Add(*node.item, list->value_builder(), item, row);
        return;
      }
      case Form::kStruct:
        return Struct(node, to, value, row);
      default:
        return Do(to->AppendNull());
    }
  }

 private:
  static void Int(arrow::ArrayBuilder* to, nb::handle value) {
    const nb::object number = nb::steal(PyNumber_Index(value.ptr()));
    if (!number.is_valid()) throw nb::python_error();
    if (to->type()->id() == arrow::Type::UINT64) {
      return Do(static_cast<arrow::UInt64Builder*>(to)->Append(PyLong_AsUnsignedLongLong(number.ptr())));
    }
    const int64_t whole = PyLong_AsLongLong(number.ptr());
    switch (to->type()->id()) {
      case arrow::Type::INT8:
        return Do(static_cast<arrow::Int8Builder*>(to)->Append(static_cast<int8_t>(whole)));
      case arrow::Type::INT16:
        return Do(static_cast<arrow::Int16Builder*>(to)->Append(static_cast<int16_t>(whole)));
      case arrow::Type::INT32:
        return Do(static_cast<arrow::Int32Builder*>(to)->Append(static_cast<int32_t>(whole)));
      case arrow::Type::UINT8:
        return Do(static_cast<arrow::UInt8Builder*>(to)->Append(static_cast<uint8_t>(whole)));
      case arrow::Type::UINT16:
        return Do(static_cast<arrow::UInt16Builder*>(to)->Append(static_cast<uint16_t>(whole)));
      case arrow::Type::UINT32:
        return Do(static_cast<arrow::UInt32Builder*>(to)->Append(static_cast<uint32_t>(whole)));
      default:
        return Do(static_cast<arrow::Int64Builder*>(to)->Append(whole));
    }
  }

  static void Float(arrow::ArrayBuilder* to, nb::handle value) {
    const double number = PyFloat_AsDouble(value.ptr());
    if (number == -1.0 && PyErr_Occurred() != nullptr) throw nb::python_error();
    switch (to->type()->id()) {
      case arrow::Type::HALF_FLOAT:
        return Do(static_cast<arrow::HalfFloatBuilder*>(to)->Append(
            arrow::util::Float16::FromDouble(number).bits()));
      case arrow::Type::FLOAT:
        return Do(static_cast<arrow::FloatBuilder*>(to)->Append(static_cast<float>(number)));
      default:
        return Do(static_cast<arrow::DoubleBuilder*>(to)->Append(number));
    }
  }

  static __int128 DeltaMicros(nb::handle delta) {
    int days = 0, seconds = 0, microseconds = 0;
    const int found = nb::detail::unpack_timedelta(delta.ptr(), &days, &seconds, &microseconds);
    if (found < 0) throw nb::python_error();
    if (found == 0) throw nb::type_error("not a timedelta");
    return static_cast<__int128>(days) * kDay + seconds * kSecond + microseconds;
  }

  static int64_t Fit(const Node& node, __int128 value, int64_t row) {
    if (value > std::numeric_limits<int64_t>::max() || value < std::numeric_limits<int64_t>::min())
      Refuse(node, row, "the time does not fit in 64 bits of its unit");
    return static_cast<int64_t>(value);
  }

  static void Datetime(const Node& node, arrow::ArrayBuilder* to, nb::handle value, int64_t row) {
    const auto calendar = CalendarTime::Of(value);
    __int128 time = static_cast<__int128>(calendar.days()) * kDay + calendar.microseconds();
    if (node.form == Form::kInstant) time -= DeltaMicros(value.attr("utcoffset")());
    if (node.nanoseconds) {
      time *= 1000;
      if (nb::hasattr(value, "nanosecond")) time += nb::cast<int64_t>(value.attr("nanosecond"));
    }
    Do(static_cast<arrow::TimestampBuilder*>(to)->Append(Fit(node, time, row)));
  }

  static void Time(const Node& node, arrow::ArrayBuilder* to, nb::handle value, int64_t row) {
    if (!value.attr("tzinfo").is_none())
      Refuse(node, row, "a time of day with a zone; use a datetime, or leave the zone out");
    Do(static_cast<arrow::Time64Builder*>(to)->Append(CalendarTime::Of(value).microseconds()));
  }

  static void Delta(const Node& node, arrow::ArrayBuilder* to, nb::handle value, int64_t row) {
    Do(static_cast<arrow::DurationBuilder*>(to)->Append(Fit(node, DeltaMicros(value), row)));
  }

  static void Decimal(arrow::ArrayBuilder* to, nb::handle value) {
    const auto text = nb::cast<std::string>(
        nb::module_::import_("builtins")
            .attr("format")(value, nb::str(PyLong_Check(value.ptr()) != 0 ? "d" : "f")));
    const auto& type = static_cast<const arrow::DecimalType&>(*to->type());
    arrow::Decimal256 decimal;
    int32_t precision = 0, scale = 0;
    Do(arrow::Decimal256::FromString(text, &decimal, &precision, &scale));
    auto scaled = decimal.Rescale(scale, type.scale());
    Do(scaled.status());
    if (type.id() == arrow::Type::DECIMAL256)
      return Do(static_cast<arrow::Decimal256Builder*>(to)->Append(*scaled));
    const auto words = scaled->little_endian_array();
    Do(static_cast<arrow::Decimal128Builder*>(to)->Append(
        arrow::Decimal128(static_cast<int64_t>(words[1]), words[0])));
  }

  void Json(const Node& node, arrow::ArrayBuilder* to, nb::handle value, int64_t row) const {
    nb::object text;
    try {
      text = objects_->JsonText(value);
    } catch (nb::python_error& error) {
      if (!error.matches(PyExc_TypeError) && !error.matches(PyExc_ValueError)) throw;
      Refuse(node, row, "it cannot be JSON: " + nb::cast<std::string>(nb::str(error.value())));
    }
    Text(node, to, text, row);
  }

  static void Text(const Node& node, arrow::ArrayBuilder* to, nb::handle value, int64_t row) {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
    if (text == nullptr) {
      PyErr_Clear();
      Refuse(node, row, "the text holds half a surrogate pair, which UTF-8 does not have; write it as bytes");
    }
    Do(static_cast<arrow::LargeStringBuilder*>(to)->Append(text, size));
  }

  void Struct(const Node& node, arrow::ArrayBuilder* to, nb::handle value, int64_t row) {
    auto* built = static_cast<arrow::StructBuilder*>(to);
    Do(built->Append());
    for (size_t i = 0; i < node.fields.size(); ++i) {
      PyObject* item = PyDict_GetItemString(value.ptr(), node.fields[i].first.c_str());
      Add(*node.fields[i].second, built->field_builder(static_cast<int>(i)), item == nullptr ? Py_None : item,
          row);
    }
  }

  Objects* objects_;
};

// Arrays of one shape: their memory, one after another.
Column Tensor(Objects* objects, const Node& node, const nb::list& values) {
  const auto type = NumberType(node.width);
  int64_t elements = 1;
  std::string shape;
  for (const int64_t extent : node.shape) {
    elements *= extent;
    shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
  }
  const int64_t bytes = elements * type->byte_width();
  arrow::BufferBuilder memory;
  arrow::TypedBufferBuilder<bool> valid;
  int64_t nulls = 0, row = 0;
  for (const nb::handle given : values) {
    const nb::handle value = objects->Plain(given, node, row++);
    if (objects->FormOf(value) == Form::kNull) {
      Do(memory.Append(bytes, 0));
      Do(valid.Append(false));
      ++nulls;
      continue;
    }
    const auto array = nb::cast<nb::ndarray<nb::c_contig, nb::ro, nb::device::cpu>>(value);
    Do(memory.Append(array.data(), bytes));
    Do(valid.Append(true));
  }
  std::shared_ptr<arrow::Buffer> filled, validity;
  Do(memory.Finish(&filled));
  Do(valid.Finish(&validity));
  const auto rows = static_cast<int64_t>(nb::len(values));
  auto inner = arrow::MakeArray(arrow::ArrayData::Make(type, rows * elements, {nullptr, filled}, 0));
  return {std::make_shared<arrow::FixedSizeListArray>(
              arrow::fixed_size_list(arrow::field("item", type, false), static_cast<int32_t>(elements)), rows,
              inner, nulls > 0 ? validity : nullptr, nulls),
          arrow::key_value_metadata({"headrace.shape"}, {shape})};
}

}  // namespace

std::shared_ptr<arrow::DataType> TypeOf(const Node& node);

std::shared_ptr<arrow::Field> FieldOf(const std::string& name, const Node& node) {
  const char* extension = node.form == Form::kJson   ? "arrow.json"
                          : node.form == Form::kUuid ? "arrow.uuid"
                                                     : nullptr;
  return arrow::field(name, TypeOf(node), true,
                      extension ? arrow::key_value_metadata({"ARROW:extension:name"}, {extension}) : nullptr);
}

std::shared_ptr<arrow::DataType> TypeOf(const Node& node) {
  switch (node.form) {
    case Form::kBool:
      return arrow::boolean();
    case Form::kInt: {
      if (const auto type = NumberType(node.width)) return type;
      if (node.beyond < 0) return arrow::int64();
      if (node.negative)
        Refuse(node, node.beyond,
               "an integer from 2**63 in a column that holds negative ones too; write it as text");
      return arrow::uint64();
    }
    case Form::kFloat: {
      const auto type = node.whole ? nullptr : NumberType(node.width);
      return type ? type : arrow::float64();
    }
    case Form::kText:
    case Form::kJson:
      return arrow::large_utf8();
    case Form::kBytes:
    case Form::kMedia:
      return arrow::large_binary();
    case Form::kInstant:
    case Form::kDatetime:
      return arrow::timestamp(node.nanoseconds ? arrow::TimeUnit::NANO : arrow::TimeUnit::MICRO,
                              node.form == Form::kInstant ? "UTC" : "");
    case Form::kDate:
      return arrow::date32();
    case Form::kTime:
      return arrow::time64(arrow::TimeUnit::MICRO);
    case Form::kDelta:
      return arrow::duration(arrow::TimeUnit::MICRO);
    case Form::kDecimal: {
      const auto precision = static_cast<int32_t>(node.digits + node.scale);
      const auto scale = static_cast<int32_t>(node.scale);
      return precision <= 38 ? arrow::decimal128(precision, scale) : arrow::decimal256(precision, scale);
    }
    case Form::kUuid:
      return arrow::fixed_size_binary(table::KindBytes(table::Kind::kUuid));
    case Form::kList:
      return arrow::list(FieldOf("item", *node.item));
    case Form::kStruct: {
      arrow::FieldVector fields;
      for (const auto& [name, field] : node.fields) fields.push_back(FieldOf(name, *field));
      return arrow::struct_(fields);
    }
    default:
      return arrow::null();
  }
}

Column ColumnOf(const std::string& name, const nb::list& values, const std::string& type) {
  Objects objects;
  const auto expected = table::ParseType(type);
  Node node;
  // Arrays of one shape are tensors; where that ends, all are looked at again as lists.
  for (bool lists = false;; lists = true) {
    node = Node{};
    node.path = name;
    node.lists = lists;
    if (expected.ok()) Expect(&node, *expected);
    int64_t row = 0;
    for (const nb::handle value : values) Observe(&objects, &node, value, row++);
    if (lists || !node.lists) break;
  }
  if (node.form == Form::kArray) return Tensor(&objects, node, values);
  Settle(&node);
  auto made = arrow::MakeBuilder(TypeOf(node));
  Do(made.status());
  Builder builder(&objects);
  int64_t row = 0;
  for (const nb::handle value : values) builder.Add(node, made->get(), value, row++);
  auto finished = (*made)->Finish();
  Do(finished.status());
  if (node.form == Form::kMedia) return {*finished, arrow::key_value_metadata({"headrace.media"}, {"1"})};
  return {*finished, FieldOf(name, node)->metadata()};
}

}  // namespace headrace::python
