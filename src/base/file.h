// Files of the operating system: what every writer of local files needs, once. Objects of a catalog are
// store/object_store.h, not this.
//
// How a file becomes durable: its bytes are fsynced, it gets its name (link or rename), its folder is
// fsynced. A name whose folder was not fsynced may be lost in a power cut, though everybody sees it before.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace headrace {

// Owns a file descriptor: the destructor closes it.
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
  ~Fd();
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Writes all of the bytes at the current offset. `path` names the file in the error.
Status WriteAll(int fd, std::string_view bytes, std::string_view path);

// Reads the whole file, also a pipe or one in /proc. Limit where it has more than `max_bytes`.
Result<std::string> ReadFile(const std::string& path, int64_t max_bytes = INT64_MAX);

// "." for a name without a folder.
std::string ParentFolder(const std::string& path);
// With all above it. `sync`: each new one's name is durable when this returns. Ok where it is there.
Status MakeFolders(const std::string& folder, bool sync);
Status SyncFolder(const std::string& folder);
// Where it has nothing in it. Whoever writes into it meanwhile makes it again (PendingFile).
void RemoveEmptyFolder(const std::string& folder);

struct PendingOptions {
  bool sync = true;          // durable once published; false: as the system likes
  bool make_folders = true;  // the folder, where it is missing
  int mode = 0666;           // less the umask
  bool unnamed = true;       // false: as on a file system without O_TMPFILE (tests)
  // Its name in the folder while it is written, where the file system has no O_TMPFILE: a file of that name
  // is written over, so whoever gives one has it alone. Empty: a hidden one that nobody else has.
  std::string name;
  std::function<int(int fd)> sync_folder;  // instead of fsync(2) of the folder (tests); empty: fsync
};

// A file that gets its name once it is complete, so that a killed writer leaves nothing behind (O_TMPFILE).
// Where the file system lacks O_TMPFILE, it has a temporary name until then.
class PendingFile {
 public:
  static Result<PendingFile> Create(const std::string& folder, const PendingOptions& options);
  PendingFile(PendingFile&& other) noexcept { *this = std::move(other); }
  PendingFile& operator=(PendingFile&& other) noexcept;
  ~PendingFile();

  int fd() const { return fd_.get(); }  // for writing only

  // Gives the file its name, in the folder that it was created in. `replace`: take the place of another;
  // otherwise AlreadyExists. Unknown: the name is there, and the disk did not confirm that it stays.
  Status Publish(const std::string& path, bool replace);

 private:
  PendingFile() = default;
  Status SyncName() const;
  Status Link(const std::string& path);
  Status TryLink(const std::string& path);

  Fd fd_;
  std::string folder_;
  std::string name_;  // empty: the file has no name yet
  PendingOptions options_;
};

// Replaces a small file atomically: readers see the old contents or the new. Makes its folder.
Status ReplaceFile(const std::string& path, std::string_view bytes, bool sync, int mode = 0666);

// A file without a name, open for reading and writing, gone with its last descriptor. In TMPDIR, else /tmp.
Result<Fd> OpenTemporaryFile();

struct LockOptions {
  double seconds = 0;  // seconds to wait at most; 0: try once
  int64_t byte = -1;   // lock only this byte of the file: as many locks as there are numbers
  int mode = 0666;     // of the file, where it is made
};

// An advisory lock on a file, between processes and between threads (each has an open of its own). Held until
// it is destroyed, and freed by the system where its process dies.
class FileLock {
 public:
  // Makes the file where there is none; its folder must be there. Timeout where another holds it: the message
  // names that process as far as the system knows it. NotFound where the folder is not there.
  static Result<FileLock> Take(const std::string& path, const LockOptions& options = {});

  int fd() const { return fd_.get(); }  // of the file, for whoever keeps a word in it

 private:
  explicit FileLock(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

// Whether somebody holds the lock of such a file. Those who ask do not disturb one another, nor for longer
// than a moment whoever wants to take it. False where there is no file.
bool IsLocked(const std::string& path);

}  // namespace headrace
