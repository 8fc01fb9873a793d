#include "table/taken.h"
#include "table/keys.h"

#include <algorithm>

#include "base/hash.h"
#include "table/size_tier.h"

namespace headrace::table {
namespace {

using Items = std::vector<TakenItem>;

constexpr std::string_view kTakenMagic = "HRTAKEN2";
constexpr std::string_view kWithoutRows = "HRTAKEN1";  // of earlier programs

void AppendInt(uint64_t value, std::string* out) {
  for (int shift = 0; shift < 64; shift += 8) *out += static_cast<char>(value >> shift);
}

uint64_t IntAt(std::string_view bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= uint64_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  return value;
}

std::string Encode(const Items& items) {
  std::string out(kTakenMagic);
  for (const auto& item : items) {
    AppendInt(item.source.size(), &out);
    out += item.source;
    AppendInt(static_cast<uint64_t>(item.bytes), &out);
    AppendInt(static_cast<uint64_t>(item.modified_ns), &out);
    AppendInt(item.content, &out);
    AppendInt(static_cast<uint64_t>(item.version), &out);
    AppendInt(static_cast<uint64_t>(item.first_row), &out);
    AppendInt(static_cast<uint64_t>(item.rows), &out);
  }
  return out;
}

Result<std::shared_ptr<Items>> Decode(std::string_view bytes, const TakenRef& ref, const std::string& key) {
  const auto corrupt = [&] { return Status::Corrupt("the list of items " + key + " is damaged"); };
  const bool with_rows = bytes.starts_with(kTakenMagic);
  if (static_cast<int64_t>(bytes.size()) != ref.bytes || Xxh3(bytes) != ref.checksum ||
      !(with_rows || bytes.starts_with(kWithoutRows))) {
    return corrupt();
  }
  const size_t numbers = with_rows ? 48 : 32;
  auto items = std::make_shared<Items>();
  for (size_t at = kTakenMagic.size(); at < bytes.size();) {
    if (bytes.size() - at < 8) return corrupt();
    const uint64_t length = IntAt(bytes, at);
    at += 8;
    if (length > bytes.size() - at || bytes.size() - at - length < numbers) return corrupt();
    TakenItem item;
    item.source = std::string(bytes.substr(at, length));
    at += length;
    item.bytes = static_cast<int64_t>(IntAt(bytes, at));
    item.modified_ns = static_cast<int64_t>(IntAt(bytes, at + 8));
    item.content = IntAt(bytes, at + 16);
    item.version = static_cast<int64_t>(IntAt(bytes, at + 24));
    if (with_rows) {
      item.first_row = static_cast<int64_t>(IntAt(bytes, at + 32));
      item.rows = static_cast<int64_t>(IntAt(bytes, at + 40));
    }
    at += numbers;
    items->push_back(std::move(item));
  }
  return items;
}

Result<std::shared_ptr<Items>> Load(Environment* env, const std::string& prefix, const TakenRef& ref) {
  const std::string key = TakenKey(prefix, ref.id);
  return env->files.GetOrOpen<Items>(key, [&]() -> Result<std::shared_ptr<Items>> {
    HEADRACE_ASSIGN(const auto bytes, env->store->Get(key));
    return Decode(bytes.view(), ref, key);
  });
}

// One item for each source, the newest.
void Merge(const Items& items, std::unordered_map<std::string, TakenItem>* merged) {
  for (const auto& item : items) {
    const auto [it, fresh] = merged->try_emplace(item.source, item);
    if (!fresh && it->second.version < item.version) it->second = item;
  }
}

Result<TakenRef> Write(Environment* env, const std::string& prefix, const Items& items,
                       std::vector<std::string>* written) {
  const std::string bytes = Encode(items);
  TakenRef ref;
  ref.id = Uuid::Random();
  ref.items = static_cast<int64_t>(items.size());
  ref.bytes = static_cast<int64_t>(bytes.size());
  ref.checksum = Xxh3(bytes);
  written->push_back(TakenKey(prefix, ref.id));
  HEADRACE_TRY(store::PutFresh(env->store.get(), written->back(), bytes));
  return ref;
}

// Merges the lists of a tier that has too many of them.
Status MergeLists(Environment* env, const std::string& prefix, std::vector<TakenRef>* refs,
                  std::vector<std::string>* keys) {
  for (;;) {
    const auto chosen = FullTier(ByTier(*refs, [](const TakenRef& ref) { return ref.items; }));
    if (chosen.empty()) return Status::Ok();
    std::unordered_map<std::string, TakenItem> merged;
    std::vector<TakenRef> kept;
    for (size_t i = 0; i < refs->size(); ++i) {
      if (std::find(chosen.begin(), chosen.end(), i) == chosen.end()) {
        kept.push_back((*refs)[i]);
        continue;
      }
      HEADRACE_ASSIGN(const auto items, Load(env, prefix, (*refs)[i]));
      Merge(*items, &merged);
    }
    Items all;
    all.reserve(merged.size());
    for (auto& [source, item] : merged) all.push_back(std::move(item));
    HEADRACE_ASSIGN(const TakenRef written, Write(env, prefix, all, keys));
    kept.push_back(written);
    // Where all of them held the same sources, the merged list may be of their tier again: it is one now.
    *refs = std::move(kept);
  }
}

}  // namespace

Result<Taken> LoadTaken(Environment* env, const std::string& prefix, const Snapshot& snapshot) {
  Taken taken;
  taken.rows_before = snapshot.taken.empty() ? snapshot.rows : snapshot.rows_before_taken;
  for (const auto& ref : snapshot.taken) {
    HEADRACE_ASSIGN(const auto items, Load(env, prefix, ref));
    Merge(*items, &taken.items);
  }
  return taken;
}

Status CheckTaken(Environment* env, const std::string& prefix, const Snapshot& head,
                  const std::vector<TakenItem>& items) {
  if (items.empty()) return Status::Ok();
  HEADRACE_ASSIGN(const Taken taken, LoadTaken(env, prefix, head));
  for (const auto& item : items) {
    const auto found = taken.items.find(item.source);
    if ((found == taken.items.end() ? 0 : found->second.version) == item.version) continue;
    return Status::Conflict("another process has taken in '" + item.source + "' meanwhile");
  }
  return Status::Ok();
}

Status AddTaken(Environment* env, const std::string& prefix, const Snapshot& head,
                const std::vector<TakenItem>& items, Snapshot* next, std::vector<std::string>* written) {
  Items stamped = items;
  for (auto& item : stamped) {
    item.version = next->version;
    if (item.first_row >= 0) item.first_row += head.next_row_id;
  }
  HEADRACE_ASSIGN(const TakenRef ref, Write(env, prefix, stamped, written));
  if (head.taken.empty()) next->rows_before_taken = head.rows;
  next->taken.push_back(ref);
  return MergeLists(env, prefix, &next->taken, written);
}

}  // namespace headrace::table
