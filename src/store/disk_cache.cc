#include "store/disk_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/byte_size.h"
#include "base/cache_folder.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/hash.h"

namespace headrace::store {
namespace {

constexpr int64_t kDiskBlock = DiskCache::kBlockBytes;
constexpr int64_t kSumsAt = 4096;
constexpr int64_t kBlocksAt = kSumsAt + DiskCache::kSegmentBlocks * 8;
constexpr int64_t kSecondUs = 1'000'000;
constexpr int64_t kSweepUs = 3600 * kSecondUs;
constexpr int64_t kRestUs = 60 * kSecondUs;
constexpr int64_t kMostByDefault = int64_t{8} << 30;

struct SegmentHead {
  char magic[8] = {'H', 'R', 'S', 'E', 'G', '0', '0', '1'};
  char object[32] = {};
  int64_t size = 0;
  int64_t number = 0;
  int64_t made_us = 0;
  uint64_t sum = 0;

  uint64_t Sum() const { return Xxh3(this, offsetof(SegmentHead, sum)); }
};
static_assert(sizeof(SegmentHead) == 72);

std::string IdOf(const std::string& object) { return Sha256Hex(object).substr(0, 32); }

uint64_t SumOf(std::string_view block, int64_t number) {
  return std::max<uint64_t>(1, Xxh3Seeded(block, static_cast<uint64_t>(number)));
}

timespec ToTime(int64_t us) { return {us / kSecondUs, us % kSecondUs * 1000}; }
int64_t ToMicros(const timespec& time) { return time.tv_sec * kSecondUs + time.tv_nsec / 1000; }

template <typename Fn>
void EachName(const std::string& folder, const Fn& fn) {
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (name[0] != '.') fn(name);
  }
  closedir(dir);
}

bool ReadAt(int fd, void* out, int64_t bytes, int64_t at) {
  return pread(fd, out, static_cast<size_t>(bytes), at) == bytes;
}
bool WriteAt(int fd, const void* data, int64_t bytes, int64_t at) {
  return pwrite(fd, data, static_cast<size_t>(bytes), at) == bytes;
}

}  // namespace

struct DiskCache::Segment {
  Fd fd;
  SegmentHead head;

  // Blocks that the object has in it.
  int64_t blocks() const {
    const int64_t bytes = std::min(head.size - head.number * kSegmentBytes, kSegmentBytes);
    return (bytes + kDiskBlock - 1) / kDiskBlock;
  }
  // Of its block `i`, which is the object's last one where it is shorter.
  int64_t BlockBytes(int64_t i) const {
    return std::min(kDiskBlock, head.size - head.number * kSegmentBytes - i * kDiskBlock);
  }
};

Result<std::shared_ptr<DiskCache>> DiskCache::FromEnvironment() {
  DiskCacheOptions options;
  if (const char* text = getenv("HEADRACE_CACHE_BYTES"); text != nullptr && *text != '\0') {
    const auto budget = ParseByteSize(text);
    if (!budget.ok()) return budget.status().Wrap("HEADRACE_CACHE_BYTES");
    options.budget_bytes = *budget;
  }
  const char* own = getenv("HEADRACE_CACHE");
  const char* all = getenv("XDG_CACHE_HOME");
  options.folder = (own == nullptr || *own == '\0') && all != nullptr && *all != '\0'
                       ? std::string(all) + "/headrace/objects"
                       : CacheFolder("objects");
  if (options.budget_bytes == 0 || options.folder.empty()) return std::shared_ptr<DiskCache>();
  return std::make_shared<DiskCache>(std::move(options));
}

