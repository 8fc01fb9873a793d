// repeats: a sender that got no answer in time sends its spans again, and they are kept once: the same span
// (trace, span and end) that comes again within ten minutes is dropped.
//
// Whether one is dropped follows from when each was received, which is in its record, and from what the table
// has: so a committer that makes a note's rows again after a crash drops the same. It knows what this
// machine's spools received; a sender that turns to a server on another machine is found out only after a
// restart there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "table/view.h"

namespace headrace::trace {

inline constexpr int64_t kRepeatMicros = 600'000'000;
inline constexpr size_t kMostKnownMedia = 64 << 10;  // with more, all are forgotten: a picture is kept again
inline constexpr size_t kMostKnownSpans = 1 << 20;   // with more in ten minutes, the oldest are forgotten

class Repeats {
 public:
  explicit Repeats(size_t most = kMostKnownSpans) : most_(most) {}
  // Takes repeats out of `rows` (of `traces`). `view`: the table, without these rows; none where there is no
  // table. It is read when the first span comes, later only where one is older than what was read.
  Status Drop(const std::optional<table::View>& view, std::vector<nlohmann::json>* rows);
  // Whether Drop would look at the table.
  static bool AnySpans(const std::vector<nlohmann::json>& rows);
  // Takes out of `rows` (of `media`) what spans brought before: a picture comes with every turn of its
  // conversation. After Drop.
  void DropMedia(std::vector<nlohmann::json>* rows);
  // The rows that the last Drop left are in the tables.
  void Keep();
  size_t known() const { return known_.size(); }

 private:
  Status Load(const table::View& view, int64_t since);
  void Forget();

  size_t most_;
  // By a hash of trace, span and end: when it was received, in microseconds since 1970.
  std::unordered_map<uint64_t, int64_t> known_, fresh_;
  std::unordered_set<std::string> known_media_, fresh_media_;  // sha256
  int64_t since_ = INT64_MAX;                                  // what the table has from here on is known
};

}  // namespace headrace::trace
