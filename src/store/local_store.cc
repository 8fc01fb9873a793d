#include "store/local_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <thread>

#include "base/clock.h"
#include "base/ids.h"

namespace headrace::store {
namespace {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

Status WriteAll(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd, bytes.data(), std::min<size_t>(bytes.size(), 1 << 30));
    if (wrote < 0) {
      if (errno == EINTR) continue;
      return Status::FromErrno(errno, "write", path);
    }
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  return Status::Ok();
}

Status SyncFolder(const std::string& folder) {
  const Fd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok()) return Status::FromErrno(errno, "open folder", folder);
  if (fsync(fd.get()) != 0) return Status::FromErrno(errno, "sync folder", folder);
  return Status::Ok();
}

std::string Parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status MakeFolders(const std::string& folder, bool sync) {
  struct stat info {};
  if (stat(folder.c_str(), &info) == 0) {
    return S_ISDIR(info.st_mode) ? Status::Ok()
                                 : Status::Invalid(folder + " is a file, and a folder is needed there");
  }
  if (errno != ENOENT) return Status::FromErrno(errno, "look at", folder);
  const std::string parent = Parent(folder);
  HEADRACE_TRY(MakeFolders(parent, sync));
  if (mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST)
    return Status::FromErrno(errno, "make folder", folder);
  return sync ? SyncFolder(parent) : Status::Ok();
}

class MappedReader final : public ObjectReader {
 public:
  MappedReader(std::string key, std::shared_ptr<const void> map, const uint8_t* data, int64_t size)
      : ObjectReader(std::move(key), size), all_(std::move(map), data, size) {}
  bool is_mapped() const override { return true; }

 protected:
  Result<Bytes> DoRead(int64_t offset, int64_t length) override { return all_.Slice(offset, length); }

 private:
  Bytes all_;
};

// A file without a name until it is linked: a killed writer leaves nothing behind. Where the file system has
// no O_TMPFILE, a hidden name stands in.
class PendingFile {
 public:
  static Result<PendingFile> Create(const std::string& folder, const LocalOptions& options) {
    PendingFile file;
    file.folder_ = folder;
    file.sync_ = options.sync;
    file.sync_folder_ = options.sync_folder;
    file.fd_ = Fd(open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666));
    if (!file.fd_.ok() && errno == ENOENT) {
      HEADRACE_TRY(MakeFolders(folder, options.sync));
      file.fd_ = Fd(open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666));
    }
    if (!file.fd_.ok() && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
      file.name_ = folder + "/.pending-" + Uuid::Random().ToString();
      file.fd_ = Fd(open(file.name_.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666));
    }
    if (!file.fd_.ok()) return Status::FromErrno(errno, "write into", folder);
    return file;
  }
  PendingFile(PendingFile&& other) noexcept { *this = std::move(other); }
  PendingFile& operator=(PendingFile&& other) noexcept {
    fd_ = std::move(other.fd_);
    folder_ = std::move(other.folder_);
    name_ = std::exchange(other.name_, {});
    sync_ = other.sync_;
    sync_folder_ = std::move(other.sync_folder_);
    return *this;
  }
  ~PendingFile() {
    if (!name_.empty()) unlink(name_.c_str());
  }

  int fd() const { return fd_.get(); }

  // Gives the file its name. `replace`: take the place of an existing one; otherwise AlreadyExists.
  Status Publish(const std::string& path, bool replace) {
    if (sync_ && fsync(fd_.get()) != 0) return Status::FromErrno(errno, "sync", path);
    if (replace) {
      const std::string temporary = folder_ + "/.pending-" + Uuid::Random().ToString();
      HEADRACE_TRY(Link(temporary));
      if (rename(temporary.c_str(), path.c_str()) != 0) {
        const Status failed = Status::FromErrno(errno, "rename to", path);
        unlink(temporary.c_str());
        return failed;
      }
    } else {
      HEADRACE_TRY(Link(path));
    }
    const Status synced = sync_ ? SyncName() : Status::Ok();
    if (synced.ok()) return synced;
    // Everybody sees it, so it did not fail; whether a power cut takes it back, nobody knows.
    return Status::Unknown(path +
                           " is written, but the disk did not confirm that its name is kept; a power cut "
                           "may lose it")
        .Wrap(synced.ToString());
  }

 private:
  PendingFile() = default;

  Status SyncName() const {
    if (!sync_folder_) return SyncFolder(folder_);
    const Fd fd(open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return sync_folder_(fd.get()) == 0 ? Status::Ok() : Status::FromErrno(errno, "sync folder", folder_);
  }

  Status Link(const std::string& path) {
    int failed = 0;
    if (name_.empty()) {
      const std::string self = "/proc/self/fd/" + std::to_string(fd_.get());
      failed = linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW);
    } else {
      failed = link(name_.c_str(), path.c_str());
      if (failed != 0 && (errno == EPERM || errno == EOPNOTSUPP)) {
        failed = renameat2(AT_FDCWD, name_.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE);
        if (failed == 0) name_.clear();
      }
    }
    return failed == 0 ? Status::Ok() : Status::FromErrno(errno, "create", path);
  }

  Fd fd_;
  std::string folder_;
  std::string name_;  // empty: the file has no name yet
  bool sync_ = true;
  std::function<int(int)> sync_folder_;
};

