#include "trace/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "base/file.h"
#include "base/hash.h"

namespace headrace::trace {
namespace {

constexpr size_t kMagicBytes = 8;
constexpr char kWrittenMagic[] = "HRSPOOL1";
constexpr char kMappedMagic[] = "HRSPOOL2";
constexpr int64_t kWrittenHeader = 16;  // magic, segment number
constexpr int64_t kMappedHeader = 32;   // magic, segment number, used, nothing yet
constexpr int64_t kUsedAt = 16;

struct Frame {
  uint32_t length;
  uint64_t sum;
  uint8_t kind;
};

// The checksum covers the record's position too: a record copied elsewhere is invalid.
uint64_t Sum(Position at, uint8_t kind, std::string_view payload) {
  const uint64_t parts[3] = {Xxh3(payload), static_cast<uint64_t>(at.sequence()), kind};
  return Xxh3(parts, sizeof parts);
}

void Encode(const Frame& frame, char* to) {
  std::memcpy(to, &frame.length, 4);
  std::memcpy(to + 4, &frame.sum, 8);
  to[12] = static_cast<char>(frame.kind);
}

Frame Decode(const char* from) {
  Frame frame{};
  std::memcpy(&frame.length, from, 4);
  std::memcpy(&frame.sum, from + 4, 8);
  frame.kind = static_cast<uint8_t>(from[12]);
  return frame;
}

void EncodeHeader(const char* magic, int64_t number, char* to) {
  const auto value = static_cast<uint64_t>(number);
  std::memcpy(to, magic, kMagicBytes);
  std::memcpy(to + kMagicBytes, &value, sizeof value);
}

Status TooLarge(size_t bytes) {
  return Status::Limit("a record of " + std::to_string(bytes) +
                       " bytes is larger than the limit (kMaxRecordBytes)");
}

class WrittenSegment final : public SegmentWriter {
 public:
  WrittenSegment(Fd file, std::string path, int64_t number, int64_t bytes)
      : file_(std::move(file)), path_(std::move(path)), end_{number, kWrittenHeader}, bytes_(bytes) {}

  Status Append(Kind kind, std::string_view payload) override {
    if (static_cast<int64_t>(payload.size()) > kMaxRecordBytes) return TooLarge(payload.size());
    std::string bytes(kFrameBytes, '\0');
    const auto tag = static_cast<uint8_t>(kind);
    Encode({static_cast<uint32_t>(payload.size()), Sum(end_, tag, payload), tag}, bytes.data());
    bytes += payload;
    if (Status wrote = WriteAll(file_.get(), bytes, path_); !wrote.ok()) {
      // Readers stop at a partial record, so it is cut off before more are appended.
      torn_ = ftruncate(file_.get(), end_.offset) != 0 ||
              lseek(file_.get(), end_.offset, SEEK_SET) != end_.offset;
      return wrote;
    }
    end_.offset += static_cast<int64_t>(bytes.size());
    return Status::Ok();
  }
  Position end() const override { return end_; }
  int64_t room() const override { return bytes_ - end_.offset; }
  bool given_up() const override { return torn_; }
  Status Sync() override {
    return fdatasync(file_.get()) == 0 ? Status::Ok() : Status::FromErrno(errno, "sync", path_);
  }

 private:
  Fd file_;
  std::string path_;
  Position end_;
  int64_t bytes_;
  bool torn_ = false;  // the last write left bytes that could not be taken back
};

class MappedSegment final : public SegmentWriter {
 public:
  MappedSegment(Fd file, std::string path, int64_t number, char* data, int64_t bytes)
      : file_(std::move(file)),
        path_(std::move(path)),
        data_(data),
        bytes_(bytes),
        end_{number, kMappedHeader} {}
  ~MappedSegment() override {
    munmap(data_, static_cast<size_t>(bytes_));
    // Gives back what was reserved and not used. A fork has this object too, and its parent goes on.
    if (getpid() == owner_) (void)!ftruncate(file_.get(), end_.offset);
  }

  Status Append(Kind kind, std::string_view payload) override {
    if (static_cast<int64_t>(payload.size()) > kMaxRecordBytes) return TooLarge(payload.size());
    HEADRACE_CHECK(static_cast<int64_t>(payload.size()) + kFrameBytes <= room());
    char* at = data_ + end_.offset;
    const auto tag = static_cast<uint8_t>(kind);
    Encode({static_cast<uint32_t>(payload.size()), Sum(end_, tag, payload), tag}, at);
    std::memcpy(at + kFrameBytes, payload.data(), payload.size());
    end_.offset += kFrameBytes + static_cast<int64_t>(payload.size());
    std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(data_ + kUsedAt))
        .store(static_cast<uint64_t>(end_.offset), std::memory_order_release);
    return Status::Ok();
  }
  Position end() const override { return end_; }
  int64_t room() const override { return bytes_ - end_.offset; }
  bool given_up() const override { return false; }
  // What is mapped is in the file's pages already.
  Status Sync() override {
    return fdatasync(file_.get()) == 0 ? Status::Ok() : Status::FromErrno(errno, "sync", path_);
  }

