// KvCache: a decoder's cache of keys and values, and who holds what in it. Everything that changes the
// decoder's memory goes through here, so that the prefix tree (the ledger of cells, see prefix_tree.h) and
// the decoder agree by construction. The interface is that of vLLM's KVCacheManager (get_computed_blocks,
// allocate_slots, free), for paths of single cells instead of tables of blocks.
//
// A path is free, held (by one running request) or idle (a cached prefix that nobody holds). Held paths are
// never evicted. An idle path is evicted when its cells or its number are needed, least recently used first;
// if it is long, its state goes to the host cache, from where it can be restored.
//
// What is called a token here is the key of a position (prompt.h): of media it stands for what they hold.
//
// Not thread-safe; the host cache is, and outlives this.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/host_cache.h"
#include "engine/machine_profile.h"
#include "engine/prefix_tree.h"
#include "engine/prompt.h"
#include "model/decoder.h"

namespace headrace::engine {

struct KvCacheOptions {
  int32_t grid = 0;  // deterministic: only whole chunks of so many tokens are shared; 0: any prefix
  // An idle path of which a request uses only the beginning is cut and handed over, not shared: where there
  // are no more paths than requests.
  bool cut_idle = false;
  int32_t least_saved = MachineProfile{}.least_saved;  // cells of a path that is copied to the host
  int32_t least_kept = MachineProfile{}.least_kept;    // tokens of one that stays when its request ends
};

// The number under which prefixes of the same weights, adapter and scope are found.
uint64_t CacheSpace(uint64_t weights, uint64_t adapter, std::string_view scope);

// The state of a preempted request, counted in the host cache.
struct PreemptedState {
  std::vector<std::byte> state;
  int32_t tokens = 0;
  HostCache::Charge charge;
};

class KvCache {
 public:
  // `decoder` and every path of it are this cache's alone.
  KvCache(model::Decoder* decoder, const KvCacheOptions& options, std::shared_ptr<HostCache> host);

  struct PrefixMatch {
    int path = -1;                             // a path that begins like it, -1: none
    int32_t length = 0;                        // tokens of it in common
    std::shared_ptr<const SavedPrefix> saved;  // a better one, in host memory; null: none
    int32_t saved_length = 0;

    int32_t longest() const { return saved ? saved_length : length; }
    int32_t in_cells() const { return saved ? 0 : length; }  // tokens that need no new cells
  };
  // The longest cached beginning of `tokens` that may be shared.
  PrefixMatch MatchPrefix(uint64_t space, std::span<const Token> tokens) const;

  // Whether `cells` beyond the match's are free, would be if idle paths went, or are promised to others.
  bool CanAllocate(const PrefixMatch& match, int64_t cells) const;

  // A path for a request with these tokens. It begins with `preempted` if that is given, else with what was
  // matched; `cells` more are promised to it, and idle paths evicted for them.
  struct Claim {
    uint64_t space = 0;
    std::span<const Token> tokens;
    int64_t cells = 0;
    const PreemptedState* preempted = nullptr;
    bool anyway = false;  // also where that many cells cannot be had: it is the only request
  };
  struct Grant {
    int path = -1;
    int32_t length = 0;     // of the tokens: those that are in the path already
    bool restored = false;  // from host memory
  };
  std::optional<Grant> Allocate(const PrefixMatch& match, const Claim& claim);

  // Computes a step: each row's token is then in its path. An error changes nothing that is held, and leaves
  // the paths of these rows fit for Release(keep = false) only, except kLimit, which changes nothing at all.
  Status Compute(std::span<const model::Row> rows, int threads);
  // Cuts a held path: drafts that were wrong.
  void Truncate(int path, int32_t length);
  // The request has ended. Where `keep`, its path stays as a cached prefix, last used `now`.
  void Release(int path, bool keep, double now);
  // The request gives way: its path is closed, and its state kept where that is cheaper than computing it
  // again.
  std::optional<PreemptedState> Preempt(int path);

  // Evicts idle paths until so many cells are free. False where they are not enough.
  bool MakeRoom(int64_t cells) { return EvictUntil(cells, false, -1); }
  // Evicts any one idle path; false where there is none.
  bool EvictOne();
  // Saves the least recently used idle path to the host cache if more than `resident` cells are idle and
  // there is room for it.
  void OffloadIdle(int32_t resident);
  // Evicts all idle paths, so that what is worth it is in the host cache: before this cache goes.
  void EvictIdle();

  int64_t cells() const { return tree_.cells(); }  // in use, each once
  int64_t free_cells() const { return facts_.cells - tree_.cells(); }
  int64_t promised_cells() const;
  int32_t idle_paths() const;
  int32_t length(int path) const { return tree_.length(path); }
  bool held(int path) const { return Info(path).use == Use::kHeld; }
  std::vector<Token> tokens(int path) const { return tree_.tokens(path); }
  const HostCache& host() const { return *host_; }
  int64_t evictions() const { return evictions_; }
  // What must hold between calls; "" or what does not.
  std::string Audit() const;

 private:
  enum class Use { kFree, kHeld, kIdle };
  struct PathInfo {
    Use use = Use::kFree;
    double last_used = 0;   // of idle ones
    int32_t grid_safe = 0;  // tokens that were computed in whole chunks of the grid
    int64_t promised = 0;   // cells that its request may still take; below 0: it took more
  };
  PathInfo& Info(int path) { return paths_[static_cast<size_t>(path)]; }
  const PathInfo& Info(int path) const { return paths_[static_cast<size_t>(path)]; }

  void LimitToSharable(std::span<const Token> tokens, PrefixMatch* match) const;
  int FreePath() const;
  bool EvictUntil(int64_t cells, bool need_path, int except);
  void Evict(int path);
  void SaveToHost(int path);
  void Close(int path);
  void Cut(int path, int32_t length);
  bool TakesOver(const PrefixMatch& match) const;
  void Fill(const PrefixMatch& match, const Claim& claim, Grant* grant);
  void Restore(std::span<const std::byte> state, int32_t tokens, int32_t used, const Claim& claim,
               Grant* grant);

  model::Decoder* decoder_;
  model::DecoderFacts facts_;
  KvCacheOptions options_;
  std::shared_ptr<HostCache> host_;
  PrefixTree tree_;
  std::vector<PathInfo> paths_;
  double state_bytes_per_token_ = 0;  // of the path saved last
  int64_t evictions_ = 0;
};

}  // namespace headrace::engine
