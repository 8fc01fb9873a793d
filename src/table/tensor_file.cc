#include "table/tensor_file.h"

#include <arrow/array.h>
#include <arrow/buffer.h>
#include <arrow/ipc/writer.h>
#include <arrow/record_batch.h>
#include <arrow/util/bit_util.h>

#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "base/limits.h"
#include "store/sized_open.h"
#include "table/arrow_bridge.h"
#include "table/keys.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

constexpr char kSumsMagic[] = "HRSUMS01";
constexpr int64_t kChunk = limits::kTensorChunkBytes;
// Picks of rows that are closer than this are read in one request of a distant store.
constexpr int64_t kCellGap = 16 << 10;

template <typename T>
void Put(std::string* out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) *out += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
}

template <typename T>
bool Take(std::string_view* in, T* value) {
  if (in->size() < sizeof(T)) return false;
  uint64_t bits = 0;
  for (size_t i = 0; i < sizeof(T); ++i) bits |= uint64_t{static_cast<unsigned char>((*in)[i])} << (8 * i);
  *value = static_cast<T>(bits);
  in->remove_prefix(sizeof(T));
  return true;
}

uint32_t Sum(const uint8_t* data, int64_t bytes) {
  return static_cast<uint32_t>(Xxh3(data, static_cast<size_t>(bytes)));
}

// Sums every 4 KiB of what passes on its way to the upload.
class SummingStream final : public arrow::io::OutputStream {
 public:
  explicit SummingStream(store::Upload* upload) : upload_(upload) {}
  arrow::Status Close() override {
    closed_ = true;
    return arrow::Status::OK();
  }
  bool closed() const override { return closed_; }
  arrow::Result<int64_t> Tell() const override { return position_; }
  arrow::Status Write(const void* data, int64_t bytes) override {
    const auto* at = static_cast<const uint8_t*>(data);
    for (int64_t left = bytes; left > 0;) {
      if (pending_.empty() && left >= kChunk) {
        sums_.push_back(Sum(at, kChunk));
        at += kChunk;
        left -= kChunk;
        continue;
      }
      const int64_t take = std::min<int64_t>(left, kChunk - static_cast<int64_t>(pending_.size()));
      pending_.append(reinterpret_cast<const char*>(at), static_cast<size_t>(take));
      at += take;
      left -= take;
      if (static_cast<int64_t>(pending_.size()) == kChunk) FlushPending();
    }
    position_ += bytes;
    return table::ToArrow(upload_->Append({static_cast<const char*>(data), static_cast<size_t>(bytes)}));
  }
  std::vector<uint32_t> TakeSums() {
    if (!pending_.empty()) FlushPending();
    return std::move(sums_);
  }

 private:
  void FlushPending() {
    sums_.push_back(
        Sum(reinterpret_cast<const uint8_t*>(pending_.data()), static_cast<int64_t>(pending_.size())));
    pending_.clear();
  }

  store::Upload* upload_;
  int64_t position_ = 0;
  bool closed_ = false;
  std::string pending_;
  std::vector<uint32_t> sums_;
};

class TensorFileWriter final : public TensorWriter {
 public:
  TensorFileWriter(store::ObjectStore* store, std::string prefix, const Uuid& file, const Field& field)
      : store_(store), prefix_(std::move(prefix)), file_(file), schema_(arrow::schema({ToArrow(field)})) {
    sums_.cell_bytes = field.type.tensor_bytes();
  }

  Status Open() {
    HEADRACE_ASSIGN(upload_, store_->StartUpload(DataKey(prefix_, file_, FileKind::kTensor)));
    stream_ = std::make_shared<SummingStream>(upload_.get());
    options_.alignment = 64;
    options_.use_threads = false;
    HEADRACE_ARROW_ASSIGN(writer_, arrow::ipc::MakeFileWriter(stream_, schema_, options_));
    return Status::Ok();
  }

