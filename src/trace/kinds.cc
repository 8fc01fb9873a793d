#include "trace/kinds.h"

#include <algorithm>
#include <string_view>

namespace headrace::trace {
namespace {

constexpr const char* kMetricsKey[] = {"run", "key", "from_step"};
constexpr const char* kMediaKey[] = {"run", "key", "step"};

constexpr SpoolTable kTables[] = {
    {kTraces, TraceColumns, {}, 43},      {kScores, ScoreColumns, {}, 8},
    {kRuns, RunColumns, {}, 0},           {kMetrics, MetricColumns, kMetricsKey, 0},
    {kMedia, MediaColumns, kMediaKey, 0},
};

constexpr KindFacts kKinds[] = {
    {Kind::kStart, "start", 0, Role::kBegin},    {Kind::kEnd, "end", 0, Role::kEnd},
    {Kind::kScore, "score", 1, Role::kRow},      {Kind::kRun, "run", 2, Role::kRow},
    {Kind::kSeries, "series", 3, Role::kSeries}, {Kind::kKey, "key", 3, Role::kKey},
    {Kind::kPoints, "points", 3, Role::kPoints}, {Kind::kMedia, "media", 4, Role::kMedia},
    {Kind::kOtlp, "otlp", 0, Role::kSpans},
};

}  // namespace

std::span<const SpoolTable> SpoolTables() { return kTables; }
std::span<const KindFacts> Kinds() { return kKinds; }

const KindFacts* FindKind(Kind kind) {
  const auto* found = std::find_if(std::begin(kKinds), std::end(kKinds),
                                   [kind](const KindFacts& facts) { return facts.kind == kind; });
  return found == std::end(kKinds) ? nullptr : found;
}

size_t FindTable(const char* name) {
  const auto* found = std::find_if(std::begin(kTables), std::end(kTables), [name](const SpoolTable& table) {
    return std::string_view(table.name) == name;
  });
  return static_cast<size_t>(found - std::begin(kTables));
}

}  // namespace headrace::trace
