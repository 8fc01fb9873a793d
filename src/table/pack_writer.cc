#include "table/pack_writer.h"

#include <arrow/array.h>
#include <arrow/builder.h>

#include "base/digest.h"
#include "base/hash.h"
#include "table/arrow_bridge.h"
#include "table/keys.h"

namespace headrace::table {
namespace {

constexpr int64_t kCopyBytes = 32 << 20;  // of other tables' blobs, read at once
constexpr size_t kOpenSources = 64;       // packs that stay open while cells of theirs come

// The fields of a blob column's cells that say where the bytes are, made anew; the others stay as they came.
class CellPlaces {
 public:
  explicit CellPlaces(const arrow::StructArray& cells)
      : cells_(cells),
        offsets_(std::static_pointer_cast<arrow::Int64Array>(cells.GetFieldByName("offset"))),
        lengths_(std::static_pointer_cast<arrow::Int64Array>(cells.GetFieldByName("length"))),
        checksums_(std::static_pointer_cast<arrow::UInt64Array>(cells.GetFieldByName("checksum"))) {}

  Status Inline(std::string_view blob) {
    HEADRACE_TRY(Facts(blob));
    HEADRACE_ARROW_TRY(pack_.AppendNull());
    HEADRACE_ARROW_TRY(offset_.AppendNull());
    HEADRACE_ARROW_TRY(inline_.Append(blob));
    return Status::Ok();
  }
  Status Packed(std::string_view blob, const Uuid& pack, int64_t offset) {
    HEADRACE_TRY(Facts(blob));
    return At(pack, offset);
  }
  // The bytes of the given cell, which lie there now.
  Status Moved(int64_t i, const Uuid& pack, int64_t offset) {
    HEADRACE_TRY(SameFacts(i));
    return At(pack, offset);
  }
  // Nothing, a reference in place, or a place in a pack of this table.
  Status Keep(int64_t i, const Uuid* pack) {
    HEADRACE_ARROW_TRY(pack == nullptr ? pack_.AppendNull() : pack_.Append(pack->ToString()));
    HEADRACE_ARROW_TRY(offsets_->IsNull(i) ? offset_.AppendNull() : offset_.Append(offsets_->Value(i)));
    HEADRACE_ARROW_TRY(inline_.AppendNull());
    return SameFacts(i);
  }

  Result<std::shared_ptr<arrow::Array>> Finish(const Field& field) {
    const std::map<std::string, arrow::ArrayBuilder*> made = {{"pack", &pack_},
                                                              {"offset", &offset_},
                                                              {"length", &length_},
                                                              {"checksum", &checksum_},
                                                              {"inline", &inline_}};
    arrow::ArrayVector children;
    for (size_t i = 0; i < field.type.children.size(); ++i) {
      std::shared_ptr<arrow::Array> array = cells_.field(static_cast<int>(i));
      const auto builder = made.find(field.type.children[i].name);
      if (builder != made.end()) HEADRACE_ARROW_TRY(builder->second->Finish(&array));
      children.push_back(std::move(array));
    }
    // Conformed structs have offset 0, so their validity can be shared as it is.
    HEADRACE_CHECK(cells_.offset() == 0 || cells_.null_count() == 0);
    return std::shared_ptr<arrow::Array>(std::make_shared<arrow::StructArray>(
        cells_.type(), cells_.length(), std::move(children),
        cells_.null_count() ? cells_.null_bitmap() : nullptr, cells_.null_count()));
  }

