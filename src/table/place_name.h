// `_row_place` became every table's own name when rows could be sorted; a table of before may have a column
// of that name.
#pragma once

#include <string>

#include "table/schema.h"

namespace headrace::table {

// For who is about to ask for the places of rows by their name. Invalid where it is a column's.
inline Status CheckPlaceName(const Schema& schema) {
  if (schema.Find(kRowPlaceColumn) == nullptr) return Status::Ok();
  return Status::Invalid("the column '" + std::string(kRowPlaceColumn) +
                         "' has a name that is every table's own by now; rename it first");
}

}  // namespace headrace::table
