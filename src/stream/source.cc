#include "stream/source.h"

#include <arrow/array.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/record_batch.h>
#include <arrow/util/byte_size.h>

#include <algorithm>
#include <set>

#include "base/hash.h"
#include "base/limits.h"
#include "store/cached_store.h"
#include "table/arrow_bridge.h"
#include "table/blob_cells.h"
#include "table/keys.h"

namespace headrace::stream {
namespace {

using table::Kind;

// numpy's name of a number's type, which is ours as well; null for anything else.
const char* NumpyName(Kind kind) { return kind <= Kind::kBFloat16 ? table::KindName(kind) : nullptr; }

const char* NumpyName(media::Element element) {
  switch (element) {
    case media::Element::kUInt8:
      return "uint8";
    case media::Element::kFloat16:
      return "float16";
    case media::Element::kBFloat16:
      return "bfloat16";
    case media::Element::kFloat32:
      return "float32";
  }
  return "uint8";
}

bool HoldsList(const table::Type& type) {
  return type.kind == Kind::kList ||
         std::any_of(type.children.begin(), type.children.end(),
                     [](const table::Field& child) { return HoldsList(child.type); });
}

// A blob field with only what a stream needs of it.
table::Field MediaField(const table::Field& blob) {
  table::Field field = blob;
  field.type.kind = Kind::kStruct;
  std::erase_if(field.type.children, [](const table::Field& child) { return child.name == "media_type"; });
  return field;
}

// Bytes between two cells that are read rather than asked for apart. Small: many requests are under way at
// once, so bytes cost more than round trips.
constexpr int64_t kMediaGap = 4096;

// What a batch says of its rows besides their columns.
constexpr std::string_view kOwnNames[] = {"valid",  "epoch",     "position", "row_id",
                                          "source", "documents", "state"};

Status NoSuchCell(const std::string& column) {
  return Status::Corrupt("the cell of '" + column + "' is damaged");
}

}  // namespace

Result<std::shared_ptr<Source>> Source::Open(const table::View& view, const SourceOptions& options) {
  std::shared_ptr<Source> source(new Source(view));
  source->local_ = view.environment()->store->is_local();
  source->memory_limit_ = options.chunk_memory;
  HEADRACE_ASSIGN(source->fragments_, view.Fragments());
  HEADRACE_TRY(source->PlanColumns(options));
  HEADRACE_ASSIGN(source->selection_, Selection::Load(view, options.where, options.share, options.shares,
                                                      options.stop, options.progress));
  if (source->selection_->rows() == 0) {
    return Status::Invalid(options.where.empty() ? "the table has no rows to stream"
                                                 : "no row passes the filter \"" + options.where + "\"");
  }
  source->Measure();
  return source;
}

Status Source::PlanColumns(const SourceOptions& options) {
  std::vector<std::string> names = options.columns;
  if (names.empty()) {
    for (const auto& field : view_.schema().fields) names.push_back(field.name);
  }
  for (const auto& name : names) {
    if (std::find(std::begin(kOwnNames), std::end(kOwnNames), name) == std::end(kOwnNames)) continue;
    return Status::Invalid(
        "the column '" + name +
        "' has a name that batches use for something else; choose the columns without it, or rename it");
  }
  HEADRACE_ASSIGN(const auto projections, table::ProjectColumns(view_.schema(), names));
  std::set<std::string> used;
  for (const auto& projection : projections) {
    Column column;
    column.name = projection.name;
    column.name_hash = Xxh3(column.name);
    column.projection = projection;
    const table::Type& type = projection.leaf.type;
    for (const auto& [name, steps] : options.images) {
      if (name != projection.name) continue;
      if (type.kind != Kind::kBlob) {
        return Status::Invalid("image steps are given for the column '" + name + "', which is " +
                               type.ToString() + " and not a blob");
      }
      auto ops = ImageOps::Parse(steps);
      if (!ops.ok()) return ops.status().Wrap("the steps of the column '" + name + "'");
      column.ops = std::move(ops).value();
      column.kind = ColumnKind::kImage;
      const int64_t h = column.ops.height();
      const int64_t w = column.ops.width();
      column.shape = column.ops.planes() ? std::vector<int64_t>{3, h, w} : std::vector<int64_t>{h, w, 3};
      column.dtype = NumpyName(column.ops.element());
      column.row_bytes = column.ops.bytes();
      used.insert(name);
    }
    if (column.kind != ColumnKind::kImage) {
      if (type.kind == Kind::kBlob) {
        column.kind = ColumnKind::kBlob;
      } else if (type.kind == Kind::kTensor) {
        column.kind = ColumnKind::kTensor;
        column.shape = type.shape;
        column.dtype = NumpyName(type.element);
        column.row_bytes = type.tensor_bytes();
        column.by_row = !local_;
      } else if (const char* dtype = NumpyName(type.kind)) {
        column.kind = ColumnKind::kTensor;
        column.dtype = dtype;
        column.bits = type.kind == Kind::kBool;
        column.row_bytes = column.bits ? 1 : table::KindBytes(type.kind);
      }
    }
    // Lists are read by whole row groups: so are chunks that hold some.
    if (HoldsList(projection.top.type)) chunk_rows_ = static_cast<int32_t>(limits::kRowGroupRows);
    columns_.push_back(std::move(column));
  }
  for (const auto& [name, steps] : options.images) {
    if (!used.contains(name)) {
      return Status::Invalid("image steps are given for '" + name +
                             "', which is not among the columns asked for");
    }
  }
  return Status::Ok();
}

void Source::Measure() {
  int64_t rows = 0;
  double media = 0;
  double pages = 0;
  std::set<int32_t> wanted;
  bool has_media = false;
  int64_t tensor_bytes = 0;
  for (const auto& column : columns_) {
    wanted.insert(column.projection.top.id);
    has_media |= column.is_media();
    if (column.by_row) tensor_bytes += column.row_bytes;
  }
  for (const auto& fragment : *fragments_) {
    rows += fragment.rows;
    if (has_media) {
      for (const auto& pack : fragment.packs) media += static_cast<double>(pack.live_bytes);
    }
    for (const auto& file : fragment.files) {
      if (file.column_group->kind != table::FileKind::kParquet) continue;
      const auto held = std::count_if(file.column_group->fields.begin(), file.column_group->fields.end(),
                                      [&](int32_t id) { return wanted.contains(id); });
      pages += static_cast<double>(file.decoded_bytes()) * static_cast<double>(held) /
               static_cast<double>(file.column_group->fields.size());
    }
  }
  const auto all = static_cast<double>(std::max<int64_t>(rows, 1));
  media_bytes_ = media / all + static_cast<double>(tensor_bytes);
  // In memory up to twice what pages take (a dictionary's values are many), and a media cell's place besides.
  page_bytes_ = 2 * pages / all + (has_media ? 64 : 0);
}

Result<MediaCells> Source::LoadMedia(const table::Fragment& fragment, const Column& column,
                                     const table::Rows& rows) const {
  const bool nested = column.projection.path.size() > 1;
  if (nested)
    return Status::Unsupported("the blob '" + column.name + "' lies inside a struct; stream it as a column");
  HEADRACE_ASSIGN(const auto array,
                  view_.reader().ReadTop(fragment, MediaField(column.projection.top), rows));
  const auto given = table::BlobCells::Of(array);
  if (!given.ok()) return NoSuchCell(column.name);
  const table::BlobCells& cells = *given;
  const auto child = [&](const char* name) { return cells.cells().GetFieldByName(name); };
  const auto width = std::dynamic_pointer_cast<arrow::Int32Array>(child("width"));
  const auto height = std::dynamic_pointer_cast<arrow::Int32Array>(child("height"));
  const auto orientation = std::dynamic_pointer_cast<arrow::Int8Array>(child("orientation"));
  if (!width || !height || !orientation) return NoSuchCell(column.name);
  const auto count = static_cast<size_t>(cells.length());
  MediaCells media;
  media.pack.resize(count, MediaCells::kNull);
  media.offset.resize(count);
  media.length.resize(count);
  media.checksum.resize(count);
  if (column.kind == ColumnKind::kImage) media.facts.resize(count);
  media.bytes = cells.inline_bytes();
  std::map<std::string, int32_t, std::less<>> known;
  std::string_view last;
  int32_t last_index = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto row = static_cast<int64_t>(i);
    if (cells.IsNull(row)) continue;
    if (column.kind == ColumnKind::kImage) {
      media.facts[i].width = width->IsValid(row) ? width->Value(row) : 0;
      media.facts[i].height = height->IsValid(row) ? height->Value(row) : 0;
      media.facts[i].orientation = orientation->IsValid(row) ? orientation->Value(row) : int8_t{1};
    }
    if (cells.IsInline(row)) {
      media.pack[i] = MediaCells::kInline;
      media.length[i] = static_cast<int64_t>(cells.InlineBytes(row).size());
      continue;
    }
    if (!cells.IsPacked(row)) {
      if (cells.IsInPlace(row)) {
        return Status::Unsupported("the blob lies in place at " + std::string(cells.Uri(row)) +
                                   "; this version streams packs and inline blobs");
      }
      continue;
    }
    const std::string_view name = cells.Pack(row);
    if (media.packs.empty() || name != last) {
      const auto it = known.find(name);
      if (it != known.end()) {
        last_index = it->second;
      } else {
        HEADRACE_ASSIGN(const Uuid id, Uuid::Parse(name));
        const std::string key = table::PackKey(view_.prefix(), id);
        const auto& env = view_.environment();
        // Streams keep what they fetch in a way of their own (block_cache.h).
        HEADRACE_ASSIGN(auto reader, env->files.GetOrOpen<store::ObjectReader>("stream:" + key, [&] {
          return store::BelowCache(env->store)->Open(key);
        }));
        last_index = static_cast<int32_t>(media.packs.size());
        media.packs.push_back(std::move(reader));
        known.emplace(std::string(name), last_index);
      }
      last = name;
    }
    media.pack[i] = last_index;
    media.offset[i] = cells.Offset(row);
    media.length[i] = cells.PackedBytes(row);
    media.checksum[i] = cells.Checksum(row);
  }
  return media;
}

