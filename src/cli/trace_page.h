// trace_page: a trace as one HTML file that needs no network: its waterfall, and what was said in each span.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/trace_rows.h"
#include "trace/span_tree.h"

namespace headrace::cli {

inline constexpr size_t kMostPagePictures = 64 << 20;  // bytes of all of them

// `rows`: with details; `tree`: of them. Whole or not at all. Texts are data in it, never markup or script;
// one longer than kMostPageText (page.h) is cut there, and says so.
Status WriteTracePage(const std::string& path, const std::string& trace, const TraceRows& rows,
                      const std::vector<trace::TreeSpan>& tree,
                      const std::map<std::string, Picture>& pictures);

const char* PhaseName(trace::Phase phase);  // "queue", "prefill", "decode"; "" for none

}  // namespace headrace::cli
