#include "engine/host_cache.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "engine/prefix_tree.h"

namespace headrace::engine {

// Entries are destroyed by their callers after the lock is given back: a path's state may be many megabytes.

int64_t HostCache::UsedLocked() const {
  return std::accumulate(bytes_.begin(), bytes_.end(), -bytes_[static_cast<size_t>(Kind::kModel)]);
}

int64_t HostCache::RoomLocked() const {
  const int64_t used = UsedLocked();
  return std::min(limits_.cache - used, limits_.total - used - bytes_[static_cast<size_t>(Kind::kModel)]);
}

int64_t HostCache::used() const {
  const std::lock_guard lock(mutex_);
  return UsedLocked();
}

int64_t HostCache::room() const {
  const std::lock_guard lock(mutex_);
  return RoomLocked();
}

int64_t HostCache::bytes(Kind kind) const {
  const std::lock_guard lock(mutex_);
  return bytes_[static_cast<size_t>(kind)];
}

void HostCache::RemoveLocked(Entries::iterator entry, Entries* gone) {
  Count(entry->kind) -= entry->bytes;
  if (entry->kind == Kind::kGrammar) grammars_.erase(entry->key);
  gone->splice(gone->end(), entries_, entry);
}

// Room for so many bytes of the cache's, and of all. False, and nothing has gone, where entries do not take
// that much.
bool HostCache::MakeRoomLocked(int64_t cache_bytes, int64_t total_bytes, Entries* gone) {
  const int64_t used = UsedLocked();
  const int64_t missing =
      std::max(used + cache_bytes - limits_.cache,
               used + bytes_[static_cast<size_t>(Kind::kModel)] - (limits_.total - total_bytes));
  if (missing > bytes_[static_cast<size_t>(Kind::kPrefix)] + bytes_[static_cast<size_t>(Kind::kGrammar)])
    return false;
  for (int64_t freed = 0; freed < missing;) {
    freed += entries_.front().bytes;
    RemoveLocked(entries_.begin(), gone);
  }
  return true;
}

std::optional<HostCache::Charge> HostCache::TryCharge(Kind kind, int64_t bytes) {
  HEADRACE_CHECK(bytes >= 0 && kind != Kind::kPrefix && kind != Kind::kGrammar);
  Entries gone;
  {
    const std::lock_guard lock(mutex_);
    if (!MakeRoomLocked(kind == Kind::kModel ? 0 : bytes, bytes, &gone)) return std::nullopt;
    Count(kind) += bytes;
  }
  Charge charge;
  charge.cache_ = shared_from_this();
  charge.kind_ = kind;
  charge.bytes_ = bytes;
  return charge;
}

void HostCache::GiveBack(Kind kind, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  Count(kind) -= bytes;
}

HostCache::Match HostCache::LongestPrefix(
    uint64_t space, std::span<const model::Token> tokens, int32_t least,
    const std::function<bool(const SavedPrefix&, int32_t)>& usable) const {
  Match best;
  const std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.kind != Kind::kPrefix || entry.prefix->space != space) continue;
    const int32_t length = CommonLength(entry.prefix->tokens, tokens);
    if (length < std::max(least, best.length + 1) || !usable(*entry.prefix, length)) continue;
    best = {entry.prefix, length};
  }
  return best;
}

bool HostCache::PutLocked(Entry entry, Entries* gone) {
  if (!MakeRoomLocked(entry.bytes, entry.bytes, gone)) return false;
  Count(entry.kind) += entry.bytes;
  entries_.push_back(std::move(entry));
  return true;
}

void HostCache::PutPrefix(std::shared_ptr<const SavedPrefix> prefix) {
  Entries gone;
  Entry entry;
  entry.bytes = prefix->bytes();
  entry.prefix = std::move(prefix);
  const std::lock_guard lock(mutex_);
  PutLocked(std::move(entry), &gone);
}

bool HostCache::TakePrefix(const SavedPrefix* prefix) {
  Entries gone;
  const std::lock_guard lock(mutex_);
  const auto at = std::find_if(entries_.begin(), entries_.end(),
                               [&](const Entry& entry) { return entry.prefix.get() == prefix; });
  if (at == entries_.end()) return false;
  RemoveLocked(at, &gone);
  return true;
}

std::shared_ptr<const void> HostCache::FindGrammar(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto found = grammars_.find(key);
  if (found == grammars_.end()) return nullptr;
  entries_.splice(entries_.end(), entries_, found->second);
  return found->second->object;
}

void HostCache::PutGrammar(const std::string& key, std::shared_ptr<const void> object, int64_t bytes) {
  Entries gone;
  Entry entry;
  entry.kind = Kind::kGrammar;
  entry.bytes = bytes;
  entry.key = key;
  entry.object = std::move(object);
  const std::lock_guard lock(mutex_);
  if (const auto before = grammars_.find(key); before != grammars_.end()) RemoveLocked(before->second, &gone);
  if (PutLocked(std::move(entry), &gone)) grammars_[key] = std::prev(entries_.end());
}

std::string HostCache::Audit() const {
  const std::lock_guard lock(mutex_);
  int64_t prefixes = 0, grammars = 0;
  for (const Entry& entry : entries_) (entry.kind == Kind::kPrefix ? prefixes : grammars) += entry.bytes;
  if (prefixes != bytes_[static_cast<size_t>(Kind::kPrefix)] ||
      grammars != bytes_[static_cast<size_t>(Kind::kGrammar)])
    return "host memory is counted wrong";
  if (RoomLocked() < 0) return "more host memory is used than the budget";
  return "";
}

}  // namespace headrace::engine
