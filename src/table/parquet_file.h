// A Parquet file of ours, opened for reading single pages: any rows of any column, touching only their pages.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "store/object_store.h"
#include "table/rows.h"
#include "table/schema.h"
#include "table/stats.h"

namespace parquet {
class ParquetFileReader;
class FileMetaData;
}  // namespace parquet

namespace headrace::table {

struct NestedLeaf;
struct PageView;

class ParquetFile {
 public:
  // `has_checksums`: every page must carry one, so that a header that says otherwise is a damaged one.
  static Result<std::shared_ptr<ParquetFile>> Open(std::shared_ptr<store::ObjectReader> reader,
                                                   bool has_checksums);
  ~ParquetFile();

  int64_t rows() const { return rows_; }
  // Of the pages of each top-level field, by its id.
  std::map<int32_t, int64_t> BytesByField() const;
  // A top-level field's values in its Arrow type. NotFound if the file holds no such field id. Adds the bytes
  // of the pages touched to `*bytes_read`.
  Result<std::shared_ptr<arrow::Array>> Read(const Field& field, const Rows& rows,
                                             std::atomic<int64_t>* bytes_read);
  // Fetches what Read would, of several fields at once, so that the reads that follow find it in memory. For
  // files of a distant store; a no-op for others.
  Status Prefetch(const std::vector<const Field*>& fields, const Rows& rows);
  // Bounds of a leaf over rows [begin, end) from the page index; nothing where the file does not say.
  Result<std::optional<FieldStats>> PageStats(const Field& leaf, int64_t begin, int64_t end);

 private:
  struct Leaf;
  struct LeafRows;
  struct Touched;

  explicit ParquetFile(std::shared_ptr<store::ObjectReader> reader);
  Status Load();
  Result<Leaf*> FindLeaf(int32_t field_id);
  Status LoadPages(Leaf* leaf);
  Status LoadBounds(Leaf* leaf, const Field& field);
  // A page's bytes, checked and without compression. `verified`: of a data page, whether it was checked
  // before.
  Result<std::string_view> Body(const Leaf& leaf, int group, std::atomic<uint8_t>* verified,
                                const store::Bytes& bytes, std::shared_ptr<arrow::Buffer>* owner);
  // The pages of a leaf that hold some of the rows, and which of the rows asked for lie in each; Touch
  // fetches them too.
  std::vector<Touched> TouchedPages(const Leaf& leaf, const Rows& rows) const;
  Result<std::vector<Touched>> Touch(Leaf* leaf, const Rows& rows, std::atomic<int64_t>* bytes_read);
  Result<PageView> OpenDataPage(Leaf* leaf, size_t page, const store::Bytes& bytes,
                                std::shared_ptr<arrow::Buffer>* owner);
  // Of the page's row group; null where the page needs none.
  Result<const std::vector<std::string_view>*> DictionaryOf(Leaf* leaf, const PageView& page, int group);
  Result<NestedLeaf> ReadListed(const Field& field, const Rows& rows, std::atomic<int64_t>* bytes_read);
  Result<LeafRows> ReadLeaf(const Field& field, const Rows& rows, std::atomic<int64_t>* bytes_read);
  Result<std::shared_ptr<arrow::Array>> ReadFlat(const Field& field, const Rows& rows, LeafRows* first_leaf,
                                                 std::atomic<int64_t>* bytes_read);
  int64_t RowsOfGroups(const Rows& range) const;
  // A range that makes up most of its row groups, through Arrow's own reader: several times faster than page
  // by page.
  Result<std::shared_ptr<arrow::Array>> ReadInBulk(const Field& field,
                                                   const std::vector<const Field*>& leaves, const Rows& range,
                                                   std::atomic<int64_t>* bytes_read);
  // Lists, and what has them inside.
  Result<std::shared_ptr<arrow::Array>> ReadNested(const Field& field, const Rows& rows,
                                                   std::atomic<int64_t>* bytes_read);

  std::shared_ptr<store::ObjectReader> reader_;
  bool has_checksums_ = false;
  std::unique_ptr<parquet::ParquetFileReader> parquet_;
  std::shared_ptr<parquet::FileMetaData> metadata_;
  std::vector<int64_t> group_first_row_;
  std::vector<std::unique_ptr<Leaf>> leaves_;
  std::mutex mutex_;  // guards the lazy parts of leaves
  int64_t rows_ = 0;
};

}  // namespace headrace::table
