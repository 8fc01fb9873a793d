// The parts of a trace's page that are the same for every trace.
#pragma once

namespace headrace::cli {

extern const char* const kTracePageHead;    // style and markup
extern const char* const kTracePageScript;  // draws what #waterfall and #texts… hold

}  // namespace headrace::cli
