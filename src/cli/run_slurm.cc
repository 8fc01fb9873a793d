#include "cli/run_slurm.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "cli/child.h"

namespace headrace::cli {
namespace {

constexpr double kSlurmSeconds = 5;
constexpr double kKeptSeconds = 30;
constexpr size_t kMostJobs = 1000;  // that are asked for at once

// Lines of id|state|user. A state may be followed by more: "CANCELLED by 1000".
void Read(std::string_view text, const std::set<std::string>& ids, std::map<std::string, SlurmJob>* jobs) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t first = line.find('|');
    const size_t second = line.find('|', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const std::string id(line.substr(0, first));
    const std::string_view state = line.substr(first + 1, second - first - 1);
    if (!ids.contains(id) || state.empty()) continue;
    jobs->emplace(id, SlurmJob{std::string(state.substr(0, state.find_first_of(" +"))),
                               std::string(line.substr(second + 1))});
  }
}

// Ids that are numbers: others would be options, or worse.
std::string List(const std::set<std::string>& ids) {
  std::string list;
  size_t count = 0;
  for (const std::string& id : ids) {
    if (id.empty() || id.find_first_not_of("0123456789") != std::string::npos || ++count > kMostJobs)
      continue;
    list += (list.empty() ? "" : ",") + id;
  }
  return list;
}

}  // namespace

std::map<std::string, SlurmJob> SlurmJobs(const std::set<std::string>& ids) {
  static std::map<std::string, SlurmJob> kept;
  static std::set<std::string> asked;
  static double since = 0;
  const double now = MonotonicSeconds();
  if (asked == ids && now - since < kKeptSeconds) return kept;
  asked = ids;
  since = now;
  kept.clear();
  const std::string list = List(ids);
  if (list.empty()) return kept;
  Read(OutputOf({"squeue", "--noheader", "--states=all", "--format=%A|%T|%u", "--jobs=" + list},
                kSlurmSeconds),
       ids, &kept);
  std::set<std::string> forgotten;
  for (const std::string& id : ids)
    if (!kept.contains(id)) forgotten.insert(id);
  const std::string rest = List(forgotten);
  if (!rest.empty())
    Read(OutputOf({"sacct", "--noheader", "--allocations", "--parsable2", "--format=JobIDRaw,State,User",
                   "--jobs=" + rest},
                  kSlurmSeconds),
         forgotten, &kept);
  return kept;
}

bool HasEnded(const SlurmJob& job) {
  constexpr std::string_view kGoingOn[] = {"RUNNING",     "COMPLETING", "SUSPENDED", "STOPPED",
                                           "CONFIGURING", "RESIZING",   "SIGNALING", "STAGE_OUT"};
  return std::ranges::find(kGoingOn, job.state) == std::end(kGoingOn);
}

}  // namespace headrace::cli
