#include "bridge.h"

#include <arrow/array/concatenate.h>
#include <arrow/array/util.h>
#include <arrow/c/bridge.h>
#include <arrow/chunked_array.h>
#include <arrow/record_batch.h>
#include <nanobind/stl/string.h>
#include <pthread.h>

#include <list>
#include <mutex>

#include "objects.h"
#include "table/arrow_bridge.h"

namespace headrace::python {
namespace {

template <typename T>
void ReleaseCapsule(PyObject* capsule, const char* name) {
  auto* held = static_cast<T*>(PyCapsule_GetPointer(capsule, name));
  if (held == nullptr) return;
  if (held->release != nullptr) held->release(held);
  delete held;
}

void ReleaseStream(PyObject* capsule) { ReleaseCapsule<ArrowArrayStream>(capsule, "arrow_array_stream"); }
void ReleaseSchema(PyObject* capsule) { ReleaseCapsule<ArrowSchema>(capsule, "arrow_schema"); }
void ReleaseArray(PyObject* capsule) { ReleaseCapsule<ArrowArray>(capsule, "arrow_array"); }

template <typename T>
T* Pointer(nb::handle capsule, const char* name) {
  auto* pointer = static_cast<T*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (pointer == nullptr) throw nb::python_error();
  return pointer;
}

// What KeepInChild was given; never destroyed, since a child may come from an exit handler.
struct Kept {
  std::mutex mutex;
  std::list<std::weak_ptr<void>> held;
  size_t sweep_at = 64;
};
Kept* kept = nullptr;

void KeepAll() {
  for (const auto& held : kept->held) {
    if (auto alive = held.lock()) new std::shared_ptr<void>(std::move(alive));
  }
  kept->held.clear();
  kept->mutex.unlock();
}

template <typename T>
T Value(arrow::Result<T> result) {
  if (!result.ok()) Raise(table::FromArrow(result.status()));
  return std::move(result).ValueUnsafe();
}

}  // namespace

void Raise(const Status& status) {
  if (PyErr_Occurred() != nullptr) throw nb::python_error();
  const nb::object errors = nb::module_::import_("headrace.errors");
  const nb::object type = errors.attr("class_of")(std::string(CodeName(status.code())));
  const std::string text = status.ToString();
  PyObject* message = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  PyErr_SetObject(type.ptr(), message);
  Py_XDECREF(message);
  throw nb::python_error();
}

void KeepInChild(const std::shared_ptr<void>& held) {
  static const bool installed = [] {
    kept = new Kept;
    return pthread_atfork([] { kept->mutex.lock(); }, [] { kept->mutex.unlock(); }, KeepAll) == 0;
  }();
  (void)installed;
  const std::lock_guard lock(kept->mutex);
  if (kept->held.size() >= kept->sweep_at) {
    kept->held.remove_if([](const auto& one) { return one.expired(); });
    kept->sweep_at = 2 * kept->held.size() + 64;
  }
  kept->held.push_back(held);
}

std::shared_ptr<arrow::RecordBatchReader> ImportStream(nb::handle object) {
  if (nb::hasattr(object, "__arrow_c_stream__")) {
    const nb::object capsule = object.attr("__arrow_c_stream__")();
    return Value(arrow::ImportRecordBatchReader(Pointer<ArrowArrayStream>(capsule, "arrow_array_stream")));
  }
  if (nb::hasattr(object, "__arrow_c_array__")) {
    const nb::tuple pair = nb::cast<nb::tuple>(object.attr("__arrow_c_array__")());
    auto batch = Value(arrow::ImportRecordBatch(Pointer<ArrowArray>(pair[1], "arrow_array"),
                                                Pointer<ArrowSchema>(pair[0], "arrow_schema")));
    return Value(arrow::RecordBatchReader::Make({batch}));
  }
  Raise(
      Status::Invalid("rows come as a pyarrow, polars or pandas table (anything with __arrow_c_stream__), a "
                      "list of dicts, or a "
                      "dict of columns"));
}

Column ImportColumn(nb::handle object) {
  if (!nb::hasattr(object, "__arrow_c_stream__")) {
    const nb::tuple pair = nb::cast<nb::tuple>(object.attr("__arrow_c_array__")());
    auto field = Value(arrow::ImportField(Pointer<ArrowSchema>(pair[0], "arrow_schema")));
    return {Value(arrow::ImportArray(Pointer<ArrowArray>(pair[1], "arrow_array"), field->type())),
            field->metadata()};
  }
  const nb::object capsule = object.attr("__arrow_c_stream__")();
  const auto chunks =
      Value(arrow::ImportChunkedArray(Pointer<ArrowArrayStream>(capsule, "arrow_array_stream")));
  if (chunks->num_chunks() == 1) return {chunks->chunk(0), nullptr};
  if (chunks->num_chunks() == 0) return {Value(arrow::MakeEmptyArray(chunks->type())), nullptr};
  return {Value(arrow::Concatenate(chunks->chunks())), nullptr};
}

nb::object ExportStream(std::shared_ptr<arrow::RecordBatchReader> reader) {
  auto stream = std::make_unique<ArrowArrayStream>();
  Check(table::FromArrow(arrow::ExportRecordBatchReader(std::move(reader), stream.get())));
  return nb::steal(PyCapsule_New(stream.release(), "arrow_array_stream", ReleaseStream));
}

std::shared_ptr<arrow::Schema> ImportSchema(nb::handle object) {
  const nb::object capsule = object.attr("__arrow_c_schema__")();
  return Value(arrow::ImportSchema(Pointer<ArrowSchema>(capsule, "arrow_schema")));
}

nb::object ExportSchema(const arrow::Schema& schema) {
  auto exported = std::make_unique<ArrowSchema>();
  Check(table::FromArrow(arrow::ExportSchema(schema, exported.get())));
  return nb::steal(PyCapsule_New(exported.release(), "arrow_schema", ReleaseSchema));
}

nb::tuple ExportBatch(const arrow::RecordBatch& batch) {
  auto array = std::make_unique<ArrowArray>();
  auto schema = std::make_unique<ArrowSchema>();
  Check(table::FromArrow(arrow::ExportRecordBatch(batch, array.get(), schema.get())));
  return nb::make_tuple(nb::steal(PyCapsule_New(schema.release(), "arrow_schema", ReleaseSchema)),
                        nb::steal(PyCapsule_New(array.release(), "arrow_array", ReleaseArray)));
}

}  // namespace headrace::python
