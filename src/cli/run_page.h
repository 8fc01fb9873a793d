// run_page: a run, or several beside each other, as one HTML file that needs no network: what is known of
// them, what they logged, and curves whose every column of pixels has exact extremes at every zoom.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "query/query.h"
#include "table/catalog.h"

namespace headrace::cli {

struct RunPageFacts {
  int64_t curves = 0, points = 0;
  size_t bytes = 0;
};

// `runs`: rows of runs_now; one: a page of it, several: a comparison. `keys`: only curves of these; empty: of
// all. Whole or not at all. What a page has no room for it counts, and says so.
Result<RunPageFacts> WriteRunPage(const std::string& path, const std::shared_ptr<table::Catalog>& catalog,
                                  query::SqlEngine* engine, const std::vector<nlohmann::ordered_json>& runs,
                                  const std::vector<std::string>& keys);

}  // namespace headrace::cli
