// Translates DuckDB's errors to Status.
#pragma once

#include <duckdb.hpp>

#include <string>

#include "query/scan_function.h"

namespace headrace::query {

// Our own failure where DuckDB only passes it on; otherwise DuckDB's, with what to write instead where the
// text `sql` shows it.
Status FromDuckDb(const duckdb::ErrorData& error, const Session& session, const std::string& sql);

}  // namespace headrace::query
