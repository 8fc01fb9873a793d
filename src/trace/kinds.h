// kinds: what records a spool holds, and the tables that they become rows of. A new kind is one line in
// kinds.cc, and one for its table where that is new too; spool, committer and tails follow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "trace/columns.h"

namespace headrace::trace {

// As segments hold it. Payloads are JSON objects with the names of the columns, but for kKey, kPoints,
// kMedia and kOtlp (docs/format/spool.md).
enum class Kind : uint8_t {
  kStart = 1,
  kEnd = 2,
  kScore = 3,
  kRun = 4,     // what is known of a run now
  kSeries = 5,  // {"run", "rank", "life", "owner"}: whose the keys and points are that follow in this segment
  kKey = 6,     // a number for a key, in this segment
  kPoints = 7,  // values of keys at one step
  kMedia = 8,
  kOtlp = 9,  // an export of spans as it came, see span_rows.h
};

enum class Role {
  kRow,    // a row by itself
  kBegin,  // the first half of a row: what was begun and not ended is known, too
  kEnd,    // the other half, joined by "id"; a row by itself where the first could not be written
  kSeries,
  kKey,
  kPoints,
  kMedia,  // a row by itself, with bytes
  kSpans,  // rows in another's format, see span_rows.h
};

struct SpoolTable {
  const char* name;
  std::span<const Column> (*columns)();
  std::span<const char* const> sort_key;  // of a table that is made anew
  // How many of the first columns the table had while it stood beside people's tables; 0: it never did.
  size_t carried = 0;
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
