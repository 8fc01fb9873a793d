// Reads ahead of a take from a distant store: one round trip where there would be one for each column.
#pragma once

#include <string>
#include <vector>

#include "table/environment.h"
#include "table/fragment.h"
#include "table/projection.h"
#include "table/rows.h"

namespace headrace::table {

// Fetches what the Parquet files hold of these columns and rows, all columns of a file together; the reads
// that follow find it in the environment's blocks. An error is left to the read that meets it again.
void Prefetch(Environment* env, const std::string& prefix, const Fragment& fragment,
              const std::vector<Projection>& columns, const Rows& rows);

}  // namespace headrace::table
