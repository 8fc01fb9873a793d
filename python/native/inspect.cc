// What is told of tables: diffs of versions, statistics of columns, where the bytes lie.
#include <arrow/record_batch.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "module.h"
#include "table/describe.h"
#include "table/diff.h"
#include "table/split.h"
#include "table/storage.h"

namespace headrace::python {
namespace {

nb::dict CountsOf(const table::View& before, const table::View& after,
                  const std::vector<std::string>& compared) {
  std::vector<table::DiffColumn> columns;
  const auto counts = Check(Interruptible([&](const StopToken& stop) -> Result<table::DiffCounts> {
    HEADRACE_ASSIGN(const auto diff, table::Diff::Between(before, after, compared));
    columns = diff.columns();
    return diff.Count(stop);
  }));
  nb::dict dict, changed, added, dropped, renamed, retyped;
  for (size_t i = 0; i < columns.size(); ++i) {
    const auto& column = columns[i];
    if (column.added()) added[nb::cast(*column.after)] = column.field.type.ToString();
    if (column.dropped()) dropped[nb::cast(*column.before)] = column.field.type.ToString();
    if (column.renamed()) renamed[nb::cast(*column.before)] = *column.after;
    if (column.retyped)
      retyped[nb::cast(*column.after)] = nb::make_tuple(column.retyped->first, column.retyped->second);
    if (counts.changed_in[i] > 0) changed[nb::cast(*column.after)] = counts.changed_in[i];
  }
  dict["added"] = counts.added;
  dict["deleted"] = counts.deleted;
  dict["changed"] = counts.changed;
  dict["same"] = counts.same;
  dict["changed_in"] = changed;
  dict["columns_added"] = added;
  dict["columns_dropped"] = dropped;
  dict["columns_renamed"] = renamed;
  dict["columns_retyped"] = retyped;
  return dict;
}

nb::object ToObject(const table::Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return nb::cast(*flag);
  if (const int64_t* whole = std::get_if<int64_t>(&value)) return nb::cast(*whole);
  if (const double* real = std::get_if<double>(&value)) return nb::cast(*real);
  if (const auto* text = std::get_if<std::string>(&value)) {
    PyObject* decoded = PyUnicode_DecodeUTF8(text->data(), static_cast<Py_ssize_t>(text->size()), "replace");
    return nb::steal(decoded);
  }
  return nb::none();
}

nb::list Describe(const table::View& view) {
  const auto columns = Check(Interruptible([&](const StopToken&) { return table::SummariseColumns(view); }));
  nb::list list;
  for (const auto& column : columns) {
    const bool bytes = column.field.type.kind == table::Kind::kBinary;
    list.append(nb::make_tuple(column.path, column.field.type.ToString(),
                               column.known ? nb::cast(column.nulls) : nb::object(nb::none()),
                               bytes ? nb::object(nb::none()) : ToObject(column.min),
                               bytes ? nb::object(nb::none()) : ToObject(column.max), column.exact));
  }
  return list;
}

nb::dict AmountDict(const table::Amount& amount) {
  nb::dict dict;
  dict["objects"] = amount.objects;
  dict["bytes"] = amount.bytes;
  return dict;
}

nb::dict StorageDict(const table::Table& table) {
  const auto storage =
      Check(Interruptible([&](const StopToken& stop) { return table::MeasureStorage(table, stop); }));
  nb::dict dict, columns, frees;
  dict["version"] = storage.version;
  dict["newest"] = AmountDict(storage.newest);
  dict["older"] = AmountDict(storage.older);
  dict["history"] = AmountDict(storage.history);
  dict["derived"] = AmountDict(storage.derived);
  dict["unnamed"] = AmountDict(storage.unnamed);
  for (const auto& column : storage.newest_columns.columns)
    columns[nb::cast(column.field.name)] = column.files.bytes + column.overlays.bytes;
  dict["columns"] = columns;
  dict["packs"] = AmountDict(storage.newest_columns.packs);
  dict["packs_live"] = storage.newest_columns.packs_live;
  dict["indexes"] = storage.newest_columns.overhead;
  dict["replaced"] = storage.newest_columns.left_in_files;
  for (const auto& version : storage.versions) {
    if (version.version < storage.version && version.last.objects > 0)
      frees[nb::cast(version.version)] = version.last.bytes;
  }
  dict["used_last_by"] = frees;
  return dict;
}

}  // namespace

void BindInspect(nb::module_& m) {
  m.def("check_split", [](const std::string& parts) { Check(table::Split::Parse(parts)); });
  m.def("diff_counts", &CountsOf);
  m.def("diff_rows",
        [](const table::View& before, const table::View& after, const std::vector<std::string>& compared) {
          auto rows =
              Check(Interruptible([&](const StopToken&) -> Result<std::shared_ptr<arrow::RecordBatchReader>> {
                HEADRACE_ASSIGN(const auto diff, table::Diff::Between(before, after, compared));
                return diff.Rows({});
              }));
          KeepInChild(rows);
          return Reader{std::move(rows), nullptr};
        });
  m.def("describe", &Describe);
  m.def("storage", &StorageDict);
}

}  // namespace headrace::python
