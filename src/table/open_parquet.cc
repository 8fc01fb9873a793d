#include "table/open_parquet.h"

#include <algorithm>
#include <vector>

#include "store/read_ahead.h"
#include "store/sized_open.h"
#include "table/keys.h"
#include "table/parquet_file.h"
#include "table/parquet_tail.h"

namespace headrace::table {

Result<std::shared_ptr<ParquetFile>> OpenParquet(Environment* env, const std::string& prefix,
                                                 const DataFile& file, bool whole) {
  const std::string key = DataKey(prefix, file.id, FileKind::kParquet);
  return env->files.GetOrOpen<ParquetFile>(key, [&]() -> Result<std::shared_ptr<ParquetFile>> {
    HEADRACE_ASSIGN(auto reader, store::OpenSized(env->store.get(), key, file.bytes));
    if (reader->size() != file.bytes) {
      return Status::Corrupt(key + " has " + std::to_string(reader->size()) + " bytes; its manifest says " +
                             std::to_string(file.bytes));
    }
    reader = store::ReadAhead(std::move(reader), env->blocks);
    if (whole && !reader->is_mapped()) {
      std::vector<store::ByteRange> blocks;
      for (int64_t at = 0; at < file.bytes; at += store::BlockPool::kBlockBytes)
        blocks.push_back({at, std::min(store::BlockPool::kBlockBytes, file.bytes - at)});
      HEADRACE_TRY(reader->ReadMany(blocks).status());
    }
    HEADRACE_ASSIGN(reader, CheckTail(std::move(reader), file.tail));
    return ParquetFile::Open(std::move(reader), /*has_checksums=*/file.tail.bytes > 0);
  });
}

}  // namespace headrace::table
