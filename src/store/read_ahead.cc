#include "store/read_ahead.h"

#include <algorithm>
#include <unordered_map>

namespace headrace::store {

uint64_t BlockPool::NextReader() {
  const std::lock_guard lock(mutex_);
  return ++readers_;
}

Bytes BlockPool::Find(uint64_t reader, int64_t block) {
  const std::lock_guard lock(mutex_);
  const auto it = index_.find({reader, block});
  if (it == index_.end()) return {};
  recent_.splice(recent_.begin(), recent_, it->second);
  return it->second->second;
}

void BlockPool::Keep(uint64_t reader, int64_t block, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  const Key key{reader, block};
  if (index_.contains(key)) return;
  bytes_ += bytes.size();
  recent_.emplace_front(key, std::move(bytes));
  index_[key] = recent_.begin();
  while (bytes_ > budget_) {
    bytes_ -= recent_.back().second.size();
    index_.erase(recent_.back().first);
    recent_.pop_back();
  }
}

void BlockPool::Forget(uint64_t reader) {
  const std::lock_guard lock(mutex_);
  const auto begin = index_.lower_bound({reader, INT64_MIN});
  const auto end = index_.upper_bound({reader, INT64_MAX});
  for (auto it = begin; it != end; ++it) {
    bytes_ -= it->second->second.size();
    recent_.erase(it->second);
  }
  index_.erase(begin, end);
}

int64_t BlockPool::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

namespace {

constexpr int64_t kBlock = BlockPool::kBlockBytes;

class ReadAheadReader final : public ObjectReader {
 public:
  ReadAheadReader(std::shared_ptr<ObjectReader> inner, std::shared_ptr<BlockPool> pool)
      : ObjectReader(inner->key(), inner->size()),
        inner_(std::move(inner)),
        pool_(std::move(pool)),
        id_(pool_->NextReader()) {}
  ~ReadAheadReader() override { pool_->Forget(id_); }

 protected:
  Result<Bytes> DoRead(int64_t offset, int64_t length) override {
    HEADRACE_ASSIGN(auto parts, DoReadMany({{offset, length}}, 0));
    return parts[0];
  }

  Result<std::vector<Bytes>> DoReadMany(const std::vector<ByteRange>& ranges, int64_t /*max_gap*/) override {
    std::unordered_map<int64_t, Bytes> blocks;
    std::vector<ByteRange> missing;
    for (const auto& range : ranges) {
      if (range.length == 0) continue;
      for (int64_t b = range.offset / kBlock; b <= (range.offset + range.length - 1) / kBlock; ++b) {
        if (blocks.contains(b)) continue;
        blocks[b] = pool_->Find(id_, b);
        if (blocks[b].size() == 0) missing.push_back({b * kBlock, std::min(kBlock, size() - b * kBlock)});
      }
    }
    if (!missing.empty()) {
      HEADRACE_ASSIGN(const auto fetched, inner_->ReadMany(missing));
      for (size_t i = 0; i < missing.size(); ++i) {
        const int64_t b = missing[i].offset / kBlock;
        blocks[b] = fetched[i];
        // A copy: what was fetched may be a slice of a larger read that must not be held by one block.
        pool_->Keep(id_, b, Bytes::FromString(std::string(fetched[i].view())));
      }
    }
    std::vector<Bytes> parts;
    parts.reserve(ranges.size());
    for (const auto& range : ranges) parts.push_back(Assemble(range, blocks));
    return parts;
  }

 private:
  static Bytes Assemble(const ByteRange& range, const std::unordered_map<int64_t, Bytes>& blocks) {
    if (range.length == 0) return {};
    const int64_t first = range.offset / kBlock;
    const int64_t last = (range.offset + range.length - 1) / kBlock;
    if (first == last) return blocks.at(first).Slice(range.offset - first * kBlock, range.length);
    std::string joined;
    joined.reserve(static_cast<size_t>(range.length));
    for (int64_t b = first; b <= last; ++b) {
      const int64_t begin = std::max(range.offset, b * kBlock) - b * kBlock;
      const int64_t end = std::min(range.offset + range.length, (b + 1) * kBlock) - b * kBlock;
      joined += blocks.at(b).view().substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    }
    return Bytes::FromString(std::move(joined));
  }

  std::shared_ptr<ObjectReader> inner_;
  std::shared_ptr<BlockPool> pool_;
  uint64_t id_;
};

}  // namespace

std::shared_ptr<ObjectReader> ReadAhead(std::shared_ptr<ObjectReader> inner,
                                        std::shared_ptr<BlockPool> pool) {
  if (inner->is_mapped()) return inner;
  return std::make_shared<ReadAheadReader>(std::move(inner), std::move(pool));
}

}  // namespace headrace::store
