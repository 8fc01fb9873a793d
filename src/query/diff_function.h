// diff('photos', 'v3', 'v7') in SQL: the rows that differ between two versions (table/diff.h).
#pragma once

#include <duckdb.hpp>

#include <memory>

#include "query/scan_function.h"

namespace headrace::query {

void RegisterDiff(duckdb::Connection* connection, std::shared_ptr<Session> session);

}  // namespace headrace::query
