#include "trace/artifacts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <set>

#include "base/digest.h"
#include "base/file.h"
#include "table/environment.h"
#include "table/keys.h"

namespace headrace::trace {
namespace {

constexpr size_t kPiece = 4 << 20;

// Reads a file piece by piece; `take` sees every piece. The bytes read.
Result<int64_t> ReadPieces(const std::string& path, const char* what, const ProgressFn& progress,
                           const StopToken& stop, const std::function<Status(std::string_view)>& take) {
  const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.ok()) return Status::FromErrno(errno, "open", path);
  struct stat info {};
  if (fstat(file.get(), &info) != 0) return Status::FromErrno(errno, "read", path);
  if (S_ISDIR(info.st_mode)) return Status::Invalid("'" + path + "' is a folder; save its files");
  std::string piece(kPiece, '\0');
  for (int64_t done = 0;;) {
    const ssize_t got = read(file.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::FromErrno(errno, "read", path);
    if (got == 0) return done;
    HEADRACE_TRY(take({piece.data(), static_cast<size_t>(got)}));
    HEADRACE_TRY(stop.Check());
    done += got;
    if (progress) progress({what, done, info.st_size, done, 0});
  }
}

using KeyOf = std::function<std::string(const std::string& sha256)>;

Result<Artifact> Save(const table::Catalog& catalog, const KeyOf& key_of, const std::string& path,
                      const ProgressFn& progress, const StopToken& stop) {
  Artifact artifact;
  Sha256Stream sum;
  HEADRACE_ASSIGN(artifact.bytes, ReadPieces(path, "hashing", progress, stop, [&](std::string_view piece) {
                    sum.Add(piece);
                    return Status::Ok();
                  }));
  artifact.sha256 = sum.Hex();
  auto& store = *catalog.environment()->store;
  const std::string key = key_of(artifact.sha256);
  HEADRACE_ASSIGN(const bool there, store.Exists(key));
  if (there) return artifact;
  HEADRACE_ASSIGN(const auto upload, store.StartUpload(key));
  Sha256Stream again;
  HEADRACE_TRY(ReadPieces(path, "storing", progress, stop, [&](std::string_view piece) {
                 again.Add(piece);
                 return upload->Append(piece);
               }).status());
  if (again.Hex() != artifact.sha256)
    return Status::Conflict("'" + path + "' changed while it was saved; save it once it is written");
  HEADRACE_TRY(upload->Commit());
  return artifact;
}

Status Fetch(const table::Catalog& catalog, const KeyOf& key_of, const std::string& sha256,
             const std::string& path, const ProgressFn& progress, const StopToken& stop) {
  const std::string key = key_of(sha256);
  if (!table::ParseKey(key))
    return Status::Invalid("'" + sha256 + "' is not the hash of an artifact: 64 hex digits");
  auto opened = catalog.environment()->store->Open(key);
  if (opened.status().Is(Code::kNotFound))
    return Status::NotFound("there is no artifact " + sha256 + " in " + catalog.Describe());
  HEADRACE_TRY(opened.status());
  const auto& reader = *opened;
  HEADRACE_ASSIGN(PendingFile file, PendingFile::Create(ParentFolder(path), {.sync = false}));
  Sha256Stream sum;
  const auto piece_bytes = static_cast<int64_t>(kPiece);
  for (int64_t at = 0; at < reader->size(); at += piece_bytes) {
    HEADRACE_ASSIGN(const store::Bytes piece, reader->Read(at, std::min(piece_bytes, reader->size() - at)));
    HEADRACE_TRY(reader->CheckWhole());
    sum.Add(piece.view());
    HEADRACE_TRY(WriteAll(file.fd(), piece.view(), path));
    HEADRACE_TRY(stop.Check());
    if (progress) progress({"fetching", at + piece_bytes, reader->size(), at + piece_bytes, 0});
  }
  if (sum.Hex() != sha256)
    return Status::Corrupt("the artifact " + sha256 + " in " + catalog.Describe() +
                           " has other bytes than its hash says");
  return file.Publish(path, true);
}

}  // namespace

Result<Artifact> SaveArtifact(const table::Catalog& catalog, const std::string& path,
                              const ProgressFn& progress, const StopToken& stop) {
  return Save(catalog, table::ArtifactKey, path, progress, stop);
}

Status FetchArtifact(const table::Catalog& catalog, const std::string& sha256, const std::string& path,
                     const ProgressFn& progress, const StopToken& stop) {
  return Fetch(catalog, table::ArtifactKey, sha256, path, progress, stop);
}

Result<Artifact> SaveCheckpointFile(const table::Catalog& catalog, const std::string& run,
                                    const std::string& path, const StopToken& stop) {
  return Save(
      catalog, [&](const std::string& sha256) { return table::CheckpointKey(run, sha256); }, path, {}, stop);
}

Status FetchCheckpointFile(const table::Catalog& catalog, const std::string& run, const std::string& sha256,
                           const std::string& path, const StopToken& stop) {
  return Fetch(
      catalog, [&](const std::string& sum) { return table::CheckpointKey(run, sum); }, sha256, path, {},
      stop);
}

Result<int64_t> KeepCheckpointFiles(const table::Catalog& catalog, const std::string& run,
                                    const std::vector<std::string>& sha256s, const StopToken& stop) {
  auto& store = *catalog.environment()->store;
  const std::set<std::string> kept(sha256s.begin(), sha256s.end());
  HEADRACE_ASSIGN(const auto listed, store.List(table::CheckpointFolder(run), "", INT64_MAX));
  std::vector<std::string> gone;
  for (const auto& object : listed) {
    const auto name = table::ParseKey(object.key);
    if (name && name->kind == table::ObjectKind::kCheckpointFile && !kept.contains(name->name))
      gone.push_back(object.key);
  }
  for (const auto& key : gone) {
    HEADRACE_TRY(store.Delete(key));
    HEADRACE_TRY(stop.Check());
  }
  return static_cast<int64_t>(gone.size());
}

}  // namespace headrace::trace
