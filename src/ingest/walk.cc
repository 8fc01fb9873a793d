#include "ingest/walk.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <set>

#include "ingest/item_reader.h"

namespace headrace::ingest {
namespace {

const ItemReader* ReaderOf(const std::string& path, const std::string& format) {
  return format.empty() ? ItemReaderFor(path) : ItemReaderOf(format);
}

int64_t ModifiedNs(const struct stat& info) {
  return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

// Without links and dots; the path itself where there is no such place. Without the '/' of the root.
std::string RealPlace(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), std::free);
  const std::string place = real ? real.get() : path;
  return place == "/" ? "" : place;
}

class Walker {
 public:
  Walker(const std::string& format, std::vector<FoundFile>* files, std::vector<IngestError>* errors)
      : format_(format), files_(files), errors_(errors) {}

  // `place`: the folder's absolute place.
  void Folder(const std::string& path, const std::string& relative, const std::string& place) {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) return Fail(relative, Status::FromErrno(errno, "look at", path));
    const std::pair<dev_t, ino_t> identity(info.st_dev, info.st_ino);
    if (!open_.insert(identity).second) {
      return Fail(relative, Status::Invalid(path + " is a link to a folder above it; it was not followed"));
    }
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
    if (!dir) {
      Fail(relative, Status::FromErrno(errno, "read folder", path));
      open_.erase(identity);
      return;
    }
    std::vector<std::string> names;
    while (const dirent* entry = readdir(dir.get())) {
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    }
    std::sort(names.begin(), names.end());
    for (const auto& name : names) {
      const std::string inside = path + "/" + name;
      const std::string named = relative.empty() ? name : relative + "/" + name;
      if (stat(inside.c_str(), &info) != 0) {
        Fail(named, Status::FromErrno(errno, "open", inside));
      } else if (S_ISDIR(info.st_mode)) {
        Folder(inside, named, place + "/" + name);
      } else if (S_ISREG(info.st_mode)) {
        files_->push_back(
            {inside, named, ReaderOf(name, format_), info.st_size, ModifiedNs(info), place + "/" + name});
      } else {
        Fail(named, Status::Unsupported(inside + " is neither a file nor a folder"));
      }
    }
    open_.erase(identity);
  }

 private:
  void Fail(const std::string& name, Status error) { errors_->push_back({name, std::move(error)}); }

  std::string format_;
  std::vector<FoundFile>* files_;
  std::vector<IngestError>* errors_;
  std::set<std::pair<dev_t, ino_t>> open_;  // the folders between the root and here
};

}  // namespace

Status Walk(const std::string& source, const std::string& format, std::vector<FoundFile>* files,
            std::vector<IngestError>* errors) {
  struct stat info {};
  if (stat(source.c_str(), &info) != 0) return Status::FromErrno(errno, "open", source);
  if (S_ISDIR(info.st_mode)) {
    std::string folder = source;
    while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    Walker(format, files, errors).Folder(folder, "", RealPlace(folder));
    return Status::Ok();
  }
  const size_t slash = source.rfind('/');
  const std::string name = slash == std::string::npos ? source : source.substr(slash + 1);
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : source.substr(0, slash);
  files->push_back(
      {source, name, ReaderOf(name, format), info.st_size, ModifiedNs(info), RealPlace(folder) + "/" + name});
  return Status::Ok();
}

}  // namespace headrace::ingest
