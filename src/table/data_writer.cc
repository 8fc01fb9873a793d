#include "table/data_writer.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/util/byte_size.h>
#include <parquet/arrow/writer.h>
#include <parquet/metadata.h>
#include <parquet/properties.h>

#include <algorithm>

#include "table/arrow_bridge.h"
#include "table/conform.h"
#include "table/keys.h"
#include "table/pack_writer.h"
#include "table/parquet_tail.h"
#include "table/tensor_file.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

// The Parquet file of one fragment.
class ParquetWriter {
 public:
  static Result<std::unique_ptr<ParquetWriter>> Open(store::ObjectStore* store, const std::string& prefix,
                                                     const std::vector<Field>& fields, int64_t row_group_rows,
                                                     int64_t row_group_bytes) {
    // Reading memory or a disk costs less than decompressing; a network's bytes cost more.
    const auto codec = store->is_local() ? parquet::Compression::UNCOMPRESSED : parquet::Compression::ZSTD;
    auto writer = std::make_unique<ParquetWriter>();
    writer->row_group_bytes_ = row_group_bytes;
    writer->file_ = Uuid::Random();
    HEADRACE_ASSIGN(writer->upload_, store->StartUpload(DataKey(prefix, writer->file_, FileKind::kParquet)));
    writer->stream_ = std::make_shared<KeepingStream>(ToOutputStream(writer->upload_.get()));
    arrow::FieldVector arrow_fields;
    parquet::WriterProperties::Builder properties;
    properties.compression(codec)
        ->enable_page_checksum()
        ->enable_write_page_index()
        ->max_row_group_length(row_group_rows)
        ->max_rows_per_page(limits::kPageRows)
        ->max_statistics_size(64)
        ->version(parquet::ParquetVersion::PARQUET_2_6)
        ->encoding(parquet::Encoding::PLAIN)
        ->disable_dictionary();
    for (const auto& field : fields) {
      arrow_fields.push_back(table::ToArrow(field));
      EnableDictionaries(field, field.name, &properties);
    }
    writer->schema_ = arrow::schema(arrow_fields);
    const auto arrow_properties = parquet::ArrowWriterProperties::Builder().set_use_threads(false)->build();
    HEADRACE_ARROW_ASSIGN(writer->writer_, parquet::arrow::FileWriter::Open(
                                               *writer->schema_, arrow::default_memory_pool(),
                                               writer->stream_, properties.build(), arrow_properties));
    return writer;
  }

  Status Write(const arrow::ArrayVector& arrays, int64_t rows, int64_t bytes) {
    try {
      // A group is opened only for rows that come: one that stayed empty has no page index, and no reader
      // would take the file.
      if (group_bytes_ >= row_group_bytes_ && rows > 0) {
        HEADRACE_ARROW_TRY(writer_->NewBufferedRowGroup());
        group_bytes_ = 0;
      }
      HEADRACE_ARROW_TRY(writer_->WriteRecordBatch(*arrow::RecordBatch::Make(schema_, rows, arrays)));
      group_bytes_ += bytes;
    } catch (const std::exception& error) {
      return Status::Io(error.what());
    }
    return Status::Ok();
  }

  const Uuid& file() const { return file_; }

  Result<DataFile> Finish(const std::shared_ptr<const ColumnGroup>& group) {
    ParquetTail tail;
    try {
      stream_->Keep();  // the last row group's pages are written here too
      HEADRACE_ARROW_TRY(writer_->Close());
      HEADRACE_ASSIGN(tail, TailOf(stream_->kept(), upload_->written()));
    } catch (const std::exception& error) {
      return Status::Io(error.what());
    }
    HEADRACE_TRY(upload_->Commit());
    int64_t decoded = 0;
    for (int g = 0; g < writer_->metadata()->num_row_groups(); ++g)
      decoded += writer_->metadata()->RowGroup(g)->total_byte_size();
    if (decoded <= upload_->written()) decoded = 0;
    return DataFile{file_, upload_->written(), group, tail, decoded};
  }

 private:
  // Repeating strings shrink and filter faster as dictionaries; Parquet falls back by itself where they do
  // not repeat.
  static void EnableDictionaries(const Field& field, const std::string& path,
                                 parquet::WriterProperties::Builder* out) {
    if (field.type.kind == Kind::kString || field.type.kind == Kind::kJson) out->enable_dictionary(path);
    if (field.type.kind == Kind::kStruct || field.type.kind == Kind::kBlob) {
      for (const auto& child : field.type.children) EnableDictionaries(child, path + "." + child.name, out);
    }
  }

