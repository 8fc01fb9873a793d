// The parts of a trace's page that are the same for every trace.
#pragma once

namespace headrace::cli {

extern const char* const kTracePageStyle;
extern const char* const kTracePageBody;
extern const char* const kTracePageScript;  // draws what #waterfall and #texts… hold

}  // namespace headrace::cli
