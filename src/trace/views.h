// views: the present state of append-only tables, as SQL: `scores_now` is the last row of each id.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "table/catalog.h"

namespace headrace::trace {

// As SQL wants them (query::SqlEngineOptions::views and ::view).
std::vector<std::string> Views();
// The SELECT of a view over the tables as this catalog has them. A table that is not there, and a column that
// an older one lacks, are as if they were there and empty.
std::function<Result<std::string>(const std::string& view)> ViewOf(std::shared_ptr<table::Catalog> catalog);

}  // namespace headrace::trace
