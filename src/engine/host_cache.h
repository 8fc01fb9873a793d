// HostCache: one budget of host memory for what is kept because making it again takes longer than keeping it.
// The engines of a process share one. Two sorts of things are counted in it:
//
//   entries   are the cache's own and go, least recently used first, when their room is needed: prefixes that
//             were evicted from an engine's KV cache (found by the space that they belong to and their
//             tokens) and compiled grammars (found by their key). They outlive the engine that put them
//             there.
//   charges   are somebody else's memory, and stay until their holder gives them back: models with their
//             caches (a retired model until its last request ends) and widened tables, the state of preempted
//             requests, what a grammar compiler keeps for the next grammar.
//
// Thread-safe. Held by shared_ptr; a charge keeps its cache alive.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/decoder.h"

namespace headrace::engine {

// A path's state in host memory. Immutable.
struct SavedPrefix {
  uint64_t space = 0;  // which weights, adapter and scope: see CacheSpace
  std::vector<model::Token> tokens;
  std::vector<std::byte> state;  // as Decoder::Save gave it
  int32_t first_position = 0;    // the oldest token that every layer holds; see Decoder::FirstPosition

  int64_t bytes() const { return static_cast<int64_t>(state.size() + tokens.size() * sizeof(model::Token)); }
};

class HostCache : public std::enable_shared_from_this<HostCache> {
 public:
  enum class Kind { kPrefix, kGrammar, kPreempted, kCompiler, kModel };
  static constexpr size_t kKinds = 5;

  struct Limits {
    int64_t cache = int64_t{1} << 30;                     // bytes of all kinds but models
    int64_t total = std::numeric_limits<int64_t>::max();  // … and models
  };
  static std::shared_ptr<HostCache> Make(const Limits& limits) {
    return std::shared_ptr<HostCache>(new HostCache(limits));
  }

  // Memory that somebody holds: counted until it is destroyed.
  class Charge {
   public:
    Charge() = default;
    Charge(Charge&& other) noexcept { Swap(other); }
    Charge& operator=(Charge&& other) noexcept {
      Charge(std::move(other)).Swap(*this);
      return *this;
    }
    ~Charge() {
      if (cache_) cache_->GiveBack(kind_, bytes_);
    }
    int64_t bytes() const { return bytes_; }

   private:
    friend class HostCache;
    void Swap(Charge& other) noexcept {
      std::swap(cache_, other.cache_);
      std::swap(kind_, other.kind_);
      std::swap(bytes_, other.bytes_);
    }
    std::shared_ptr<HostCache> cache_;
    Kind kind_ = Kind::kModel;
    int64_t bytes_ = 0;
  };
  // Charges so many bytes; entries go to make room. Empty where it does not fit even without any entry.
  std::optional<Charge> TryCharge(Kind kind, int64_t bytes);

  // The saved prefix of this space that begins like `tokens` for the most tokens, at least `least` of them.
  // `usable(prefix, length)`: whether its first `length` tokens can be had.
  struct Match {
    std::shared_ptr<const SavedPrefix> prefix;  // null: none
    int32_t length = 0;
  };
  Match LongestPrefix(uint64_t space, std::span<const model::Token> tokens, int32_t least,
                      const std::function<bool(const SavedPrefix&, int32_t length)>& usable) const;
  // What is larger than the budget is not kept.
  void PutPrefix(std::shared_ptr<const SavedPrefix> prefix);
  // Out of the cache, to be restored. False: it is not there any more.
  bool TakePrefix(const SavedPrefix* prefix);

  // Compiled grammars: any object under a key, null where there is none. Looking at it makes it young.
  std::shared_ptr<const void> FindGrammar(const std::string& key);
  void PutGrammar(const std::string& key, std::shared_ptr<const void> object, int64_t bytes);

  const Limits& limits() const { return limits_; }
  int64_t bytes(Kind kind) const;
  int64_t used() const;  // by all but models
  int64_t room() const;  // bytes that can be added without an entry going
  bool enabled() const { return limits_.cache > 0; }
  std::string Audit() const;  // "" or what does not hold

 private:
  struct Entry {
    Kind kind = Kind::kPrefix;
    int64_t bytes = 0;
    std::shared_ptr<const SavedPrefix> prefix;
    std::string key;
    std::shared_ptr<const void> object;
  };
  using Entries = std::list<Entry>;

  explicit HostCache(const Limits& limits) : limits_(limits) {}
  void GiveBack(Kind kind, int64_t bytes);
  int64_t& Count(Kind kind) { return bytes_[static_cast<size_t>(kind)]; }
  int64_t UsedLocked() const;
  int64_t RoomLocked() const;
  bool MakeRoomLocked(int64_t cache_bytes, int64_t total_bytes, Entries* gone);
  void RemoveLocked(Entries::iterator entry, Entries* gone);
  bool PutLocked(Entry entry, Entries* gone);

  const Limits limits_;
  mutable std::mutex mutex_;
  Entries entries_;  // least recently used first
  std::map<std::string, Entries::iterator> grammars_;
  std::array<int64_t, kKinds> bytes_{};
};

}  // namespace headrace::engine
