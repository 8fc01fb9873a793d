// What is known of a version's columns without reading them: nulls and bounds, out of the statistics.
#pragma once

#include <string>
#include <vector>

#include "table/view.h"

namespace headrace::table {

struct ColumnSummary {
  std::string path;  // "image.width" of a blob's or a struct's field
  Field field;
  bool nested = false;
  bool known = false;  // whether the statistics say anything of it
  bool exact = true;   // otherwise deleted rows and values that were replaced count too: nulls at most these
  int64_t nulls = 0;
  Value min;  // null: there is no value, or the bounds are not kept. Of long texts, a bound of the bound
  Value max;
};

// The columns in the schema's order, each followed by its fields: of a struct all, of a blob its facts.
Result<std::vector<ColumnSummary>> SummariseColumns(const View& view);

}  // namespace headrace::table
