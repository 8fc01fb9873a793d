// Names of tables and columns in SQL text.
#pragma once

#include <string>
#include <vector>

#include "table/schema.h"

namespace headrace::query {

// "name", as an identifier of SQL.
std::string QuotedName(const std::string& name);
// A version of a table as what SQL reads from, under the table's own name: "photos@7" as "photos".
std::string FromVersion(const std::string& table, int64_t version);
// The columns whose names stand anywhere in the text: those that it reads are among them.
std::vector<std::string> ColumnsNamedIn(std::string text, const table::Schema& schema);

}  // namespace headrace::query
