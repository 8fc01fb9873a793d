#include "cells.h"

#include <arrow/array.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/json/api.h>
#include <arrow/record_batch.h>
#include <arrow/scalar.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>
#include <arrow/util/key_value_metadata.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <utility>

#include "base/mapped_file.h"
#include "bridge.h"
#include "table/arrow_bridge.h"
#include "table/type_arrow.h"

namespace headrace::python {
namespace {

std::string BFloatOrFloat(const arrow::Field& field) {
  if (field.metadata() && field.metadata()->Get("headrace.element").ValueOr("") == "bfloat16")
    return "bfloat16";
  return "";
}

nb::object Numpy() { return nb::module_::import_("numpy"); }

const char* DtypeName(arrow::Type::type id) {
  switch (id) {
    case arrow::Type::INT8:
      return "int8";
    case arrow::Type::INT16:
      return "int16";
    case arrow::Type::INT32:
      return "int32";
    case arrow::Type::INT64:
      return "int64";
    case arrow::Type::UINT8:
      return "uint8";
    case arrow::Type::UINT16:
      return "uint16";
    case arrow::Type::UINT32:
      return "uint32";
    case arrow::Type::UINT64:
      return "uint64";
    case arrow::Type::HALF_FLOAT:
      return "float16";
    case arrow::Type::FLOAT:
      return "float32";
    case arrow::Type::DOUBLE:
      return "float64";
    default:
      return nullptr;
  }
}

// A numpy view of an array's values that keeps the array alive; read-only, since files may lie behind it.
nb::object View1D(const std::shared_ptr<arrow::Array>& array, const char* dtype) {
  const auto& data = *array->data();
  const int width = data.type->byte_width();
  auto* keep = new std::shared_ptr<arrow::Array>(array);
  const nb::capsule owner(keep,
                          [](void* p) noexcept { delete static_cast<std::shared_ptr<arrow::Array>*>(p); });
  const uint8_t* begin = data.buffers[1] ? data.buffers[1]->data() + data.offset * width : nullptr;
  const size_t shape[1] = {static_cast<size_t>(array->length() * width)};
  static const uint8_t kEmpty = 0;
  const nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>> bytes(begin != nullptr ? begin : &kEmpty, 1, shape,
                                                                 owner);
  return nb::cast(bytes).attr("view")(dtype);
}

std::vector<int64_t> ShapeOf(const arrow::Field& field, int64_t elements) {
  const auto type = table::TypeFromArrow(field);
  if (type.ok() && type->kind == table::Kind::kTensor) return type->shape;
  return {elements};
}

nb::object TensorRows(const arrow::Field& field, const arrow::FixedSizeListArray& lists, int64_t first,
                      int64_t rows, bool one) {
  const int64_t elements = static_cast<const arrow::FixedSizeListType&>(*lists.type()).list_size();
  const auto values = lists.values()->Slice(lists.value_offset(first), rows * elements);
  const char* dtype = DtypeName(values->type_id());
  if (dtype == nullptr) return nb::none();
  nb::list shape;
  if (!one) shape.append(rows);
  for (const int64_t extent : ShapeOf(field, elements)) shape.append(extent);
  return View1D(values, dtype).attr("reshape")(nb::tuple(shape));
}

// What Python's datetime module cannot hold, as numpy's scalar: nanoseconds, and years beyond 9999.
nb::object NumpyTime(const char* type, int64_t value, const char* unit) {
  return nb::module_::import_("numpy").attr(type)(value, unit);
}

constexpr const char* kUnitNames[] = {"s", "ms", "us", "ns"};  // by arrow::TimeUnit
constexpr int64_t kPerSecond[] = {1, 1'000, 1'000'000, 1'000'000'000};

// value / per and the rest, which is never negative.
std::pair<int64_t, int64_t> Split(int64_t value, int64_t per) {
  const int64_t whole = value / per - (value % per < 0);
  return {whole, value - whole * per};
}

// Microseconds in `rest` of these units; none where they are too fine.
std::optional<int64_t> Micros(int64_t rest, arrow::TimeUnit::type unit) {
  if (unit != arrow::TimeUnit::NANO) return rest * (1'000'000 / kPerSecond[static_cast<int>(unit)]);
  if (rest % 1'000 != 0) return std::nullopt;
  return rest / 1'000;
}

nb::object Datetime(int64_t value, const arrow::TimestampType& type) {
  constexpr int64_t kFirst = -62'135'596'800, kEnd = 253'402'300'800;  // the years 1 to 9999, in seconds
  const auto [seconds, rest] = Split(value, kPerSecond[static_cast<int>(type.unit())]);
  const auto micros = Micros(rest, type.unit());
  if (!micros || seconds < kFirst || seconds >= kEnd)
    return NumpyTime("datetime64", value, kUnitNames[static_cast<int>(type.unit())]);
  const nb::object module = nb::module_::import_("datetime");
  const nb::object epoch =
      type.timezone().empty()
          ? module.attr("datetime")(1970, 1, 1)
          : module.attr("datetime")(1970, 1, 1, 0, 0, 0, 0, module.attr("timezone").attr("utc"));
  return epoch + module.attr("timedelta")(0, seconds, *micros);
}

nb::object Timedelta(int64_t value, arrow::TimeUnit::type unit) {
  constexpr int64_t kMostSeconds = int64_t{999'999'999} * 86'400;
  const auto [seconds, rest] = Split(value, kPerSecond[static_cast<int>(unit)]);
  const auto micros = Micros(rest, unit);
  if (!micros || seconds < -kMostSeconds || seconds > kMostSeconds)
    return NumpyTime("timedelta64", value, kUnitNames[static_cast<int>(unit)]);
  return nb::module_::import_("datetime").attr("timedelta")(0, seconds, *micros);
}

// Since midnight, where `datetime.time` cannot hold it.
nb::object TimeOfDay(int64_t value, arrow::TimeUnit::type unit) {
  const auto [seconds, rest] = Split(value, kPerSecond[static_cast<int>(unit)]);
  const auto micros = Micros(rest, unit);
  if (!micros || seconds < 0 || seconds >= 86'400)
    return NumpyTime("timedelta64", value, kUnitNames[static_cast<int>(unit)]);
  return nb::module_::import_("datetime")
      .attr("time")(seconds / 3'600, seconds / 60 % 60, seconds % 60, *micros);
}

nb::object Date(int32_t days) {
  constexpr int32_t kFirst = -719'162, kLast = 2'932'896;  // the years 1 to 9999
  if (days < kFirst || days > kLast) return NumpyTime("datetime64", days, "D");
  const nb::object module = nb::module_::import_("datetime");
  return module.attr("date")(1970, 1, 1) + module.attr("timedelta")(days);
}

nb::object Str(std::string_view text) {
  PyObject* object = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  return nb::steal(object);
}

nb::object ToPython(const arrow::Field& field, const std::shared_ptr<arrow::Array>& array, int64_t row,
                    const RowBatch& batch);

nb::object StructToPython(const arrow::Field& field, const std::shared_ptr<arrow::Array>& array, int64_t row,
                          const RowBatch& batch) {
  const auto& parent = static_cast<const arrow::StructArray&>(*array);
  const bool blob = field.metadata() && field.metadata()->Get("headrace.type").ValueOr("") == "blob";
  nb::dict facts;
  for (int i = 0; i < parent.num_fields(); ++i) {
    const auto& child = *parent.struct_type()->field(i);
    facts[Str(child.name())] = ToPython(child, parent.field(i), row, batch);
  }
  if (!blob || !batch.view) return facts;
  const auto cell = array->Slice(row, 1);
  const auto view = batch.view;
  const nb::object read =
      nb::cpp_function([cell, view]() -> nb::object { return BlobBytes(*view, cell)[0]; });
  return nb::module_::import_("headrace.blob").attr("Blob")(facts, read, AddressOf(*view));
}

std::string ExtensionOf(const arrow::Field& field) {
  return field.metadata() ? field.metadata()->Get("ARROW:extension:name").ValueOr("") : "";
}

// A dict; a list of pairs where a key is there twice or cannot be one of a dict.
nb::object MapToPython(const arrow::MapArray& map, int64_t row, const RowBatch& batch) {
  const auto keys = map.keys()->Slice(map.value_offset(row), map.value_length(row));
  const auto values = map.items()->Slice(map.value_offset(row), map.value_length(row));
  nb::list pairs;
  nb::dict made;
  bool hashable = true;
  for (int64_t i = 0; i < keys->length(); ++i) {
    const nb::object key = ToPython(*map.map_type()->key_field(), keys, i, batch);
    const nb::object value = ToPython(*map.map_type()->item_field(), values, i, batch);
    pairs.append(nb::make_tuple(key, value));
    hashable &= !nb::isinstance<nb::list>(key) && !nb::isinstance<nb::dict>(key);
    if (hashable) made[key] = value;
  }
  if (hashable && nb::len(made) == nb::len(pairs)) return made;
  return pairs;
}

nb::object FixedToPython(const arrow::Field& field, const arrow::FixedSizeBinaryArray& array, int64_t row) {
  const nb::bytes bytes(reinterpret_cast<const char*>(array.GetValue(row)),
                        static_cast<size_t>(array.byte_width()));
  if (ExtensionOf(field) != "arrow.uuid") return bytes;
  return nb::module_::import_("uuid").attr("UUID")(nb::arg("bytes") = bytes);
}

nb::object IntervalToPython(const arrow::MonthDayNanoIntervalArray& array, int64_t row) {
  const auto value = array.Value(row);
  if (value.months != 0) return Str((*array.GetScalar(row))->ToString());
  return Timedelta(value.nanoseconds, arrow::TimeUnit::NANO) +
         nb::module_::import_("datetime").attr("timedelta")(value.days);
}

nb::object OtherToPython(const arrow::Array& array, int64_t row) {
  const auto scalar = array.GetScalar(row);
  if (!scalar.ok()) return nb::none();
  const std::string text = (*scalar)->ToString();
  if (arrow::is_decimal(array.type_id())) return nb::module_::import_("decimal").attr("Decimal")(text);
  return Str(text);
}

nb::object ToPython(const arrow::Field& field, const std::shared_ptr<arrow::Array>& array, int64_t row,
                    const RowBatch& batch) {
  if (array->IsNull(row)) return nb::none();
  using A = arrow::Type;
  switch (array->type_id()) {
    case A::BOOL:
      return nb::cast(static_cast<const arrow::BooleanArray&>(*array).Value(row));
    case A::INT8:
      return nb::int_(static_cast<const arrow::Int8Array&>(*array).Value(row));
    case A::INT16:
      return nb::int_(static_cast<const arrow::Int16Array&>(*array).Value(row));
    case A::INT32:
      return nb::int_(static_cast<const arrow::Int32Array&>(*array).Value(row));
    case A::INT64:
      return nb::int_(static_cast<const arrow::Int64Array&>(*array).Value(row));
    case A::UINT8:
      return nb::int_(static_cast<const arrow::UInt8Array&>(*array).Value(row));
    case A::UINT16:
      return nb::int_(static_cast<const arrow::UInt16Array&>(*array).Value(row));
    case A::UINT32:
      return nb::int_(static_cast<const arrow::UInt32Array&>(*array).Value(row));
    case A::UINT64:
      return nb::int_(static_cast<const arrow::UInt64Array&>(*array).Value(row));
    case A::HALF_FLOAT:
      return nb::float_(
          arrow::util::Float16::FromBits(static_cast<const arrow::HalfFloatArray&>(*array).Value(row))
              .ToDouble());
    case A::FLOAT:
      return nb::float_(static_cast<double>(static_cast<const arrow::FloatArray&>(*array).Value(row)));
    case A::DOUBLE:
      return nb::float_(static_cast<const arrow::DoubleArray&>(*array).Value(row));
    case A::STRING: {
      const nb::object text = Str(static_cast<const arrow::StringArray&>(*array).GetView(row));
      return ExtensionOf(field) == "arrow.json" ? nb::module_::import_("json").attr("loads")(text) : text;
    }
    case A::FIXED_SIZE_BINARY:
      return FixedToPython(field, static_cast<const arrow::FixedSizeBinaryArray&>(*array), row);
    case A::TIME32:
      return TimeOfDay(static_cast<const arrow::Time32Array&>(*array).Value(row),
                       static_cast<const arrow::TimeType&>(*array->type()).unit());
    case A::TIME64:
      return TimeOfDay(static_cast<const arrow::Time64Array&>(*array).Value(row),
                       static_cast<const arrow::TimeType&>(*array->type()).unit());
    case A::DURATION:
      return Timedelta(static_cast<const arrow::DurationArray&>(*array).Value(row),
                       static_cast<const arrow::DurationType&>(*array->type()).unit());
    case A::INTERVAL_MONTH_DAY_NANO:
      return IntervalToPython(static_cast<const arrow::MonthDayNanoIntervalArray&>(*array), row);
    case A::MAP:
      return MapToPython(static_cast<const arrow::MapArray&>(*array), row, batch);
    case A::BINARY: {
      const auto view = static_cast<const arrow::BinaryArray&>(*array).GetView(row);
      return nb::bytes(view.data(), view.size());
    }
    case A::DATE32:
      return Date(static_cast<const arrow::Date32Array&>(*array).Value(row));
    case A::TIMESTAMP:
      return Datetime(static_cast<const arrow::TimestampArray&>(*array).Value(row),
                      static_cast<const arrow::TimestampType&>(*array->type()));
    case A::STRUCT:
      return StructToPython(field, array, row, batch);
    case A::LIST: {
      const auto items = static_cast<const arrow::ListArray&>(*array).value_slice(row);
      const auto& item = *static_cast<const arrow::ListType&>(*array->type()).value_field();
      nb::list list;
      for (int64_t i = 0; i < items->length(); ++i) list.append(ToPython(item, items, i, batch));
      return list;
    }
    case A::FIXED_SIZE_LIST:
      return TensorRows(field, static_cast<const arrow::FixedSizeListArray&>(*array), row, 1, true);
    default:
      return OtherToPython(*array, row);
  }
}

// Values of a contiguous numpy array as an Arrow array that keeps it alive.
std::shared_ptr<arrow::DataType> TypeOfDtype(const nb::dlpack::dtype& dtype) {
  using Code = nb::dlpack::dtype_code;
  if (dtype.lanes != 1) return nullptr;
  const auto code = static_cast<Code>(dtype.code);
  if (code == Code::Int) {
    return dtype.bits == 8    ? arrow::int8()
           : dtype.bits == 16 ? arrow::int16()
           : dtype.bits == 32 ? arrow::int32()
                              : arrow::int64();
  }
  if (code == Code::UInt) {
    return dtype.bits == 8    ? arrow::uint8()
           : dtype.bits == 16 ? arrow::uint16()
           : dtype.bits == 32 ? arrow::uint32()
                              : arrow::uint64();
  }
  if (code == Code::Float)
    return dtype.bits == 16 ? arrow::float16() : dtype.bits == 32 ? arrow::float32() : arrow::float64();
  return nullptr;
}

class PythonBuffer final : public arrow::Buffer {
 public:
  PythonBuffer(nb::ndarray<nb::c_contig, nb::ro, nb::device::cpu> array, int64_t bytes)
      : arrow::Buffer(static_cast<const uint8_t*>(array.data()), bytes), array_(std::move(array)) {}
  ~PythonBuffer() override {
    nb::gil_scoped_acquire gil;
    array_ = {};
  }

 private:
  nb::ndarray<nb::c_contig, nb::ro, nb::device::cpu> array_;
};

}  // namespace

nb::object AddressOf(const table::View& view) {
  return nb::make_tuple(view.environment()->store->Describe(), view.prefix(), view.snapshot().version);
}

nb::list BlobBytes(const table::View& view, const std::shared_ptr<arrow::Array>& cells) {
  const int64_t tears = MappedFile::tears();
  const auto blobs = Check(Interruptible([&](const StopToken&) { return view.ReadBlobs(cells); }));
  nb::list list;
  for (const auto& blob : blobs) {
    list.append(blob ? nb::object(nb::bytes(blob->data(), static_cast<size_t>(blob->size())))
                     : nb::object(nb::none()));
  }
  Check(MappedFile::CheckSince(tears, ""));  // while they were copied
  return list;
}

nb::object Cell(const RowBatch& batch, int column, int64_t row) {
  return ToPython(*batch.rows->schema()->field(column), batch.rows->column(column), row, batch);
}

nb::object ColumnToNumpy(const RowBatch& batch, int column) {
  const auto array = batch.rows->column(column);
  const auto& field = *batch.rows->schema()->field(column);
  const char* dtype = DtypeName(array->type_id());
  if (dtype != nullptr && array->null_count() == 0) return View1D(array, dtype);
  if (array->type_id() == arrow::Type::FIXED_SIZE_LIST && array->null_count() == 0 &&
      BFloatOrFloat(field).empty()) {
    return TensorRows(field, static_cast<const arrow::FixedSizeListArray&>(*array), 0, array->length(),
                      false);
  }
  nb::list cells;
  for (int64_t i = 0; i < array->length(); ++i) cells.append(ToPython(field, array, i, batch));
  if (dtype != nullptr) return Numpy().attr("array")(cells, "float64");  // None becomes NaN
  if (array->type_id() == arrow::Type::BOOL && array->null_count() == 0)
    return Numpy().attr("array")(cells, "bool");
  const nb::object objects = Numpy().attr("empty")(array->length(), "object");
  for (int64_t i = 0; i < array->length(); ++i) objects.attr("__setitem__")(i, cells[static_cast<size_t>(i)]);
  return objects;
}

std::shared_ptr<arrow::Array> ArrayFromPython(nb::handle object) {
  const auto array = nb::cast<nb::ndarray<nb::c_contig, nb::ro, nb::device::cpu>>(object);
  const auto type = TypeOfDtype(array.dtype());
  if (!type || array.ndim() < 1)
    Raise(Status::Invalid("a numpy column has numbers, one or more for each row"));
  const auto rows = static_cast<int64_t>(array.shape(0));
  int64_t elements = 1;
  for (size_t i = 1; i < array.ndim(); ++i) elements *= static_cast<int64_t>(array.shape(i));
  const auto buffer = std::make_shared<PythonBuffer>(array, static_cast<int64_t>(array.nbytes()));
  auto values = arrow::MakeArray(arrow::ArrayData::Make(type, rows * elements, {nullptr, buffer}, 0));
  if (array.ndim() == 1) return values;
  return std::make_shared<arrow::FixedSizeListArray>(
      arrow::fixed_size_list(arrow::field("item", type, false), static_cast<int32_t>(elements)), rows,
      values);
}

}  // namespace headrace::python