 private:
  Fd file_;
  std::string path_;
  char* data_;
  int64_t bytes_;
  Position end_;
  pid_t owner_ = getpid();
};

// Whether several machines may write there: what one has mapped does not show at the others. From
// linux/magic.h and the file systems' own headers.
bool IsShared(int fd) {
  constexpr std::array<uint32_t, 13> kShared = {
      0x6969,      // NFS
      0x517B,      // SMB
      0xFE534D42,  // SMB2
      0xFF534D42,  // CIFS
      0x65735546,  // FUSE
      0x00C36400,  // Ceph
      0x5346414F,  // AFS
      0x6B414653,  // AFS of the kernel
      0x01021997,  // 9P
      0x0BD00BD0,  // Lustre
      0x47504653,  // GPFS
      0x7461636F,  // OCFS2
      0x01161970,  // GFS2
  };
  struct statfs facts {};
  return fstatfs(fd, &facts) != 0 || std::ranges::count(kShared, static_cast<uint32_t>(facts.f_type)) > 0;
}

struct Mapping {
  char* data = nullptr;
  size_t bytes = 0;
  ~Mapping() {
    if (data != nullptr) munmap(data, bytes);
  }
};

// Where the records of a mapped segment end; 0 where its header says what cannot be. Read through a mapping:
// read() of a word that changes meanwhile could give half of each value.
int64_t UsedOf(int fd, int64_t size) {
  Mapping page{.bytes = kMappedHeader};
  void* data = mmap(nullptr, page.bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return 0;
  page.data = static_cast<char*>(data);
  const auto used =
      static_cast<int64_t>(std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(page.data + kUsedAt))
                               .load(std::memory_order_acquire));
  // Of a file that was cut off, what is there is read, up to a record that is not whole.
  return used >= kMappedHeader ? std::min(used, size) : 0;
}

struct Opened {
  Fd file;
  bool mapped = false;
  int64_t begin = 0, end = 0;  // of its records' bytes; 0, 0: not a segment
  int64_t size = 0;
};

Result<Opened> OpenSegment(const std::string& folder, int64_t segment) {
  const std::string path = SegmentPath(folder, segment);
  Opened opened;
  opened.file = Fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!opened.file.ok()) return Status::FromErrno(errno, "open", path);
  struct stat info {};
  if (fstat(opened.file.get(), &info) != 0) return Status::FromErrno(errno, "read", path);
  opened.size = info.st_size;
  char header[kMappedHeader] = {};
  if (pread(opened.file.get(), header, sizeof header, 0) < 0) return Status::FromErrno(errno, "read", path);
  uint64_t number = 0;
  std::memcpy(&number, header + kMagicBytes, sizeof number);
  if (number != static_cast<uint64_t>(segment) || opened.size < kWrittenHeader) return opened;
  opened.mapped = std::memcmp(header, kMappedMagic, kMagicBytes) == 0;
  if (!opened.mapped && std::memcmp(header, kWrittenMagic, kMagicBytes) != 0) return opened;
  opened.end = opened.size;
  if (opened.mapped) opened.end = opened.size < kMappedHeader ? 0 : UsedOf(opened.file.get(), opened.size);
  opened.begin = opened.end == 0 ? 0 : opened.mapped ? kMappedHeader : kWrittenHeader;
  return opened;
}

// Fewer bytes where the file was cut off meanwhile.
Result<std::string> ReadRange(int fd, int64_t from, int64_t until, const std::string& path) {
  std::string bytes(static_cast<size_t>(std::max<int64_t>(until - from, 0)), '\0');
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got =
        pread(fd, bytes.data() + have, bytes.size() - have, from + static_cast<int64_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::FromErrno(errno, "read", path);
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  bytes.resize(have);
  return bytes;
}

}  // namespace

std::string SegmentPath(const std::string& folder, int64_t segment) {
  char name[32];
  std::snprintf(name, sizeof name, "/%08lld.seg", static_cast<long long>(segment));
  return folder + name;
}

