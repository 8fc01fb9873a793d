#include "table/parquet_tail.h"

#include <parquet/metadata.h>

#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "table/arrow_bridge.h"

namespace headrace::table {
namespace {

class TailedReader final : public store::ObjectReader {
 public:
  TailedReader(std::shared_ptr<store::ObjectReader> inner, store::Bytes tail)
      : ObjectReader(inner->key(), inner->size()), inner_(std::move(inner)), tail_(std::move(tail)) {}

 protected:
  Result<store::Bytes> DoRead(int64_t offset, int64_t length) override {
    const int64_t start = size() - tail_.size();
    if (offset >= start) return tail_.Slice(offset - start, length);
    if (offset + length <= start) return inner_->Read(offset, length);
    HEADRACE_ASSIGN(const auto before, inner_->Read(offset, start - offset));
    std::string joined(before.view());
    joined.append(tail_.view().substr(0, static_cast<size_t>(offset + length - start)));
    return store::Bytes::FromString(std::move(joined));
  }
  Result<std::vector<store::Bytes>> DoReadMany(const std::vector<store::ByteRange>& ranges,
                                               int64_t max_gap) override {
    return inner_->ReadMany(ranges, max_gap);  // of pages: none lies in the tail
  }

 private:
  std::shared_ptr<store::ObjectReader> inner_;
  store::Bytes tail_;
};

}  // namespace

Result<ParquetTail> TailOf(std::string_view end, int64_t file_bytes) {
  const auto broken = [] { return Status::Corrupt("the Parquet file that was written has no footer"); };
  if (end.size() < 8 || end.substr(end.size() - 4) != "PAR1") return broken();
  uint32_t footer = 0;
  std::memcpy(&footer, end.data() + end.size() - 8, 4);
  if (footer > end.size() - 8) return broken();
  const auto metadata = parquet::FileMetaData::Make(end.data() + end.size() - 8 - footer, int64_t{footer});
  int64_t start = file_bytes - 8 - footer;
  for (int g = 0; g < metadata->num_row_groups(); ++g) {
    for (int c = 0; c < metadata->num_columns(); ++c) {
      const auto chunk = metadata->RowGroup(g)->ColumnChunk(c);
      if (const auto index = chunk->GetColumnIndexLocation()) start = std::min(start, index->offset);
      if (const auto index = chunk->GetOffsetIndexLocation()) start = std::min(start, index->offset);
    }
  }
  const int64_t bytes = file_bytes - start;
  if (bytes > static_cast<int64_t>(end.size())) return broken();
  return ParquetTail{bytes, Xxh3(end.substr(end.size() - static_cast<size_t>(bytes)))};
}

Result<std::shared_ptr<store::ObjectReader>> CheckTail(std::shared_ptr<store::ObjectReader> file,
                                                       const ParquetTail& tail) {
  if (tail.bytes == 0) return file;
  if (tail.bytes < 0 || tail.bytes > file->size()) {
    return Status::Corrupt(file->key() + " is shorter than what its manifest says of its end");
  }
  HEADRACE_ASSIGN(auto bytes, file->Read(file->size() - tail.bytes, tail.bytes));
  if (Xxh3(bytes.view()) != tail.sum) {
    return Status::Corrupt(file->key() + ": its footer or a page index does not match its checksum");
  }
  if (file->is_mapped()) return file;
  return std::shared_ptr<store::ObjectReader>(
      std::make_shared<TailedReader>(std::move(file), std::move(bytes)));
}

}  // namespace headrace::table