class LocalUpload final : public Upload {
 public:
  LocalUpload(PendingFile file, std::string path, bool sync)
      : file_(std::move(file)), path_(std::move(path)), sync_(sync) {}
  Status Append(std::string_view bytes) override {
    HEADRACE_TRY(WriteAll(file_.fd(), bytes, path_));
    written_ += static_cast<int64_t>(bytes.size());
    // The disk starts early, so that the fsync at the end finds little left to wait for.
    if (sync_ && written_ - started_ >= kWriteBehind) {
      sync_file_range(file_.fd(), started_, written_ - started_, SYNC_FILE_RANGE_WRITE);
      started_ = written_;
    }
    return Status::Ok();
  }
  Status Commit() override { return file_.Publish(path_, /*replace=*/false); }

 private:
  static constexpr int64_t kWriteBehind = 8 << 20;
  PendingFile file_;
  std::string path_;
  bool sync_;
  int64_t started_ = 0;  // bytes whose way to the disk has begun
};

class LocalStore final : public ObjectStore {
 public:
  LocalStore(std::string root, LocalOptions options) : root_(std::move(root)), options_(options) {}

  std::string Describe() const override { return root_; }
  std::optional<std::string> LocalPath(std::string_view key) const override { return Path(key); }

  Result<Bytes> Get(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const std::string path = Path(key);
    const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.ok()) return Status::FromErrno(errno, "read", path);
    struct stat info {};
    if (fstat(fd.get(), &info) != 0) return Status::FromErrno(errno, "look at", path);
    std::string text(static_cast<size_t>(info.st_size), '\0');
    size_t filled = 0;
    while (filled < text.size()) {
      const ssize_t got = read(fd.get(), text.data() + filled, text.size() - filled);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Status::FromErrno(errno, "read", path);
      if (got == 0) return Status::Corrupt(path + " became shorter while it was read");
      filled += static_cast<size_t>(got);
    }
    return Bytes::FromString(std::move(text));
  }

  Result<Bytes> GetRange(std::string_view key, ByteRange range) override {
    HEADRACE_ASSIGN(auto reader, Open(key));
    return reader->Read(range.offset, range.length);
  }

  Result<std::shared_ptr<ObjectReader>> Open(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const std::string path = Path(key);
    const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.ok()) return Status::FromErrno(errno, "open", path);
    struct stat info {};
    if (fstat(fd.get(), &info) != 0) return Status::FromErrno(errno, "look at", path);
    const auto size = static_cast<size_t>(info.st_size);
    if (size == 0)
      return std::shared_ptr<ObjectReader>(new MappedReader(std::string(key), nullptr, nullptr, 0));
    void* map = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (map == MAP_FAILED) return Status::FromErrno(errno, "map", path);
    const std::shared_ptr<const void> owner(map,
                                            [size](const void* p) { munmap(const_cast<void*>(p), size); });
    return std::shared_ptr<ObjectReader>(
        new MappedReader(std::string(key), owner, static_cast<const uint8_t*>(map), info.st_size));
  }

  Result<bool> Exists(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const std::string path = Path(key);
    if (access(path.c_str(), F_OK) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return Status::FromErrno(errno, "look at", path);
  }

  Status Put(std::string_view key, std::string_view bytes) override {
    return Write(key, bytes, /*replace=*/true);
  }
  Status PutIfAbsent(std::string_view key, std::string_view bytes) override {
    return Write(key, bytes, /*replace=*/false);
  }

  Result<std::unique_ptr<Upload>> StartUpload(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const std::string path = Path(key);
    HEADRACE_ASSIGN(auto file, PendingFile::Create(Parent(path), options_));
    return std::unique_ptr<Upload>(new LocalUpload(std::move(file), path, options_.sync));
  }

  Status Delete(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const std::string path = Path(key);
    if (unlink(path.c_str()) == 0 || errno == ENOENT || errno == ENOTDIR) return Status::Ok();
    return Status::FromErrno(errno, "delete", path);
  }

  Result<std::vector<ObjectInfo>> List(std::string_view prefix, std::string_view start_after,
                                       int64_t limit) override {
    std::vector<ObjectInfo> found;
    const size_t slash = prefix.rfind('/');
    const std::string folder =
        slash == std::string_view::npos ? "" : std::string(prefix.substr(0, slash + 1));
    HEADRACE_TRY(Walk(folder, prefix, start_after, &found));
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
    if (static_cast<int64_t>(found.size()) > limit) found.resize(static_cast<size_t>(limit));
    return found;
  }

  std::shared_ptr<void> CourtesyLock(std::string_view key) override {
    const std::string path = Path(key);
    auto fd = std::make_shared<Fd>(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (!fd->ok()) return nullptr;
    // Waiting is bounded: a holder that was stopped, not killed, must not stop everybody else.
    const double deadline = MonotonicSeconds() + kCourtesySeconds;
    while (flock(fd->get(), LOCK_EX | LOCK_NB) != 0) {
      if ((errno != EWOULDBLOCK && errno != EINTR) || MonotonicSeconds() > deadline) return nullptr;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return fd;
  }

 private:
  static constexpr double kCourtesySeconds = 2;
  std::string Path(std::string_view key) const { return root_ + "/" + std::string(key); }

  Status Write(std::string_view key, std::string_view bytes, bool replace) {
    HEADRACE_TRY(ValidateKey(key));
    const std::string path = Path(key);
    HEADRACE_ASSIGN(auto file, PendingFile::Create(Parent(path), options_));
    HEADRACE_TRY(WriteAll(file.fd(), bytes, path));
    return file.Publish(path, replace);
  }

  Status Walk(const std::string& folder, std::string_view prefix, std::string_view start_after,
              std::vector<ObjectInfo>* found) {
    const std::string path = folder.empty() ? root_ : Path(folder.substr(0, folder.size() - 1));
    DIR* raw = opendir(path.c_str());
    if (raw == nullptr) return errno == ENOENT ? Status::Ok() : Status::FromErrno(errno, "list", path);
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(raw, closedir);
    while (const dirent* entry = readdir(dir.get())) {
      const std::string name = entry->d_name;
      if (name.starts_with('.')) continue;
      const std::string key = folder + name;
      struct stat info {};
      if (fstatat(dirfd(dir.get()), entry->d_name, &info, 0) != 0) continue;  // deleted meanwhile
      if (S_ISDIR(info.st_mode)) {
        const std::string inside = key + "/";
        const bool on_path = inside.starts_with(prefix) || prefix.starts_with(inside);
        const bool not_passed = inside > start_after || start_after.starts_with(inside);
        if (on_path && not_passed) HEADRACE_TRY(Walk(inside, prefix, start_after, found));
      } else if (key.starts_with(prefix) && key > start_after) {
        found->push_back({key, info.st_size, info.st_mtim.tv_sec * 1'000'000 + info.st_mtim.tv_nsec / 1000});
      }
    }
    return Status::Ok();
  }

  std::string root_;
  LocalOptions options_;
};

}  // namespace

Result<std::shared_ptr<ObjectStore>> OpenLocalStore(const std::string& folder, LocalOptions options) {
  if (folder.empty()) return Status::Invalid("a local store needs a folder");
  std::string root = folder;
  while (root.size() > 1 && root.back() == '/') root.pop_back();
  HEADRACE_TRY(MakeFolders(root, options.sync));
  char* real = realpath(root.c_str(), nullptr);
  if (real == nullptr) return Status::FromErrno(errno, "open", root);
  root = real;
  free(real);
  return std::shared_ptr<ObjectStore>(new LocalStore(root, options));
}

}  // namespace headrace::store
