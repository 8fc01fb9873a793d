// Columns as they are asked for: by name, or by a path into structs ("image.width").
#pragma once

#include <string>
#include <vector>

#include "table/schema.h"

namespace headrace::table {

struct Projection {
  std::string name;  // in the result
  Field top;         // what to read: the top-level field, pruned to the path; id 0: the row id
  Field leaf;        // what is given out
  std::vector<std::string> path;
  bool pack = false;  // the place of a blob's bytes (image.pack): leaves the table with the table's id
};

// Empty `columns`: all of them. Invalid where one is asked for twice or is not there.
Result<std::vector<Projection>> ProjectColumns(const Schema& schema, const std::vector<std::string>& columns);
Result<Projection> ProjectPath(const Schema& schema, std::string name, std::vector<std::string> path);

// The fields of what the projections give out, under their names.
std::shared_ptr<arrow::Schema> ToArrow(const std::vector<Projection>& projections);

}  // namespace headrace::table
