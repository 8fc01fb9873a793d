// Lists, maps and what has them inside, out of a Parquet file.
#include <arrow/array.h>
#include <arrow/array/concatenate.h>
#include <arrow/compute/api.h>
#include <arrow/table.h>
#include <parquet/arrow/reader.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>

#include "table/conform.h"
#include "table/nested.h"
#include "table/parquet_leaf.h"
#include "table/parquet_pages.h"
#include "table/stored_form.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

void Leaves(const Field& field, std::vector<const Field*>* leaves) {
  if (field.type.children.empty()) leaves->push_back(&field);
  for (const auto& child : field.type.children) Leaves(child, leaves);
}

}  // namespace

Result<NestedLeaf> ParquetFile::ReadListed(const Field& field, const Rows& rows,
                                           std::atomic<int64_t>* bytes_read) {
  HEADRACE_ASSIGN(Leaf* const leaf, FindLeaf(field.id));
  HEADRACE_ASSIGN(const auto touched, Touch(leaf, rows, bytes_read));
  NestedLeaf result;
  result.path = leaf->path;
  struct Page {
    ListedPage listed;
    std::shared_ptr<arrow::Buffer> owner;  // of its bytes
    int group = 0;
  };
  std::vector<Page> pages;
  std::vector<int64_t> wanted;
  int64_t slots = 0;
  for (const auto& part : touched) {
    const Leaf::Page& place = leaf->pages[part.page];
    Page page;
    page.group = place.group;
    HEADRACE_ASSIGN(page.listed.page, OpenDataPage(leaf, part.page, part.bytes, &page.owner));
    wanted.clear();
    for (int64_t i = part.from; i < part.to; ++i) wanted.push_back(rows.at(i) - place.first_row);
    if (!PickEntries(wanted, part.rows, leaf->max_level, ListedLevel(leaf->path), &page.listed, &result))
      return Status::Corrupt(reader_->key() + ": a page has another number of rows");
    slots += page.listed.count();
    pages.push_back(std::move(page));
  }
  HEADRACE_ASSIGN(auto builder, NewLeafBuilder(field.type, leaf->stored, slots));
  for (const auto& [part, owner, group] : pages) {
    if (part.count() == 0) continue;
    HEADRACE_ASSIGN(const auto* dictionary, DictionaryOf(leaf, part.page, group));
    HEADRACE_TRY(part.begin < part.end
                     ? builder->AppendRange(part.page, leaf->max_level, dictionary, part.begin, part.end)
                     : builder->AppendPicks(part.page, leaf->max_level, dictionary, part.picks));
  }
  HEADRACE_ASSIGN(result.values, builder->Finish());
  return result;
}

// Rows of the row groups that a range touches.
int64_t ParquetFile::RowsOfGroups(const Rows& range) const {
  int64_t sum = 0;
  for (size_t g = 0; g < group_first_row_.size(); ++g) {
    const int64_t first = group_first_row_[g];
    const int64_t end = g + 1 < group_first_row_.size() ? group_first_row_[g + 1] : rows_;
    if (first < range.end() && end > range.begin()) sum += end - first;
  }
  return sum;
}

Result<std::shared_ptr<arrow::Array>> ParquetFile::ReadInBulk(const Field& field,
                                                              const std::vector<const Field*>& leaves,
                                                              const Rows& range,
                                                              std::atomic<int64_t>* bytes_read) {
  std::vector<int> columns;
  for (const Field* leaf : leaves) {
    HEADRACE_ASSIGN(const Leaf* found, FindLeaf(leaf->id));
    columns.push_back(found->column);
  }
  if (range.end() > rows_) {
    return Status::Corrupt(reader_->key() + " has " + std::to_string(rows_) + " rows; row " +
                           std::to_string(range.end() - 1) + " was referenced");
  }
  arrow::ArrayVector pieces;
  HEADRACE_TRY(Guard(reader_->key(), [&]() -> Status {
    parquet::ReaderProperties properties = parquet::default_reader_properties();
    properties.set_page_checksum_verification(has_checksums_);
    std::unique_ptr<parquet::arrow::FileReader> arrow_reader;
    HEADRACE_ARROW_ASSIGN(arrow_reader, parquet::arrow::FileReader::Make(
                                            arrow::default_memory_pool(),
                                            parquet::ParquetFileReader::Open(ToRandomAccessFile(reader_),
                                                                             properties, metadata_)));
    for (int g = 0; g < metadata_->num_row_groups(); ++g) {
      const auto group = metadata_->RowGroup(g);
      const int64_t first = group_first_row_[static_cast<size_t>(g)];
      const int64_t begin = std::max<int64_t>(range.begin() - first, 0);
      const int64_t end = std::min(range.end() - first, group->num_rows());
      if (begin >= end) continue;
      auto read = arrow_reader->ReadRowGroup(g, columns);
      if (!read.ok()) return FromArrow(read.status()).Wrap("cannot read " + reader_->key());
      std::shared_ptr<arrow::Table> table = std::move(read).ValueUnsafe();
      for (const int c : columns) *bytes_read += group->ColumnChunk(c)->total_compressed_size();
      HEADRACE_ARROW_ASSIGN(table, table->CombineChunks());
      if (table->num_columns() != 1 || table->column(0)->num_chunks() != 1)
        return Status::Corrupt(reader_->key() + ": a nested column has an unexpected shape");
      pieces.push_back(table->column(0)->chunk(0)->Slice(begin, end - begin));
    }
    return Status::Ok();
  }));
  HEADRACE_CHECK(!pieces.empty());
  std::shared_ptr<arrow::Array> joined = pieces[0];
  if (pieces.size() > 1) {
    HEADRACE_ARROW_ASSIGN(joined, arrow::Concatenate(pieces));
  }
  const auto type = table::ToArrow(field.type);
  if (!joined->type()->Equals(*type)) return ConformArray(FromStored(joined, field.type), field);
  return WithType(joined, type);
}

Result<std::shared_ptr<arrow::Array>> ParquetFile::ReadNested(const Field& field, const Rows& rows,
                                                              std::atomic<int64_t>* bytes_read) {
  if (!rows.is_range()) {
    std::vector<int64_t> once;
    std::vector<int64_t> places;  // of the rows among these
    for (int64_t i = 0; i < rows.count(); ++i) {
      if (once.empty() || once.back() != rows.at(i)) once.push_back(rows.at(i));
      places.push_back(static_cast<int64_t>(once.size()) - 1);
    }
    if (once.size() < places.size()) {
      HEADRACE_ASSIGN(const auto read, ReadNested(field, Rows::Picks(once), bytes_read));
      const arrow::Int64Array indices(rows.count(), arrow::Buffer::Wrap(places));
      HEADRACE_ARROW_ASSIGN(auto repeated, arrow::compute::Take(*read, indices));
      return repeated;
    }
  }
  std::vector<const Field*> fields;
  Leaves(field, &fields);
  if (rows.is_range() && rows.count() * 2 > RowsOfGroups(rows))
    return ReadInBulk(field, fields, rows, bytes_read);
  std::map<int32_t, NestedLeaf> leaves;
  for (const Field* leaf : fields) {
    HEADRACE_ASSIGN(leaves[leaf->id], ReadListed(*leaf, rows, bytes_read));
  }
  auto made = AssembleNested(field, leaves);
  if (!made.ok()) return made.status().Wrap("cannot read " + reader_->key());
  if ((*made)->length() != rows.count())
    return Status::Corrupt(reader_->key() + ": a nested column has another number of rows");
  return made;
}

}  // namespace headrace::table
