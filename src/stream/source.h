// The wanted columns of the selected rows of one snapshot: what a stream reads from.
//
// Columns that lie in pages are read 2,048 rows at a time (a chunk) and kept in memory while they fit; media
// bytes and, on distant stores, tensors are read row by row.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/cancel.h"
#include "base/limits.h"
#include "media/media.h"
#include "stream/image_ops.h"
#include "stream/selection.h"
#include "table/view.h"

namespace headrace::stream {

enum class ColumnKind {
  kImage,   // decoded by ImageOps
  kBlob,    // media bytes as they are
  kTensor,  // numbers: (rows, shape…)
  kValues,  // everything else, as an Arrow array
};

struct Column {
  std::string name;
  uint64_t name_hash = 0;  // XXH3: names its random numbers
  ColumnKind kind = ColumnKind::kValues;
  table::Projection projection;
  ImageOps ops;                // kImage
  std::vector<int64_t> shape;  // of one row: kImage, kTensor
  std::string dtype;           // numpy's name, or bfloat16: kImage, kTensor
  int64_t row_bytes = 0;       // kImage, kTensor
  bool bits = false;           // kTensor of booleans: packed in Arrow, bytes in batches
  bool by_row = false;         // not in chunks
  bool is_media() const { return kind == ColumnKind::kImage || kind == ColumnKind::kBlob; }
};

// Where the bytes of a chunk's media cells lie.
struct MediaCells {
  std::vector<std::shared_ptr<store::ObjectReader>> packs;
  std::vector<int32_t> pack;  // of each row; kNull, kInline
  std::vector<int64_t> offset, length;
  std::vector<uint64_t> checksum;        // 0: none
  std::vector<media::ImageFacts> facts;  // images only
  std::shared_ptr<arrow::Array> bytes;   // inline cells
  static constexpr int32_t kNull = -1;
  static constexpr int32_t kInline = -2;
};

struct Chunk {
  int32_t fragment = 0;
  int32_t first_row = 0;
  std::vector<std::shared_ptr<arrow::Array>> values;  // by column; null for media and rows read one by one
  std::vector<MediaCells> media;                      // by column
  int64_t bytes = 0;
};

struct SourceOptions {
  std::vector<std::string> columns;                         // empty: all
  std::vector<std::pair<std::string, std::string>> images;  // column, steps as JSON (ImageOps)
  std::string where;
  int64_t chunk_memory = 0;  // bytes of chunks kept
  int share = 0;             // of `shares`: see Selection::Load
  int shares = 1;
  StopToken stop;
  ProgressFn progress;
};

class Source {
 public:
  static Result<std::shared_ptr<Source>> Open(const table::View& view, const SourceOptions& options);

  const table::View& view() const { return view_; }
  const std::vector<Column>& columns() const { return columns_; }
  Selection& selection() const { return *selection_; }
  bool local() const { return local_; }
  // Mean bytes of a row: read one by one, and in pages (as they are in memory).
  double media_bytes() const { return media_bytes_; }
  double page_bytes() const { return page_bytes_; }
  // Rows of a chunk.
  int32_t chunk_rows() const { return chunk_rows_; }

  // The chunk that holds this row, from memory or the store. One call loads it; others wait for that one.
  Result<std::shared_ptr<const Chunk>> ChunkOf(const RowPlace& place);
  bool HasChunk(const RowPlace& place);
  // Media bytes of one cell, checked against their checksum; nothing for null.
  Result<std::optional<store::Bytes>> ReadMedia(const Chunk& chunk, size_t column, int32_t row) const;
  // The same for many cells at once; near ones are fetched together. Bad cells fail alone.
  struct Cell {
    const Chunk* chunk = nullptr;
    size_t column = 0;
    int32_t row = 0;  // in the chunk
  };
  std::vector<Result<std::optional<store::Bytes>>> ReadMediaMany(const std::vector<Cell>& cells) const;
  // One row of a by-row tensor column.
  Result<std::shared_ptr<arrow::Array>> ReadRows(size_t column, int32_t fragment,
                                                 const std::vector<int64_t>& rows) const;
  // One number a selected row, in ordinal order (weights, lengths).
  Result<std::vector<double>> ReadNumbers(const std::string& column, const StopToken& stop) const;

  int64_t chunk_hits() const { return chunk_hits_; }
  int64_t chunk_misses() const { return chunk_misses_; }
  int64_t media_read() const { return media_read_; }  // bytes

  static int32_t ChunkRow(const Chunk& chunk, const RowPlace& place) { return place.row - chunk.first_row; }

 private:
  explicit Source(table::View view) : view_(std::move(view)) {}
  Status PlanColumns(const SourceOptions& options);
  void Measure();
  Result<std::shared_ptr<const Chunk>> Load(int32_t fragment, int32_t index) const;
  Result<MediaCells> LoadMedia(const table::Fragment& fragment, const Column& column,
                               const table::Rows& rows) const;

  using Loaded = Result<std::shared_ptr<const Chunk>>;
  struct Slot {
    std::shared_future<Loaded> chunk;
    int64_t bytes = 0;
    std::list<int64_t>::iterator recent;
  };

  table::View view_;
  std::shared_ptr<const std::vector<table::Fragment>> fragments_;
  std::vector<Column> columns_;
  std::shared_ptr<Selection> selection_;
  bool local_ = true;
  double media_bytes_ = 0;
  double page_bytes_ = 0;
  int32_t chunk_rows_ = static_cast<int32_t>(limits::kPageRows);

  std::mutex mutex_;
  std::map<int64_t, Slot> slots_;
  std::list<int64_t> recent_;
  int64_t memory_ = 0;
  int64_t memory_limit_ = 0;
  std::atomic<int64_t> chunk_hits_{0};
  std::atomic<int64_t> chunk_misses_{0};
  mutable std::atomic<int64_t> media_read_{0};
};

}  // namespace headrace::stream
