// Reads every page of a Parquet file of ours and checks it.
#pragma once

#include <memory>

#include "base/cancel.h"
#include "store/object_store.h"

namespace headrace::table {

// Every page of every column: its checksum, that it fills its entry in the page index, and that it holds the
// rows which that says. `has_checksums`: every page must carry one. The file's end is the caller's to check
// (parquet_tail.h). Corrupt names the file.
Status VerifyParquet(std::shared_ptr<store::ObjectReader> reader, bool has_checksums, const StopToken& stop);

}  // namespace headrace::table
