// Rows made of Python's columns, and what types they are.
#include <arrow/array.h>
#include <arrow/util/key_value_metadata.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "module.h"
#include "objects.h"
#include "table/arrow_bridge.h"

namespace headrace::python {
namespace {

// Columns by name: numpy arrays of numbers, columns made of objects, or anything that speaks Arrow.
Reader FromColumns(const std::vector<std::string>& names, const nb::list& columns) {
  arrow::FieldVector fields;
  arrow::ArrayVector arrays;
  for (size_t i = 0; i < names.size(); ++i) {
    Column column;
    if (nb::isinstance<Column>(columns[i])) {
      column = nb::cast<Column>(columns[i]);
    } else if (nb::hasattr(columns[i], "__arrow_c_stream__") ||
               nb::hasattr(columns[i], "__arrow_c_array__")) {
      column = ImportColumn(columns[i]);
    } else {
      column.values = ArrayFromPython(columns[i]);
      const auto nd = nb::cast<nb::ndarray<nb::ro>>(columns[i]);
      if (nd.ndim() > 2) {
        std::string shape;
        for (size_t d = 1; d < nd.ndim(); ++d) shape += (d > 1 ? ", " : "") + std::to_string(nd.shape(d));
        column.metadata = arrow::key_value_metadata({"headrace.shape"}, {shape});
      }
    }
    if (!arrays.empty() && column.values->length() != arrays[0]->length()) {
      Raise(Status::Invalid("column '" + names[i] + "' has " + std::to_string(column.values->length()) +
                            " rows and '" + names[0] + "' has " + std::to_string(arrays[0]->length())));
    }
    fields.push_back(arrow::field(names[i], column.values->type(), true, column.metadata));
    arrays.push_back(std::move(column.values));
  }
  const int64_t rows = arrays.empty() ? 0 : arrays[0]->length();
  auto made = arrow::RecordBatchReader::Make({arrow::RecordBatch::Make(arrow::schema(fields), rows, arrays)});
  if (!made.ok()) Raise(table::FromArrow(made.status()));
  return {*made, nullptr};
}

}  // namespace

void BindColumns(nb::module_& m) {
  m.def("import_stream", [](nb::handle object) { return Reader{ImportStream(object), nullptr}; });
  m.def("from_columns", &FromColumns);
  nb::class_<Column>(m, "Column").def("__len__", [](const Column& c) { return c.values->length(); });
  m.def("column_of", &ColumnOf, nb::arg("name"), nb::arg("values"), nb::arg("type") = "");
  // Of the columns that are not in `known`.
  m.def("types_of", [](const Reader& reader, const std::vector<std::string>& known) {
    arrow::FieldVector fields;
    for (const auto& field : reader.batches->schema()->fields()) {
      if (std::find(known.begin(), known.end(), field->name()) == known.end()) fields.push_back(field);
    }
    const auto schema = Check(table::SchemaFromArrow(arrow::Schema(fields)));
    std::vector<std::pair<std::string, std::string>> columns;
    for (size_t i = 0; i < fields.size(); ++i) {
      const bool media = fields[i]->metadata() && fields[i]->metadata()->Contains("headrace.media");
      columns.emplace_back(fields[i]->name(), media ? "blob" : schema.fields[i].type.ToString());
    }
    return columns;
  });
  m.def("types_of_schema", [](nb::handle object) {
    const auto schema = Check(table::SchemaFromArrow(*ImportSchema(object)));
    std::vector<std::pair<std::string, std::string>> columns;
    for (const auto& field : schema.fields) columns.emplace_back(field.name, field.type.ToString());
    return columns;
  });
}

}  // namespace headrace::python
