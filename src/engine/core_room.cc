// Core: cells and paths. What is kept of prefixes, and who gives way when there is no room.
#include "engine/core.h"

namespace headrace::engine {
namespace {

constexpr size_t kManyRun = 16;        // requests: so many pay for idle cells in every step
constexpr int32_t kWorthKeeping = 16;  // tokens of a path that stays cached

}  // namespace

int64_t Core::PromisedCells() const {
  int64_t cells = 0;
  for (const auto& [id, job] : running_) cells += std::max<int64_t>(job->reserved, 0);
  return cells;
}

int Core::FreePath() const {
  for (int path = 0; path < facts_.paths; ++path)
    if (!tree_.open(path)) return path;
  return -1;
}

void Core::ClosePath(int path) {
  decoder_->Truncate(path, 0);
  tree_.Close(path);
}

void Core::Host(Hosted entry) {
  host_bytes_ += static_cast<int64_t>(entry.bytes.size());
  hosted_.push_back(std::move(entry));
  while (host_bytes_ > options_.host_bytes && !hosted_.empty()) {
    host_bytes_ -= static_cast<int64_t>(hosted_.front().bytes.size());
    hosted_.pop_front();
  }
}

void Core::EvictPath(int path) {
  const auto at = cached_.find(path);
  if (options_.host_bytes > 0 && tree_.Exclusive(path) >= kWorthHosting) {
    if (Result<std::vector<std::byte>> bytes = decoder_->Save(path); bytes.ok()) {
      Hosted entry{tree_.root(path), tree_.tokens(path), std::move(*bytes), at->second.grid_safe, 0};
      host_bytes_per_token_ = static_cast<double>(entry.bytes.size()) / tree_.length(path);
      if (facts_.window > 0)  // of layers with a window, what it has left behind is not saved
        entry.first_position = std::max(decoder_->FirstPosition(path), tree_.length(path) - facts_.window);
      Host(std::move(entry));
    }
  }
  cached_.erase(at);
  ClosePath(path);
  ++stats_.evictions;
}

// Every row of a step looks at every cell in use, its own or not: idle prefixes slow down whoever runs
// (28,000 cells a step of 8 rows by a quarter, on 2 cores), and fetching one back costs about a microsecond a
// token. So what has been idle longest waits in host memory, as long as there is room in it.
void Core::HostIdle() {
  const int32_t resident = running_.size() >= kManyRun ? options_.resident / 4 : options_.resident;
  if (options_.deterministic || running_.empty() || tree_.cells() <= resident) return;
  int64_t idle = 0;
  int oldest = -1;
  for (const auto& [path, entry] : cached_) {
    const int64_t cells = tree_.Exclusive(path);
    if (cells < kWorthHosting) continue;
    idle += cells;
    if (oldest < 0 || entry.last_used < cached_.at(oldest).last_used) oldest = path;
  }
  if (idle <= resident) return;
  const double bytes = host_bytes_per_token_ * tree_.length(oldest);
  if (static_cast<double>(host_bytes_) + bytes > static_cast<double>(options_.host_bytes)) return;
  EvictPath(oldest);
}

bool Core::MakeRoom(int64_t cells, bool need_path) {
  while (cells > FreeCells() || need_path) {
    std::vector<Idle> idle;
    for (const auto& [path, entry] : cached_) idle.push_back({path, tree_.Exclusive(path), entry.last_used});
    const std::vector<int> going = ChooseEvictions(idle, cells - FreeCells(), need_path);
    if (going.empty()) return false;
    for (const int path : going) {
      EvictPath(path);
      if (cells <= FreeCells() && (!need_path || FreePath() >= 0)) break;
    }
    if (need_path && FreePath() >= 0) need_path = false;
  }
  return true;
}

bool Core::PreemptOne() {
  std::vector<Running> candidates;
  std::vector<std::shared_ptr<Job>> jobs;
  for (const auto& [id, job] : running_) {
    candidates.push_back({static_cast<int>(jobs.size()), job->started, job->request.priority,
                          job->usage.preemptions, job->usage.preemptions >= 2});
    jobs.push_back(job);
  }
  int victim = ChooseVictim(candidates);
  if (victim < 0) {  // all hold full reservations: the youngest all the same, rather than a broken batch
    for (Running& c : candidates) c.reserved = false;
    victim = ChooseVictim(candidates);
  }
  if (victim < 0) return false;
  const std::shared_ptr<Job> job = jobs[static_cast<size_t>(victim)];
  if (job->computed >= kWorthHosting && options_.host_bytes > 0 && !options_.deterministic)
    if (Result<std::vector<std::byte>> bytes = decoder_->Save(job->path); bytes.ok())
      job->saved = std::move(*bytes);
  if (!job->saved) job->computed = 0;
  ClosePath(job->path);
  job->path = -1;
  job->reserved = 0;
  ++job->usage.preemptions;
  ++stats_.preemptions;
  running_.erase(job->id);
  drafts_.erase(job->id);
  waiting_.emplace(job->id, job);
  fair_.PushFront(job->request.key, {job->id, job->request.priority, 0});
  return true;
}

void Core::ReleasePath(Job& job, bool keep) {
  if (job.path < 0) return;
  const int path = job.path;
  job.path = -1;
  keep = keep && options_.reuse && job.request.reuse && tree_.length(path) >= kWorthKeeping &&
         tree_.Exclusive(path) > 0;
  if (!keep) return ClosePath(path);
  cached_[path] = {clock_(), job.grid_safe};
}

std::string Core::Audit() const {
  std::map<int, std::string> holders;
  for (const auto& [path, idle] : cached_) {
    if (!tree_.open(path)) return "cached path " + std::to_string(path) + " is not open";
    holders[path] = "cache";
  }
  for (const auto& [id, job] : running_) {
    if (!tree_.open(job->path)) return "request " + std::to_string(id) + " runs on a closed path";
    if (!holders.emplace(job->path, "request").second)
      return "path " + std::to_string(job->path) + " has two holders";
    if (tree_.length(job->path) != job->computed)
      return "request " + std::to_string(id) + " computed " + std::to_string(job->computed) +
             " tokens, its path has " + std::to_string(tree_.length(job->path));
    const std::vector<Token> held = tree_.tokens(job->path);
    if (!std::equal(held.begin(), held.end(), job->tokens.begin()))
      return "request " + std::to_string(id) + " and its path differ";
    if (waiting_.count(id) != 0) return "request " + std::to_string(id) + " runs and waits";
  }
  for (int path = 0; path < facts_.paths; ++path)
    if (tree_.open(path) && holders.count(path) == 0)
      return "path " + std::to_string(path) + " is held by nobody";
  if (tree_.cells() > facts_.cells) return "more cells are used than there are";
  if (fair_.size() != waiting_.size()) return "the queue and the waiting requests differ";
  int64_t bytes = 0;
  for (const Hosted& entry : hosted_) bytes += static_cast<int64_t>(entry.bytes.size());
  if (bytes != host_bytes_) return "host bytes are counted wrong";
  if (host_bytes_ > options_.host_bytes) return "more host memory is used than the budget";
  return "";
}

}  // namespace headrace::engine
