// kinds: what records a spool holds, and the tables that they become rows of. A new kind is one line in
// kinds.cc, and one for its table where that is new too; spool, committer and tails follow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "trace/columns.h"

namespace headrace::trace {

enum class Kind : uint8_t { kStart = 1, kEnd = 2, kScore = 3 };  // as segments hold it

enum class Role {
  kRow,    // a row by itself
  kBegin,  // the first half of a row: what was begun and not ended is known, too
  kEnd,    // the other half, joined by "id"; a row by itself where the first could not be written
};

struct SpoolTable {
  const char* name;
  std::span<const Column> (*columns)();
};
// All that are filled from spools.
std::span<const SpoolTable> SpoolTables();

struct KindFacts {
  Kind kind;
  const char* name;
  size_t table;  // of SpoolTables()
  Role role;
};
std::span<const KindFacts> Kinds();
// Null for one that a newer program wrote.
const KindFacts* FindKind(Kind kind);

// Of SpoolTables(); its size where there is none of that name.
size_t FindTable(const char* name);

}  // namespace headrace::trace
