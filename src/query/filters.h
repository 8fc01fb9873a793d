// DuckDB's bound filter expressions in our filter language, where they mean the same.
#pragma once

#include <duckdb.hpp>

#include <string>
#include <vector>

#include "table/expr.h"

namespace headrace::query {

// Null if any part has no equal in our language. `names`: of the scan's columns by binding index.
table::ExprPtr TranslateFilter(const duckdb::Expression& filter, const std::vector<std::string>& names);

}  // namespace headrace::query
