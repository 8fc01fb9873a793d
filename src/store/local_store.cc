#include "store/local_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "base/mapped_file.h"

namespace headrace::store {
namespace {

class MappedReader final : public ObjectReader {
 public:
  // `file`: null for an empty one.
  MappedReader(std::string key, std::shared_ptr<const MappedFile> file)
      : ObjectReader(std::move(key), file ? file->size() : 0), file_(std::move(file)) {
    if (file_) all_ = Bytes(file_, file_->data(), file_->size());
  }
  bool is_mapped() const override { return true; }
  Status CheckWhole() const override { return file_ ? file_->CheckWhole() : Status::Ok(); }

 protected:
  Result<Bytes> DoRead(int64_t offset, int64_t length) override {
    if (file_ && file_->is_torn()) return file_->CheckWhole();
    return all_.Slice(offset, length);
  }

 private:
  std::shared_ptr<const MappedFile> file_;
  Bytes all_;
};

class LocalUpload final : public Upload {
 public:
  LocalUpload(PendingFile file, std::string path, bool sync)
      : file_(std::move(file)), path_(std::move(path)), sync_(sync) {}
  Status Append(std::string_view bytes) override {
    HEADRACE_TRY(WriteAll(file_.fd(), bytes, path_));
    written_ += static_cast<int64_t>(bytes.size());
    // Starts writeback early, so that the fsync at the end has little left to wait for.
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
  int64_t started_ = 0;  // bytes whose writeback was started
};

class LocalStore final : public ObjectStore {
 public:
  LocalStore(std::string root, LocalOptions options) : root_(std::move(root)), options_(options) {}

  std::string Describe() const override { return root_; }
  std::optional<std::string> LocalPath(std::string_view key) const override { return Path(key); }

  Result<Bytes> Get(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const std::string path = Path(key);
    HEADRACE_ASSIGN(std::string text, ReadFile(path));
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
    std::shared_ptr<const MappedFile> file;
    if (info.st_size > 0) {
      HEADRACE_ASSIGN(file, MappedFile::Map(fd.get(), info.st_size, path));
    }
    return std::shared_ptr<ObjectReader>(new MappedReader(std::string(key), std::move(file)));
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
    HEADRACE_ASSIGN(auto file, PendingFile::Create(ParentFolder(path), Pending()));
    return std::unique_ptr<Upload>(new LocalUpload(std::move(file), path, options_.sync));
  }

  Status Delete(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const std::string path = Path(key);
    if (unlink(path.c_str()) == 0) {
      const std::string folder = ParentFolder(path);
      if (folder.size() > root_.size()) RemoveEmptyFolder(folder);
      return Status::Ok();
    }
    if (errno == ENOENT || errno == ENOTDIR) return Status::Ok();
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
    // Waiting is bounded: a holder that was stopped, not killed, must not stop everybody else.
    auto lock = FileLock::Take(Path(key), {.seconds = kCourtesySeconds});
    return lock.ok() ? std::make_shared<FileLock>(std::move(lock).value()) : nullptr;
  }

 private:
  static constexpr double kCourtesySeconds = 2;
  std::string Path(std::string_view key) const { return root_ + "/" + std::string(key); }
  PendingOptions Pending() const { return {.sync = options_.sync, .sync_folder = options_.sync_folder}; }

  Status Write(std::string_view key, std::string_view bytes, bool replace) {
    HEADRACE_TRY(ValidateKey(key));
    const std::string path = Path(key);
    HEADRACE_ASSIGN(auto file, PendingFile::Create(ParentFolder(path), Pending()));
    HEADRACE_TRY(WriteAll(file.fd(), bytes, path));
    return file.Publish(path, replace);
  }

  Status Walk(const std::string& folder, std::string_view prefix, std::string_view start_after,
              std::vector<ObjectInfo>* found) {
    const std::string path = folder.empty() ? root_ : Path(folder.substr(0, folder.size() - 1));
    DIR* raw = opendir(path.c_str());
    if (raw == nullptr) return errno == ENOENT ? Status::Ok() : Status::FromErrno(errno, "list", path);
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(raw, closedir);
    for (;;) {
      errno = 0;
      const dirent* entry = readdir(dir.get());
      if (entry == nullptr && errno != 0) return Status::FromErrno(errno, "list", path);
      if (entry == nullptr) break;
      const std::string name = entry->d_name;
      if (name.starts_with('.')) continue;
      const std::string key = folder + name;
      struct stat info {};
      if (fstatat(dirfd(dir.get()), entry->d_name, &info, 0) != 0) {
        if (errno == ENOENT) continue;  // deleted meanwhile
        return Status::FromErrno(errno, "look at", Path(key));
      }
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
