// scores: what a score is a row of, what it is about, and which scores are the same one.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/status.h"

namespace headrace::trace {

// What a score is about: "row:photos@v7:42", "run:0193…", "request:0193…".
struct Target {
  std::string kind;  // request, span, trace, session, run, sample, row
  std::string id;
  bool operator==(const Target&) const = default;
};
// A text that begins with no kind is the id of a request, as APIs tell it (RowIdOf). Invalid: it is no row
// "table@v<version>:<row>", or empty.
Result<Target> ParseTarget(std::string text);
// The same where the kind is told apart ("" where it is not).
Result<Target> ParseTarget(const std::string& kind, std::string text);

// "photos@v7:42" taken apart.
struct RowTarget {
  std::string table;    // photos
  std::string version;  // v7
  int64_t row = 0;      // _row_id
};
Result<RowTarget> ParseRowTarget(const std::string& id);

// A score's identity: 32 hex digits, the beginning of the SHA-256 of its target_kind, target, against, name,
// who, judge and repeat, each as its length in bytes, ':' and itself; what is missing is empty (repeat: 0).
// Scores of one id are one score: the last row counts.
std::string ScoreId(const nlohmann::json& row);
// The same in SQL, of rows that were written before scores had ids.
std::string SqlIdOfOldScore();

// Fills what every score has: id, request (of a request), time, seq and writer. Times of one process ascend
// whatever the clock does, and none is at or before `after_us`, the time of a row that this one is to follow.
void FinishScore(nlohmann::json* row, int64_t after_us = 0);

}  // namespace headrace::trace