std::vector<int64_t> Segments(const std::string& folder) {
  std::vector<int64_t> numbers;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    if (name.size() == 12 && name.ends_with(".seg"))
      if (const int64_t number = std::strtoll(name.c_str(), nullptr, 10); number > 0)
        numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

Result<std::unique_ptr<SegmentWriter>> CreateWrittenSegment(const std::string& folder, int64_t number,
                                                            int64_t bytes) {
  std::string path = SegmentPath(folder, number);
  Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.ok()) return Status::FromErrno(errno, "create", path);
  char header[kWrittenHeader];
  EncodeHeader(kWrittenMagic, number, header);
  if (Status wrote = WriteAll(file.get(), {header, sizeof header}, path); !wrote.ok()) {
    unlink(path.c_str());
    return wrote;
  }
  return std::unique_ptr<SegmentWriter>(
      std::make_unique<WrittenSegment>(std::move(file), std::move(path), number, bytes));
}

Result<std::unique_ptr<SegmentWriter>> CreateMappedSegment(const std::string& folder, int64_t number,
                                                           int64_t bytes) {
  std::string path = SegmentPath(folder, number);
  // It gets its name when it is whole: readers that see half a header would take it for damaged.
  HEADRACE_ASSIGN(PendingFile pending,
                  PendingFile::Create(folder, {.sync = false, .make_folders = false, .mode = 0600}));
  if (IsShared(pending.fd())) return Status::Unsupported("'" + folder + "' is shared by machines");
  // A mapping of room that the disk does not have would end the process (SIGBUS) when it is written to.
  if (fallocate(pending.fd(), 0, 0, bytes) != 0) {
    if (errno == EOPNOTSUPP || errno == ENOSYS)
      return Status::Unsupported("the file system of '" + folder + "' does not reserve room");
    return Status::FromErrno(errno, "reserve room for", path);
  }
  char header[kMappedHeader] = {};
  EncodeHeader(kMappedMagic, number, header);
  std::memcpy(header + kUsedAt, &kMappedHeader, sizeof kMappedHeader);
  if (pwrite(pending.fd(), header, sizeof header, 0) != sizeof header)
    return Status::FromErrno(errno, "write", path);
  HEADRACE_TRY(pending.Publish(path, false));
  Fd file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file.ok()) return Status::FromErrno(errno, "open", path);
  // Its pages are made now, not one by one in the middle of what is being measured.
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                    file.get(), 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    unlink(path.c_str());
    return error == ENODEV ? Status::Unsupported("'" + folder + "' does not map files")
                           : Status::FromErrno(error, "map", path);
  }
  return std::unique_ptr<SegmentWriter>(std::make_unique<MappedSegment>(
      std::move(file), std::move(path), number, static_cast<char*>(data), bytes));
}

int64_t SegmentBytes(const std::string& folder, int64_t segment, int64_t offset) {
  const auto opened = OpenSegment(folder, segment);
  return opened.ok() ? std::max<int64_t>(opened->end - std::max(offset, opened->begin), 0) : 0;
}

Result<SegmentReport> ReadSegment(const std::string& folder, int64_t segment, int64_t offset, bool last,
                                  const std::function<Status(const Record&)>& each) {
  const std::string path = SegmentPath(folder, segment);
  HEADRACE_ASSIGN(const Opened opened, OpenSegment(folder, segment));
  SegmentReport report;
  if (opened.end == 0) {
    // Whoever writes it was killed, or has not written its header yet.
    if (!last || opened.size >= kWrittenHeader) report.complaint = path + ": not a spool segment";
    return report;
  }
  const int64_t from = std::max(offset, opened.begin);
  HEADRACE_ASSIGN(const std::string bytes, ReadRange(opened.file.get(), from, opened.end, path));
  report.end = {segment, from};
  // In a mapped segment `used` stands behind whole records alone.
  const bool may_be_torn = last && !opened.mapped;
  size_t at = 0;
  while (at < bytes.size()) {
    const Position here{segment, from + static_cast<int64_t>(at)};
    const Frame frame = bytes.size() - at < kFrameBytes ? Frame{UINT32_MAX, 0, 0} : Decode(bytes.data() + at);
    if (bytes.size() - at < kFrameBytes || frame.length > bytes.size() - at - kFrameBytes) {
      if (!may_be_torn)
        report.complaint = path + ": ends within a record at byte " + std::to_string(here.offset);
      break;
    }
    const std::string_view payload(bytes.data() + at + kFrameBytes, frame.length);
    if (frame.sum != Sum(here, frame.kind, payload)) {
      report.complaint = path + ": the record at byte " + std::to_string(here.offset) +
                         " does not match its checksum; the rest of this segment is not read";
      break;
    }
    at += kFrameBytes + frame.length;
    report.end = {segment, from + static_cast<int64_t>(at)};
    const Status taken = each({static_cast<Kind>(frame.kind), payload, report.end});
    if (taken.Is(Code::kCancelled)) {
      report.stopped = true;
      return report;
    }
    HEADRACE_TRY(taken);
  }
  return report;
}

}  // namespace headrace::trace
