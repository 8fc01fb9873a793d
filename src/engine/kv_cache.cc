#include "engine/kv_cache.h"

#include <algorithm>

#include "base/check.h"
#include "base/hash.h"
#include "engine/admit.h"

namespace headrace::engine {

uint64_t CacheSpace(uint64_t weights, uint64_t adapter, std::string_view scope) {
  const uint64_t parts[3] = {weights, adapter, Xxh3(scope)};
  return Xxh3(parts, sizeof parts);
}

KvCache::KvCache(model::Decoder* decoder, const KvCacheOptions& options, std::shared_ptr<HostCache> host)
    : decoder_(decoder),
      facts_(decoder->facts()),
      options_(options),
      host_(std::move(host)),
      tree_(facts_.paths),
      paths_(static_cast<size_t>(facts_.paths)) {}

int64_t KvCache::promised_cells() const {
  int64_t cells = 0;
  for (const PathInfo& path : paths_) cells += std::max<int64_t>(path.promised, 0);
  return cells;
}

int32_t KvCache::idle_paths() const {
  return static_cast<int32_t>(
      std::count_if(paths_.begin(), paths_.end(), [](const PathInfo& p) { return p.use == Use::kIdle; }));
}

int KvCache::FreePath() const {
  for (int path = 0; path < facts_.paths; ++path)
    if (Info(path).use == Use::kFree) return path;
  return -1;
}

// ---------------------------------------------------------------- matching

// A match's beginning that a new path may have: on the grid, whole where the memory is a state, and with all
// that a layer's window still needs.
void KvCache::LimitToSharable(std::span<const Token> tokens, PrefixMatch* match) const {
  if (match->path < 0) return;
  if (options_.grid > 0) match->length = std::min(match->length, Info(match->path).grid_safe);
  for (int32_t before = -1; before != match->length;) {  // media are whole, and so are chunks
    before = match->length;
    if (options_.grid > 0) match->length = match->length / options_.grid * options_.grid;
    match->length = WholePieces(tokens, match->length);
  }
  if (!facts_.can_truncate && match->length != tree_.length(match->path)) match->length = 0;
  if (match->length > 0 && facts_.window > 0) {
    const std::vector<int> covering = tree_.Covering(match->path, match->length);
    const auto whole = std::find_if(covering.begin(), covering.end(), [&](int path) {
      return decoder_->FirstPosition(path) <= std::max(0, match->length - facts_.window);
    });
    if (whole == covering.end()) {
      match->length = 0;
    } else {
      match->path = *whole;
    }
  }
  if (match->length == 0) match->path = -1;
}

KvCache::PrefixMatch KvCache::MatchPrefix(uint64_t space, std::span<const Token> tokens) const {
  PrefixMatch match;
  const PrefixTree::Match found = tree_.Find(space, tokens);
  match.path = found.path;
  match.length = found.length;
  LimitToSharable(tokens, &match);
  if (!host_->enabled() || options_.grid > 0) return match;
  HostCache::Match saved = host_->LongestPrefix(
      space, tokens, match.length + options_.least_saved, [&](const SavedPrefix& prefix, int32_t length) {
        if (WholePieces(tokens, length) != length) return false;
        if (length == static_cast<int32_t>(prefix.tokens.size())) return true;
        if (!facts_.can_truncate) return false;
        return facts_.window == 0 || prefix.first_position <= std::max(0, length - facts_.window);
      });
  match.saved = std::move(saved.prefix);
  match.saved_length = saved.length;
  return match;
}

// ---------------------------------------------------------------- allocating

bool KvCache::CanAllocate(const PrefixMatch& match, int64_t cells) const {
  int64_t evictable = 0;
  bool path_left = false;
  for (int path = 0; path < facts_.paths; ++path) {
    const bool used_by_match = path == match.path;
    path_left |= Info(path).use == Use::kFree ||
                 (Info(path).use == Use::kIdle && (!used_by_match || TakesOver(match)));
    if (Info(path).use == Use::kIdle && !used_by_match) evictable += tree_.Exclusive(path);
  }
  return path_left && cells <= free_cells() + evictable - promised_cells();
}

// An idle path that is wholly a prefix of the prompt goes on as the request's own; so does the last path that
// nobody holds.
bool KvCache::TakesOver(const PrefixMatch& match) const {
  if (match.saved || match.path < 0 || Info(match.path).use != Use::kIdle) return false;
  if (tree_.length(match.path) == match.length || options_.cut_idle) return true;
  for (int path = 0; path < facts_.paths; ++path)
    if (path != match.path && Info(path).use != Use::kHeld) return false;
  return true;
}

std::optional<KvCache::Grant> KvCache::Allocate(const PrefixMatch& match, const Claim& claim) {
  // What it begins with must survive the evictions that its cells take.
  PrefixMatch from = match;
  if (from.saved && !host_->TakePrefix(from.saved.get())) from = {};
  if (from.saved) from.path = -1;
  const bool takes_over = TakesOver(from);
  const int64_t cells = std::min<int64_t>(claim.cells, facts_.cells) + promised_cells();
  const bool room = EvictUntil(cells, !takes_over && FreePath() < 0, from.path);
  if ((!room && !claim.anyway) || (!takes_over && FreePath() < 0)) {
    if (from.saved) host_->PutPrefix(from.saved);
    return std::nullopt;
  }
  Grant grant;
  if (takes_over) {
    grant.path = from.path;
    grant.length = from.length;
    Cut(from.path, from.length);
    Info(grant.path).use = Use::kHeld;
  } else {
    Fill(from, claim, &grant);
  }
  Info(grant.path).promised = std::max<int64_t>(claim.cells - (grant.restored ? grant.length : 0), 0);
  return grant;
}

// A fresh path that begins with the match's tokens. A path of which only the beginning is used is no younger
// for it: its end may be an answer that its client replaced, and its beginning has another holder now.
void KvCache::Fill(const PrefixMatch& match, const Claim& claim, Grant* grant) {
  grant->path = FreePath();
  if (match.path >= 0) {
    decoder_->Share(match.path, grant->path, match.length);
    tree_.Open(grant->path, claim.space, match.path, match.length);
    grant->length = match.length;
  } else {
    tree_.Open(grant->path, claim.space, -1, 0);
  }
  Info(grant->path) = {Use::kHeld, 0, options_.grid > 0 ? grant->length : 0, 0};
  if (claim.preempted != nullptr) {
    Restore(claim.preempted->state, claim.preempted->tokens, claim.preempted->tokens, claim, grant);
  } else if (match.saved) {
    Restore(match.saved->state, static_cast<int32_t>(match.saved->tokens.size()), match.saved_length, claim,
            grant);
  }
}

// Brings a saved path of `tokens` tokens back, and cuts it to the first `used` of them. Where it fails, the
// path stays empty.
void KvCache::Restore(std::span<const std::byte> state, int32_t tokens, int32_t used, const Claim& claim,
                      Grant* grant) {
  if (tokens > free_cells() || !decoder_->Restore(grant->path, state).ok()) return;
  if (used < tokens) decoder_->Truncate(grant->path, used);
  tree_.Append(grant->path, claim.tokens.first(static_cast<size_t>(used)));
  grant->length = used;
  grant->restored = true;
}

// ---------------------------------------------------------------- computing

Status KvCache::Compute(std::span<const model::Row> rows, int threads) {
  HEADRACE_TRY(decoder_->Decode(rows, threads));
  std::vector<Token> tokens;
  for (size_t first = 0, end = 0; first < rows.size(); first = end) {
    const int path = rows[first].path;
    tokens.clear();
    for (; end < rows.size() && rows[end].path == path; ++end) tokens.push_back(rows[end].token);
    PathInfo& info = Info(path);
    HEADRACE_CHECK(info.use == Use::kHeld && rows[first].position == tree_.length(path));
    const auto count = static_cast<int32_t>(tokens.size());
    if (options_.grid > 0 && count == options_.grid && info.grid_safe == tree_.length(path))
      info.grid_safe += count;
    info.promised -= count;
    tree_.Append(path, tokens);
  }
  return Status::Ok();
}

void KvCache::Cut(int path, int32_t length) {
  if (length == tree_.length(path)) return;
  decoder_->Truncate(path, length);
  tree_.Truncate(path, length);
  Info(path).grid_safe = std::min(Info(path).grid_safe, length);
}

void KvCache::Truncate(int path, int32_t length) {
  HEADRACE_CHECK(held(path));
  Info(path).promised += tree_.length(path) - length;
  Cut(path, length);
}

// ---------------------------------------------------------------- giving back

void KvCache::Close(int path) {
  decoder_->Truncate(path, 0);
  tree_.Close(path);
  Info(path) = {};
}

void KvCache::Release(int path, bool keep, double now) {
  HEADRACE_CHECK(held(path));
  if (!keep || tree_.length(path) < options_.least_kept || tree_.Exclusive(path) == 0) return Close(path);
  PathInfo& info = Info(path);
  info.use = Use::kIdle;
  info.last_used = now;
  info.promised = 0;
}

std::optional<PreemptedState> KvCache::Preempt(int path) {
  HEADRACE_CHECK(held(path));
  std::optional<PreemptedState> preempted;
  const int32_t length = tree_.length(path);
  if (length >= options_.least_saved && host_->enabled() && options_.grid == 0) {
    if (Result<std::vector<std::byte>> state = decoder_->Save(path); state.ok()) {
      const auto bytes = static_cast<int64_t>(state->size());
      if (auto charge = host_->TryCharge(HostCache::Kind::kPreempted, bytes))
        preempted = PreemptedState{std::move(*state), length, std::move(*charge)};
    }
  }
  Close(path);
  return preempted;
}

// ---------------------------------------------------------------- evicting

void KvCache::SaveToHost(int path) {
  Result<std::vector<std::byte>> state = decoder_->Save(path);
  if (!state.ok()) return;
  auto saved = std::make_shared<SavedPrefix>();
  saved->space = tree_.root(path);
  saved->tokens = tree_.tokens(path);
  saved->state = std::move(*state);
  if (facts_.window > 0)  // of layers with a window, what it has left behind is not saved
    saved->first_position = std::max(decoder_->FirstPosition(path), tree_.length(path) - facts_.window);
  state_bytes_per_token_ = static_cast<double>(saved->bytes()) / tree_.length(path);
  host_->PutPrefix(std::move(saved));
}

void KvCache::Evict(int path) {
  HEADRACE_CHECK(Info(path).use == Use::kIdle);
  if (host_->enabled() && options_.grid == 0 && tree_.Exclusive(path) >= options_.least_saved)
    SaveToHost(path);
  Close(path);
  ++evictions_;
}

bool KvCache::EvictUntil(int64_t cells, bool need_path, int except) {
  while (cells > free_cells() || need_path) {
    std::vector<Idle> idle;
    for (int path = 0; path < facts_.paths; ++path)
      if (Info(path).use == Use::kIdle && path != except)
        idle.push_back({path, tree_.Exclusive(path), Info(path).last_used});
    const std::vector<int> going = ChooseEvictions(idle, cells - free_cells(), need_path);
    if (going.empty()) return false;
    for (const int path : going) {
      Evict(path);
      if (cells <= free_cells() && (!need_path || FreePath() >= 0)) break;
    }
    need_path = need_path && FreePath() < 0;
  }
  return true;
}

bool KvCache::EvictOne() {
  for (int path = 0; path < facts_.paths; ++path) {
    if (Info(path).use != Use::kIdle) continue;
    Evict(path);
    return true;
  }
  return false;
}

void KvCache::EvictIdle() {
  while (EvictOne()) {
  }
}

// Every row of a step looks at every cell in use, its own or not: idle prefixes slow down whoever runs, and
// fetching one back costs about a microsecond a token. So what has been idle longest waits in host memory, as
// long as there is room in it.
void KvCache::OffloadIdle(int32_t resident) {
  if (options_.grid > 0 || tree_.cells() <= resident) return;
  int64_t idle = 0;
  int oldest = -1;
  for (int path = 0; path < facts_.paths; ++path) {
    if (Info(path).use != Use::kIdle) continue;
    const int64_t cells = tree_.Exclusive(path);
    if (cells < options_.least_saved) continue;
    idle += cells;
    if (oldest < 0 || Info(path).last_used < Info(oldest).last_used) oldest = path;
  }
  if (idle <= resident) return;
  const double bytes = state_bytes_per_token_ * tree_.length(oldest);
  if (bytes <= static_cast<double>(host_->room())) Evict(oldest);
}

std::string KvCache::Audit() const {
  for (int path = 0; path < facts_.paths; ++path) {
    const std::string name = "path " + std::to_string(path);
    if (tree_.open(path) != (Info(path).use != Use::kFree))
      return name + (tree_.open(path) ? " is in the tree and free" : " is used and not in the tree");
    if (Info(path).grid_safe > tree_.length(path)) return name + " has a safe part longer than itself";
    if (Info(path).use != Use::kHeld && Info(path).promised != 0)
      return name + " is promised cells to nobody";
  }
  if (tree_.cells() > facts_.cells) return "more cells are used than there are";
  return host_->Audit();
}

}  // namespace headrace::engine
