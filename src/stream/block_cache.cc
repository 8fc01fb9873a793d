#include "stream/block_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/hash.h"

namespace headrace::stream {
namespace {

constexpr char kMagic[] = "HRBLK001";
constexpr size_t kHead = 24;  // magic, payload bytes, XXH3-64 of the payload

class FileLock {  // over a whole file, between processes and threads (an open of its own)
 public:
  explicit FileLock(const std::string& path) : fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (fd_ >= 0) {
      while (flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
      }
    }
  }
  ~FileLock() {
    if (fd_ >= 0) close(fd_);
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  int64_t Count() const {
    int64_t bytes = 0;
    return pread(fd_, &bytes, sizeof bytes, 0) == sizeof bytes ? bytes : 0;
  }
  void SetCount(int64_t bytes) const {
    if (pwrite(fd_, &bytes, sizeof bytes, 0) != sizeof bytes) (void)ftruncate(fd_, 0);
  }

 private:
  int fd_;
};

// One block, between processes: an open-file-description lock on one byte, freed with the process.
class BlockLock {
 public:
  BlockLock(const std::string& path, int64_t block)
      : fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (fd_ < 0) return;
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = block;
    lock.l_len = 1;
    while (fcntl(fd_, F_OFD_SETLKW, &lock) != 0 && errno == EINTR) {
    }
  }
  ~BlockLock() {
    if (fd_ >= 0) close(fd_);
  }
  BlockLock(const BlockLock&) = delete;
  BlockLock& operator=(const BlockLock&) = delete;

 private:
  int fd_;
};

Status MakeFolder(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), 0777) != 0 && errno != EEXIST)
      return Status::FromErrno(errno, "make the folder", part);
    if (slash == std::string::npos) return Status::Ok();
  }
}

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

// Not written to within the hour.
bool IsOld(const std::string& path) {
  constexpr time_t kHour = 3600;
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && info.st_mtime < time(nullptr) - kHour;
}

int64_t FileBytes(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 ? info.st_size : 0;
}

bool WriteAll(int fd, const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t n = write(fd, data, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
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
  HEADRACE_TRY(MakeFolder(cache->own_));
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
  const FileLock lock(folder_ + "/lock");
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
  lock.SetCount(total);
  return Status::Ok();
}

Result<store::Bytes> BlockCache::Map(int64_t block) {
  const std::string path = PathOf(block);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Status::NotFound(path);
  struct stat info {};
  void* data = MAP_FAILED;
  if (fstat(fd, &info) == 0 && info.st_size >= static_cast<off_t>(kHead)) {
    data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_SHARED, fd, 0);
  }
  close(fd);
  const auto size = static_cast<int64_t>(info.st_size);
  if (data == MAP_FAILED) return Status::NotFound(path);
  const std::shared_ptr<const void> owner(data, [size](void* p) { munmap(p, static_cast<size_t>(size)); });
  const auto* bytes = static_cast<const uint8_t*>(data);
  uint64_t payload = 0;
  uint64_t sum = 0;
  std::memcpy(&payload, bytes + 8, 8);
  std::memcpy(&sum, bytes + 16, 8);
  if (std::memcmp(bytes, kMagic, 8) != 0 || payload != static_cast<uint64_t>(size) - kHead ||
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
  std::copy_n(kMagic, 8, head);
  std::memcpy(head + 8, &payload, 8);
  std::memcpy(head + 16, &sum, 8);
  const auto size = static_cast<int64_t>(bytes.size() + kHead);
  std::string part;  // its name while it is written; "": none
  int fd = unnamed_ ? open(own_.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666) : -1;
  if (fd < 0 && (!unnamed_ || errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    part = own_ + "/" + std::to_string(block) + ".part";  // the block's lock is ours
    fd = open(part.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
  }
  if (fd < 0) return Status::FromErrno(errno, "write to the cache in", own_);
  Status status;
  if (!WriteAll(fd, head, kHead) || !WriteAll(fd, bytes.data(), bytes.size())) {
    status = Status::FromErrno(errno, "write to the cache in", own_);
  } else {
    const FileLock lock(folder_ + "/lock");
    const int64_t count = lock.Count();
    if (count + size > budget_) {
      status = Status::Limit("the cache is full");
      full_ = true;
    } else {
      lock.SetCount(count + size);  // first: a count that is too high keeps the budget
      status = Publish(fd, part, block);
      if (!status.ok()) lock.SetCount(count);
    }
  }
  if (!status.ok() && !part.empty()) unlink(part.c_str());
  close(fd);
  return status;
}

Status BlockCache::Publish(int fd, const std::string& part, int64_t block) const {
  const std::string path = PathOf(block);
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const int done = part.empty() ? linkat(AT_FDCWD, link.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW)
                                : rename(part.c_str(), path.c_str());
  return done == 0 ? Status::Ok() : Status::FromErrno(errno, "keep a block in", own_);
}

Result<store::Bytes> BlockCache::Load(int64_t block, const std::function<Result<std::string>()>& fetch) {
  auto mapped = Map(block);
  if (!mapped.ok()) {
    const BlockLock turn(own_ + "/blocks", block);
    mapped = Map(block);  // another process may have been faster
    if (!mapped.ok()) {
      HEADRACE_ASSIGN(std::string bytes, fetch());
      miss_bytes_ += static_cast<int64_t>(bytes.size());
      // A full disk or budget only means that this block is not kept.
      (void)Keep(block, bytes).ok();
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
