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

}  // namespace headrace::table
