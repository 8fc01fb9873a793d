// What can be mended of a damaged table without inventing anything.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace headrace::table {

struct RepairOptions {
  // Where the newest version cannot be read, the newest one that can becomes the newest again; what came
  // after it is lost.
  bool roll_back = false;
  bool dry_run = false;
};

struct RepairReport {
  std::string table;
  int64_t derived = 0;  // derived objects that were deleted: they are made again when needed
  int64_t stubs = 0;    // put for versions that are missing, where a search for the newest would end
  std::vector<int64_t> unreadable;  // the newest versions, as far as none of them can be read, newest first
  std::string why;                  // the first of them
  int64_t readable = 0;             // the newest version that can be read; 0: none
  int64_t version = 0;              // the newest afterwards; 0: it still cannot be read
};

}  // namespace headrace::table
