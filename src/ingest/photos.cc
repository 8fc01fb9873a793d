// Photographs: files are read and probed ahead on all threads, rows are written in order, and all of them are
// one commit.
#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <deque>
#include <future>
#include <initializer_list>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "ingest/items.h"
#include "ingest/run_state.h"
#include "media/media.h"
#include "table/arrow_bridge.h"
#include "table/blob_cells.h"
#include "table/view.h"

namespace headrace::ingest {
namespace {

using table::Field;
using table::Kind;
using table::Schema;

constexpr int64_t kMaxImageBytes = int64_t{1} << 30;  // of one photograph's file
constexpr int64_t kPhotoBatchBytes = 8 << 20;  // small enough that the allocator's warm pages serve again
constexpr int64_t kAheadBytes = 32 << 20;

Schema PhotoSchema() {
  Schema schema;
  Field path, image, taken;
  path.name = "path";
  path.type.kind = Kind::kString;
  image.name = "image";
  image.type.kind = Kind::kBlob;
  image.type.children = table::BlobFields();
  taken.name = "taken";
  taken.type.kind = Kind::kTimestamp;
  schema.fields = {path, image, taken};
  return schema;
}

struct Photo {
  std::string bytes;
  media::ImageFacts facts;
  uint64_t content = 0;
};

bool HasImageName(const std::string& path) {
  std::string end = path.substr(path.rfind('.') + 1);
  for (char& c : end) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
  return end == "jpg" || end == "jpeg" || end == "png" || end == "webp";
}

Result<Photo> ReadPhoto(const FoundFile& file) {
  if (file.bytes > kMaxImageBytes) {
    return Status::Limit("the file has " + std::to_string(file.bytes) + " bytes; a photograph has at most " +
                         std::to_string(kMaxImageBytes));
  }
  Photo photo;
  HEADRACE_ASSIGN(photo.bytes, ReadFile(file.path, file.bytes));
  if (static_cast<int64_t>(photo.bytes.size()) != file.bytes)
    return Status::Io(file.path + " became shorter while it was read");
  HEADRACE_TRY(CheckUnchanged(file));
  const auto facts = media::ProbeImage(photo.bytes);
  if (!facts.ok()) {
    if (HasImageName(file.path)) return facts.status();
    return Status(facts.status().code(),
                  facts.status().message() + "; if it holds rows, say how: --format jsonl, csv or parquet");
  }
  photo.facts = *facts;
  photo.content = Xxh3(photo.bytes);
  return photo;
}

// The columns of PhotoSchema, row by row.
class PhotoBatch {
 public:
  // `copy_of`: a row of the table whose image may have the same bytes; -1: none.
  Status Add(const std::string& path, Photo photo, int64_t copy_of) {
    if (copy_of >= 0) copies_.emplace_back(rows_, copy_of);
    if (rows_ == 0)
      HEADRACE_ARROW_TRY(inline_.ReserveData(kPhotoBatchBytes + static_cast<int64_t>(photo.bytes.size())));
    HEADRACE_ARROW_TRY(path_.Append(path));
    HEADRACE_ARROW_TRY(inline_.Append(photo.bytes));
    HEADRACE_ARROW_TRY(media_type_.Append(photo.facts.media_type));
    HEADRACE_ARROW_TRY(width_.Append(photo.facts.width));
    HEADRACE_ARROW_TRY(height_.Append(photo.facts.height));
    HEADRACE_ARROW_TRY(orientation_.Append(photo.facts.orientation));
    HEADRACE_ARROW_TRY(photo.facts.taken_us ? taken_.Append(*photo.facts.taken_us) : taken_.AppendNull());
    bytes_ += static_cast<int64_t>(photo.bytes.size());
    ++rows_;
    return Status::Ok();
  }
  int64_t bytes() const { return bytes_; }
  int64_t rows() const { return rows_; }

