#include "trace/spool.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "base/file.h"
#include "base/hash.h"

namespace headrace::trace {
namespace {

constexpr char kMagic[8] = {'H', 'R', 'S', 'P', 'O', 'O', 'L', '1'};
constexpr int64_t kHeaderBytes = 16;       // magic, segment number
constexpr size_t kFrameBytes = 13;         // length, sum, kind
constexpr char kDamaged[] = ".damaged";    // segments
constexpr char kKeptAside[] = "damaged-";  // folders
constexpr char kWriter[] = "w-";

struct Frame {
  uint32_t length;
  uint64_t sum;
  uint8_t kind;
};

std::string SegmentPath(const std::string& folder, int64_t segment) {
  char name[32];
  std::snprintf(name, sizeof name, "/%08lld.seg", static_cast<long long>(segment));
  return folder + name;
}

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

// The folder's lock, held; Timeout where another holds it. It is made where there is none: its writer died
// before it made one, or whoever removed the folder died half-way.
Result<FileLock> LockFolder(const std::string& folder) {
  return FileLock::Take(folder + "/lock", {.mode = 0600});
}

}  // namespace

Result<std::unique_ptr<Spool>> Spool::Create(const std::string& root, int64_t segment_bytes) {
  std::unique_ptr<Spool> spool(new Spool());
  spool->segment_bytes_ = segment_bytes;
  // Until it is locked, whoever looks for folders of the dead may take a new one for such: then another is
  // made.
  for (int attempt = 0; !spool->lock_; ++attempt) {
    spool->writer_ = kWriter + Uuid::Random().ToString();
    spool->folder_ = root + "/" + spool->writer_;
    std::error_code error;
    std::filesystem::create_directories(spool->folder_, error);
    if (error) return Status::FromErrno(error.value(), "create", spool->folder_);
    std::filesystem::permissions(spool->folder_, std::filesystem::perms::owner_all, error);
    auto lock = LockFolder(spool->folder_);
    if (lock.ok()) {
      spool->lock_.emplace(std::move(lock).value());
    } else {
      const bool taken = lock.status().Is(Code::kTimeout) || lock.status().Is(Code::kNotFound);
      if (!taken || attempt == 8) return lock.status();
    }
  }
  HEADRACE_TRY(spool->OpenNext());
  return spool;
}

Spool::~Spool() = default;

Position Spool::end() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

Status Spool::OpenNext() {
  const std::string path = SegmentPath(folder_, end_.segment + 1);
  Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.ok()) return Status::FromErrno(errno, "create", path);
  char header[kHeaderBytes];
  const uint64_t number = static_cast<uint64_t>(end_.segment + 1);
  std::memcpy(header, kMagic, sizeof kMagic);
  std::memcpy(header + sizeof kMagic, &number, sizeof number);
  if (Status wrote = WriteAll(file.get(), {header, sizeof header}, path); !wrote.ok()) {
    unlink(path.c_str());
    return wrote;
  }
  file_ = std::move(file);
  end_ = {end_.segment + 1, kHeaderBytes};
  torn_ = false;
  return Status::Ok();
}

Status Spool::Append(Kind kind, std::string_view payload) {
  if (static_cast<int64_t>(payload.size()) > kMaxRecordBytes)
    return Status::Limit("a record of " + std::to_string(payload.size()) +
                         " bytes is larger than the limit (kMaxRecordBytes)");
  const std::lock_guard lock(mutex_);
  if (torn_ || end_.offset >= segment_bytes_) HEADRACE_TRY(OpenNext());
  std::string bytes(kFrameBytes, '\0');
  const auto tag = static_cast<uint8_t>(kind);
  Encode({static_cast<uint32_t>(payload.size()), Sum(end_, tag, payload), tag}, bytes.data());
  bytes += payload;
  if (Status wrote = WriteAll(file_.get(), bytes, SegmentPath(folder_, end_.segment)); !wrote.ok()) {
    // Readers stop at a partial record, so it is cut off before more are appended.
    torn_ =
        ftruncate(file_.get(), end_.offset) != 0 || lseek(file_.get(), end_.offset, SEEK_SET) != end_.offset;
    return wrote;
  }
  end_.offset += static_cast<int64_t>(bytes.size());
  return Status::Ok();
}

