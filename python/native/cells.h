// Cells and columns as Python objects.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include <arrow/type_fwd.h>

#include "table/view.h"

namespace headrace::python {

namespace nb = nanobind;

// A batch, and the view that can fetch its blobs (none for results of SQL).
struct RowBatch {
  std::shared_ptr<arrow::RecordBatch> rows;
  std::shared_ptr<table::View> view;
};

// Where a view is: (location, prefix, version), for reopen_view.
nb::object AddressOf(const table::View& view);
// The bytes of a blob column's cells, None where one is null.
nb::list BlobBytes(const table::View& view, const std::shared_ptr<arrow::Array>& cells);
// One cell: int, float, bool, str, bytes, datetime, date, list, dict; tensors as numpy arrays; blobs as
// headrace.Blob.
nb::object Cell(const RowBatch& batch, int column, int64_t row);
// A whole column as numpy: without a copy for numbers and tensors that have no nulls; numbers with nulls as
// float64 with NaN; everything else as objects.
nb::object ColumnToNumpy(const RowBatch& batch, int column);
// numpy arrays (1-D: values, more: tensors) and lists of strings as an Arrow column.
std::shared_ptr<arrow::Array> ArrayFromPython(nb::handle object);

}  // namespace headrace::python