  // `view`: of the rows that were named.
  Result<std::shared_ptr<arrow::RecordBatch>> Finish(const table::View* view) {
    HEADRACE_ARROW_ASSIGN(const auto path, path_.Finish());
    HEADRACE_ARROW_ASSIGN(auto bytes, inline_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto media_type, media_type_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto width, width_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto height, height_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto orientation, orientation_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto taken, taken_.Finish());
    arrow::ArrayVector parts = {bytes, media_type, width, height, orientation};
    std::vector<std::string> names = {"inline", "media_type", "width", "height", "orientation"};
    if (!copies_.empty()) HEADRACE_TRY(Link(*view, &parts, &names));
    HEADRACE_ARROW_ASSIGN(const auto image, arrow::StructArray::Make(parts, names));
    const auto schema =
        arrow::schema({arrow::field("path", path->type()), arrow::field("image", image->type()),
                       arrow::field("taken", taken->type())});
    const auto batch = arrow::RecordBatch::Make(schema, rows_, {path, image, taken});
    rows_ = bytes_ = 0;
    copies_.clear();
    return batch;
  }

 private:
  // Cells whose bytes another row has, byte for byte, say where those lie instead: `parts[0]` loses them, and
  // columns for the place are added.
  Status Link(const table::View& view, arrow::ArrayVector* parts, std::vector<std::string>* names) {
    std::vector<int64_t> originals;
    for (const auto& [row, original] : copies_) originals.push_back(original);
    HEADRACE_ASSIGN(const auto there, view.Take(originals, {"image"}));
    HEADRACE_ASSIGN(const auto cells, table::BlobCells::Of(there->column(0)));
    HEADRACE_ASSIGN(const auto blobs, view.ReadBlobs(there->column(0)));
    const auto given = std::static_pointer_cast<arrow::BinaryArray>((*parts)[0]);
    arrow::BinaryBuilder kept;
    arrow::StringBuilder packs;
    arrow::Int64Builder offsets, lengths;
    arrow::UInt64Builder checksums;
    size_t next = 0;
    for (int64_t row = 0; row < given->length(); ++row) {
      const bool named = next < copies_.size() && copies_[next].first == row;
      const auto k = static_cast<int64_t>(next);
      next += named;
      if (named && blobs[static_cast<size_t>(k)] && cells.IsPacked(k) &&
          blobs[static_cast<size_t>(k)]->view() == given->GetView(row)) {
        HEADRACE_ARROW_TRY(kept.AppendNull());
        HEADRACE_ARROW_TRY(packs.Append(cells.Pack(k)));
        HEADRACE_ARROW_TRY(offsets.Append(cells.Offset(k)));
        HEADRACE_ARROW_TRY(lengths.Append(cells.PackedBytes(k)));
        HEADRACE_ARROW_TRY(checksums.Append(cells.Checksum(k)));
        continue;
      }
      HEADRACE_ARROW_TRY(kept.Append(given->GetView(row)));
      for (arrow::ArrayBuilder* builder :
           std::initializer_list<arrow::ArrayBuilder*>{&packs, &offsets, &lengths, &checksums}) {
        HEADRACE_ARROW_TRY(builder->AppendNull());
      }
    }
    HEADRACE_ARROW_TRY(kept.Finish(&(*parts)[0]));
    const std::pair<const char*, arrow::ArrayBuilder*> places[] = {
        {"pack", &packs}, {"offset", &offsets}, {"length", &lengths}, {"checksum", &checksums}};
    for (const auto& [name, builder] : places) {
      names->emplace_back(name);
      HEADRACE_ARROW_TRY(builder->Finish(&parts->emplace_back()));
    }
    return Status::Ok();
  }

  arrow::StringBuilder path_, media_type_;
  arrow::BinaryBuilder inline_;
  arrow::Int32Builder width_, height_;
  arrow::Int8Builder orientation_;
  arrow::TimestampBuilder taken_{arrow::timestamp(arrow::TimeUnit::MICRO), arrow::default_memory_pool()};
  std::vector<std::pair<int64_t, int64_t>> copies_;  // rows of the batch, and of the table
  int64_t rows_ = 0;
  int64_t bytes_ = 0;
};

// One attempt: it ends with a commit, with nothing to commit, or with a conflict.
class Photos {
 public:
  Photos(const std::vector<FoundFile>& files, RunState* run) : files_(files), run_(run) {}

