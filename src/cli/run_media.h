// What a run logged beside numbers, as much of it as a page has room for.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "table/catalog.h"
#include "trace/metric_rows.h"

namespace headrace::cli {

struct MediaItem {
  std::string kind, format, caption, text, facts;  // facts: JSON
  std::string bytes;
  std::string left;  // why it is not here; empty: it is
};

struct MediaOfStep {
  int64_t step = 0;
  std::vector<MediaItem> items;
};

struct MediaOfKey {
  std::string key;
  int64_t rank = 0;
  size_t steps = 0;                // how many there are
  std::vector<MediaOfStep> shown;  // the first, the last, and some between
};

struct OutputPiece {
  bool error = false;  // of stderr
  std::string text;
};

struct RunMedia {
  std::vector<MediaOfKey> keys;
  size_t keys_left = 0;             // keys of which there is nothing here
  int64_t replaced = 0;             // items in whose place those of a later life stand
  std::vector<OutputPiece> output;  // the last of it
  size_t output_left = 0;           // pieces before that
};

// Of the newest version and what lies in this machine's spools. `lives`: of each rank.
Result<RunMedia> ReadRunMedia(const table::Catalog& catalog, const std::string& run,
                              const std::map<int64_t, trace::Lives>& lives);

}  // namespace headrace::cli
