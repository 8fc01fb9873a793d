// Opening a Parquet file of a table.
#pragma once

#include <memory>
#include <string>

#include "table/environment.h"
#include "table/fragment.h"

namespace headrace::table {

class ParquetFile;

// From its object, or the files that are open already. Corrupt where it is not what its entry says. `whole`:
// most of it will be read, so that its pages are fetched beside its footer, which says where they are.
Result<std::shared_ptr<ParquetFile>> OpenParquet(Environment* env, const std::string& prefix,
                                                 const DataFile& file, bool whole = false);

}  // namespace headrace::table
