// Retention, garbage collection, verification.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "base/duration.h"
#include "module.h"
#include "table/sort_rows.h"

namespace headrace::python {
namespace {

nb::dict ToDict(const table::CollectReport& report, bool dry_run) {
  nb::dict dict;
  dict["table"] = report.table;
  dict["dropped"] = report.dropped;
  dict["dry_run"] = dry_run;
  dict["version"] = report.version;
  dict["expired"] = report.expired;
  dict["deleted_files"] = report.deleted.objects;
  dict["deleted_bytes"] = report.deleted.bytes;
  dict["stubs"] = report.stubs;
  nb::list holders;
  for (const auto& holder : report.holders) {
    nb::dict one;
    one["by"] = table::HolderName(holder.kind);
    one["name"] = holder.name;
    one["version"] = holder.version;
    one["versions"] = holder.versions;
    one["files"] = holder.held.objects;
    one["bytes"] = holder.held.bytes;
    holders.append(one);
  }
  dict["holders"] = holders;
  dict["damaged"] = report.damaged;
  return dict;
}

nb::dict ToDict(const table::VerifyReport& report) {
  nb::dict dict;
  dict["table"] = report.table;
  dict["versions"] = report.versions;
  dict["files"] = report.checked.objects;
  dict["bytes"] = report.checked.bytes;
  nb::list damaged;
  for (const auto& one : report.damaged) {
    nb::dict entry;
    entry["object"] = one.key;
    entry["what"] = one.what;
    entry["version"] = one.version;
    damaged.append(entry);
  }
  dict["damaged"] = damaged;
  dict["orphans"] = report.orphans.bytes;
  return dict;
}

table::CollectOptions OptionsOf(std::optional<int64_t> keep_us, int64_t grace_us, bool dry_run) {
  table::CollectOptions options;
  options.keep_us = keep_us;
  options.grace_us = grace_us;
  options.dry_run = dry_run;
  return options;
}

}  // namespace

void BindUpkeep(nb::module_& m, nb::class_<table::Table>& table) {
  m.def("parse_duration", [](const std::string& text) { return Check(ParseDuration(text)); });
  table
      .def("retain",
           [](table::Table& t, int64_t keep_us, const std::string& why) {
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.SetRetention(keep_us, CommitOf(why, "", -1, stop));
             })));
           })
      .def("sort_by",
           [](table::Table& t, const std::vector<std::string>& columns, const std::string& why) {
             return ToDict(Check(Interruptible(
                 [&](const StopToken& stop) { return t.SortBy(columns, CommitOf(why, "", -1, stop)); })));
           })
      .def("sort_key", [](const table::Table& t) { return table::SortKey(Check(t.At()).snapshot()); })
      .def("writers",
           [](const table::Table& t) {
             const auto view = Check(t.At());
             std::vector<std::tuple<std::string, int64_t, int64_t, bool>> writers;
             for (const auto& [name, mark] : view.snapshot().writers)
               writers.emplace_back(name, mark.sequence, mark.version, mark.keep);
             return writers;
           })
      .def("change_writer",
           [](table::Table& t, const std::string& name, const std::string& how, const std::string& why) {
             using Kind = table::WriterChange::Kind;
             const Kind kind = how == "keep" ? Kind::kKeep : how == "forget" ? Kind::kForget : Kind::kRelease;
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.ChangeWriter({kind, name}, CommitOf(why, "", -1, stop));
             })));
           })
      .def(
          "gc",
          [](table::Table& t, std::optional<int64_t> keep_us, int64_t grace_us, bool dry_run) {
            return ToDict(Check(Interruptible([&](const StopToken& stop) {
                            return t.Collect(OptionsOf(keep_us, grace_us, dry_run),
                                             CommitOf("", "", -1, stop));
                          })),
                          dry_run);
          },
          nb::arg("keep").none(), nb::arg("grace"), nb::arg("dry_run"))
      .def("verify", [](table::Table& t, bool newest) {
        return ToDict(Check(Interruptible(
            [&](const StopToken& stop) { return t.Verify({newest}, CommitOf("", "", -1, stop)); })));
      });
}

std::vector<nb::dict> CollectAll(const table::Catalog& catalog, std::optional<int64_t> keep_us,
                                 int64_t grace_us, bool dry_run) {
  std::vector<table::CollectReport> reports;
  Check(Interruptible([&](const StopToken& stop) {
    return catalog.Collect(OptionsOf(keep_us, grace_us, dry_run), CommitOf("", "", -1, stop),
                           [&](const table::CollectReport& report) { reports.push_back(report); });
  }));
  std::vector<nb::dict> dicts;
  for (const auto& report : reports) dicts.push_back(ToDict(report, dry_run));
  return dicts;
}

std::vector<nb::dict> VerifyAll(const table::Catalog& catalog, bool newest) {
  std::vector<table::VerifyReport> reports;
  Check(Interruptible([&](const StopToken& stop) {
    return catalog.Verify({newest}, CommitOf("", "", -1, stop),
                          [&](const table::VerifyReport& report) { reports.push_back(report); });
  }));
  std::vector<nb::dict> dicts;
  for (const auto& report : reports) dicts.push_back(ToDict(report));
  return dicts;
}

}  // namespace headrace::python