  Uuid file_;
  std::unique_ptr<store::Upload> upload_;
  std::shared_ptr<KeepingStream> stream_;
  std::shared_ptr<arrow::Schema> schema_;
  std::unique_ptr<parquet::arrow::FileWriter> writer_;
  int64_t row_group_bytes_ = limits::kRowGroupBytes;
  int64_t group_bytes_ = 0;
};

class FragmentWriter final : public DataWriter {
 public:
  FragmentWriter(const View& base, std::vector<Field> fields, std::vector<int32_t> stat_fields,
                 WriteOptions options)
      : store_(base.environment()->store),
        prefix_(base.prefix()),
        pin_(base.PinWrites()),
        fields_(std::move(fields)),
        stat_fields_(std::move(stat_fields)),
        options_(std::move(options)),
        packs_(base, options_) {
    ColumnGroup parquet{FileKind::kParquet, {}};
    for (const auto& field : fields_) {
      if (field.type.kind == Kind::kTensor) {
        tensor_groups_.push_back(
            std::make_shared<const ColumnGroup>(ColumnGroup{FileKind::kTensor, {field.id}}));
      } else {
        parquet.fields.push_back(field.id);
        parquet_fields_.push_back(field);
      }
    }
    std::sort(parquet.fields.begin(), parquet.fields.end());
    parquet_group_ = std::make_shared<const ColumnGroup>(std::move(parquet));
  }

  ~FragmentWriter() override {
    if (!finished_) Drop();
  }

  int64_t rows() const override { return rows_; }
  int64_t bytes() const override { return bytes_ + packs_.bytes(); }
  void Discard() override { Drop(); }

  Status Write(const arrow::RecordBatch& batch) override {
    for (const auto& given : batch.schema()->fields()) {
      const bool known = std::any_of(fields_.begin(), fields_.end(),
                                     [&](const Field& f) { return f.name == given->name(); });
      if (!known) {
        Schema expected;
        expected.fields = fields_;
        return expected.Get(given->name()).status().Wrap("cannot write these rows");
      }
    }
    std::vector<std::shared_ptr<arrow::Array>> columns(fields_.size());
    for (size_t i = 0; i < fields_.size(); ++i) {
      const auto given = batch.GetColumnByName(fields_[i].name);
      if (!given)
        return Status::Invalid("the rows have no column '" + fields_[i].name + "', which earlier ones had");
      HEADRACE_ASSIGN(columns[i], ConformArray(given, fields_[i]));
    }
    // Slices of a few megabytes at a time keep memory and fragment sizes in hand.
    const int64_t bytes_each =
        std::max<int64_t>(1, BytesOf(columns) / std::max<int64_t>(1, batch.num_rows()));
    for (int64_t at = 0; at < batch.num_rows();) {
      HEADRACE_TRY(options_.stop.Check());
      const int64_t by_bytes = std::max<int64_t>(1, (32 << 20) / bytes_each);
      const int64_t count =
          std::min({batch.num_rows() - at, options_.fragment_rows - fragment_rows_, by_bytes});
      std::vector<std::shared_ptr<arrow::Array>> slice;
      for (const auto& column : columns)
        slice.push_back(count == batch.num_rows() ? column : column->Slice(at, count));
      HEADRACE_TRY(WriteSlice(slice, count, count * bytes_each));
      at += count;
      if (fragment_rows_ >= options_.fragment_rows || fragment_bytes_ >= options_.fragment_bytes) {
        HEADRACE_TRY(EndFragment());
      }
    }
    return Status::Ok();
  }

  Status EndFragment() override {
    if (fragment_rows_ == 0) return Status::Ok();
    current_.rows = fragment_rows_;
    if (parquet_) {
      HEADRACE_ASSIGN(DataFile file, parquet_->Finish(parquet_group_));
      bytes_ += file.bytes;
      current_.files.push_back(std::move(file));
    }
    for (size_t i = 0; i < tensors_.size(); ++i) {
      HEADRACE_ASSIGN(const int64_t written, tensors_[i]->Finish());
      bytes_ += written;
      current_.files.push_back({tensor_ids_[i], written, tensor_groups_[i]});
    }
    for (const auto& [pack, live] : pack_use_) current_.packs.push_back({pack, live});
    fragments_.push_back(std::move(current_));
    current_ = Fragment();
    parquet_ = nullptr;
    tensors_.clear();
    tensor_ids_.clear();
    pack_use_.clear();
    fragment_rows_ = 0;
    fragment_bytes_ = 0;
    return Status::Ok();
  }

  Result<std::vector<Fragment>> Finish() override {
    HEADRACE_TRY(EndFragment());
    HEADRACE_TRY(packs_.Finish());
    finished_ = true;
    return std::move(fragments_);
  }