  Status Write(const std::shared_ptr<arrow::Array>& array) override {
    if (array->length() == 0) return Status::Ok();
    const auto rows = arrow::RecordBatch::Make(schema_, array->length(), {array});
    HEADRACE_ARROW_TRY(writer_->WriteRecordBatch(*rows));
    HEADRACE_ARROW_ASSIGN(const int64_t end, stream_->Tell());
    // The body is what was written last: list validity, element validity (empty), elements, each padded to 8
    // bytes.
    arrow::ipc::IpcPayload payload;
    HEADRACE_ARROW_TRY(arrow::ipc::GetRecordBatchPayload(*rows, options_, &payload));
    TensorBatch batch;
    batch.rows = array->length();
    int64_t at = end - payload.body_length;
    std::vector<int64_t> offsets;
    for (const auto& buffer : payload.body_buffers) {
      offsets.push_back(at);
      at += arrow::bit_util::RoundUp(buffer ? buffer->size() : 0, 8);
    }
    if (offsets.size() != 3 || at != end)
      return Status::Io("Arrow laid out a tensor batch in an unknown way");
    batch.values_offset = offsets[2];
    if (array->null_count() > 0) batch.validity_offset = offsets[0];
    sums_.batches.push_back(batch);
    return Status::Ok();
  }

  Result<int64_t> Finish() override {
    HEADRACE_ARROW_TRY(writer_->Close());
    sums_.sums = stream_->TakeSums();
    sums_.file_bytes = upload_->written();
    HEADRACE_TRY(upload_->Commit());
    const std::string sums = EncodeTensorSums(sums_);
    HEADRACE_TRY(store::PutFresh(store_, SumsKey(prefix_, file_), sums));
    return sums_.file_bytes + static_cast<int64_t>(sums.size());
  }

 private:
  store::ObjectStore* store_;
  std::string prefix_;
  Uuid file_;
  std::shared_ptr<arrow::Schema> schema_;
  arrow::ipc::IpcWriteOptions options_ = arrow::ipc::IpcWriteOptions::Defaults();
  TensorSums sums_;
  std::unique_ptr<store::Upload> upload_;
  std::shared_ptr<SummingStream> stream_;
  std::shared_ptr<arrow::ipc::RecordBatchWriter> writer_;
};

}  // namespace

std::string EncodeTensorSums(const TensorSums& sums) {
  std::string out(kSumsMagic, 8);
  Put<uint32_t>(&out, static_cast<uint32_t>(kChunk));
  Put<uint32_t>(&out, static_cast<uint32_t>(sums.cell_bytes));
  Put<uint64_t>(&out, static_cast<uint64_t>(sums.file_bytes));
  Put<uint32_t>(&out, static_cast<uint32_t>(sums.batches.size()));
  for (const auto& batch : sums.batches) {
    Put<uint64_t>(&out, static_cast<uint64_t>(batch.rows));
    Put<uint64_t>(&out, static_cast<uint64_t>(batch.values_offset));
    Put<uint64_t>(&out, static_cast<uint64_t>(batch.validity_offset));
  }
  Put<uint32_t>(&out, static_cast<uint32_t>(sums.sums.size()));
  for (const uint32_t sum : sums.sums) Put<uint32_t>(&out, sum);
  Put<uint64_t>(&out, Xxh3(out));
  return out;
}

Result<TensorSums> DecodeTensorSums(std::string_view bytes, const std::string& key) {
  const auto bad = [&](const char* why) { return Status::Corrupt("cannot read " + key + ": " + why); };
  if (bytes.size() < 16 || bytes.substr(0, 8) != std::string_view(kSumsMagic, 8))
    return bad("it is no sums file");
  std::string_view tail = bytes.substr(bytes.size() - 8);
  uint64_t checksum = 0;
  Take(&tail, &checksum);
  if (Xxh3(bytes.substr(0, bytes.size() - 8)) != checksum) return bad("its checksum does not match");
  std::string_view in = bytes.substr(8, bytes.size() - 16);
  TensorSums sums;
  uint32_t chunk = 0, cell = 0, batches = 0, chunks = 0;
  uint64_t file_bytes = 0;
  if (!Take(&in, &chunk) || !Take(&in, &cell) || !Take(&in, &file_bytes) || !Take(&in, &batches))
    return bad("truncated");
  if (chunk != kChunk || cell == 0) return bad("an unknown chunk size");
  sums.cell_bytes = cell;
  sums.file_bytes = static_cast<int64_t>(file_bytes);
  if (batches > in.size() / 24) return bad("truncated");
  for (uint32_t i = 0; i < batches; ++i) {
    uint64_t rows = 0, values = 0, validity = 0;
    Take(&in, &rows);
    Take(&in, &values);
    Take(&in, &validity);
    const TensorBatch batch{static_cast<int64_t>(rows), static_cast<int64_t>(values),
                            static_cast<int64_t>(validity)};
    const bool inside = rows <= file_bytes / cell && values <= file_bytes - rows * cell;
    const bool validity_inside =
        batch.validity_offset == -1 || (validity < file_bytes && (rows + 7) / 8 <= file_bytes - validity);
    if (!inside || !validity_inside) return bad("a batch lies outside the file");
    sums.batches.push_back(batch);
  }
  if (!Take(&in, &chunks) || in.size() != uint64_t{chunks} * 4 ||
      chunks != (file_bytes + kChunk - 1) / kChunk) {
    return bad("truncated");
  }
  sums.sums.resize(chunks);
  for (auto& sum : sums.sums) Take(&in, &sum);
  return sums;
}

