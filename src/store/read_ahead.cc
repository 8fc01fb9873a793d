#include "store/read_ahead.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>
#include <unordered_map>

namespace headrace::store {
namespace {

constexpr int64_t kBlock = 1 << 20;
constexpr size_t kKept = 32;

class ReadAheadReader final : public ObjectReader {
 public:
  explicit ReadAheadReader(std::shared_ptr<ObjectReader> inner)
      : ObjectReader(inner->key(), inner->size()), inner_(std::move(inner)) {}

 protected:
  Result<Bytes> DoRead(int64_t offset, int64_t length) override {
    HEADRACE_ASSIGN(auto parts, DoReadMany({{offset, length}}, 0));
    return parts[0];
  }

  Result<std::vector<Bytes>> DoReadMany(const std::vector<ByteRange>& ranges, int64_t /*max_gap*/) override {
    std::unordered_map<int64_t, Bytes> blocks;
    std::vector<ByteRange> missing;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& range : ranges) {
        if (range.length == 0) continue;
        for (int64_t b = range.offset / kBlock; b <= (range.offset + range.length - 1) / kBlock; ++b) {
          if (blocks.contains(b)) continue;
          const auto it = index_.find(b);
          if (it != index_.end()) {
            recent_.splice(recent_.begin(), recent_, it->second);
            blocks[b] = it->second->second;
          } else {
            blocks[b] = {};
            missing.push_back({b * kBlock, std::min(kBlock, size() - b * kBlock)});
          }
        }
      }
    }
    if (!missing.empty()) {
      HEADRACE_ASSIGN(const auto fetched, inner_->ReadMany(missing));
      const std::lock_guard lock(mutex_);
      for (size_t i = 0; i < missing.size(); ++i) {
        const int64_t b = missing[i].offset / kBlock;
        blocks[b] = fetched[i];
        if (index_.contains(b)) continue;
        // A copy: what was fetched may be a slice of a larger read that must not be held by one block.
        recent_.emplace_front(b, Bytes::FromString(std::string(fetched[i].view())));
        index_[b] = recent_.begin();
        if (recent_.size() > kKept) {
          index_.erase(recent_.back().first);
          recent_.pop_back();
        }
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
  std::mutex mutex_;
  std::list<std::pair<int64_t, Bytes>> recent_;
  std::unordered_map<int64_t, std::list<std::pair<int64_t, Bytes>>::iterator> index_;
};

}  // namespace

std::shared_ptr<ObjectReader> ReadAhead(std::shared_ptr<ObjectReader> inner) {
  if (inner->is_mapped()) return inner;
  return std::make_shared<ReadAheadReader>(std::move(inner));
}

}  // namespace headrace::store