Result<std::shared_ptr<const Chunk>> Source::Load(int32_t fragment_index, int32_t index) const {
  const table::Fragment& fragment = (*fragments_)[static_cast<size_t>(fragment_index)];
  auto chunk = std::make_shared<Chunk>();
  chunk->fragment = fragment_index;
  chunk->first_row = index * chunk_rows_;
  const auto rows = table::Rows::Range(
      chunk->first_row, std::min<int64_t>(fragment.rows, int64_t{chunk->first_row} + chunk_rows_));
  chunk->values.resize(columns_.size());
  chunk->media.resize(columns_.size());
  for (size_t c = 0; c < columns_.size(); ++c) {
    const Column& column = columns_[c];
    if (column.by_row) continue;
    if (column.is_media()) {
      HEADRACE_ASSIGN(chunk->media[c], LoadMedia(fragment, column, rows));
      chunk->bytes += rows.count() * 48;
      continue;
    }
    HEADRACE_ASSIGN(chunk->values[c], view_.reader().Read(fragment, column.projection, rows));
    const bool mapped = local_ && column.projection.leaf.type.kind == Kind::kTensor;
    if (!mapped) chunk->bytes += arrow::util::TotalBufferSize(*chunk->values[c]);
  }
  return std::shared_ptr<const Chunk>(std::move(chunk));
}