Result<std::unique_ptr<TensorWriter>> NewTensorWriter(store::ObjectStore* store, const std::string& prefix,
                                                      const Uuid& file, const Field& field) {
  auto writer = std::make_unique<TensorFileWriter>(store, prefix, file, field);
  HEADRACE_TRY(writer->Open());
  return std::unique_ptr<TensorWriter>(std::move(writer));
}

Result<std::shared_ptr<TensorFile>> TensorFile::Open(store::ObjectStore* store, const std::string& prefix,
                                                     const Uuid& id) {
  std::shared_ptr<TensorFile> file(new TensorFile());
  const std::string key = DataKey(prefix, id, FileKind::kTensor);
  HEADRACE_ASSIGN(const auto sums, store->Get(SumsKey(prefix, id)));
  HEADRACE_ASSIGN(file->sums_, DecodeTensorSums(sums.view(), SumsKey(prefix, id)));
  HEADRACE_ASSIGN(file->reader_, store::OpenSized(store, key, file->sums_.file_bytes));
  if (file->sums_.file_bytes != file->reader_->size()) {
    return Status::Corrupt(key + " has " + std::to_string(file->reader_->size()) +
                           " bytes; its sums file says " + std::to_string(file->sums_.file_bytes));
  }
  for (const auto& batch : file->sums_.batches) {
    file->first_row_.push_back(file->rows_);
    file->rows_ += batch.rows;
  }
  file->verified_ = std::make_unique<std::atomic<uint8_t>[]>(file->sums_.sums.size());
  return file;
}

Status TensorFile::Verify(int64_t first_chunk, const store::Bytes& chunks) {
  for (int64_t at = 0, chunk = first_chunk; at < chunks.size(); at += kChunk, ++chunk) {
    auto& done = verified_[static_cast<size_t>(chunk)];
    // Bytes of a mapping stay; those of a distant store come anew with each read.
    if (reader_->is_mapped() && done.load(std::memory_order_relaxed)) continue;
    const int64_t length = std::min(kChunk, chunks.size() - at);
    if (Sum(chunks.data() + at, length) != sums_.sums[static_cast<size_t>(chunk)]) {
      return Status::Corrupt(reader_->key() + ": bytes " + std::to_string(chunk * kChunk) + "+" +
                             std::to_string(length) + " do not match their checksum");
    }
    done.store(1, std::memory_order_relaxed);
  }
  return Status::Ok();
}

Result<store::Bytes> TensorFile::Checked(int64_t offset, int64_t length) {
  HEADRACE_ASSIGN(auto parts, Checked({{offset, length}}));
  return parts[0];
}

Result<std::vector<store::Bytes>> TensorFile::Checked(const std::vector<store::ByteRange>& ranges) {
  std::vector<store::ByteRange> chunks;
  for (const auto& [offset, length] : ranges) {
    const int64_t begin = offset / kChunk * kChunk;
    const int64_t end = std::min(reader_->size(), arrow::bit_util::RoundUp(offset + length, kChunk));
    chunks.push_back({begin, end - begin});
  }
  HEADRACE_ASSIGN(auto parts, reader_->ReadMany(chunks, kCellGap));
  for (size_t i = 0; i < parts.size(); ++i) {
    HEADRACE_TRY(Verify(chunks[i].offset / kChunk, parts[i]));
    parts[i] = parts[i].Slice(ranges[i].offset - chunks[i].offset, ranges[i].length);
  }
  return parts;
}

Status TensorFile::VerifyAll(const StopToken& stop) {
  constexpr int64_t kStep = 1024 * kChunk;
  for (int64_t begin = 0; begin < reader_->size(); begin += kStep) {
    HEADRACE_TRY(stop.Check());
    HEADRACE_TRY(Checked(begin, std::min(kStep, reader_->size() - begin)).status());
  }
  return Status::Ok();
}

