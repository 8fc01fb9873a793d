// Batches and readers of rows.
#include <arrow/array.h>
#include <arrow/table.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "module.h"
#include "objects.h"
#include "table/arrow_bridge.h"
#include "table/conform.h"

namespace headrace::python {

void BindRows(nb::module_& m) {
  // The bytes of a blob cell by its facts, as `Cell` gives them.
  m.def("read_blob", [](const table::View& view, const nb::dict& facts) -> nb::object {
    nb::list one;
    one.append(facts);
    table::Field field;
    field.name = "blob";
    field.type.kind = table::Kind::kBlob;
    field.type.children = table::BlobFields();
    const auto cell = Check(table::ConformArray(ColumnOf("blob", one, "").values, field));
    return BlobBytes(view, cell)[0];
  });
  nb::class_<RowBatch>(m, "Batch")
      .def_prop_ro("num_rows", [](const RowBatch& b) { return b.rows->num_rows(); })
      .def_prop_ro("names", [](const RowBatch& b) { return b.rows->schema()->field_names(); })
      .def("cell",
           [](const RowBatch& b, const std::string& name, int64_t row) {
             const int column = b.rows->schema()->GetFieldIndex(name);
             if (column < 0) throw nb::key_error(name.c_str());
             if (row < 0 || row >= b.rows->num_rows()) throw nb::index_error();
             return Cell(b, column, row);
           })
      .def("to_numpy",
           [](const RowBatch& b, const std::string& name) {
             const int column = b.rows->schema()->GetFieldIndex(name);
             if (column < 0) throw nb::key_error(name.c_str());
             return ColumnToNumpy(b, column);
           })
      .def("arrow_array", [](const RowBatch& b) { return ExportBatch(*b.rows); })
      .def("arrow_stream",
           [](const RowBatch& b) {
             auto reader = arrow::RecordBatchReader::Make({b.rows}, b.rows->schema());
             if (!reader.ok()) Raise(table::FromArrow(reader.status()));
             return ExportStream(*reader);
           })
      .def("address",
           [](const RowBatch& b) -> nb::object { return b.view ? AddressOf(*b.view) : nb::none(); })
      .def("through",
           [](const RowBatch& b, const table::View& v) {
             return RowBatch{b.rows, std::make_shared<table::View>(v)};
           })
      .def("blobs", [](const RowBatch& b, const std::string& name) {
        const auto cells = b.rows->GetColumnByName(name);
        if (!cells) throw nb::key_error(name.c_str());
        if (!b.view)
          Raise(Status::Invalid(
              "these rows came from SQL and cannot fetch blobs; take them by _row_id from the table"));
        return BlobBytes(*b.view, cells);
      });
  nb::class_<Reader>(m, "Reader")
      .def_prop_ro("names", [](const Reader& r) { return r.batches->schema()->field_names(); })
      .def("next",
           [](const Reader& r) -> std::optional<RowBatch> {
             auto next =
                 Check(Interruptible([&](const StopToken&) -> Result<std::shared_ptr<arrow::RecordBatch>> {
                   std::shared_ptr<arrow::RecordBatch> batch;
                   const auto status = r.batches->ReadNext(&batch);
                   if (!status.ok()) return table::FromArrow(status);
                   return batch;
                 }));
             if (!next) return std::nullopt;
             return RowBatch{std::move(next), r.view};
           })
      .def("arrow_stream", [](const Reader& r) { return ExportStream(r.batches); })
      .def("arrow_schema", [](const Reader& r) { return ExportSchema(*r.batches->schema()); });
}

}  // namespace headrace::python
