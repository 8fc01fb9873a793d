// Blocks as the cache keeps them.
#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "stream/pending_batch.h"

namespace headrace::stream {
namespace {

constexpr uint64_t kNull = UINT64_MAX;

std::vector<size_t> MediaColumns(const std::vector<Column>& columns) {
  std::vector<size_t> found;
  for (size_t c = 0; c < columns.size(); ++c) {
    if (columns[c].is_media()) found.push_back(c);
  }
  return found;
}

}  // namespace

Result<std::string> FetchWholeBlock(Source* source, int64_t block, int64_t block_rows) {
  const auto media = MediaColumns(source->columns());
  const int64_t begin = block * block_rows;
  const int64_t end = std::min(source->selection().rows(), begin + block_rows);
  std::vector<std::shared_ptr<const Chunk>> chunks;
  std::vector<Source::Cell> cells;
  for (int64_t ordinal = begin; ordinal < end; ++ordinal) {
    HEADRACE_ASSIGN(const RowPlace place, source->selection().At(ordinal));
    HEADRACE_ASSIGN(auto chunk, source->ChunkOf(place));
    for (const size_t c : media) cells.push_back({chunk.get(), c, Source::ChunkRow(*chunk, place)});
    if (chunks.empty() || chunks.back() != chunk) chunks.push_back(std::move(chunk));
  }
  auto results = source->ReadMediaMany(cells);
  const auto count = static_cast<uint32_t>(cells.size());
  std::string bytes(4 + size_t{count} * 16, '\0');
  std::memcpy(bytes.data(), &count, 4);
  for (size_t i = 0; i < results.size(); ++i) {
    uint64_t place[2] = {bytes.size(), kNull};
    // A damaged cell is left out: whoever needs it reads the store itself and reports the error.
    if (!results[i].ok() && !results[i].status().Is(Code::kCorrupt)) return results[i].status();
    if (results[i].ok() && results[i]->has_value()) {
      place[1] = static_cast<uint64_t>((*results[i])->size());
      bytes += (*results[i])->view();
    }
    std::memcpy(bytes.data() + 4 + i * 16, place, 16);
  }
  return bytes;
}

Result<std::optional<store::Bytes>> CellOfBlock(const store::Bytes& block, const std::vector<Column>& columns,
                                                int64_t row, size_t column, const Chunk& chunk,
                                                int32_t chunk_row) {
  const auto media = MediaColumns(columns);
  const auto index = static_cast<size_t>(row) * media.size() +
                     static_cast<size_t>(std::find(media.begin(), media.end(), column) - media.begin());
  uint32_t count = 0;
  std::memcpy(&count, block.data(), 4);
  if (index >= count) return Status::Corrupt("a cached block holds fewer cells than it should");
  uint64_t place[2];
  std::memcpy(place, block.data() + 4 + index * 16, 16);
  const MediaCells& cells = chunk.media[column];
  const auto at = static_cast<size_t>(chunk_row);
  if (place[1] == kNull) {
    if (cells.pack[at] == MediaCells::kNull) return std::optional<store::Bytes>();
    return Status::Corrupt("its bytes do not match their checksum");
  }
  if (place[0] + place[1] > static_cast<uint64_t>(block.size()))
    return Status::Corrupt("a cached block is damaged");
  const auto bytes = block.Slice(static_cast<int64_t>(place[0]), static_cast<int64_t>(place[1]));
  if (cells.checksum[at] != 0 && Xxh3(bytes.view()) != cells.checksum[at]) {
    return Status::Corrupt("its " + std::to_string(bytes.size()) + " bytes do not match their checksum");
  }
  return std::optional(bytes);
}

}  // namespace headrace::stream
