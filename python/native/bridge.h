// Between Python and our types: errors as exceptions, long calls that let go of the GIL and hear Ctrl-C,
// Arrow capsules.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include <arrow/type_fwd.h>

#include "base/cancel.h"
#include "base/status.h"

namespace arrow {
class RecordBatchReader;
}

namespace headrace::python {

namespace nb = nanobind;

struct Column;

// Raises the exception class that headrace.errors holds for this code.
[[noreturn]] void Raise(const Status& status);

inline void Check(const Status& status) {
  if (!status.ok()) Raise(status);
}
template <typename T>
T Check(Result<T> result) {
  if (!result.ok()) Raise(result.status());
  return std::move(result).value();
}

// Between two looks for a signal while work goes on: Python runs its handlers only when its main thread asks
// (PyErr_CheckSignals), and nothing tells that thread. The end of the work wakes it at once.
inline constexpr std::chrono::milliseconds kSignalLook(20);
inline constexpr std::chrono::milliseconds kStoppingLook(1000);  // once it was told to stop

// Runs `work(StopToken)` on another thread with the GIL released; a signal (Ctrl-C) stops it, waits for it,
// and raises.
template <typename Fn>
auto Interruptible(Fn work) -> decltype(work(StopToken())) {
  StopSource source;
  auto future = std::async(std::launch::async, [&work, token = source.token()] { return work(token); });
  bool interrupted = false;
  {
    nb::gil_scoped_release release;
    while (future.wait_for(interrupted ? kStoppingLook : kSignalLook) != std::future_status::ready) {
      if (interrupted) continue;
      nb::gil_scoped_acquire acquire;
      if (PyErr_CheckSignals() != 0) {
        interrupted = true;
        source.Stop();
      }
    }
  }
  auto result = future.get();
  if (interrupted) throw nb::python_error();
  return result;
}

// Threads do not come along into a forked child. What has threads of its own (an environment's pool, a
// running scan, a stream) is given here, so that a child never takes it down: it would wait for threads that
// are not there.
void KeepInChild(const std::shared_ptr<void>& held);

// Anything with __arrow_c_stream__ or __arrow_c_array__ (pyarrow, polars, pandas, DuckDB, our own readers).
std::shared_ptr<arrow::RecordBatchReader> ImportStream(nb::handle object);
// One column of an object that speaks Arrow (pyarrow arrays, series of polars and pandas), its chunks joined.
Column ImportColumn(nb::handle object);
nb::object ExportStream(std::shared_ptr<arrow::RecordBatchReader> reader);
std::shared_ptr<arrow::Schema> ImportSchema(nb::handle object);
nb::object ExportSchema(const arrow::Schema& schema);
nb::tuple ExportBatch(const arrow::RecordBatch& batch);

// Streams (stream.cc).
void BindStream(nb::module_& m);

}  // namespace headrace::python
