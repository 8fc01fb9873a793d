#include "store/cached_store.h"

#include <algorithm>
#include <cstring>

#include "store/sized_open.h"

namespace headrace::store {
namespace {

constexpr int64_t kMostWhole = 64 << 20;  // bytes of an object that is kept because it was read as a whole

// A range widened to whole blocks of an object of `size` bytes.
ByteRange WholeBlocks(const ByteRange& range, int64_t size) {
  const int64_t begin = range.offset / DiskCache::kBlockBytes * DiskCache::kBlockBytes;
  const int64_t end = std::min(size, (range.offset + range.length + DiskCache::kBlockBytes - 1) /
                                         DiskCache::kBlockBytes * DiskCache::kBlockBytes);
  return {begin, end - begin};
}

// Reads `ranges` of one object from the cache, and what is missing with `fetch`.
Result<std::vector<Bytes>> ReadThrough(
    DiskCache* cache, const std::string& object, int64_t size, const std::vector<ByteRange>& ranges,
    const std::function<Result<std::vector<Bytes>>(const std::vector<ByteRange>&)>& fetch) {
  std::vector<ByteRange> wide;
  std::vector<std::string> buffers;
  std::vector<ByteRange> missing;
  for (const auto& range : ranges) {
    wide.push_back(range.length == 0 ? ByteRange{range.offset, 0} : WholeBlocks(range, size));
    buffers.emplace_back(static_cast<size_t>(wide.back().length), '\0');
    const auto lacking = cache->Read(object, size, wide.back(), buffers.back().data());
    missing.insert(missing.end(), lacking.begin(), lacking.end());
  }
  std::sort(missing.begin(), missing.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.offset < b.offset; });
  std::vector<ByteRange> joined;  // without what two of them share
  for (const auto& part : missing) {
    if (joined.empty() || joined.back().offset + joined.back().length < part.offset) {
      joined.push_back(part);
    } else {
      const int64_t end = std::max(joined.back().offset + joined.back().length, part.offset + part.length);
      joined.back().length = end - joined.back().offset;
    }
  }
  if (!joined.empty()) {
    HEADRACE_ASSIGN(const auto fetched, fetch(joined));
    for (size_t i = 0; i < joined.size(); ++i) {
      cache->Keep(object, size, joined[i].offset, fetched[i].view());
      for (size_t k = 0; k < wide.size(); ++k) {
        const int64_t begin = std::max(wide[k].offset, joined[i].offset);
        const int64_t end = std::min(wide[k].offset + wide[k].length, joined[i].offset + joined[i].length);
        if (begin >= end) continue;
        std::memcpy(buffers[k].data() + (begin - wide[k].offset),
                    fetched[i].data() + (begin - joined[i].offset), static_cast<size_t>(end - begin));
      }
    }
  }
  std::vector<Bytes> parts;
  for (size_t k = 0; k < ranges.size(); ++k) {
    const int64_t skip = ranges[k].offset - wide[k].offset;
    parts.push_back(Bytes::FromString(std::move(buffers[k])).Slice(skip, ranges[k].length));
  }
  return parts;
}

class CachedReader final : public ObjectReader {
 public:
  CachedReader(std::shared_ptr<ObjectStore> store, std::shared_ptr<ObjectReader> inner,
               std::shared_ptr<DiskCache> cache, std::string object, std::string key, int64_t size)
      : ObjectReader(std::move(key), size),
        store_(std::move(store)),
        inner_(std::move(inner)),
        cache_(std::move(cache)),
        object_(std::move(object)) {}

 protected:
  Result<Bytes> DoRead(int64_t offset, int64_t length) override {
    HEADRACE_ASSIGN(auto parts, DoReadMany({{offset, length}}, 0));
    return parts[0];
  }
  Result<std::vector<Bytes>> DoReadMany(const std::vector<ByteRange>& ranges, int64_t max_gap) override {
    return ReadThrough(cache_.get(), object_, size(), ranges,
                       [&](const std::vector<ByteRange>& missing) -> Result<std::vector<Bytes>> {
                         HEADRACE_ASSIGN(const auto inner, Inner());
                         return inner->ReadMany(missing, max_gap);
                       });
  }

 private:
  // Opened only when something is missing: an object that is kept costs no request.
  Result<std::shared_ptr<ObjectReader>> Inner() {
    const std::lock_guard lock(mutex_);
    if (inner_ == nullptr) {
      HEADRACE_ASSIGN(inner_, store::OpenSized(store_.get(), key(), size()));
      if (inner_->size() != size())
        return Status::Corrupt(key() + " has " + std::to_string(inner_->size()) + " bytes, and had " +
                               std::to_string(size()) + " before");
    }
    return inner_;
  }