std::optional<DiskCache::Segment> DiskCache::Open(const std::string& id, int64_t number, int64_t size,
                                                  bool make) {
  const std::string path = FolderOf(id) + "/" + id + "." + std::to_string(number);
  for (int attempt = 0; attempt < 2; ++attempt) {
    Segment segment;
    segment.fd = Fd(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (segment.fd.ok()) {
      SegmentHead& head = segment.head;
      const bool good = ReadAt(segment.fd.get(), &head, sizeof head, 0) && head.sum == head.Sum() &&
                        std::memcmp(head.magic, SegmentHead().magic, 8) == 0 &&
                        std::memcmp(head.object, id.data(), 32) == 0 && head.number == number &&
                        (size < 0 || head.size == size);
      if (good && head.made_us + options_.age_us > NowMicros()) return segment;
      unlink(path.c_str());
    }
    if (!make || attempt > 0 || !Make(id, number, size)) return std::nullopt;
  }
  return std::nullopt;
}

bool DiskCache::Make(const std::string& id, int64_t number, int64_t size) const {
  const std::string folder = FolderOf(id);
  if (!MakeFolders(folder, /*sync=*/false).ok()) return false;
  SegmentHead head;
  std::memcpy(head.object, id.data(), 32);
  head.size = size;
  head.number = number;
  head.made_us = NowMicros();
  head.sum = head.Sum();
  auto file = PendingFile::Create(folder, {.sync = false, .make_folders = false, .mode = 0600});
  if (!file.ok() || !WriteAt(file->fd(), &head, sizeof head, 0) || ftruncate(file->fd(), kBlocksAt) != 0)
    return false;
  const Status named = file->Publish(folder + "/" + id + "." + std::to_string(number), /*replace=*/false);
  return named.ok() || named.Is(Code::kAlreadyExists);
}

std::optional<int64_t> DiskCache::SizeOf(const std::string& object) {
  const auto segment = Open(IdOf(object), 0, -1, /*make=*/false);
  return segment ? std::optional(segment->head.size) : std::nullopt;
}

std::vector<ByteRange> DiskCache::Read(const std::string& object, int64_t size, const ByteRange& range,
                                       char* out) {
  if (!looked_.exchange(true)) Sweep(/*always=*/false);
  const std::string id = IdOf(object);
  std::vector<ByteRange> missing;
  const auto miss = [&](int64_t begin, int64_t end) {
    if (!missing.empty() && missing.back().offset + missing.back().length == begin) {
      missing.back().length += end - begin;
    } else {
      missing.push_back({begin, end - begin});
    }
  };
  const int64_t end = range.offset + range.length;
  for (int64_t at = range.offset; at < end;) {
    const int64_t number = at / kSegmentBytes;
    const int64_t stop = std::min(end, (number + 1) * kSegmentBytes);
    const int64_t first = at % kSegmentBytes / kDiskBlock;
    const int64_t count = (stop - at + kDiskBlock - 1) / kDiskBlock;
    std::vector<uint64_t> sums(static_cast<size_t>(count));
    auto segment = Open(id, number, size, /*make=*/false);
    char* data = out + (at - range.offset);
    // A segment that was cut off, or has no last blocks yet, gives less: what is there is checked.
    if (!segment || !ReadAt(segment->fd.get(), sums.data(), count * 8, kSumsAt + first * 8)) {
      miss(at, stop);
      at = stop;
      continue;
    }
    const bool any = std::any_of(sums.begin(), sums.end(), [](uint64_t sum) { return sum != 0; });
    const int64_t got =
        any ? pread(segment->fd.get(), data, static_cast<size_t>(stop - at), kBlocksAt + first * kDiskBlock)
            : 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t begin = i * kDiskBlock;
      const int64_t bytes = std::min(kDiskBlock, stop - at - begin);
      const std::string_view block(data + begin, static_cast<size_t>(bytes));
      const bool good = sums[static_cast<size_t>(i)] != 0 && begin + bytes <= got &&
                        SumOf(block, first + i) == sums[static_cast<size_t>(i)];
      if (good) {
        hit_bytes_ += bytes;
      } else {
        miss(at + begin, at + begin + bytes);
      }
    }
    struct stat info {};
    const int64_t now = NowMicros();
    if (any && fstat(segment->fd.get(), &info) == 0 && ToMicros(info.st_atim) < now - 60 * kSecondUs) {
      const timespec times[2] = {ToTime(now), {0, UTIME_OMIT}};
      futimens(segment->fd.get(), times);
    }
    at = stop;
  }
  return missing;
}

