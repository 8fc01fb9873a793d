#include "stream/block_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/hash.h"
#include "base/mapped_file.h"

namespace headrace::stream {
namespace {

constexpr char kBlockMagic[] = "HRBLK001";
constexpr size_t kHead = 24;  // magic, payload bytes, XXH3-64 of the payload
// How long to wait for another process: one that counts, and one that fetches the block that we want.
constexpr double kCountSeconds = 30;
constexpr double kFetchSeconds = 120;

// The bytes of all blocks in a folder, kept in its lock file and only read or changed under that lock.
class ByteCount {
 public:
  static Result<ByteCount> Lock(const std::string& folder) {
    HEADRACE_ASSIGN(FileLock lock, FileLock::Take(folder + "/lock", {.seconds = kCountSeconds}));
    return ByteCount(std::move(lock));
  }
  int64_t Get() const {
    int64_t bytes = 0;
    return pread(lock_.fd(), &bytes, sizeof bytes, 0) == sizeof bytes ? bytes : 0;
  }
  void Set(int64_t bytes) const {
    if (pwrite(lock_.fd(), &bytes, sizeof bytes, 0) != sizeof bytes) (void)ftruncate(lock_.fd(), 0);
  }

 private:
  explicit ByteCount(FileLock lock) : lock_(std::move(lock)) {}
  FileLock lock_;
};

template <typename Fn>
void EachEntry(const std::string& folder, const Fn& fn) {
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") fn(name);
  }
  closedir(dir);
}

bool IsBlock(const std::string& name) { return name.size() > 4 && name.ends_with(".blk"); }

// Not modified for an hour.
bool IsOld(const std::string& path) {
  constexpr time_t kHour = 3600;
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && info.st_mtime < time(nullptr) - kHour;
}

int64_t FileBytes(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 ? info.st_size : 0;
}

}  // namespace

Result<std::unique_ptr<BlockCache>> BlockCache::Open(const std::string& folder, int64_t budget_bytes,
                                                     uint64_t identity, int64_t blocks, double expected_bytes,
                                                     bool unnamed) {
  std::unique_ptr<BlockCache> cache(new BlockCache());
  cache->unnamed_ = unnamed;
  cache->folder_ = folder;
  cache->own_ = folder + "/" + Hex64(identity);
  cache->budget_ = budget_bytes;
  // A little less than what fits, since blocks differ in size; exactly so many, since chance would add its
  // own.
  const double whole = expected_bytes * 1.005 + static_cast<double>(blocks) * static_cast<double>(kHead);
  cache->chosen_ =
      static_cast<int64_t>(static_cast<double>(budget_bytes) / whole * static_cast<double>(blocks));
  cache->choice_.emplace(std::max<int64_t>(blocks, 1), identity);
  HEADRACE_TRY(MakeFolders(cache->own_, /*sync=*/false));
  HEADRACE_TRY(cache->Recount());
  return cache;
}

BlockCache::~BlockCache() = default;

std::string BlockCache::PathOf(int64_t block) const { return own_ + "/" + std::to_string(block) + ".blk"; }

bool BlockCache::Chosen(int64_t block) const {
  return block >= 0 && block < choice_->size() && (*choice_)(block) < chosen_;
}

bool BlockCache::Keeps(int64_t block) const {
  return Chosen(block) && (!full_ || access(PathOf(block).c_str(), R_OK) == 0);
}

// Counts what lies there, so that a count left by a killed process does not stay; makes room from what other
// streams left.
Status BlockCache::Recount() {
  HEADRACE_ASSIGN(const ByteCount count, ByteCount::Lock(folder_));
  int64_t total = 0;
  std::vector<std::string> others;
  EachEntry(folder_, [&](const std::string& name) {
    const std::string path = folder_ + "/" + name;
    EachEntry(path, [&](const std::string& file) {
      if (file.ends_with(".part") && IsOld(path + "/" + file)) unlink((path + "/" + file).c_str());
      if (!IsBlock(file)) return;
      total += FileBytes(path + "/" + file);
      const bool kept = path == own_ && Chosen(std::strtoll(file.c_str(), nullptr, 10));
      if (!kept) others.push_back(path + "/" + file);
    });
  });
  for (const auto& path : others) {
    if (total <= budget_) break;
    total -= FileBytes(path);
    unlink(path.c_str());
  }
  count.Set(total);
  return Status::Ok();
}