 private:
  void Drop() {
    parquet_ = nullptr;
    tensors_.clear();
    std::vector<std::string> keys = keys_;
    keys.insert(keys.end(), packs_.keys().begin(), packs_.keys().end());
    for (const std::string& key : keys) {
      if (!store_->Delete(key).ok()) return;  // a store that does not answer is not asked for each
    }
  }

  static int64_t BytesOf(const std::vector<std::shared_ptr<arrow::Array>>& columns) {
    int64_t total = 0;
    for (const auto& column : columns) total += arrow::util::ReferencedBufferSize(*column).ValueOr(0);
    return total;
  }

  Status Begin() {
    if (!parquet_fields_.empty()) {
      HEADRACE_ASSIGN(parquet_, ParquetWriter::Open(store_.get(), prefix_, parquet_fields_,
                                                    options_.row_group_rows, options_.row_group_bytes));
      keys_.push_back(DataKey(prefix_, parquet_->file(), FileKind::kParquet));
    }
    for (const auto& field : fields_) {
      if (field.type.kind != Kind::kTensor) continue;
      tensor_ids_.push_back(Uuid::Random());
      HEADRACE_ASSIGN(auto tensor, NewTensorWriter(store_.get(), prefix_, tensor_ids_.back(), field));
      tensors_.push_back(std::move(tensor));
      keys_.push_back(DataKey(prefix_, tensor_ids_.back(), FileKind::kTensor));
      keys_.push_back(SumsKey(prefix_, tensor_ids_.back()));
    }
    return Status::Ok();
  }

  Status WriteSlice(const std::vector<std::shared_ptr<arrow::Array>>& columns, int64_t rows, int64_t bytes) {
    if (fragment_rows_ == 0) HEADRACE_TRY(Begin());
    arrow::ArrayVector scalars;
    size_t tensor = 0;
    for (size_t i = 0; i < fields_.size(); ++i) {
      std::shared_ptr<arrow::Array> column = columns[i];
      if (fields_[i].type.kind == Kind::kTensor) {
        HEADRACE_TRY(tensors_[tensor++]->Write(column));
        continue;
      }
      if (fields_[i].type.kind == Kind::kBlob) {
        if (column->offset() != 0) {
          // Conforming again brings a slice to offset 0.
          HEADRACE_ASSIGN(column, ConformArray(column, fields_[i]));
        }
        auto packed = packs_.Write(fields_[i], column, &pack_use_);
        if (!packed.ok()) return packed.status().Wrap("column '" + fields_[i].name + "'");
        column = std::move(packed).value();
      }
      AddToStats(fields_[i], *column, stat_fields_, &current_.stats);
      scalars.push_back(std::move(column));
    }
    if (parquet_) {
      int64_t scalar_bytes = 0;
      for (const auto& column : scalars)
        scalar_bytes += arrow::util::ReferencedBufferSize(*column).ValueOr(0);
      HEADRACE_TRY(parquet_->Write(scalars, rows, scalar_bytes));
    }
    fragment_rows_ += rows;
    fragment_bytes_ += bytes;
    rows_ += rows;
    return Status::Ok();
  }

  std::shared_ptr<store::ObjectStore> store_;
  std::string prefix_;
  std::shared_ptr<const void> pin_;
  std::vector<Field> fields_;
  std::vector<int32_t> stat_fields_;
  WriteOptions options_;
  std::vector<Field> parquet_fields_;
  std::shared_ptr<const ColumnGroup> parquet_group_;
  std::vector<std::shared_ptr<const ColumnGroup>> tensor_groups_;
  PackWriter packs_;

  std::unique_ptr<ParquetWriter> parquet_;
  std::vector<std::unique_ptr<TensorWriter>> tensors_;
  std::vector<Uuid> tensor_ids_;
  std::map<Uuid, int64_t> pack_use_;
  Fragment current_;
  int64_t fragment_rows_ = 0;
  int64_t fragment_bytes_ = 0;
  std::vector<Fragment> fragments_;
  int64_t rows_ = 0;
  int64_t bytes_ = 0;
  std::vector<std::string> keys_;  // of files begun, visible or not
  bool finished_ = false;
};

}  // namespace

std::unique_ptr<DataWriter> NewDataWriter(const View& base, std::vector<Field> fields,
                                          std::vector<int32_t> stat_fields, WriteOptions options) {
  return std::make_unique<FragmentWriter>(base, std::move(fields), std::move(stat_fields),
                                          std::move(options));
}

}  // namespace headrace::table
