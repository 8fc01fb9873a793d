#include "trace/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/file.h"

namespace headrace::trace {
namespace {

constexpr char kDamaged[] = ".damaged";    // segments
constexpr char kKeptAside[] = "damaged-";  // folders
constexpr char kWriter[] = "w-";
constexpr double kAliveSeconds = 10;  // those who ask whether it is locked lock it for a moment

// The folder's lock, held; Timeout where another holds it. It is made where there is none: its writer died
// before it made one, or whoever removed the folder died half-way.
Result<FileLock> LockFolder(const std::string& folder) {
  return FileLock::Take(folder + "/lock", {.mode = 0600});
}

}  // namespace

Result<std::unique_ptr<Spool>> Spool::Create(const std::string& root, const SpoolOptions& options) {
  std::unique_ptr<Spool> spool(new Spool());
  spool->options_ = options;
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
  HEADRACE_ASSIGN(auto alive,
                  FileLock::Take(spool->folder_ + "/alive", {.seconds = kAliveSeconds, .mode = 0600}));
  spool->alive_.emplace(std::move(alive));
  // The writer is this process: children that outlive it must not seem to be it.
  CloseInChild(spool->lock_->fd());
  CloseInChild(spool->alive_->fd());
  HEADRACE_TRY(spool->OpenNext(0));
  return spool;
}

Spool::~Spool() {
  if (generation_ != ForkGeneration()) return;
  for (const auto* held : {&lock_, &alive_})
    if (*held) ForgetInChild((*held)->fd());
}

Position Spool::end() const {
  const std::lock_guard lock(mutex_);
  return segment_->end();
}

// The next segment, with room for at least `bytes`.
Status Spool::OpenNext(int64_t bytes) {
  const int64_t number = segment_ ? segment_->end().segment + 1 : 1;
  const int64_t least = bytes + kMostSegmentHeaderBytes;
  if (options_.mapped_bytes > 0) {
    auto mapped = CreateMappedSegment(folder_, number, std::max(options_.mapped_bytes, least));
    if (mapped.ok()) {
      segment_ = std::move(mapped).value();
      return Status::Ok();
    }
    if (mapped.status().Is(Code::kUnsupported)) options_.mapped_bytes = 0;
  }
  HEADRACE_ASSIGN(segment_, CreateWrittenSegment(folder_, number, std::max(options_.segment_bytes, least)));
  return Status::Ok();
}

Status Spool::MakeRoom(int64_t bytes) {
  if (generation_ != ForkGeneration())
    return Status::Invalid(
        "this spool is of the process that this one was forked from; a fork makes its own");
  if (segment_->given_up() || segment_->room() < bytes) HEADRACE_TRY(OpenNext(bytes));
  return Status::Ok();
}

Status Spool::Append(Kind kind, std::string_view payload) {
  const std::lock_guard lock(mutex_);
  HEADRACE_TRY(MakeRoom(kFrameBytes + static_cast<int64_t>(payload.size())));
  return segment_->Append(kind, payload);
}

Result<int64_t> Spool::Reserve(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  HEADRACE_TRY(MakeRoom(bytes));
  return segment_->end().segment;
}

Status Spool::Sync() {
  std::shared_ptr<SegmentWriter> segment;
  Position end, synced;
  {
    const std::lock_guard lock(mutex_);
    segment = segment_;
    end = segment_->end();
    synced = synced_;
  }
  if (end == synced) return Status::Ok();
  // Segments that were begun and left since: their writers have closed them.
  for (int64_t number = std::max<int64_t>(synced.segment, 1); number < end.segment; ++number) {
    const Fd file(open(SegmentPath(folder_, number).c_str(), O_RDONLY | O_CLOEXEC));
    if (file.ok() && fdatasync(file.get()) != 0)
      return Status::FromErrno(errno, "sync", SegmentPath(folder_, number));
  }
  HEADRACE_TRY(segment->Sync());
  if (synced.segment != end.segment) HEADRACE_TRY(SyncFolder(folder_));
  const std::lock_guard lock(mutex_);
  synced_ = std::max(synced_, end);
  return Status::Ok();
}

Result<ReadReport> ReadSpool(const std::string& folder, Position from,
                             const std::function<Status(const Record&)>& each) {
  ReadReport report;
  report.end = from;
  const std::vector<int64_t> segments = Segments(folder);
  for (const int64_t segment : segments) {
    if (segment < from.segment) continue;
    const auto read = ReadSegment(folder, segment, segment == from.segment ? from.offset : 0,
                                  segment == segments.back(), each);
    if (read.status().Is(Code::kNotFound)) continue;  // dropped meanwhile
    HEADRACE_TRY(read.status());
    if (!read->complaint.empty()) {
      report.complaints.push_back(read->complaint);
      report.damaged.push_back(segment);
    }
    report.end = std::max(report.end, read->end);
    if (read->stopped) return report;
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

bool IsAlive(const std::string& root, const std::string& writer) {
  const std::string folder = root + "/" + writer;
  // One that is just beginning, or was begun by an earlier program, has the one lock alone.
  return IsLocked(folder + (access((folder + "/alive").c_str(), F_OK) == 0 ? "/alive" : "/lock"));
}

int64_t SpoolBytes(const std::string& folder, Position from) {
  int64_t bytes = 0;
  for (const int64_t segment : Segments(folder)) {
    if (segment >= from.segment)
      bytes += SegmentBytes(folder, segment, segment == from.segment ? from.offset : 0);
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