Result<std::shared_ptr<const Chunk>> Source::ChunkOf(const RowPlace& place) {
  const auto index = place.row / chunk_rows_;
  const int64_t key = int64_t{place.fragment} << 32 | index;
  std::promise<Loaded> promise;
  {
    std::unique_lock lock(mutex_);
    const auto it = slots_.find(key);
    if (it != slots_.end()) {
      chunk_hits_ += 1;
      recent_.splice(recent_.begin(), recent_, it->second.recent);
      const auto future = it->second.chunk;
      lock.unlock();
      return future.get();
    }
    chunk_misses_ += 1;
    recent_.push_front(key);
    slots_[key] = {promise.get_future().share(), 0, recent_.begin()};
  }
  Loaded loaded = Load(place.fragment, index);
  promise.set_value(loaded);
  const std::lock_guard lock(mutex_);
  const auto it = slots_.find(key);
  if (it == slots_.end()) return loaded;
  if (!loaded.ok()) {  // the next one tries again
    recent_.erase(it->second.recent);
    slots_.erase(it);
    return loaded;
  }
  it->second.bytes = (*loaded)->bytes;
  memory_ += it->second.bytes;
  while (memory_ > memory_limit_ && recent_.size() > 1) {
    const int64_t oldest = recent_.back();
    if (oldest == key) break;
    memory_ -= slots_[oldest].bytes;
    slots_.erase(oldest);
    recent_.pop_back();
  }
  return loaded;
}

bool Source::HasChunk(const RowPlace& place) {
  const int64_t key = int64_t{place.fragment} << 32 | place.row / chunk_rows_;
  const std::lock_guard lock(mutex_);
  return slots_.contains(key);
}

Result<std::optional<store::Bytes>> Source::ReadMedia(const Chunk& chunk, size_t column, int32_t row) const {
  return std::move(ReadMediaMany({{&chunk, column, row}})[0]);
}

