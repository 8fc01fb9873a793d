#include "table/fragment.h"

#include <algorithm>

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

int64_t BytesOf(const std::vector<Fragment>& fragments) {
  int64_t bytes = 0;
  for (const auto& fragment : fragments) {
    for (const auto& file : fragment.files) bytes += file.bytes;
    for (const auto& pack : fragment.packs) bytes += pack.live_bytes;
  }
  return bytes;
}

}  // namespace headrace::table
