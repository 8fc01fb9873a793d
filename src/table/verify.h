// Reads what a table has stored and checks all of it: every checksum, every reference. What a reader checks
// on first touch, this touches.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "table/collect.h"

namespace headrace::table {

struct VerifyOptions {
  bool newest_only = false;  // not the versions before
  // The XXH3 of a blob's bytes: where it still is, is told.
  std::optional<uint64_t> absent;
};

// Something that is stored is not what it should be.
struct Damage {
  std::string key;  // of the object, or of the one that names it
  std::string what;
  int64_t version = 0;  // the newest version that needs it; 0: none in particular
};

struct VerifyReport {
  std::string table;
  int64_t versions = 0;                  // that were read
  ObjectCount checked;                   // objects, and their bytes
  std::vector<Damage> damaged;           // in the order in which it was found
  ObjectCount orphans;                   // files that no version needs: garbage collection's
  std::vector<std::string> orphan_keys;  // some of them
  // With VerifyOptions::absent: files that hold a cell with these bytes, and what may hold them, since
  // nothing tells.
  std::vector<Damage> present;
  ObjectCount unknown;  // objects with names that this program does not know
};

inline constexpr size_t kMostOrphanKeys = 1'000;

}  // namespace headrace::table
