#include "table/parquet_verify.h"

#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <parquet/page_index.h>
#include <parquet/schema.h>

#include <algorithm>

#include "table/arrow_bridge.h"
#include "table/page.h"
#include "table/parquet_pages.h"

namespace headrace::table {
namespace {

class Verifying {
 public:
  Verifying(std::shared_ptr<store::ObjectReader> reader, bool has_checksums, const StopToken& stop)
      : reader_(std::move(reader)), has_checksums_(has_checksums), stop_(stop) {}

  Status Run() {
    constexpr std::string_view kMagic = "PAR1";
    HEADRACE_ASSIGN(const auto begin, reader_->Read(0, static_cast<int64_t>(kMagic.size())));
    if (begin.view() != kMagic) return Damaged("it does not begin as a Parquet file does");
    const auto parquet = parquet::ParquetFileReader::Open(ToRandomAccessFile(reader_));
    const auto metadata = parquet->metadata();
    const auto indexes = parquet->GetPageIndexReader();
    for (int g = 0; g < metadata->num_row_groups(); ++g) {
      const auto group = metadata->RowGroup(g);
      if (group->num_rows() == 0) continue;  // earlier writers left one at a file's end; it has no page index
      const auto index = indexes ? indexes->RowGroup(g) : nullptr;
      for (int c = 0; c < group->num_columns(); ++c) {
        const auto offsets = index ? index->GetOffsetIndex(c) : nullptr;
        if (!offsets) return Damaged("it has no page index");
        HEADRACE_TRY(Column(*group, c, *offsets));
      }
    }
    return Status::Ok();
  }

 private:
  Status Damaged(const std::string& what) const { return Status::Corrupt(reader_->key() + ": " + what); }

  Status Column(const parquet::RowGroupMetaData& group, int column, const parquet::OffsetIndex& offsets) {
    const auto chunk = group.ColumnChunk(column);
    const auto* leaf = group.schema()->Column(column);
    const bool plain = chunk->compression() == parquet::Compression::UNCOMPRESSED;
    const auto& pages = offsets.page_locations();
    for (size_t i = 0; i < pages.size(); ++i) {
      HEADRACE_TRY(stop_.Check());
      std::string_view body;
      HEADRACE_ASSIGN(const PageHeader header, Page(pages[i].offset, pages[i].compressed_page_size, &body));
      if (header.type != PageType::kData) return Damaged("a data page of an unknown kind");
      if (!plain) continue;
      HEADRACE_ASSIGN(const PageView page,
                      OpenPage(header, body, leaf->max_definition_level(), leaf->max_repetition_level()));
      const int64_t end = i + 1 < pages.size() ? pages[i + 1].first_row_index : group.num_rows();
      const bool listed = leaf->max_repetition_level() > 0;
      const int64_t rows =
          listed ? std::count(page.repetition.begin(), page.repetition.end(), 0U) : page.rows;
      if (rows != end - pages[i].first_row_index) return Damaged("a page has another number of rows");
    }
    if (!chunk->has_dictionary_page()) return Status::Ok();
    std::string_view body;
    const int64_t begin = chunk->dictionary_page_offset();
    HEADRACE_ASSIGN(const PageHeader header, Page(begin, chunk->data_page_offset() - begin, &body));
    return header.type == PageType::kDictionary ? Status::Ok() : Damaged("a dictionary of an unknown kind");
  }

  Result<PageHeader> Page(int64_t offset, int64_t bytes, std::string_view* body) {
    if (offset < 0 || bytes <= 0 || offset > reader_->size() - bytes)
      return Damaged("a page lies outside of the file");
    HEADRACE_ASSIGN(held_, reader_->Read(offset, bytes));
    HEADRACE_ASSIGN(const PageHeader header, ParsePageHeader(held_.view()));
    if (header.header_bytes + header.compressed_bytes != bytes)
      return Damaged("a page has another size than its entry in the page index");
    *body = held_.view().substr(static_cast<size_t>(header.header_bytes));
    if (has_checksums_ && !header.has_crc) return Damaged("a page has no checksum");
    if (header.has_crc && PageCrc(*body) != header.crc) return Damaged("a page does not match its checksum");
    return header;
  }

  std::shared_ptr<store::ObjectReader> reader_;
  bool has_checksums_;
  const StopToken& stop_;
  store::Bytes held_;  // of the page that is looked at
};

}  // namespace

Status VerifyParquet(std::shared_ptr<store::ObjectReader> reader, bool has_checksums, const StopToken& stop) {
  const std::string key = reader->key();
  return Guard(key, [&] { return Verifying(std::move(reader), has_checksums, stop).Run(); });
}

}  // namespace headrace::table
