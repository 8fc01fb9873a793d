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

nb::object Datetime(int64_t value, const arrow::TimestampType& type) {
  const nb::object module = nb::module_::import_("datetime");
  const bool zoned = !type.timezone().empty();
  const nb::object utc = module.attr("timezone").attr("utc");
  const nb::object epoch =
      zoned ? module.attr("datetime")(1970, 1, 1, 0, 0, 0, 0, utc) : module.attr("datetime")(1970, 1, 1);
  int64_t micros = value;
  switch (type.unit()) {
    case arrow::TimeUnit::SECOND:
      micros = value * 1'000'000;
      break;
    case arrow::TimeUnit::MILLI:
      micros = value * 1'000;
      break;
    case arrow::TimeUnit::NANO:
      micros = value / 1'000 - (value % 1'000 < 0);
      break;
    default:
      break;
  }
  return epoch + module.attr("timedelta")(0, 0, micros);
}

nb::object Timedelta(int64_t value, arrow::TimeUnit::type unit) {
  constexpr int64_t kPerSecond[] = {1, 1'000, 1'000'000, 1'000'000'000};
  const int64_t per = kPerSecond[static_cast<int>(unit)];
  const int64_t seconds = value / per - (value % per < 0);
  const int64_t rest = value - seconds * per;
  const int64_t micros = unit == arrow::TimeUnit::NANO ? rest / 1'000 : rest * (1'000'000 / per);
  return nb::module_::import_("datetime").attr("timedelta")(0, seconds, micros);
}

nb::object TimeOfDay(const nb::object& since_midnight) {
  const nb::object module = nb::module_::import_("datetime");
  return (module.attr("datetime")(1970, 1, 1) + since_midnight).attr("time")();
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
      return TimeOfDay(Timedelta(static_cast<const arrow::Time32Array&>(*array).Value(row),
                                 static_cast<const arrow::TimeType&>(*array->type()).unit()));
    case A::TIME64:
      return TimeOfDay(Timedelta(static_cast<const arrow::Time64Array&>(*array).Value(row),
                                 static_cast<const arrow::TimeType&>(*array->type()).unit()));
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
    case A::DATE32: {
      const nb::object module = nb::module_::import_("datetime");
      return module.attr("date")(1970, 1, 1) +
             module.attr("timedelta")(static_cast<const arrow::Date32Array&>(*array).Value(row));
    }
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