 private:
  Status Facts(std::string_view blob) {
    HEADRACE_ARROW_TRY(length_.Append(static_cast<int64_t>(blob.size())));
    HEADRACE_ARROW_TRY(checksum_.Append(Xxh3(blob)));
    return Status::Ok();
  }
  Status SameFacts(int64_t i) {
    HEADRACE_ARROW_TRY(lengths_->IsNull(i) ? length_.AppendNull() : length_.Append(lengths_->Value(i)));
    HEADRACE_ARROW_TRY(checksums_->IsNull(i) ? checksum_.AppendNull()
                                             : checksum_.Append(checksums_->Value(i)));
    return Status::Ok();
  }
  Status At(const Uuid& pack, int64_t offset) {
    HEADRACE_ARROW_TRY(pack_.Append(pack.ToString()));
    HEADRACE_ARROW_TRY(offset_.Append(offset));
    HEADRACE_ARROW_TRY(inline_.AppendNull());
    return Status::Ok();
  }

  const arrow::StructArray& cells_;
  std::shared_ptr<arrow::Int64Array> offsets_;
  std::shared_ptr<arrow::Int64Array> lengths_;
  std::shared_ptr<arrow::UInt64Array> checksums_;
  arrow::StringBuilder pack_;
  arrow::Int64Builder offset_, length_;
  arrow::UInt64Builder checksum_;
  arrow::BinaryBuilder inline_;
};

// A packed cell's place, and the checksum that it says the bytes there have: one that says another is read
// and refused.
std::string PlaceName(const BlobCells& cells, int64_t row) {
  return std::string(cells.Pack(row)) + ":" + std::to_string(cells.Offset(row)) + ":" +
         std::to_string(cells.PackedBytes(row)) + ":" + std::to_string(cells.Checksum(row));
}

}  // namespace

Status PackWriter::Add(std::string_view bytes, Uuid* pack, int64_t* offset) {
  if (upload_ && upload_->written() + static_cast<int64_t>(bytes.size()) > pack_bytes_ &&
      upload_->written() > 0) {
    HEADRACE_TRY(Finish());
  }
  if (!upload_) {
    pack_ = Uuid::Random();
    keys_.push_back(PackKey(prefix_, pack_));
    HEADRACE_ASSIGN(upload_, store_->StartUpload(keys_.back()));
  }
  *pack = pack_;
  *offset = upload_->written();
  bytes_ += static_cast<int64_t>(bytes.size());
  return upload_->Append(bytes);
}

Status PackWriter::Finish() {
  if (!upload_) return Status::Ok();
  const auto upload = std::move(upload_);
  upload_ = nullptr;
  return upload->Commit();
}

Result<std::shared_ptr<store::ObjectReader>> PackWriter::Open(const std::string& key) {
  const auto it = sources_.find(key);
  if (it != sources_.end()) return it->second;
  HEADRACE_ASSIGN(auto reader, store_->Open(key));
  if (sources_.size() >= kOpenSources) sources_.clear();
  sources_[key] = reader;
  return reader;
}

Result<bool> PackWriter::Shares(const std::string& key) {
  if (!key.starts_with(prefix_)) return false;
  if (!shared_) {
    HEADRACE_ASSIGN(const auto fragments, base_.Fragments());
    shared_.emplace();
    for (const auto& fragment : *fragments) {
      for (const auto& pack : fragment.packs) {
        if (!copied_packs_.contains(pack.id)) shared_->insert(PackKey(prefix_, pack.id));
      }
    }
  }
  return shared_->contains(key);
}

Result<std::map<int64_t, store::Bytes>> PackWriter::Fetch(const BlobCells& cells, int64_t row) {
  std::vector<int64_t> rows;
  for (int64_t bytes = 0; row < cells.length() && (rows.empty() || bytes < kCopyBytes); ++row) {
    if (cells.IsNull(row) || !cells.IsPacked(row) || Find(copied_, PlaceName(cells, row))) continue;
    HEADRACE_ASSIGN(const std::string key, cells.KeyOf(row, prefix_));
    HEADRACE_ASSIGN(const bool shared, Shares(key));
    if (shared) continue;
    rows.push_back(row);
    bytes += cells.PackedBytes(row);
  }
  HEADRACE_ASSIGN(auto bytes, cells.Read(rows, prefix_, [&](const std::string& key) { return Open(key); }));
  std::map<int64_t, store::Bytes> found;
  for (size_t i = 0; i < rows.size(); ++i) found[rows[i]] = std::move(bytes[i]);
  return found;
}

Result<Uuid> PackWriter::Share(const BlobCells& cells, int64_t row) {
  HEADRACE_ASSIGN(const std::string key, cells.KeyOf(row, prefix_));
  auto reader = Open(key);
  if (reader.status().Is(Code::kNotFound)) {
    return Status::NotFound("a blob lies in " + key + ", which this table does not have: give its bytes");
  }
  if (!reader.ok()) return reader.status();
  const int64_t offset = cells.Offset(row);
  const int64_t length = cells.PackedBytes(row);
  if (offset < 0 || length < 0 || offset > (*reader)->size() || length > (*reader)->size() - offset) {
    return Status::Invalid("a blob's place lies outside of its pack " + key);
  }
  const std::string_view text = cells.Pack(row);
  return Uuid::Parse(text.substr(text.find('/') + 1));  // all of it where there is none
}

Result<std::shared_ptr<arrow::Array>> PackWriter::Write(const Field& field,
                                                        const std::shared_ptr<arrow::Array>& blobs,
                                                        std::map<Uuid, int64_t>* used) {
  HEADRACE_ASSIGN(const BlobCells given, BlobCells::Of(blobs));
  CellPlaces out(static_cast<const arrow::StructArray&>(*blobs));
  Place placed;  // of the last that was added
  const auto add = [&](std::string_view blob) -> Status {
    HEADRACE_TRY(Add(blob, &placed.pack, &placed.offset));
    (*used)[placed.pack] += static_cast<int64_t>(blob.size());
    return out.Packed(blob, placed.pack, placed.offset);
  };
  const auto add_given = [&](std::string_view blob) -> Status {
    if (static_cast<int64_t>(blob.size()) <= inline_bytes_) return out.Inline(blob);
    if (!share_equal_) return add(blob);
    std::string name = Sha256(blob);
    if (const Place* before = Find(equal_, name)) {
      (*used)[before->pack] += static_cast<int64_t>(blob.size());
      return out.Packed(blob, before->pack, before->offset);
    }
    HEADRACE_TRY(add(blob));
    Remember(&equal_, std::move(name), placed);
    return Status::Ok();
  };
  std::map<int64_t, store::Bytes> copied;
  const auto write = [&](int64_t i) -> Status {
    if (given.IsNull(i) || given.IsInPlace(i)) return out.Keep(i, nullptr);
    if (given.IsInline(i)) return add_given(given.InlineBytes(i));
    if (!given.IsPacked(i)) return Status::Invalid("the cell has neither bytes nor a place where they lie");
    HEADRACE_ASSIGN(const std::string key, given.KeyOf(i, prefix_));
    HEADRACE_ASSIGN(const bool shared, Shares(key));
    if (shared) {
      HEADRACE_ASSIGN(const Uuid pack, Share(given, i));
      (*used)[pack] += given.PackedBytes(i);
      return out.Keep(i, &pack);
    }
    std::string name = PlaceName(given, i);
    if (const Place* before = Find(copied_, name)) {
      (*used)[before->pack] += given.PackedBytes(i);
      return out.Moved(i, before->pack, before->offset);
    }
    if (!copied.contains(i)) {
      HEADRACE_ASSIGN(copied, Fetch(given, i));
    }
    const std::string_view blob = copied.at(i).view();
    if (static_cast<int64_t>(blob.size()) <= inline_bytes_) return out.Inline(blob);
    HEADRACE_TRY(add(blob));
    Remember(&copied_, std::move(name), placed);
    return Status::Ok();
  };
  for (int64_t i = 0; i < given.length(); ++i) {
    const Status written = write(i);
    if (!written.ok()) return written.Wrap("row " + std::to_string(i));
  }
  return out.Finish(field);
}

}  // namespace headrace::table
