#include "store/object_store.h"

#include <algorithm>
#include <numeric>

#include "base/ids.h"

namespace headrace::store {

Bytes Bytes::FromString(std::string text) {
  auto owner = std::make_shared<const std::string>(std::move(text));
  const auto* data = reinterpret_cast<const uint8_t*>(owner->data());
  const auto size = static_cast<int64_t>(owner->size());
  return Bytes(std::move(owner), data, size);
}

Bytes Bytes::Slice(int64_t offset, int64_t length) const {
  HEADRACE_CHECK(offset >= 0 && length >= 0 && offset <= size_ && length <= size_ - offset);
  return Bytes(owner_, data_ + offset, length);
}

namespace {
Status CheckRange(const ObjectReader& reader, int64_t offset, int64_t length) {
  if (offset >= 0 && length >= 0 && offset <= reader.size() && length <= reader.size() - offset)
    return Status::Ok();
  return Status::Corrupt(reader.key() + " has " + std::to_string(reader.size()) + " bytes, but bytes " +
                         std::to_string(offset) + "+" + std::to_string(length) + " of it were referenced");
}

Status ShortRead(const std::string& key, int64_t got, int64_t wanted) {
  return Status::Unavailable("short read of " + key + ": " + std::to_string(got) + " of " +
                             std::to_string(wanted) + " bytes arrived");
}
}  // namespace

Result<Bytes> ObjectReader::Read(int64_t offset, int64_t length) {
  HEADRACE_TRY(CheckRange(*this, offset, length));
  HEADRACE_ASSIGN(Bytes bytes, DoRead(offset, length));
  if (bytes.size() != length) return ShortRead(key_, bytes.size(), length);
  return bytes;
}

Result<std::vector<Bytes>> ObjectReader::ReadMany(const std::vector<ByteRange>& ranges, int64_t max_gap) {
  for (const auto& range : ranges) HEADRACE_TRY(CheckRange(*this, range.offset, range.length));
  HEADRACE_ASSIGN(auto parts, DoReadMany(ranges, max_gap));
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (parts[i].size() != ranges[i].length) return ShortRead(key_, parts[i].size(), ranges[i].length);
  }
  return parts;
}

Result<std::vector<Bytes>> ObjectReader::DoReadMany(const std::vector<ByteRange>& ranges,
                                                    int64_t /*max_gap*/) {
  std::vector<Bytes> parts(ranges.size());
  for (size_t i = 0; i < ranges.size(); ++i) {
    HEADRACE_ASSIGN(parts[i], DoRead(ranges[i].offset, ranges[i].length));
  }
  return parts;
}

Status ValidateKey(std::string_view key) {
  const auto bad = [&] { return Status::Invalid("'" + std::string(key) + "' is not an object key"); };
  if (key.empty() || key.size() > 1024 || key.find('\0') != std::string_view::npos) return bad();
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('/', begin), key.size());
    const std::string_view part = key.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return bad();
    begin = end + 1;
  }
  return Status::Ok();
}

std::vector<CoalescedRange> CoalesceRanges(const std::vector<ByteRange>& ranges, int64_t max_gap,
                                           int64_t max_bytes) {
  std::vector<size_t> order(ranges.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return ranges[a].offset < ranges[b].offset; });
  std::vector<CoalescedRange> merged;
  for (const size_t i : order) {
    const ByteRange& next = ranges[i];
    if (!merged.empty()) {
      ByteRange& last = merged.back().range;
      const int64_t end = std::max(last.offset + last.length, next.offset + next.length);
      if (next.offset - (last.offset + last.length) <= max_gap && end - last.offset <= max_bytes) {
        last.length = end - last.offset;
        merged.back().members.push_back(i);
        continue;
      }
    }
    merged.push_back({next, {i}});
  }
  return merged;
}

Status PutFresh(ObjectStore* store, std::string_view key, std::string_view bytes) {
  const Status put = store->PutIfAbsent(key, bytes);
  return put.Is(Code::kAlreadyExists) ? Status::Ok() : put;
}

Status ProbeConditionalPut(ObjectStore* store) {
  const std::string key = kProbePrefix + Uuid::Random().ToString();
  const std::string context = "cannot use " + store->Describe() + " as a catalog";
  HEADRACE_TRY(store->PutIfAbsent(key, "first").Wrap(context));
  const Status second = store->PutIfAbsent(key, "second");
  const Status removed = store->Delete(key);
  if (second.ok()) {
    return Status::Unsupported(
        context +
        ": it ignores If-None-Match, so two writers could overwrite each other's commits. Use a "
        "store with conditional puts (AWS S3, MinIO, versitygw, Ceph 19 or newer)");
  }
  if (!second.Is(Code::kAlreadyExists)) return second.Wrap(context);
  return removed.Wrap(context);
}

}  // namespace headrace::store