Result<store::Bytes> BlockCache::Map(int64_t block) {
  const std::string path = PathOf(block);
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return Status::NotFound(path);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0 || info.st_size < static_cast<off_t>(kHead)) return Status::NotFound(path);
  const auto size = static_cast<int64_t>(info.st_size);
  const auto mapped = MappedFile::Map(fd.get(), size, path);
  if (!mapped.ok()) return Status::NotFound(path);
  const std::shared_ptr<const MappedFile>& owner = *mapped;
  const uint8_t* bytes = owner->data();
  uint64_t payload = 0;
  uint64_t sum = 0;
  std::memcpy(&payload, bytes + 8, 8);
  std::memcpy(&sum, bytes + 16, 8);
  if (std::memcmp(bytes, kBlockMagic, 8) != 0 || payload != static_cast<uint64_t>(size) - kHead ||
      Xxh3(bytes + kHead, payload) != sum) {
    unlink(path.c_str());
    return Status::NotFound(path);
  }
  return store::Bytes(owner, bytes + kHead, static_cast<int64_t>(payload));
}

Status BlockCache::Keep(int64_t block, const std::string& bytes) {
  char head[kHead];
  const uint64_t payload = bytes.size();
  const uint64_t sum = Xxh3(bytes);
  std::copy_n(kBlockMagic, 8, head);
  std::memcpy(head + 8, &payload, 8);
  std::memcpy(head + 16, &sum, 8);
  const auto size = static_cast<int64_t>(bytes.size() + kHead);
  PendingOptions options{.sync = false, .make_folders = false, .unnamed = unnamed_};
  options.name = std::to_string(block) + ".part";  // the block's lock is ours
  auto created = PendingFile::Create(own_, options);
  if (!created.ok()) return created.status().Wrap("cannot write to the cache");
  PendingFile file = std::move(created).value();
  HEADRACE_TRY(WriteAll(file.fd(), {head, kHead}, own_));
  HEADRACE_TRY(WriteAll(file.fd(), bytes, own_));
  HEADRACE_ASSIGN(const ByteCount count, ByteCount::Lock(folder_));
  const int64_t before = count.Get();
  if (before + size > budget_) {
    full_ = true;
    return Status::Limit("the cache is full");
  }
  count.Set(before + size);  // first: a count that is too high keeps the budget
  const Status published = file.Publish(PathOf(block), /*replace=*/false);
  if (!published.ok()) count.Set(before);
  return published;
}

Result<store::Bytes> BlockCache::Load(int64_t block, const std::function<Result<std::string>()>& fetch) {
  auto mapped = Map(block);
  if (!mapped.ok()) {
    const auto turn = FileLock::Take(own_ + "/blocks", {.seconds = kFetchSeconds, .byte = block});
    mapped = Map(block);  // another process may have been faster
    if (!mapped.ok()) {
      HEADRACE_ASSIGN(std::string bytes, fetch());
      miss_bytes_ += static_cast<int64_t>(bytes.size());
      // A full disk or budget, or another process that fetches it for ever, only means that we do not keep
      // it.
      if (turn.ok()) (void)Keep(block, bytes).ok();
      return store::Bytes::FromString(std::move(bytes));
    }
  }
  hit_bytes_ += mapped->size();
  return mapped;
}

Result<store::Bytes> BlockCache::Get(int64_t block, const std::function<Result<std::string>()>& fetch) {
  std::promise<Result<store::Bytes>> promise;
  {
    std::unique_lock lock(mutex_);
    const auto it = loading_.find(block);
    if (it != loading_.end()) {
      const auto future = it->second;
      lock.unlock();
      return future.get();
    }
    loading_[block] = promise.get_future().share();
  }
  auto loaded = Load(block, fetch);
  promise.set_value(loaded);
  const std::lock_guard lock(mutex_);
  loading_.erase(block);
  return loaded;
}

}  // namespace headrace::stream
