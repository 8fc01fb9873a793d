// What a run logs, from Python's values into its spool (trace/run_log.h).
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/json.h"
#include "module.h"
#include "table/environment.h"
#include "trace/artifacts.h"
#include "trace/commit_thread.h"
#include "trace/run_log.h"
#include "trace/system_thread.h"

namespace headrace::python {
namespace {

// Between commits. Where readers see the spools, nobody waits for a commit, and few commits make long rows.
constexpr double kCommitSeconds = 60;
constexpr double kDistantCommitSeconds = 15;  // where they lie on another machine than the tables

template <typename T>
using Array = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// One process's writer of one run, and the thread that commits what it wrote.
class RunWriter {
 public:
  RunWriter(const std::string& location, trace::RunLog::Series series, bool system) {
    Check(Interruptible([&](const StopToken&) { return Open(location, std::move(series), system); }));
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
      if (!NumberOf(value, &number) || !PyUnicode_Check(key)) {
        if (!others) others.emplace();
        others->push_back(nb::borrow(key));
        continue;
      }
      Py_ssize_t size = 0;
      const char* text = PyUnicode_AsUTF8AndSize(key, &size);
      if (text == nullptr) throw nb::python_error();
      numbers_.emplace_back(std::string_view(text, static_cast<size_t>(size)), number);
    }
    step_ = step ? *step : step_ + 1;
    if (!numbers_.empty()) Check(Open().Log(step_, NowMicros(), numbers_));
    return others;
  }

  void LogNumbers(const std::vector<std::pair<std::string, double>>& values, int64_t step) {
    numbers_.assign(values.begin(), values.end());
    Check(Open().Log(step, NowMicros(), numbers_));
  }

  void LogMedia(const std::string& row, const nb::bytes& bytes) {
    Check(Open().LogMedia(ParseJson(row), {bytes.c_str(), bytes.size()}));
  }

  nb::tuple Save(const std::string& path) {
    Open();
    const auto saved = Check(
        Interruptible([&](const StopToken& stop) { return trace::SaveArtifact(*catalog_, path, {}, stop); }));
    return nb::make_tuple(saved.sha256, saved.bytes);
  }

  // Points of one key with the times that another tracker had kept.
  void LogSeries(const std::string& key, const Array<int64_t>& steps, const Array<int64_t>& micros,
                 const Array<double>& values) {
    if (steps.size() != values.size() || micros.size() != values.size())
      Raise(Status::Invalid("a series has as many steps and times as values"));
    auto& log = Open();
    Check(Interruptible([&](const StopToken&) {
      for (size_t i = 0; i < values.size(); ++i) {
        const std::pair<std::string_view, double> value(key, values.data()[i]);
        HEADRACE_TRY(log.Log(steps.data()[i], micros.data()[i], {&value, 1}));
      }
      return Status::Ok();
    }));
  }

  void Record(const std::string& row) { Check(Open().Record(ParseJson(row))); }
  void Sync() {
    auto& log = Open();
    Check(Interruptible([&](const StopToken&) { return log.Sync(); }));
  }
  void Commit() {
    Check(Interruptible([&](const StopToken&) { return commits_->Commit(); }));
  }

  // The spool is a dead writer's from here on: committed now, or by whoever commits these spools next.
  void Close(bool commit) {
    if (!log_) return;
    Check(Interruptible([&](const StopToken&) {
      if (system_) system_->Stop();
      commits_->Stop();
      const Status synced = log_->Sync();
      log_.reset();
      const Status committed = commit ? commits_->Commit() : Status::Ok();
      return synced.ok() ? committed : synced;
    }));
  }

  nb::dict Last() const {
    nb::dict last;
    if (log_)
      for (const auto& [key, value] : log_->Last()) last[nb::str(key.data(), key.size())] = value;
    return last;
  }
  int64_t step() const { return step_; }
  std::string trouble() const {
    const std::lock_guard lock(mutex_);
    return trouble_;
  }
  std::string spool() const { return log_ ? log_->spool().writer() : ""; }

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

  trace::RunLog& Open() {
    if (!log_) Raise(Status::Invalid("this run is finished; nothing more can be logged to it"));
    return *log_;
  }

  Status Open(const std::string& location, trace::RunLog::Series series, bool system) {
    HEADRACE_ASSIGN(catalog_, table::Catalog::Open(location, {.upkeep = true}));
    HEADRACE_ASSIGN(log_, trace::RunLog::Open(trace::SpoolRoot(*catalog_), std::move(series)));
    trace::CommitThreadOptions options;
    options.seconds = catalog_->environment()->store->is_local() ? kCommitSeconds : kDistantCommitSeconds;
    options.tables = {trace::kRuns, trace::kMetrics, trace::kMedia};
    options.each_look = [this] { Tell(log_->Sync()); };
    options.outcome = [this](const Status& status) { Tell(status); };
    commits_ = trace::CommitThread::Start(catalog_, std::move(options));
    if (!system) return Status::Ok();
    auto sampled = trace::SystemThread::Start(
        {.disk = log_->spool().folder()},
        [this](double seconds, const std::vector<trace::SystemFigure>& figures) { Keep(seconds, figures); });
    if (!sampled.ok()) return Status::Ok();  // a machine without /proc has no such figures
    system_ = std::move(sampled).value();
    return Status::Ok();
  }
  // The mean of each figure at a step that counts seconds, with its extremes beside it where they differ.
  void Keep(double seconds, const std::vector<trace::SystemFigure>& figures) {
    std::vector<std::string> names;
    std::vector<double> values;
    for (const trace::SystemFigure& figure : figures) {
      const std::string name = "sys/" + figure.key;
      names.push_back(name);
      values.push_back(figure.mean);
      if (figure.min == figure.max) continue;
      names.insert(names.end(), {name + ".min", name + ".max"});
      values.insert(values.end(), {figure.min, figure.max});
    }
    std::vector<std::pair<std::string_view, double>> points;
    for (size_t i = 0; i < names.size(); ++i) points.emplace_back(names[i], values[i]);
    Tell(log_->Log(std::llround(seconds), NowMicros(), points));
  }
  void Tell(const Status& status) {
    const std::lock_guard lock(mutex_);
    trouble_ = status.ok() ? "" : status.ToString();
  }

  std::shared_ptr<table::Catalog> catalog_;
  mutable std::mutex mutex_;
  std::string trouble_;  // what does not work now, "" where all does
  std::unique_ptr<trace::RunLog> log_;
  std::unique_ptr<trace::CommitThread> commits_;  // before log_ goes, its thread has ended
  std::unique_ptr<trace::SystemThread> system_;   // neither has the system's
  std::vector<std::pair<std::string_view, double>> numbers_;
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
