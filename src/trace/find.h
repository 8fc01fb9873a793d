// find: one request's row again, wherever it is: in the table, or still in a spool of this machine.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "table/catalog.h"

namespace headrace::trace {

// The row of `traces` with this id (a UUID; see RowIdOf): of its text columns those that are not null.
// Nothing where there is none, or where it has not ended.
Result<std::optional<nlohmann::json>> FindTrace(const table::Catalog& catalog, const std::string& id);

// Whether `scores` has an entry of this name for the request (both plain: letters, digits, '.', '-', '_').
Result<bool> HasScore(const table::Catalog& catalog, const std::string& request, const std::string& name);

}  // namespace headrace::trace
