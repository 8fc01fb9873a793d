#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/clock.h"
#include "base/ids.h"

namespace headrace {
namespace {

// A folder may be made so often, and be removed before it is used: others remove those that are empty.
constexpr int kMostTries = 100;

// Whoever removes the folder may be held up in the middle, with its name still there.
void PauseBeforeTry(int tries) { std::this_thread::sleep_for(std::chrono::microseconds(100 * tries)); }

// What open(2) says of O_TMPFILE where the file system has none.
bool NoUnnamedFiles(int error) { return error == EOPNOTSUPP || error == EISDIR || error == EINVAL; }

// What open(2) says where the folder is gone; ext4 says EPERM of O_TMPFILE in one that is removed meanwhile.
bool FolderIsGone(int error) { return error == ENOENT || error == EPERM; }

bool TryLock(int fd, int64_t byte) {
  if (byte < 0) return flock(fd, LOCK_EX | LOCK_NB) == 0;
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

// Whoever removes a folder removes its lock file too: a lock on a file that the path no longer names holds
// nothing.
bool StillNamed(int fd, const std::string& path) {
  struct stat held {
  }, named{};
  return fstat(fd, &held) == 0 && stat(path.c_str(), &named) == 0 && held.st_ino == named.st_ino &&
         held.st_dev == named.st_dev;
}

// " by process 1234 (headrace)" where /proc/locks tells, else nothing. Locks of single bytes belong to open
// files, of which the system does not say whose they are.
std::string HolderOf(int fd) {
  struct stat info {};
  const auto locks = ReadFile("/proc/locks");
  if (fstat(fd, &info) != 0 || !locks.ok()) return "";
  const std::string inode = ":" + std::to_string(info.st_ino) + " ";
  for (size_t begin = 0; begin < locks->size();) {
    const size_t end = std::min(locks->find('\n', begin), locks->size());
    const std::string line = locks->substr(begin, end - begin);
    begin = end + 1;
    // "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"; waiting ones have an arrow.
    int pid = 0;
    if (line.find("FLOCK") == std::string::npos || line.find("->") != std::string::npos ||
        line.find(inode) == std::string::npos ||
        std::sscanf(line.c_str(), "%*d: FLOCK %*s %*s %d", &pid) != 1 || pid <= 0) {
      continue;
    }
    auto name = ReadFile("/proc/" + std::to_string(pid) + "/comm");
    if (!name.ok()) return " by process " + std::to_string(pid);
    while (!name->empty() && name->back() == '\n') name->pop_back();
    return " by process " + std::to_string(pid) + " (" + *name + ")";
  }
  return "";
}

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) close(fd_);
}

Status WriteAll(int fd, std::string_view bytes, std::string_view path) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd, bytes.data(), std::min<size_t>(bytes.size(), 1 << 30));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return Status::FromErrno(wrote < 0 ? errno : ENOSPC, "write", path);
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  return Status::Ok();
}

Result<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return Status::FromErrno(errno, "read", path);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return Status::FromErrno(errno, "look at", path);
  // One byte more than the file says that it has: the read that fills less than it was given is the last.
  std::string text(static_cast<size_t>(std::max<int64_t>(info.st_size, 0)) + 1, '\0');
  size_t filled = 0;
  for (;;) {
    const ssize_t got = read(fd.get(), text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::FromErrno(errno, "read", path);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
    if (static_cast<int64_t>(filled) > max_bytes) {
      return Status::Limit(path + " has more than " + std::to_string(max_bytes) + " bytes");
    }
    if (filled == text.size()) text.resize(text.size() + (64 << 10));
  }
  text.resize(filled);
  return text;
}

std::string ParentFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status SyncFolder(const std::string& folder) {
  const Fd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok()) return Status::FromErrno(errno, "open folder", folder);
  if (fsync(fd.get()) != 0) return Status::FromErrno(errno, "sync folder", folder);
  return Status::Ok();
}

Status MakeFolders(const std::string& folder, bool sync) {
  struct stat info {};
  if (stat(folder.c_str(), &info) == 0) {
    return S_ISDIR(info.st_mode) ? Status::Ok()
                                 : Status::Invalid(folder + " is a file, and a folder is needed there");
  }
  if (errno != ENOENT) return Status::FromErrno(errno, "look at", folder);
  const std::string parent = ParentFolder(folder);
  for (int tries = 0;; ++tries) {
    HEADRACE_TRY(MakeFolders(parent, sync));
    if (mkdir(folder.c_str(), 0777) == 0 || errno == EEXIST) break;
    if (errno != ENOENT || tries == kMostTries) return Status::FromErrno(errno, "make folder", folder);
    PauseBeforeTry(tries);
  }
  return sync ? SyncFolder(parent) : Status::Ok();
}

void RemoveEmptyFolder(const std::string& folder) { (void)rmdir(folder.c_str()); }

