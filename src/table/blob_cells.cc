#include "table/blob_cells.h"

#include <arrow/array.h>
#include <arrow/array/util.h>
#include <arrow/buffer_builder.h>
#include <arrow/builder.h>
#include <arrow/type.h>

#include <algorithm>
#include <map>

#include "base/hash.h"
#include "table/arrow_bridge.h"
#include "table/fragment.h"
#include "table/keys.h"
#include "table/type.h"

namespace headrace::table {
namespace {

std::string_view TableOf(const std::string& prefix) {  // tables/<id>/
  std::string_view id = prefix;
  id.remove_suffix(1);
  return id.substr(id.rfind('/') + 1);
}

}  // namespace

bool HasBlobShape(const arrow::DataType& type) {
  const auto& fields = BlobFields();
  if (type.id() != arrow::Type::STRUCT || static_cast<size_t>(type.num_fields()) != fields.size())
    return false;
  return std::all_of(fields.begin(), fields.end(), [&](const Field& field) {
    const auto& given = static_cast<const arrow::StructType&>(type);
    return given.GetFieldIndex(field.name) >= 0;
  });
}

Result<BlobCells> BlobCells::Of(const std::shared_ptr<arrow::Array>& blobs) {
  BlobCells cells;
  cells.cells_ = std::dynamic_pointer_cast<arrow::StructArray>(blobs);
  const auto child = [&](const char* name) {
    return cells.cells_ ? cells.cells_->GetFieldByName(name) : nullptr;
  };
  cells.pack_ = std::dynamic_pointer_cast<arrow::StringArray>(child("pack"));
  cells.uri_ = std::dynamic_pointer_cast<arrow::StringArray>(child("uri"));
  cells.offset_ = std::dynamic_pointer_cast<arrow::Int64Array>(child("offset"));
  cells.length_ = std::dynamic_pointer_cast<arrow::Int64Array>(child("length"));
  cells.checksum_ = std::dynamic_pointer_cast<arrow::UInt64Array>(child("checksum"));
  cells.inline_ = std::dynamic_pointer_cast<arrow::BinaryArray>(child("inline"));
  if (!cells.pack_ || !cells.uri_ || !cells.offset_ || !cells.length_ || !cells.checksum_ || !cells.inline_) {
    return Status::Invalid("these cells are not a blob column's; ask for the whole column to read its bytes");
  }
  return cells;
}

int64_t BlobCells::length() const { return cells_->length(); }
bool BlobCells::IsNull(int64_t row) const { return cells_->IsNull(row); }
bool BlobCells::IsInline(int64_t row) const { return inline_->IsValid(row); }
bool BlobCells::IsPacked(int64_t row) const { return inline_->IsNull(row) && pack_->IsValid(row); }
bool BlobCells::IsInPlace(int64_t row) const {
  return inline_->IsNull(row) && pack_->IsNull(row) && uri_->IsValid(row);
}
std::string_view BlobCells::InlineBytes(int64_t row) const { return inline_->GetView(row); }
std::string_view BlobCells::Pack(int64_t row) const { return pack_->GetView(row); }
std::string_view BlobCells::Uri(int64_t row) const { return uri_->GetView(row); }
int64_t BlobCells::Offset(int64_t row) const { return offset_->IsNull(row) ? 0 : offset_->Value(row); }
int64_t BlobCells::PackedBytes(int64_t row) const { return length_->IsNull(row) ? 0 : length_->Value(row); }

uint64_t BlobCells::Checksum(int64_t row) const { return checksum_->IsNull(row) ? 0 : checksum_->Value(row); }

Result<std::string> BlobCells::KeyOf(int64_t row, const std::string& prefix) const {
  const std::string_view text = pack_->GetView(row);
  const size_t slash = text.find('/');
  const auto id = Uuid::Parse(slash == std::string_view::npos ? text : text.substr(slash + 1));
  if (!id.ok() || offset_->IsNull(row) || length_->IsNull(row)) {
    return Status::Invalid("a blob's place '" + std::string(text.substr(0, 80)) +
                           "' is not one that a table gave out");
  }
  if (slash == std::string_view::npos) return PackKey(prefix, *id);
  HEADRACE_ASSIGN(const Uuid table, Uuid::Parse(text.substr(0, slash)));
  return PackKey(TableFolder(table), *id);
}

Result<std::vector<store::Bytes>> BlobCells::Read(const std::vector<int64_t>& rows, const std::string& prefix,
                                                  const OpenFn& open) const {
  std::vector<store::Bytes> result(rows.size());
  std::map<std::string, std::vector<size_t>> by_pack;
  for (size_t i = 0; i < rows.size(); ++i) {
    HEADRACE_ASSIGN(const std::string key, KeyOf(rows[i], prefix));
    by_pack[key].push_back(i);
  }
  for (const auto& [key, members] : by_pack) {
    auto opened = open(key);
    if (opened.status().Is(Code::kNotFound)) {
      return Status::NotFound(
          "a blob lies in " + key +
          ", and this catalog has no such pack: cells of another catalog's table must come "
          "with their bytes");
    }
    if (!opened.ok()) return opened.status();
    std::vector<store::ByteRange> ranges;
    for (const size_t i : members) ranges.push_back({offset_->Value(rows[i]), length_->Value(rows[i])});
    HEADRACE_ASSIGN(auto parts, (*opened)->ReadMany(ranges));
    for (size_t k = 0; k < members.size(); ++k) {
      const int64_t row = rows[members[k]];
      if (checksum_->IsValid(row) && Xxh3(parts[k].view()) != checksum_->Value(row)) {
        return Status::Corrupt("a blob of " + std::to_string(parts[k].size()) + " bytes at " +
                               std::to_string(ranges[k].offset) + " in " + key +
                               " does not match its checksum");
      }
      result[members[k]] = std::move(parts[k]);
    }
    HEADRACE_TRY((*opened)->CheckWhole());
  }
  return result;
}

Result<std::shared_ptr<arrow::Array>> PacksWithTable(const arrow::Array& packs, const std::string& prefix) {
  const auto* given = dynamic_cast<const arrow::StringArray*>(&packs);
  if (given == nullptr) return Status::Corrupt("a blob column's 'pack' is no string");
  const std::string table = std::string(TableOf(prefix)) + "/";
  arrow::StringBuilder named;
  HEADRACE_ARROW_TRY(named.Reserve(given->length()));
  std::string text;
  for (int64_t i = 0; i < given->length(); ++i) {
    if (given->IsNull(i)) {
      HEADRACE_ARROW_TRY(named.AppendNull());
      continue;
    }
    text.assign(table).append(given->GetView(i));
    HEADRACE_ARROW_TRY(named.Append(text));
  }
  HEADRACE_ARROW_ASSIGN(auto array, named.Finish());
  return array;
}

Result<std::shared_ptr<arrow::Array>> WithTable(const std::shared_ptr<arrow::Array>& blobs,
                                                const std::string& prefix) {
  const auto& cells = static_cast<const arrow::StructArray&>(*blobs);
  const int index = static_cast<const arrow::StructType&>(*cells.type()).GetFieldIndex("pack");
  if (index < 0) return Status::Corrupt("a blob column has no field 'pack'");
  const auto& data = *cells.data();
  // The child as a whole: the struct's own offset stays what it is.
  HEADRACE_ASSIGN(const auto packs,
                  PacksWithTable(*arrow::MakeArray(data.child_data[static_cast<size_t>(index)]), prefix));
  const auto named = data.Copy();
  named->child_data[static_cast<size_t>(index)] = packs->data();
  return arrow::MakeArray(named);
}

Result<std::shared_ptr<arrow::Array>> WithBytes(const std::shared_ptr<arrow::Array>& blobs,
                                                const BlobCells::OpenFn& open) {
  HEADRACE_ASSIGN(const auto cells, BlobCells::Of(blobs));
  const auto& given = static_cast<const arrow::StructArray&>(*blobs);
  std::vector<int64_t> packed;
  for (int64_t i = 0; i < cells.length(); ++i) {
    if (!cells.IsNull(i) && cells.IsPacked(i)) packed.push_back(i);
  }
  HEADRACE_ASSIGN(const auto bytes, cells.Read(packed, "", open));
  arrow::BinaryBuilder inline_out;
  size_t next = 0;
  for (int64_t i = 0; i < cells.length(); ++i) {
    if (next < packed.size() && packed[next] == i) {
      HEADRACE_ARROW_TRY(inline_out.Append(bytes[next++].view()));
    } else if (!cells.IsNull(i) && cells.IsInline(i)) {
      HEADRACE_ARROW_TRY(inline_out.Append(cells.InlineBytes(i)));
    } else {
      HEADRACE_ARROW_TRY(inline_out.AppendNull());
    }
  }
  arrow::ArrayVector children;
  for (int i = 0; i < given.num_fields(); ++i) {
    const auto& child = given.type()->field(i);
    std::shared_ptr<arrow::Array> array = given.field(i);
    if (child->name() == "inline") HEADRACE_ARROW_TRY(inline_out.Finish(&array));
    if (child->name() == "pack" || child->name() == "offset") {
      HEADRACE_ARROW_ASSIGN(array, arrow::MakeArrayOfNull(child->type(), given.length()));
    }
    children.push_back(std::move(array));
  }
  HEADRACE_ARROW_ASSIGN(const auto validity, [&]() -> arrow::Result<std::shared_ptr<arrow::Buffer>> {
    if (given.null_count() == 0) return nullptr;
    arrow::TypedBufferBuilder<bool> bits;
    for (int64_t i = 0; i < given.length(); ++i) ARROW_RETURN_NOT_OK(bits.Append(given.IsValid(i)));
    return bits.Finish();
  }());
  return std::shared_ptr<arrow::Array>(std::make_shared<arrow::StructArray>(
      given.type(), given.length(), std::move(children), validity, given.null_count()));
}

}  // namespace headrace::table
