// hash_split() and hash_fraction() in SQL: what they are in filters (table/split.h).
#pragma once

#include <duckdb.hpp>

namespace headrace::query {

void RegisterSplit(duckdb::Connection* connection);

}  // namespace headrace::query