  Status Take() {
    HEADRACE_ASSIGN(items_, Items::Load(*run_, files_));
    Status failed;
    while (next_ < files_.size() || !ahead_.empty()) {
      if (failed.ok()) ReadAhead();
      if (ahead_.empty()) break;
      const FoundFile& file = *ahead_.front().first;
      Result<Photo> photo = ahead_.front().second.get();
      ahead_.pop_front();
      ahead_bytes_ -= file.bytes;
      ++done_;
      if (!failed.ok()) continue;  // only waiting for what is under way
      failed = run_->options.stop.Check();
      if (failed.ok()) failed = One(file, std::move(photo));
      run_->Tell("reading photographs", done_, static_cast<int64_t>(files_.size()), bytes_);
    }
    HEADRACE_TRY(failed);
    if (rows_ == 0) return Status::Ok();
    HEADRACE_TRY(Flush());
    for (auto& item : taken_) appender_->Take(std::move(item));
    run_->Tell("committing", done_, static_cast<int64_t>(files_.size()), bytes_);
    HEADRACE_ASSIGN(const auto committed, appender_->Commit());
    run_->Add(committed);
    run_->report.files += rows_;
    run_->report.replaced += replaced_;
    return Status::Ok();
  }

 private:
  void ReadAhead() {
    TaskPool& pool = run_->catalog->environment()->pool;
    while (next_ < files_.size() && ahead_.size() < 64 && (ahead_.empty() || ahead_bytes_ < kAheadBytes)) {
      const FoundFile& file = files_[next_++];
      if (!run_->options.again && items_.Unchanged(file)) {
        ++run_->report.skipped;
        ++done_;
        continue;
      }
      ahead_bytes_ += file.bytes;
      ahead_.emplace_back(&file, pool.Submit([&file] { return ReadPhoto(file); }));
    }
  }

  Status One(const FoundFile& file, Result<Photo> photo) {
    if (!photo.ok()) {
      run_->Fail(file, photo.status());
      return Status::Ok();
    }
    table::TakenItem item;
    HEADRACE_ASSIGN(const auto answer, items_.Decide(file, photo->content, run_, &item));
    if (answer == Items::Answer::kTake) {
      item.first_row = rows_;
      item.rows = 1;
      replaced_ += item.replaced_rows > 0;
    }
    if (answer != Items::Answer::kSkip) taken_.push_back(std::move(item));
    if (answer != Items::Answer::kTake) {
      ++run_->report.skipped;
      return Status::Ok();
    }
    bytes_ += file.bytes;
    ++rows_;
    int64_t copy_of = -1;
    if (run_->options.on_copy == "link") {
      HEADRACE_ASSIGN(copy_of, items_.RowWith(photo->content));
    }
    HEADRACE_TRY(batch_.Add(TextOfName(file.relative), std::move(photo).value(), copy_of));
    return batch_.bytes() >= kPhotoBatchBytes || batch_.rows() >= 4096 ? Flush() : Status::Ok();
  }

  Status Flush() {
    if (batch_.rows() == 0) return Status::Ok();
    if (!appender_) {
      HEADRACE_ASSIGN(const auto table,
                      run_->catalog->OpenOrCreateTable(run_->options.table, PhotoSchema(), run_->commit));
      table::CommitOptions commit = run_->commit;
      commit.write.share_equal_blobs = run_->options.on_copy == "link";
      HEADRACE_ASSIGN(appender_, table->StartAppend({"path", "image", "taken"}, commit));
    }
    HEADRACE_ASSIGN(const auto rows, batch_.Finish(items_.view()));
    return appender_->Write(*rows);
  }

  const std::vector<FoundFile>& files_;
  RunState* run_;
  Items items_;
  std::vector<table::TakenItem> taken_;
  std::unique_ptr<table::Appender> appender_;
  PhotoBatch batch_;
  std::deque<std::pair<const FoundFile*, std::future<Result<Photo>>>> ahead_;
  int64_t ahead_bytes_ = 0;
  size_t next_ = 0;
  int64_t done_ = 0;
  int64_t bytes_ = 0;
  int64_t rows_ = 0;
  int64_t replaced_ = 0;
};

}  // namespace

Status TakePhotos(const std::vector<FoundFile>& files, RunState* run) {
  const IngestReport before = run->report;
  for (int tries = 1;; ++tries) {
    const Status taken = Photos(files, run).Take();
    if (!taken.Is(Code::kConflict) || tries == kMaxRedone) return taken;
    run->report = before;  // somebody took some of them in meanwhile: look again
  }
}

}  // namespace headrace::ingest
