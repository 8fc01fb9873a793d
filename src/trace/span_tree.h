// span_tree: the spans of a trace in the order in which a waterfall shows them, with what the parts of each
// came to. Pure. Whatever senders wrote, each span is in it once: one whose parent is not there, or is below
// itself, is a root.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace headrace::trace {

// What of a row of `traces` the tree is made from. -1: null.
struct SpanFacts {
  std::string span_id, parent;
  int64_t started = -1, ended = -1;  // microseconds since 1970
  int64_t prompt_tokens = -1, answer_tokens = -1;
  double cost = -1;  // US dollars
  // Of a request of ours, in seconds.
  double queue = -1, prefill = -1, decode = -1, first_token = -1;
};

enum class Phase { kNone, kQueue, kPrefill, kDecode };

struct TreeSpan {
  size_t span = 0;             // its place among the facts; of a phase, that of its request
  Phase phase = Phase::kNone;  // a part of a request that has no row of its own
  int depth = 0;               // 0: a root
  int64_t started = -1;        // as above; where it is not known, when its parent did
  double seconds = 0;          // until its end; 0 where it has not ended
  // Of itself and all below it. Where both tell of the same tokens, as agents do of their calls, the greater
  // of its own figure and the sum of its children's counts.
  int64_t prompt_tokens = -1, answer_tokens = -1;
  double cost = -1;
};

// Parents before their children, these by when they started.
std::vector<TreeSpan> LayOut(const std::vector<SpanFacts>& spans);

}  // namespace headrace::trace
