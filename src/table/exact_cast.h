// A column's values in another type of the same kind, each as it was.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/status.h"

namespace headrace::table {

// A row whose value a field cannot hold as it is.
struct RowFault {
  int64_t row = 0;
  std::string column;  // "a", or "a.item" within it
  std::string why;     // "5000000000 is no value of int32"
};

// Numbers of any width become those of any other, texts and bytes of any layout likewise, times change their
// unit, instants their zone. A value that `type` does not hold exactly is one of
// `faults`, and what the result holds in its place means nothing; only floats are rounded, to the precision
// of a narrower float. Invalid where the types differ in kind: text is no number, a wall-clock time no
// instant.
Result<std::shared_ptr<arrow::Array>> ExactCast(const std::shared_ptr<arrow::Array>& array,
                                                const std::shared_ptr<arrow::DataType>& type,
                                                const std::string& column, std::vector<RowFault>* faults);

// Which values are not null, as a buffer that begins with the first of them; none if all are.
Result<std::shared_ptr<arrow::Buffer>> ValidityOf(const arrow::Array& array);

}  // namespace headrace::table