  std::shared_ptr<ObjectStore> store_;
  std::mutex mutex_;
  std::shared_ptr<ObjectReader> inner_;
  std::shared_ptr<DiskCache> cache_;
  std::string object_;
};

class CachedStore final : public ObjectStore, public OpensSized {
 public:
  CachedStore(std::shared_ptr<ObjectStore> inner, std::shared_ptr<DiskCache> cache, std::string name,
              std::function<bool(std::string_view)> immutable)
      : inner_(std::move(inner)),
        cache_(std::move(cache)),
        name_(std::move(name)),
        immutable_(std::move(immutable)) {}

  std::string Describe() const override { return inner_->Describe(); }
  std::optional<std::string> LocalPath(std::string_view key) const override { return inner_->LocalPath(key); }
  const std::shared_ptr<ObjectStore>& inner() const { return inner_; }
  bool is_local() const override { return inner_->is_local(); }
  std::shared_ptr<void> CourtesyLock(std::string_view key) override { return inner_->CourtesyLock(key); }

  Result<Bytes> Get(std::string_view key) override {
    if (!immutable_(key)) return inner_->Get(key);
    const std::string object = ObjectOf(key);
    if (const auto size = cache_->SizeOf(object)) {
      HEADRACE_ASSIGN(auto parts, Through(key, *size, {{0, *size}}));
      return parts[0];
    }
    HEADRACE_ASSIGN(auto bytes, inner_->Get(key));
    if (bytes.size() <= kMostWhole) cache_->Keep(object, bytes.size(), 0, bytes.view());
    return bytes;
  }
  Result<Bytes> GetRange(std::string_view key, ByteRange range) override {
    if (!immutable_(key) || range.length == 0) return inner_->GetRange(key, range);
    const auto size = cache_->SizeOf(ObjectOf(key));
    if (!size || range.offset < 0 || range.length > *size - range.offset) return inner_->GetRange(key, range);
    HEADRACE_ASSIGN(auto parts, Through(key, *size, {range}));
    return parts[0];
  }
  Result<std::shared_ptr<ObjectReader>> Open(std::string_view key) override {
    if (!immutable_(key)) return inner_->Open(key);
    std::shared_ptr<ObjectReader> opened;
    std::optional<int64_t> size = cache_->SizeOf(ObjectOf(key));
    if (!size) {
      HEADRACE_ASSIGN(opened, inner_->Open(key));
      size = opened->size();
    }
    return std::shared_ptr<ObjectReader>(std::make_shared<CachedReader>(
        inner_, std::move(opened), cache_, ObjectOf(key), std::string(key), *size));
  }
  Result<std::shared_ptr<ObjectReader>> OpenSized(std::string_view key, int64_t size) override {
    if (!immutable_(key)) return store::OpenSized(inner_.get(), key, size);
    return std::shared_ptr<ObjectReader>(
        std::make_shared<CachedReader>(inner_, nullptr, cache_, ObjectOf(key), std::string(key), size));
  }
  Result<bool> Exists(std::string_view key) override { return inner_->Exists(key); }

  Status Put(std::string_view key, std::string_view bytes) override { return inner_->Put(key, bytes); }
  Status PutIfAbsent(std::string_view key, std::string_view bytes) override {
    return inner_->PutIfAbsent(key, bytes);
  }
  Result<std::unique_ptr<Upload>> StartUpload(std::string_view key) override {
    return inner_->StartUpload(key);
  }
  Status Delete(std::string_view key) override {
    if (immutable_(key)) cache_->Forget(ObjectOf(key));
    return inner_->Delete(key);
  }
  Result<std::vector<ObjectInfo>> List(std::string_view prefix, std::string_view start_after,
                                       int64_t limit) override {
    return inner_->List(prefix, start_after, limit);
  }

 private:
  std::string ObjectOf(std::string_view key) const { return name_ + "\n" + std::string(key); }

  Result<std::vector<Bytes>> Through(std::string_view key, int64_t size,
                                     const std::vector<ByteRange>& ranges) {
    return ReadThrough(cache_.get(), ObjectOf(key), size, ranges,
                       [&](const std::vector<ByteRange>& missing) -> Result<std::vector<Bytes>> {
                         std::vector<Bytes> fetched;
                         for (const auto& range : missing) {
                           HEADRACE_ASSIGN(auto bytes, inner_->GetRange(key, range));
                           fetched.push_back(std::move(bytes));
                         }
                         return fetched;
                       });
  }

  std::shared_ptr<ObjectStore> inner_;
  std::shared_ptr<DiskCache> cache_;
  std::string name_;
  std::function<bool(std::string_view)> immutable_;
};

}  // namespace

std::shared_ptr<ObjectStore> NewCachedStore(std::shared_ptr<ObjectStore> inner,
                                            std::shared_ptr<DiskCache> cache, std::string name,
                                            std::function<bool(std::string_view)> immutable) {
  return std::make_shared<CachedStore>(std::move(inner), std::move(cache), std::move(name),
                                       std::move(immutable));
}

std::shared_ptr<ObjectStore> BelowCache(std::shared_ptr<ObjectStore> store) {
  const auto cached = std::dynamic_pointer_cast<CachedStore>(store);
  return cached == nullptr ? store : cached->inner();
}

}  // namespace headrace::store