Result<std::shared_ptr<arrow::Array>> TensorFile::Read(const Field& field, const Rows& rows) {
  auto cells = Cells(field, rows);
  HEADRACE_TRY(reader_->CheckWhole());
  return cells;
}

Status TensorFile::CheckWhole() const { return reader_->CheckWhole(); }

Result<std::shared_ptr<arrow::Array>> TensorFile::Cells(const Field& field, const Rows& rows) {
  const int64_t cell = sums_.cell_bytes;
  if (cell != field.type.tensor_bytes() || rows.end() > rows_) {
    return Status::Corrupt(reader_->key() + " does not hold " + field.type.ToString() + " for row " +
                           std::to_string(rows.end()));
  }
  const auto type = std::static_pointer_cast<arrow::FixedSizeListType>(table::ToArrow(field.type));
  const auto batch_of = [&](int64_t row) {
    return static_cast<size_t>(std::upper_bound(first_row_.begin(), first_row_.end(), row) -
                               first_row_.begin()) -
           1;
  };
  const auto finish = [&](std::shared_ptr<arrow::Buffer> values, std::shared_ptr<arrow::Buffer> validity) {
    const int64_t elements = rows.count() * type->list_size();
    auto child = arrow::MakeArray(
        arrow::ArrayData::Make(type->value_type(), elements, {nullptr, std::move(values)}, 0));
    return std::static_pointer_cast<arrow::Array>(std::make_shared<arrow::FixedSizeListArray>(
        type, rows.count(), child, validity, validity ? arrow::kUnknownNullCount : 0));
  };

  if (rows.is_range() && rows.count() > 0) {
    const size_t first = batch_of(rows.begin());
    const TensorBatch& batch = sums_.batches[first];
    if (rows.end() <= first_row_[first] + batch.rows && batch.validity_offset < 0) {
      HEADRACE_ASSIGN(
          store::Bytes bytes,
          Checked(batch.values_offset + (rows.begin() - first_row_[first]) * cell, rows.count() * cell));
      return finish(ToBuffer(std::move(bytes)), nullptr);
    }
  }

  HEADRACE_ARROW_ASSIGN(std::shared_ptr<arrow::Buffer> values, arrow::AllocateBuffer(rows.count() * cell));
  std::shared_ptr<arrow::Buffer> validity;
  const auto ensure_validity = [&]() -> Status {
    if (validity) return Status::Ok();
    HEADRACE_ARROW_ASSIGN(validity, arrow::AllocateBuffer(arrow::bit_util::BytesForBits(rows.count())));
    std::memset(validity->mutable_data(), 0xff, static_cast<size_t>(validity->size()));
    return Status::Ok();
  };
  struct Run {      // consecutive rows of one batch
    int64_t first;  // among `rows`
    int64_t rows;
    int64_t local;  // in the batch
    bool has_validity;
  };
  std::vector<Run> runs;
  std::vector<store::ByteRange> ranges;  // of each run its values, then its validity
  for (int64_t i = 0; i < rows.count();) {
    const int64_t row = rows.at(i);
    const size_t index = batch_of(row);
    const TensorBatch& batch = sums_.batches[index];
    const int64_t batch_end = first_row_[index] + batch.rows;
    int64_t run = 1;
    while (i + run < rows.count() && rows.at(i + run) == row + run && row + run < batch_end) ++run;
    const int64_t local = row - first_row_[index];
    runs.push_back({i, run, local, batch.validity_offset >= 0});
    ranges.push_back({batch.values_offset + local * cell, run * cell});
    if (batch.validity_offset >= 0)
      ranges.push_back({batch.validity_offset + local / 8, (local + run - 1) / 8 - local / 8 + 1});
    i += run;
  }
  HEADRACE_ASSIGN(const auto parts, Checked(ranges));
  auto part = parts.begin();
  for (const auto& run : runs) {
    std::memcpy(values->mutable_data() + run.first * cell, part->data(),
                static_cast<size_t>(run.rows * cell));
    ++part;
    if (!run.has_validity) continue;
    HEADRACE_TRY(ensure_validity());
    for (int64_t k = 0; k < run.rows; ++k) {
      arrow::bit_util::SetBitTo(validity->mutable_data(), run.first + k,
                                arrow::bit_util::GetBit(part->data(), run.local % 8 + k));
    }
    ++part;
  }
  return finish(std::move(values), std::move(validity));
}

}  // namespace headrace::table
