// What a run logs, from Python's values into its spool (trace/run_writer.h).
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "base/clock.h"
#include "base/json.h"
#include "module.h"
#include "trace/artifacts.h"
#include "trace/run_writer.h"

namespace headrace::python {
namespace {

template <typename T>
using Array = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// One process's writer of one run.
class RunWriter {
 public:
  RunWriter(const std::string& location, const trace::RunLog::Series& series, bool system)
      : run_(series.run) {
    KeepInChild(writer_ =
                    Check(Interruptible([&](const StopToken&) -> Result<std::unique_ptr<trace::RunWriter>> {
                      HEADRACE_ASSIGN(auto catalog, table::Catalog::Open(location, {.upkeep = true}));
                      return trace::RunWriter::Open(std::move(catalog), series, {.system = system});
                    })));
  }

  // Numbers among the values are logged at one step (none: the one after the last); the names of those that
  // are none are given back.
  std::optional<std::vector<nb::object>> Log(const nb::dict& values, std::optional<int64_t> step) {
    numbers_.clear();
    std::optional<std::vector<nb::object>> others;
    Py_ssize_t at = 0;
    PyObject *key = nullptr, *value = nullptr;
    while (PyDict_Next(values.ptr(), &at, &key, &value) != 0) {
      double number = 0;
      if (!PyUnicode_Check(key) || !NumberOf(value, &number)) {
        if (!others) others.emplace();
        others->push_back(nb::borrow(key));
        continue;
      }
      Py_ssize_t size = 0;
      const char* text = PyUnicode_AsUTF8AndSize(key, &size);
      if (text == nullptr) throw nb::python_error();
      numbers_.emplace_back(std::string_view(text, static_cast<size_t>(size)), number);
    }
    if (!step && step_ == INT64_MAX)
      Raise(Status::Invalid("there is no step after the last that 64 bits hold; give one: log(…, step=…)"));
    step_ = step ? *step : step_ + 1;
    if (!numbers_.empty()) Check(Open().log().Log(step_, NowMicros(), numbers_));
    return others;
  }

  void LogNumbers(const std::vector<std::pair<std::string, double>>& values, int64_t step) {
    numbers_.assign(values.begin(), values.end());
    Check(Open().log().Log(step, NowMicros(), numbers_));
  }

  void LogMedia(const std::string& row, const nb::bytes& bytes) {
    Check(Open().log().LogMedia(ParseJson(row), {bytes.c_str(), bytes.size()}));
  }

  nb::tuple Save(const std::string& path) {
    const auto& catalog = Open().catalog();
    const auto saved = Check(
        Interruptible([&](const StopToken& stop) { return trace::SaveArtifact(catalog, path, {}, stop); }));
    return nb::make_tuple(saved.sha256, saved.bytes);
  }

  nb::tuple SaveCheckpointFile(const std::string& path) {
    const auto& catalog = Open().catalog();
    const auto saved = Check(Interruptible(
        [&](const StopToken& stop) { return trace::SaveCheckpointFile(catalog, run_, path, stop); }));
    return nb::make_tuple(saved.sha256, saved.bytes);
  }
  int64_t KeepCheckpointFiles(const std::vector<std::string>& sha256s) {
    const auto& catalog = Open().catalog();
    return Check(Interruptible(
        [&](const StopToken& stop) { return trace::KeepCheckpointFiles(catalog, run_, sha256s, stop); }));
  }

  // Points of one key with the times that another tracker had kept.
  void LogSeries(const std::string& key, const Array<int64_t>& steps, const Array<int64_t>& micros,
                 const Array<double>& values) {
    if (steps.size() != values.size() || micros.size() != values.size())
      Raise(Status::Invalid("a series has as many steps and times as values"));
    auto& log = Open().log();
    Check(Interruptible([&](const StopToken&) {
      for (size_t i = 0; i < values.size(); ++i) {
        const std::pair<std::string_view, double> value(key, values.data()[i]);
        HEADRACE_TRY(log.Log(steps.data()[i], micros.data()[i], {&value, 1}));
      }
      return Status::Ok();
    }));
  }

  void Record(const std::string& row) { Check(Open().log().Record(ParseJson(row))); }
  void Sync() {
    auto& log = Open().log();
    Check(Interruptible([&](const StopToken&) { return log.Sync(); }));
  }
  void Commit() {
    Check(Interruptible([&](const StopToken&) { return writer_->Commit(); }));
  }
  void Close(bool commit) {
    if (closed_) return;
    closed_ = true;
    Check(Interruptible([&](const StopToken&) { return writer_->Close(commit); }));
  }

  nb::dict Last() const {
    nb::dict last;
    if (closed_) return last;
    for (const auto& [key, value] : writer_->log().Last()) last[nb::str(key.data(), key.size())] = value;
    return last;
  }
  int64_t step() const { return step_; }
  std::string trouble() const { return writer_->trouble(); }
  std::string spool() const { return closed_ ? "" : writer_->log().spool().writer(); }

 private:
  static bool NumberOf(PyObject* value, double* number) {
    if (PyFloat_Check(value)) {
      *number = PyFloat_AsDouble(value);
      return true;
    }
    if (!PyLong_Check(value)) return false;
    *number = PyLong_AsDouble(value);
    if (*number == -1 && PyErr_Occurred() != nullptr) throw nb::python_error();
    return true;
  }

  trace::RunWriter& Open() {
    if (closed_) Raise(Status::Invalid("this run is finished; nothing more can be logged to it"));
    return *writer_;
  }

  const std::string run_;
  std::shared_ptr<trace::RunWriter> writer_;
  bool closed_ = false;
  std::vector<std::pair<std::string_view, double>> numbers_;  // of the call that is under way
  int64_t step_ = -1;
};

}  // namespace

void BindRun(nb::module_& m) {
  m.def("spool_is_alive", [](const std::string& location, const std::string& writer) {
    return Check(Interruptible([&](const StopToken&) -> Result<bool> {
      HEADRACE_ASSIGN(const auto catalog, table::Catalog::Open(location));
      return trace::IsAlive(trace::SpoolRoot(*catalog), writer);
    }));
  });
  nb::class_<RunWriter>(m, "RunWriter")
      .def("__init__",
           [](RunWriter* self, const std::string& location, const std::string& run, int64_t rank,
              int64_t life, bool owner, bool system) {
             new (self) RunWriter(location, {run, rank, life, owner}, system);
           })
      .def("log", &RunWriter::Log, nb::arg("values"), nb::arg("step").none())
      .def("log_numbers", &RunWriter::LogNumbers)
      .def("log_media", &RunWriter::LogMedia)
      .def("save", &RunWriter::Save)
      .def("save_checkpoint_file", &RunWriter::SaveCheckpointFile)
      .def("keep_checkpoint_files", &RunWriter::KeepCheckpointFiles)
      .def("log_series", &RunWriter::LogSeries)
      .def("record", &RunWriter::Record)
      .def("sync", &RunWriter::Sync)
      .def("commit", &RunWriter::Commit)
      .def("close", &RunWriter::Close, nb::arg("commit") = true)
      .def("last", &RunWriter::Last)
      .def_prop_ro("step", &RunWriter::step)
      .def_prop_ro("trouble", &RunWriter::trouble)
      .def_prop_ro("spool", &RunWriter::spool);
}

}  // namespace headrace::python
