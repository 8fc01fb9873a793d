// How a version lies in files, for people and for programs: what `describe --storage` and `du` show.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/cancel.h"
#include "table/storage.h"

namespace headrace::cli {

Status PrintStorage(const table::View& view, const StopToken& stop);
Result<nlohmann::ordered_json> StorageJson(const table::View& view, const StopToken& stop);

void PrintColumns(const table::ColumnStorage& storage, int64_t rows);
nlohmann::ordered_json ColumnsJson(const table::ColumnStorage& storage);

}  // namespace headrace::cli
