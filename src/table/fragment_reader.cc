#include "table/fragment_reader.h"

#include <arrow/array.h>

#include "store/read_ahead.h"
#include "table/arrow_bridge.h"
#include "table/blob_cells.h"
#include "table/conform.h"
#include "table/keys.h"
#include "table/parquet_file.h"
#include "table/parquet_tail.h"
#include "table/row_map.h"
#include "table/tensor_file.h"

namespace headrace::table {

FieldStats HoleStats(const Field& leaf, int64_t rows) {
  FieldStats stats;
  if (!leaf.has_default) {
    stats.nulls = rows;
    return stats;
  }
  stats.values = rows;
  stats.has_nan = true;  // no bounds are known; defaults are rare
  return stats;
}

Result<std::shared_ptr<ParquetFile>> FragmentReader::OpenParquet(const DataFile& file) const {
  const std::string key = DataKey(prefix_, file.id, FileKind::kParquet);
  return env_->files.GetOrOpen<ParquetFile>(key, [&]() -> Result<std::shared_ptr<ParquetFile>> {
    HEADRACE_ASSIGN(auto reader, env_->store->Open(key));
    if (reader->size() != file.bytes) {
      return Status::Corrupt(key + " has " + std::to_string(reader->size()) + " bytes; its manifest says " +
                             std::to_string(file.bytes));
    }
    HEADRACE_ASSIGN(reader, CheckTail(store::ReadAhead(std::move(reader), env_->blocks), file.tail));
    return ParquetFile::Open(std::move(reader), /*has_checksums=*/file.tail.bytes > 0);
  });
}

Result<std::shared_ptr<arrow::Array>> FragmentReader::ReadTop(const Fragment& fragment, const Field& top,
                                                              const Rows& rows) const {
  if (top.id == 0) return RowMap::Ids(fragment, rows);
  const DataFile* file = fragment.FileOf(top.id);
  if (file == nullptr) return HoleArray(top, rows.count());
  if (file->family->kind == FileKind::kTensor) {
    const std::string key = DataKey(prefix_, file->id, FileKind::kTensor);
    HEADRACE_ASSIGN(const auto tensors, env_->files.GetOrOpen<TensorFile>(key, [&] {
      return TensorFile::Open(env_->store.get(), prefix_, file->id);
    }));
    *bytes_read_ += rows.count() * top.type.tensor_bytes();
    return tensors->Read(top, rows);
  }
  HEADRACE_ASSIGN(const auto parquet, OpenParquet(*file));
  return parquet->Read(top, rows, bytes_read_.get());
}

Result<std::shared_ptr<arrow::Array>> FragmentReader::ReadPath(const Fragment& fragment,
                                                               const Projection& projection,
                                                               const Rows& rows) const {
  HEADRACE_ASSIGN(auto array, ReadTop(fragment, projection.top, rows));
  for (size_t level = 1; level < projection.path.size(); ++level) {
    HEADRACE_ARROW_ASSIGN(array, static_cast<const arrow::StructArray&>(*array).GetFlattenedField(0));
  }
  return array;
}

Result<std::shared_ptr<arrow::Array>> FragmentReader::Read(const Fragment& fragment,
                                                           const Projection& projection,
                                                           const Rows& rows) const {
  HEADRACE_ASSIGN(auto array, ReadPath(fragment, projection, rows));
  if (projection.leaf.type.kind == Kind::kBlob) return WithTable(array, prefix_);
  if (projection.pack) return PacksWithTable(*array, prefix_);
  return array;
}

Result<std::optional<FieldStats>> FragmentReader::PageStats(const Fragment& fragment,
                                                            const Projection& projection, int64_t begin,
                                                            int64_t end) const {
  const Field& leaf = projection.leaf;
  if (leaf.id == 0) return std::optional(RowMap::IdStats(fragment, begin, end));
  const DataFile* file = fragment.FileOf(projection.top.id);
  if (file == nullptr) return std::optional(HoleStats(leaf, end - begin));
  if (file->family->kind != FileKind::kParquet) return std::optional<FieldStats>();
  HEADRACE_ASSIGN(const auto parquet, OpenParquet(*file));
  return parquet->PageStats(leaf, begin, end);
}

}  // namespace headrace::table
