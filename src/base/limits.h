// Every limit that a user can meet, by name. Passing one is a clear error (Code::kLimit), never a crash or a
// hang.
#pragma once

#include <cstdint>

namespace headrace::limits {

inline constexpr int64_t kMaxNameBytes = 255;            // a table, column, tag or ref name
inline constexpr int64_t kMaxColumns = 10'000;           // live top-level columns of one table
inline constexpr int64_t kMaxNesting = 16;               // depth of list/struct types
inline constexpr int64_t kMaxTensorElements = 1 << 24;   // elements of one fixed-size tensor cell
inline constexpr int64_t kMaxExpressionBytes = 1 << 20;  // a filter's text
inline constexpr int64_t kMaxExpressionDepth = 200;      // its nesting; longer chains of and/or are balanced
inline constexpr int64_t kMaxExpressionTree = 1'000;     // depth of what it is parsed into: walks recurse
inline constexpr int64_t kMaxExpressionNodes = 1 << 20;  // of its tree, BETWEEN's operand counted twice
inline constexpr int64_t kMaxSnapshotBytes = 64 << 20;   // one snapshot's JSON
inline constexpr int64_t kMaxWriters = 4'096;            // writer ids remembered for exactly-once appends
inline constexpr int64_t kFragmentRows = 1 << 20;        // rows of one fragment
inline constexpr int64_t kFragmentBytes = 512 << 20;     // bytes of one fragment before the next begins
inline constexpr int64_t kRowGroupRows = 64 << 10;       // rows of a Parquet row group
inline constexpr int64_t kRowGroupBytes = 64 << 20;      // bytes of one before it closes early
inline constexpr int64_t kPageRows = 2'048;              // rows of a Parquet page
inline constexpr int64_t kPackBytes = 128 << 20;         // a pack closes once it holds this much
inline constexpr int64_t kTensorChunkBytes = 4'096;      // bytes under one tensor checksum
inline constexpr int64_t kReadAheadBytes = 512 << 20;    // of a distant store's data files, kept in memory
inline constexpr int64_t kMaxBlobBytes = int64_t{1} << 40;  // one media object
inline constexpr int64_t kMaxJsonLineBytes = 64 << 20;      // one line of a JSONL file
inline constexpr int64_t kMaxJsonDepth = 512;               // of a value in a json column
inline constexpr int64_t kMaxPixels = int64_t{1} << 28;     // pixels that a decode may produce (268 million)
inline constexpr int64_t kMaxPromptBytes = 64 << 20;        // text of one prompt
inline constexpr int64_t kMaxStops = 16;                    // stop strings of one request
inline constexpr int64_t kMaxStopBytes = 64 << 10;          // one of them
inline constexpr int64_t kMaxSchemaBytes = 1 << 20;         // a JSON schema, regular expression or grammar
inline constexpr int64_t kMaxTemplateBytes = 1 << 20;       // a chat template
inline constexpr int64_t kInlineFragments = 64;             // manifest entries that ride inside a snapshot
inline constexpr int64_t kMaxManifests = 32;                // live manifests of one snapshot
inline constexpr int64_t kManifestFanIn = 8;                // manifests of one size tier before they merge
inline constexpr int64_t kSmallFragmentRows = 8 << 10;      // a fragment of fewer is small;
inline constexpr int64_t kMaxSmallFragments = 64;           // with more of them, who commits compacts
inline constexpr int64_t kUpkeepBytes = 64 << 20;           // of a fragment that is made on the way
inline constexpr int64_t kMaxCommitAttempts = 1'000;        // lost races before a commit gives up

inline constexpr int64_t kMaxRecomputes = 20;  // of a delete or update that others got in the way of

}  // namespace headrace::limits
