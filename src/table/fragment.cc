#include "table/fragment.h"

#include <algorithm>
#include <cstdio>

namespace headrace::table {

const DataFile* Fragment::FileOf(int32_t field) const {
  for (const auto& file : files) {
    const auto& fields = file.family->fields;
    if (std::binary_search(fields.begin(), fields.end(), field)) return &file;
  }
  return nullptr;
}

const char* FileKindName(FileKind kind) { return kind == FileKind::kParquet ? "parquet" : "tensor"; }

Result<FileKind> ParseFileKind(const std::string& name) {
  for (const FileKind kind : {FileKind::kParquet, FileKind::kTensor}) {
    if (name == FileKindName(kind)) return kind;
  }
  return Status::Unsupported("it holds a file of kind '" + name +
                             "', made by a newer Headrace; update this one");
}

std::string DataKey(const Uuid& file, FileKind kind) {
  return "data/" + file.ToString() + (kind == FileKind::kParquet ? ".parquet" : ".arrow");
}
std::string SumsKey(const Uuid& file) { return "data/" + file.ToString() + ".sums"; }
std::string PackKey(const Uuid& pack) { return "packs/" + pack.ToString() + ".pack"; }
std::string ManifestKey(const Uuid& manifest) { return "manifests/" + manifest.ToString() + ".parquet"; }

std::string SnapshotKey(int64_t version) {
  char name[64];
  std::snprintf(name, sizeof name, "snapshots/%020llu.json",
                static_cast<unsigned long long>(UINT64_MAX - static_cast<uint64_t>(version)));
  return name;
}

}  // namespace headrace::table