Result<ReadReport> ReadSpool(const std::string& folder, Position from,
                             const std::function<Status(const Record&)>& each) {
  ReadReport report;
  report.end = from;
  const std::vector<int64_t> segments = Segments(folder);
  for (const int64_t segment : segments) {
    if (segment < from.segment) continue;
    const std::string path = SegmentPath(folder, segment);
    const auto read = ReadFile(path);
    if (read.status().Is(Code::kNotFound)) continue;
    HEADRACE_TRY(read.status());
    const std::string& bytes = *read;
    const bool last = segment == segments.back();
    const auto complain = [&](const std::string& what) {
      if (last) return;
      report.complaints.push_back(path + ": " + what);
      report.damaged.push_back(segment);
    };
    uint64_t number = 0;
    if (bytes.size() >= kHeaderBytes) std::memcpy(&number, bytes.data() + sizeof kMagic, sizeof number);
    if (bytes.size() < kHeaderBytes || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0 ||
        number != static_cast<uint64_t>(segment)) {
      if (bytes.size() >= kHeaderBytes || !last) {
        report.complaints.push_back(path + ": not a spool segment");
        report.damaged.push_back(segment);
      }
      continue;
    }
    size_t at = kHeaderBytes;
    if (segment == from.segment) at = std::max(at, static_cast<size_t>(from.offset));
    report.end = {segment, static_cast<int64_t>(at)};
    while (at < bytes.size()) {
      const Position here{segment, static_cast<int64_t>(at)};
      if (bytes.size() - at < kFrameBytes) {
        complain("ends within a record at byte " + std::to_string(at));
        break;
      }
      const Frame frame = Decode(bytes.data() + at);
      if (frame.length > bytes.size() - at - kFrameBytes) {
        complain("ends within a record at byte " + std::to_string(at));
        break;
      }
      const std::string_view payload(bytes.data() + at + kFrameBytes, frame.length);
      if (frame.sum != Sum(here, frame.kind, payload)) {
        report.complaints.push_back(path + ": the record at byte " + std::to_string(at) +
                                    " does not match its checksum; the rest of this segment is not read");
        report.damaged.push_back(segment);
        break;
      }
      at += kFrameBytes + frame.length;
      report.end = {segment, static_cast<int64_t>(at)};
      const Status taken = each({static_cast<Kind>(frame.kind), payload, report.end});
      if (taken.Is(Code::kCancelled)) return report;
      HEADRACE_TRY(taken);
    }
  }
  return report;
}

Status DropSegments(const std::string& folder, Position position, const std::set<int64_t>& damaged) {
  for (const int64_t segment : Segments(folder)) {
    if (segment >= position.segment) break;
    const std::string path = SegmentPath(folder, segment);
    const bool gone = damaged.contains(segment) ? rename(path.c_str(), (path + kDamaged).c_str()) == 0
                                                : unlink(path.c_str()) == 0;
    if (!gone && errno != ENOENT) return Status::FromErrno(errno, "remove", path);
  }
  return Status::Ok();
}

std::vector<std::string> SpoolFolders(const std::string& root) {
  std::vector<std::string> folders;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
    const std::string name = entry.path().filename();
    if (IsVersion1(name) || (name.starts_with(kWriter) && Uuid::Parse(name.substr(2)).ok()))
      folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::string WriterOf(const std::string& folder) { return std::filesystem::path(folder).filename(); }

bool IsVersion1(const std::string& folder) { return Uuid::Parse(WriterOf(folder)).ok(); }

int64_t SpoolBytes(const std::string& folder, Position from) {
  int64_t bytes = 0;
  for (const int64_t segment : Segments(folder)) {
    struct stat info {};
    if (segment < from.segment || stat(SegmentPath(folder, segment).c_str(), &info) != 0) continue;
    const int64_t read = segment == from.segment ? from.offset : kHeaderBytes;
    bytes += std::max<int64_t>(info.st_size - read, 0);
  }
  return bytes;
}

std::vector<std::string> DamagedSpools(const std::string& root) {
  std::vector<std::string> kept;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root, error))
    if (entry.path().filename().string().starts_with(kKeptAside)) kept.push_back(entry.path());
  for (const std::string& folder : SpoolFolders(root))
    for (const auto& entry : std::filesystem::directory_iterator(folder, error))
      if (entry.path().filename().string().ends_with(kDamaged)) kept.push_back(entry.path());
  std::sort(kept.begin(), kept.end());
  return kept;
}

std::unique_ptr<Takeover> Takeover::Try(const std::string& folder) {
  auto lock = LockFolder(folder);
  if (!lock.ok()) return nullptr;
  return std::unique_ptr<Takeover>(new Takeover(folder, std::move(lock).value()));
}

std::string Takeover::Remove() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
    if (!entry.path().filename().string().ends_with(kDamaged)) continue;
    const std::filesystem::path from(folder_);
    const std::string aside = from.parent_path() / (kKeptAside + from.filename().string());
    std::filesystem::rename(from, aside, error);
    return error ? folder_ : aside;
  }
  std::filesystem::remove_all(folder_, error);
  return "";
}

}  // namespace headrace::trace
