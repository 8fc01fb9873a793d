#include "table/parquet_file.h"

#include <arrow/array.h>
#include <arrow/buffer.h>
#include <arrow/util/bit_util.h>
#include <arrow/util/compression.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <parquet/page_index.h>
#include <parquet/schema.h>

#include <algorithm>
#include <cstring>

#include "table/arrow_bridge.h"
#include "table/nested.h"
#include "table/page.h"
#include "table/parquet_leaf.h"
#include "table/parquet_pages.h"
#include "table/type_arrow.h"

namespace headrace::table {

struct ParquetFile::LeafRows {
  std::shared_ptr<arrow::Array> array;
  std::vector<uint32_t> levels;  // empty: all at the maximum
  int max_level = 0;
};

namespace {

bool HasList(const Type& type) {
  if (type.kind == Kind::kList || type.kind == Kind::kMap) return true;
  return std::any_of(type.children.begin(), type.children.end(),
                     [](const Field& f) { return HasList(f.type); });
}

void LeafIds(const Field& field, std::vector<int32_t>* ids) {
  if (field.type.children.empty()) ids->push_back(field.id);
  for (const auto& child : field.type.children) LeafIds(child, ids);
}

// Exactly `bytes`; Corrupt where there are more or fewer.
Result<std::shared_ptr<arrow::Buffer>> Decompress(parquet::Compression::type id, std::string_view body,
                                                  int64_t bytes) {
  HEADRACE_ARROW_ASSIGN(std::shared_ptr<arrow::Buffer> plain, arrow::AllocateBuffer(bytes));
  const auto* from = reinterpret_cast<const uint8_t*>(body.data());
  const auto size = static_cast<int64_t>(body.size());
  int64_t read = size, written = 0;
  if (id == parquet::Compression::ZSTD) {
    // Making a context takes as long as a small page: each thread keeps one.
    thread_local std::shared_ptr<arrow::util::Decompressor> context;
    if (!context) {
      HEADRACE_ARROW_ASSIGN(const auto codec, arrow::util::Codec::Create(id));
      HEADRACE_ARROW_ASSIGN(context, codec->MakeDecompressor());
    }
    HEADRACE_ARROW_TRY(context->Reset());
    HEADRACE_ARROW_ASSIGN(const auto done, context->Decompress(size, from, bytes, plain->mutable_data()));
    read = done.bytes_read;
    written = context->IsFinished() ? done.bytes_written : -1;
  } else {
    HEADRACE_ARROW_ASSIGN(const auto codec, arrow::util::Codec::Create(id));
    HEADRACE_ARROW_ASSIGN(written, codec->Decompress(size, from, bytes, plain->mutable_data()));
  }
  if (read != size || written != bytes) return Status::Corrupt("it has another size");
  return plain;
}

}  // namespace

ParquetFile::ParquetFile(std::shared_ptr<store::ObjectReader> reader) : reader_(std::move(reader)) {}
ParquetFile::~ParquetFile() = default;

Result<std::shared_ptr<ParquetFile>> ParquetFile::Open(std::shared_ptr<store::ObjectReader> reader,
                                                       bool has_checksums) {
  std::shared_ptr<ParquetFile> file(new ParquetFile(std::move(reader)));
  file->has_checksums_ = has_checksums;
  HEADRACE_TRY(Guard(file->reader_->key(), [&] { return file->Load(); }));
  return file;
}

Status ParquetFile::Load() {
  parquet_ = parquet::ParquetFileReader::Open(ToRandomAccessFile(reader_));
  metadata_ = parquet_->metadata();
  for (int g = 0; g < metadata_->num_row_groups(); ++g) {
    group_first_row_.push_back(rows_);
    rows_ += metadata_->RowGroup(g)->num_rows();
  }
  const auto* schema = metadata_->schema();
  for (int c = 0; c < schema->num_columns(); ++c) {
    auto leaf = std::make_unique<Leaf>();
    const auto* descriptor = schema->Column(c);
    leaf->column = c;
    leaf->field_id = descriptor->schema_node()->field_id();
    leaf->max_level = descriptor->max_definition_level();
    leaf->max_repetition = descriptor->max_repetition_level();
    for (const auto* node = descriptor->schema_node().get(); node->parent() != nullptr; node = node->parent())
      leaf->path.insert(leaf->path.begin(), node->repetition());
    const auto& logical = descriptor->logical_type();
    leaf->stored = {descriptor->physical_type(),
                    logical->is_int() && !static_cast<const parquet::IntLogicalType&>(*logical).is_signed(),
                    descriptor->type_length()};
    leaves_.push_back(std::move(leaf));
  }
  return reader_->CheckWhole();
}

std::map<int32_t, int64_t> ParquetFile::BytesByField() const {
  std::map<int32_t, int64_t> bytes;
  for (int g = 0; g < metadata_->num_row_groups(); ++g) {
    const auto group = metadata_->RowGroup(g);
    for (int c = 0; c < group->num_columns(); ++c)
      bytes[metadata_->schema()->GetColumnRoot(c)->field_id()] +=
          group->ColumnChunk(c)->total_compressed_size();
  }
  return bytes;
}

Result<ParquetFile::Leaf*> ParquetFile::FindLeaf(int32_t field_id) {
  for (const auto& leaf : leaves_) {
    if (leaf->field_id == field_id) return leaf.get();
  }
  return Status::NotFound(reader_->key() + " holds no field " + std::to_string(field_id));
}

Status ParquetFile::LoadPages(Leaf* leaf) {
  const std::lock_guard lock(mutex_);
  if (leaf->pages_loaded) return Status::Ok();
  return Guard(reader_->key(), [&]() -> Status {
    const auto index = parquet_->GetPageIndexReader();
    std::vector<Leaf::Page> pages;
    for (int g = 0; g < metadata_->num_row_groups(); ++g) {
      const int64_t group_rows = metadata_->RowGroup(g)->num_rows();
      if (group_rows == 0) continue;  // earlier writers left one at a file's end; it has no page index
      const auto group = index ? index->RowGroup(g) : nullptr;
      const auto offsets = group ? group->GetOffsetIndex(leaf->column) : nullptr;
      if (!offsets) return Status::Corrupt(reader_->key() + " has no page index");
      int64_t previous = -1;
      for (const auto& location : offsets->page_locations()) {
        const bool sane = location.offset >= 0 && location.compressed_page_size >= 0 &&
                          location.first_row_index > previous && location.first_row_index < group_rows &&
                          location.offset <= reader_->size() - location.compressed_page_size;
        if (!sane || (previous < 0 && location.first_row_index != 0)) {
          return Status::Corrupt(reader_->key() + " has a damaged page index");
        }
        previous = location.first_row_index;
        pages.push_back({location.offset, location.compressed_page_size,
                         group_first_row_[static_cast<size_t>(g)] + location.first_row_index, g});
      }
      if (group_rows > 0 && previous < 0) return Status::Corrupt(reader_->key() + " has an empty page index");
    }
    HEADRACE_TRY(reader_->CheckWhole());
    leaf->pages = std::move(pages);
    leaf->verified = std::make_unique<std::atomic<uint8_t>[]>(leaf->pages.size());
    leaf->dictionaries.resize(static_cast<size_t>(metadata_->num_row_groups()));
    leaf->pages_loaded = true;
    return Status::Ok();
  });
}

Result<std::string_view> ParquetFile::Body(const Leaf& leaf, int group, std::atomic<uint8_t>* verified,
                                           const store::Bytes& bytes, std::shared_ptr<arrow::Buffer>* owner) {
  HEADRACE_ASSIGN(const PageHeader header, ParsePageHeader(bytes.view()));
  if (header.compressed_bytes > bytes.size() - header.header_bytes) {
    return Status::Corrupt(reader_->key() + ": a page is longer than its entry in the page index");
  }
  const auto body = bytes.view().substr(static_cast<size_t>(header.header_bytes),
                                        static_cast<size_t>(header.compressed_bytes));
  if (has_checksums_ && !header.has_crc) {
    return Status::Corrupt(reader_->key() + ": the header of a page of field " +
                           std::to_string(leaf.field_id) + " is damaged: it has no checksum");
  }
  if (header.has_crc && !(verified != nullptr && verified->load(std::memory_order_relaxed))) {
    if (PageCrc(body) != header.crc) {
      return Status::Corrupt(reader_->key() + ": a page of field " + std::to_string(leaf.field_id) +
                             " does not match its checksum");
    }
    // Bytes of a mapping stay; those of a distant store come anew with each read.
    if (verified != nullptr && reader_->is_mapped()) verified->store(1, std::memory_order_relaxed);
  }
  const auto chunk = metadata_->RowGroup(group)->ColumnChunk(leaf.column);
  const auto codec_id = chunk->compression();
  if (codec_id == parquet::Compression::UNCOMPRESSED) return body;
  // The header is in no checksum: memory is taken only for what the footer knows of.
  if (header.uncompressed_bytes > chunk->total_uncompressed_size())
    return Status::Corrupt(reader_->key() + ": a page says that it is larger than its column");
  auto plain = Decompress(codec_id, body, header.uncompressed_bytes);
  if (!plain.ok()) return plain.status().Wrap(reader_->key() + ": a page cannot be decompressed");
  *owner = *plain;
  return std::string_view(reinterpret_cast<const char*>((*plain)->data()),
                          static_cast<size_t>((*plain)->size()));
}

std::vector<ParquetFile::Touched> ParquetFile::TouchedPages(const Leaf& leaf, const Rows& rows) const {
  std::vector<Touched> touched;
  for (int64_t i = 0; i < rows.count();) {
    const size_t page = leaf.PageOf(rows.at(i));
    const int64_t end = page + 1 < leaf.pages.size() ? leaf.pages[page + 1].first_row : rows_;
    int64_t to = i;
    if (rows.is_range()) {
      to = std::min(rows.count(), end - rows.begin());
    } else {
      while (to < rows.count() && rows.at(to) < end) ++to;
    }
    touched.push_back({page, i, to, end - leaf.pages[page].first_row, {}});
    i = to;
  }
  return touched;
}

Status ParquetFile::Prefetch(const std::vector<const Field*>& fields, const Rows& rows) {
  if (reader_->is_mapped() || rows.end() > rows_) return Status::Ok();
  std::vector<int32_t> ids;
  for (const Field* field : fields) LeafIds(*field, &ids);
  std::vector<store::ByteRange> ranges;
  for (const int32_t id : ids) {
    HEADRACE_ASSIGN(Leaf* const leaf, FindLeaf(id));
    HEADRACE_TRY(LoadPages(leaf));
    for (const auto& one : TouchedPages(*leaf, rows))
      ranges.push_back({leaf->pages[one.page].offset, leaf->pages[one.page].bytes});
  }
  return reader_->ReadMany(ranges).status();
}

Result<std::vector<ParquetFile::Touched>> ParquetFile::Touch(Leaf* leaf, const Rows& rows,
                                                             std::atomic<int64_t>* bytes_read) {
  HEADRACE_TRY(LoadPages(leaf));
  if (rows.end() > rows_) {
    return Status::Corrupt(reader_->key() + " has " + std::to_string(rows_) + " rows; row " +
                           std::to_string(rows.end() - 1) + " was referenced");
  }
  std::vector<Touched> touched = TouchedPages(*leaf, rows);
  std::vector<store::ByteRange> ranges;
  for (const auto& one : touched) {
    ranges.push_back({leaf->pages[one.page].offset, leaf->pages[one.page].bytes});
    *bytes_read += leaf->pages[one.page].bytes;
  }
  HEADRACE_ASSIGN(auto fetched, reader_->ReadMany(ranges));
  for (size_t t = 0; t < fetched.size(); ++t) touched[t].bytes = std::move(fetched[t]);
  return touched;
}

Result<PageView> ParquetFile::OpenDataPage(Leaf* leaf, size_t page, const store::Bytes& bytes,
                                           std::shared_ptr<arrow::Buffer>* owner) {
  HEADRACE_ASSIGN(const PageHeader header, ParsePageHeader(bytes.view()));
  HEADRACE_ASSIGN(const std::string_view body,
                  Body(*leaf, leaf->pages[page].group, &leaf->verified[page], bytes, owner));
  if (header.type != PageType::kData)
    return Status::Corrupt(reader_->key() + ": a data page of an unknown kind");
  return OpenPage(header, body, leaf->max_level, leaf->max_repetition);
}

Result<const std::vector<std::string_view>*> ParquetFile::DictionaryOf(Leaf* leaf, const PageView& page,
                                                                       int group) {
  using Views = const std::vector<std::string_view>*;
  if (page.encoding != PageEncoding::kRleDictionary && page.encoding != PageEncoding::kPlainDictionary)
    return Views{nullptr};
  auto& slot = leaf->dictionaries[static_cast<size_t>(group)];
  const std::lock_guard lock(mutex_);
  if (!slot) {
    auto loaded = std::make_shared<Leaf::Dictionary>();
    const auto chunk = metadata_->RowGroup(group)->ColumnChunk(leaf->column);
    const int64_t begin = chunk->dictionary_page_offset();
    int64_t first_data = chunk->data_page_offset();
    if (begin < 0 || begin >= first_data)
      return Status::Corrupt(reader_->key() + ": no dictionary before its pages");
    HEADRACE_ASSIGN(loaded->bytes, reader_->Read(begin, first_data - begin));
    HEADRACE_ASSIGN(const PageHeader header, ParsePageHeader(loaded->bytes.view()));
    HEADRACE_ASSIGN(const auto body, Body(*leaf, group, nullptr, loaded->bytes, &loaded->owner));
    if (header.type != PageType::kDictionary || leaf->stored.physical != parquet::Type::BYTE_ARRAY) {
      return Status::Corrupt(reader_->key() + ": a dictionary of an unknown kind");
    }
    HEADRACE_TRY(DecodeByteArrays(body, header.values, &loaded->values));
    slot = std::move(loaded);
  }
  return Views{&slot->values};
}

Result<ParquetFile::LeafRows> ParquetFile::ReadLeaf(const Field& field, const Rows& rows,
                                                    std::atomic<int64_t>* bytes_read) {
  HEADRACE_ASSIGN(Leaf* const leaf, FindLeaf(field.id));
  HEADRACE_ASSIGN(const auto touched, Touch(leaf, rows, bytes_read));
  LeafRows result;
  result.max_level = leaf->max_level;
  HEADRACE_ASSIGN(auto builder, NewLeafBuilder(field.type, leaf->stored, rows.count()));
  bool any_null = false;
  std::vector<int64_t> local;
  for (const auto& part : touched) {
    const Leaf::Page& place = leaf->pages[part.page];
    std::shared_ptr<arrow::Buffer> owner;
    HEADRACE_ASSIGN(const PageView page, OpenDataPage(leaf, part.page, part.bytes, &owner));
    if (page.rows != part.rows)
      return Status::Corrupt(reader_->key() + ": a page has another number of rows");
    if (!page.all_defined && !any_null) {
      any_null = true;
      if (leaf->max_level > 1)
        result.levels.assign(static_cast<size_t>(part.from), static_cast<uint32_t>(leaf->max_level));
    }
    HEADRACE_ASSIGN(const auto* dictionary, DictionaryOf(leaf, page, place.group));
    const auto add_level = [&](int64_t row) {
      result.levels.push_back(page.all_defined ? static_cast<uint32_t>(leaf->max_level)
                                               : page.levels[static_cast<size_t>(row)]);
    };
    const bool levels = any_null && leaf->max_level > 1;
    if (rows.is_range()) {
      const int64_t begin = rows.at(part.from) - place.first_row;
      const int64_t end = begin + part.to - part.from;
      HEADRACE_TRY(builder->AppendRange(page, leaf->max_level, dictionary, begin, end));
      for (int64_t row = begin; levels && row < end; ++row) add_level(row);
    } else {
      local.clear();
      for (int64_t i = part.from; i < part.to; ++i) local.push_back(rows.at(i) - place.first_row);
      HEADRACE_TRY(builder->AppendPicks(page, leaf->max_level, dictionary, local));
      for (size_t i = 0; levels && i < local.size(); ++i) add_level(local[i]);
    }
  }
  HEADRACE_ASSIGN(result.array, builder->Finish());
  return result;
}

Result<std::shared_ptr<arrow::Array>> ParquetFile::ReadFlat(const Field& field, const Rows& rows,
                                                            LeafRows* first_leaf,
                                                            std::atomic<int64_t>* bytes_read) {
  if (field.type.children.empty()) {
    HEADRACE_ASSIGN(LeafRows leaf, ReadLeaf(field, rows, bytes_read));
    auto array = leaf.array;
    if (first_leaf != nullptr) *first_leaf = std::move(leaf);
    return array;
  }
  arrow::ArrayVector children;
  LeafRows first;
  for (size_t i = 0; i < field.type.children.size(); ++i) {
    HEADRACE_ASSIGN(auto child,
                    ReadFlat(field.type.children[i], rows, i == 0 ? &first : nullptr, bytes_read));
    children.push_back(std::move(child));
  }
  // Depth below this struct along its first leaf: how far the leaf's level is above the struct's.
  int below = 0;
  for (const Field* at = &field; !at->type.children.empty(); at = &at->type.children[0]) ++below;
  const auto struct_level = static_cast<uint32_t>(first.max_level - below);
  std::shared_ptr<arrow::Buffer> validity;
  int64_t nulls = 0;
  for (const uint32_t level : first.levels) nulls += level < struct_level;
  if (nulls > 0) {
    HEADRACE_ARROW_ASSIGN(validity, arrow::AllocateBitmap(rows.count()));
    for (int64_t i = 0; i < rows.count(); ++i) {
      arrow::bit_util::SetBitTo(validity->mutable_data(), i,
                                first.levels[static_cast<size_t>(i)] >= struct_level);
    }
  }
  auto array = std::make_shared<arrow::StructArray>(table::ToArrow(field.type), rows.count(),
                                                    std::move(children), validity, nulls);
  if (first_leaf != nullptr) *first_leaf = std::move(first);
  return std::shared_ptr<arrow::Array>(array);
}

Result<std::shared_ptr<arrow::Array>> ParquetFile::Read(const Field& field, const Rows& rows,
                                                        std::atomic<int64_t>* bytes_read) {
  auto array =
      HasList(field.type) ? ReadNested(field, rows, bytes_read) : ReadFlat(field, rows, nullptr, bytes_read);
  HEADRACE_TRY(reader_->CheckWhole());
  if (!array.ok()) return array.status().Wrap("column '" + field.name + "'");
  return array;
}

Status ParquetFile::LoadBounds(Leaf* leaf, const Field& field) {
  const std::lock_guard lock(mutex_);
  if (leaf->bounds_loaded) return Status::Ok();
  std::vector<std::optional<FieldStats>> bounds(leaf->pages.size());
  HEADRACE_TRY(Guard(reader_->key(), [&]() -> Status {
    const auto index = parquet_->GetPageIndexReader();
    size_t page = 0;
    for (int g = 0; g < metadata_->num_row_groups(); ++g) {
      const auto group = index ? index->RowGroup(g) : nullptr;
      const auto columns = group ? group->GetColumnIndex(leaf->column) : nullptr;
      size_t in_group = 0;
      while (page + in_group < leaf->pages.size() && leaf->pages[page + in_group].group == g) ++in_group;
      if (columns && columns->null_pages().size() == in_group) {
        for (size_t i = 0; i < in_group; ++i) {
          FieldStats stats;
          const int64_t first = leaf->pages[page + i].first_row;
          const int64_t end = page + i + 1 < leaf->pages.size() ? leaf->pages[page + i + 1].first_row : rows_;
          stats.nulls = columns->has_null_counts() ? columns->null_counts()[i] : 0;
          stats.values = end - first - stats.nulls;
          if (columns->null_pages()[i]) {
            stats.nulls = end - first;
            stats.values = 0;
          } else {
            stats.min = DecodeBound(field.type, leaf->stored, columns->encoded_min_values()[i]);
            stats.max = DecodeBound(field.type, leaf->stored, columns->encoded_max_values()[i]);
          }
          // Parquet's bounds leave NaN out without saying so.
          stats.has_nan =
              leaf->stored.physical == parquet::Type::FLOAT || leaf->stored.physical == parquet::Type::DOUBLE;
          const bool known = stats.values == 0 || (!IsNull(stats.min) && !IsNull(stats.max));
          if (known && columns->has_null_counts()) bounds[page + i] = std::move(stats);
        }
      }
      page += in_group;
    }
    return Status::Ok();
  }));
  HEADRACE_TRY(reader_->CheckWhole());
  leaf->bounds = std::move(bounds);
  leaf->bounds_loaded = true;
  return Status::Ok();
}

Result<std::optional<FieldStats>> ParquetFile::PageStats(const Field& field, int64_t begin, int64_t end) {
  const auto found = FindLeaf(field.id);
  if (!found.ok()) return std::optional<FieldStats>();
  Leaf* const leaf = *found;
  if (leaf->max_repetition > 0 || begin >= end || end > rows_) return std::optional<FieldStats>();
  HEADRACE_TRY(LoadPages(leaf));
  HEADRACE_TRY(LoadBounds(leaf, field));
  std::optional<FieldStats> merged;
  for (size_t page = leaf->PageOf(begin); page < leaf->pages.size() && leaf->pages[page].first_row < end;
       ++page) {
    const auto& bounds = leaf->bounds[page];
    if (!bounds) return std::optional<FieldStats>();
    merged = merged ? MergeStats(*merged, *bounds) : *bounds;
  }
  return merged;
}

}  // namespace headrace::table
