// queue_rows: the items of a queue, from a query's rows into `hr.queue_items` and out of it; rows of system
// tables that no spool fills.
#pragma once

#include <string>
#include <vector>

#include "trace/queue.h"

namespace headrace::trace {

// What each row of a query is about, and what is shown of it: see CreateQueue. `inputs`: the tables that it
// read, "photos@v7".
Result<std::vector<QueueItem>> ItemsOf(const std::string& sql, const RunSql& run,
                                       std::vector<std::string>* inputs);
Status WriteItems(table::Catalog* catalog, const Queue& queue, const std::vector<QueueItem>& items,
                  const table::CommitOptions& options);

// The rows of a system table as JSON objects without their nulls, in order; none where there is no table.
Result<std::vector<nlohmann::json>> ReadRows(const table::Catalog& catalog, const SpoolTable& table,
                                             const std::string& where);

}  // namespace headrace::trace