std::vector<Result<std::optional<store::Bytes>>> Source::ReadMediaMany(const std::vector<Cell>& cells) const {
  std::vector<Result<std::optional<store::Bytes>>> results(cells.size(),
                                                           Result<std::optional<store::Bytes>>(std::nullopt));
  std::map<store::ObjectReader*, std::vector<size_t>> by_pack;
  const auto check = [&](size_t i, store::Bytes bytes) {
    const MediaCells& media = cells[i].chunk->media[cells[i].column];
    const auto row = static_cast<size_t>(cells[i].row);
    media_read_ += bytes.size();
    if (media.checksum[row] != 0 && Xxh3(bytes.view()) != media.checksum[row]) {
      results[i] =
          Status::Corrupt("its " + std::to_string(bytes.size()) + " bytes do not match their checksum");
    } else {
      results[i] = std::optional(std::move(bytes));
    }
  };
  for (size_t i = 0; i < cells.size(); ++i) {
    const MediaCells& media = cells[i].chunk->media[cells[i].column];
    const auto row = static_cast<size_t>(cells[i].row);
    const int32_t pack = media.pack[row];
    if (pack == MediaCells::kNull) continue;
    if (pack == MediaCells::kInline) {
      const auto& bytes = static_cast<const arrow::BinaryArray&>(*media.bytes);
      const auto view = bytes.GetView(cells[i].row);
      results[i] = std::optional(store::Bytes(media.bytes, reinterpret_cast<const uint8_t*>(view.data()),
                                              static_cast<int64_t>(view.size())));
      continue;
    }
    store::ObjectReader* reader = media.packs[static_cast<size_t>(pack)].get();
    if (reader->is_mapped()) {
      auto bytes = reader->Read(media.offset[row], media.length[row]);
      if (bytes.ok()) {
        check(i, std::move(bytes).value());
      } else {
        results[i] = bytes.status();
      }
    } else {
      by_pack[reader].push_back(i);
    }
  }
  for (const auto& [reader, members] : by_pack) {
    std::vector<store::ByteRange> ranges;
    for (const size_t i : members) {
      const MediaCells& media = cells[i].chunk->media[cells[i].column];
      const auto row = static_cast<size_t>(cells[i].row);
      ranges.push_back({media.offset[row], media.length[row]});
    }
    auto parts = reader->ReadMany(ranges, kMediaGap);
    for (size_t k = 0; k < members.size(); ++k) {
      if (parts.ok()) {
        check(members[k], (*parts)[k]);
      } else if (parts.status().Is(Code::kCorrupt)) {  // one bad range must not fail its neighbours
        auto one = reader->Read(ranges[k].offset, ranges[k].length);
        if (one.ok()) {
          check(members[k], std::move(one).value());
        } else {
          results[members[k]] = one.status();
        }
      } else {
        results[members[k]] = parts.status();
      }
    }
  }
  return results;
}

Result<std::shared_ptr<arrow::Array>> Source::ReadRows(size_t column, int32_t fragment,
                                                       const std::vector<int64_t>& rows) const {
  return view_.reader().Read((*fragments_)[static_cast<size_t>(fragment)], columns_[column].projection,
                             table::Rows::Picks(rows));
}

Result<std::vector<double>> Source::ReadNumbers(const std::string& column, const StopToken& stop) const {
  table::ScanOptions options;
  options.columns = {column};
  HEADRACE_ASSIGN(options.rows, selection_->Sets());
  options.stop = stop;
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);
  HEADRACE_ASSIGN(const auto reader, view_.Scan(options));
  const auto& type = *reader->schema()->field(0)->type();
  if (!arrow::is_integer(type.id()) && !arrow::is_floating(type.id())) {
    return Status::Invalid("the column '" + column + "' is " + type.ToString() + "; a number is needed");
  }
  std::vector<double> numbers;
  numbers.reserve(static_cast<size_t>(selection_->rows()));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) break;
    if (batch->column(0)->null_count() > 0) {
      return Status::Invalid("the column '" + column + "' is null in a selected row; add \"" + column +
                             " is not null\" to the filter");
    }
    std::shared_ptr<arrow::Array> cast;
    HEADRACE_ARROW_ASSIGN(cast, arrow::compute::Cast(*batch->column(0), arrow::float64()));
    const auto& values = static_cast<const arrow::DoubleArray&>(*cast);
    numbers.insert(numbers.end(), values.raw_values(), values.raw_values() + values.length());
  }
  return numbers;
}

}  // namespace headrace::stream