Result<PendingFile> PendingFile::Create(const std::string& folder, const PendingOptions& options) {
  PendingFile file;
  file.folder_ = folder;
  file.options_ = options;
  const auto open_unnamed = [&] {
    if (!options.unnamed) errno = EOPNOTSUPP;
    file.fd_ =
        options.unnamed ? Fd(open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, options.mode)) : Fd();
  };
  open_unnamed();
  for (int tries = 0; !file.fd_.ok() && FolderIsGone(errno) && options.make_folders && tries < kMostTries;
       ++tries) {
    PauseBeforeTry(tries);
    HEADRACE_TRY(MakeFolders(folder, options.sync));
    open_unnamed();
  }
  if (!file.fd_.ok() && NoUnnamedFiles(errno)) {
    const bool own = options.name.empty();
    file.name_ = folder + "/" + (own ? ".pending-" + Uuid::Random().ToString() : options.name);
    const int flags = O_CREAT | (own ? O_EXCL : O_TRUNC) | O_WRONLY | O_CLOEXEC;
    for (int tries = 0; !file.fd_.ok() && tries < kMostTries; ++tries) {
      PauseBeforeTry(tries);
      if (options.make_folders) HEADRACE_TRY(MakeFolders(folder, options.sync));
      file.fd_ = Fd(open(file.name_.c_str(), flags, options.mode));
      if (!file.fd_.ok() && (errno != ENOENT || !options.make_folders)) break;
    }
    if (!file.fd_.ok()) file.name_.clear();
  }
  if (!file.fd_.ok()) return Status::FromErrno(errno, "write into", folder);
  return file;
}

PendingFile& PendingFile::operator=(PendingFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(folder_, other.folder_);
  std::swap(name_, other.name_);
  std::swap(options_, other.options_);
  return *this;
}

PendingFile::~PendingFile() {
  if (!name_.empty()) unlink(name_.c_str());
}

Status PendingFile::Publish(const std::string& path, bool replace) {
  if (options_.sync && fsync(fd_.get()) != 0) return Status::FromErrno(errno, "sync", path);
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
  const Status synced = options_.sync ? SyncName() : Status::Ok();
  if (synced.ok()) return synced;
  // Everybody sees it, so it did not fail; whether a power cut takes it back, nobody knows.
  return Status::Unknown(path +
                         " is written, but the disk did not confirm that its name is kept; a power cut "
                         "may lose it")
      .Wrap(synced.ToString());
}

Status PendingFile::SyncName() const {
  if (!options_.sync_folder) return SyncFolder(folder_);
  const Fd fd(open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return options_.sync_folder(fd.get()) == 0 ? Status::Ok()
                                             : Status::FromErrno(errno, "sync folder", folder_);
}

Status PendingFile::Link(const std::string& path) {
  Status linked = TryLink(path);
  for (int tries = 0; linked.Is(Code::kNotFound) && options_.make_folders && tries < kMostTries; ++tries) {
    PauseBeforeTry(tries);
    HEADRACE_TRY(MakeFolders(ParentFolder(path), options_.sync));
    linked = TryLink(path);
  }
  return linked;
}

Status PendingFile::TryLink(const std::string& path) {
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

Status ReplaceFile(const std::string& path, std::string_view bytes, bool sync, int mode) {
  HEADRACE_ASSIGN(auto file, PendingFile::Create(ParentFolder(path), {.sync = sync, .mode = mode}));
  HEADRACE_TRY(WriteAll(file.fd(), bytes, path));
  return file.Publish(path, /*replace=*/true);
}

Result<Fd> OpenTemporaryFile() {
  const char* chosen = getenv("TMPDIR");
  const std::string folder = chosen != nullptr && *chosen != '\0' ? chosen : "/tmp";
  Fd fd(open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd.ok() && NoUnnamedFiles(errno)) {
    std::string name = folder + "/headrace-XXXXXX";
    fd = Fd(mkostemp(name.data(), O_CLOEXEC));
    if (fd.ok()) unlink(name.c_str());
  }
  if (!fd.ok()) return Status::FromErrno(errno, "make a temporary file (TMPDIR says where) in", folder);
  return fd;
}

Result<FileLock> FileLock::Take(const std::string& path, const LockOptions& options) {
  const double deadline = MonotonicSeconds() + options.seconds;
  Fd fd;
  for (int64_t wait_us = 200;; wait_us = std::min<int64_t>(wait_us * 2, 5'000)) {
    if (!fd.ok()) fd = Fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, options.mode));
    if (!fd.ok()) return Status::FromErrno(errno, "open the lock", path);
    if (TryLock(fd.get(), options.byte)) {
      if (StillNamed(fd.get(), path)) return FileLock(std::move(fd));
      fd = Fd();
      continue;
    }
    if (errno != EWOULDBLOCK && errno != EACCES && errno != EINTR) {
      return Status::FromErrno(errno, "lock", path);
    }
    if (MonotonicSeconds() >= deadline) {
      return Status::Timeout(path + " is locked" + (options.byte < 0 ? HolderOf(fd.get()) : ""));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(wait_us));
  }
}

bool IsLocked(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return fd.ok() && flock(fd.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

}  // namespace headrace
