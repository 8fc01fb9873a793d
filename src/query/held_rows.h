// Rows that no file holds yet, as a table of DuckDB's own.
#pragma once

#include <string>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "query/scan_function.h"

namespace duckdb {
class Connection;
}

namespace headrace::query {

// A temporary table of this connection's, in place of one of that name: a few thousand rows at most, since
// each cell is a value. Types as columns of files have them in SQL. Unsupported for one that none of the
// system's tables has.
Status HoldRows(duckdb::Connection* connection, const Session& session, const std::string& name,
                const arrow::RecordBatch& rows);

}  // namespace headrace::query