bool DiskCache::Write(const Segment& segment, int64_t first, std::string_view bytes) const {
  std::vector<uint64_t> sums;
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(kDiskBlock))
    sums.push_back(
        SumOf(bytes.substr(at, static_cast<size_t>(kDiskBlock)), first + static_cast<int64_t>(sums.size())));
  const int fd = segment.fd.get();
  const bool written =
      WriteAt(fd, bytes.data(), static_cast<int64_t>(bytes.size()), kBlocksAt + first * kDiskBlock) &&
      WriteAt(fd, sums.data(), static_cast<int64_t>(sums.size()) * 8, kSumsAt + first * 8);
  const timespec times[2] = {ToTime(NowMicros()), ToTime(segment.head.made_us)};
  futimens(fd, times);
  return written;
}

void DiskCache::Keep(const std::string& object, int64_t size, int64_t offset, std::string_view bytes) {
  if (NowMicros() < rest_until_) return;
  if (budget_ < 0 || kept_bytes_ > budget_ / 16) Sweep(/*always=*/true);
  if (kept_bytes_ > budget_ / 8) return;  // another thread is about to make room
  const std::string id = IdOf(object);
  if (!Open(id, 0, size, /*make=*/true)) {  // it knows the object's size
    rest_until_ = NowMicros() + kRestUs;
    return;
  }
  while (!bytes.empty()) {
    const int64_t number = offset / kSegmentBytes;
    const int64_t room = (number + 1) * kSegmentBytes - offset;
    const std::string_view part = bytes.substr(0, static_cast<size_t>(room));
    const auto segment = Open(id, number, size, /*make=*/true);
    if (!segment || !Write(*segment, offset % kSegmentBytes / kDiskBlock, part)) {
      rest_until_ = NowMicros() + kRestUs;
      return;
    }
    kept_bytes_ += static_cast<int64_t>(part.size());
    offset += static_cast<int64_t>(part.size());
    bytes.remove_prefix(part.size());
  }
}

void DiskCache::Forget(const std::string& object) {
  const std::string id = IdOf(object);
  EachName(FolderOf(id), [&](const std::string& name) {
    if (name.starts_with(id)) unlink((FolderOf(id) + "/" + name).c_str());
  });
}

void DiskCache::Sweep(bool always) {
  const std::unique_lock lock(sweeping_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  struct stat info {};
  const int64_t now = NowMicros();
  const std::string stamp = options_.folder + "/swept";
  if (!always && stat(stamp.c_str(), &info) == 0 && ToMicros(info.st_mtim) > now - kSweepUs) return;
  struct Found {
    int64_t used_us;
    int64_t bytes;
    std::string path;
  };
  std::vector<Found> all;
  int64_t total = 0;
  EachName(options_.folder, [&](const std::string& folder) {
    EachName(options_.folder + "/" + folder, [&](const std::string& name) {
      const std::string path = options_.folder + "/" + folder + "/" + name;
      struct stat found {};
      if (stat(path.c_str(), &found) != 0) return;
      if (ToMicros(found.st_mtim) + options_.age_us <= now) {
        unlink(path.c_str());
        return;
      }
      all.push_back({ToMicros(found.st_atim), found.st_blocks * 512, path});
      total += all.back().bytes;
    });
  });
  struct statvfs disk {};
  int64_t budget = options_.budget_bytes;
  if (budget < 0) {
    const std::string where = total > 0 ? options_.folder : ParentFolder(options_.folder);
    const bool known = statvfs(where.c_str(), &disk) == 0 || statvfs("/", &disk) == 0;
    const int64_t free = known ? static_cast<int64_t>(disk.f_bavail * disk.f_frsize) : 0;
    budget = std::min(kMostByDefault, (free + total) / 10);
  }
  if (total > budget - budget / 8) {  // which leaves room for what is kept until the next sweep
    std::sort(all.begin(), all.end(), [](const Found& a, const Found& b) { return a.used_us < b.used_us; });
    for (const auto& found : all) {
      if (total <= budget - budget / 4) break;
      if (unlink(found.path.c_str()) == 0) total -= found.bytes;
    }
  }
  budget_ = budget;
  kept_bytes_ = 0;
  if (MakeFolders(options_.folder, /*sync=*/false).ok()) {
    chmod(options_.folder.c_str(), 0700);
    const Fd touched(open(stamp.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (touched.ok()) futimens(touched.get(), nullptr);
  }
}

}  // namespace headrace::store
