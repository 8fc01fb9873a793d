#include "table/pack_writer.h"

#include <arrow/array.h>
#include <arrow/builder.h>

#include "base/hash.h"
#include "table/arrow_bridge.h"

namespace headrace::table {

Status PackWriter::Add(std::string_view bytes, Uuid* pack, int64_t* offset) {
  if (upload_ && upload_->written() + static_cast<int64_t>(bytes.size()) > pack_bytes_ &&
      upload_->written() > 0) {
    HEADRACE_TRY(Finish());
  }
  if (!upload_) {
    pack_ = Uuid::Random();
    HEADRACE_ASSIGN(upload_, store_->StartUpload(prefix_ + PackKey(pack_)));
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

Result<std::shared_ptr<arrow::Array>> PackWriter::Write(const Field& field,
                                                        const std::shared_ptr<arrow::Array>& blobs,
                                                        std::map<Uuid, int64_t>* used) {
  const auto& cells = static_cast<const arrow::StructArray&>(*blobs);
  HEADRACE_ASSIGN(const auto inline_field, [&]() -> Result<int> {
    for (size_t i = 0; i < field.type.children.size(); ++i) {
      if (field.type.children[i].name == "inline") return static_cast<int>(i);
    }
    return Status::Corrupt("the blob column '" + field.name + "' has no field 'inline'");
  }());
  const auto bytes = std::static_pointer_cast<arrow::BinaryArray>(cells.field(inline_field));
  const auto child = [&](const char* name) { return cells.GetFieldByName(name); };
  const auto given_pack = std::static_pointer_cast<arrow::StringArray>(child("pack"));
  const auto given_offset = std::static_pointer_cast<arrow::Int64Array>(child("offset"));
  const auto given_length = std::static_pointer_cast<arrow::Int64Array>(child("length"));
  const auto given_checksum = std::static_pointer_cast<arrow::UInt64Array>(child("checksum"));

  arrow::StringBuilder pack_out;
  arrow::Int64Builder offset_out, length_out;
  arrow::UInt64Builder checksum_out;
  arrow::BinaryBuilder inline_out;
  for (int64_t i = 0; i < cells.length(); ++i) {
    if (cells.IsNull(i) || bytes->IsNull(i)) {
      // Nothing, or a reference in place: kept as it is.
      HEADRACE_ARROW_TRY(given_pack->IsNull(i) ? pack_out.AppendNull()
                                               : pack_out.Append(given_pack->GetView(i)));
      HEADRACE_ARROW_TRY(given_offset->IsNull(i) ? offset_out.AppendNull()
                                                 : offset_out.Append(given_offset->Value(i)));
      HEADRACE_ARROW_TRY(given_length->IsNull(i) ? length_out.AppendNull()
                                                 : length_out.Append(given_length->Value(i)));
      HEADRACE_ARROW_TRY(given_checksum->IsNull(i) ? checksum_out.AppendNull()
                                                   : checksum_out.Append(given_checksum->Value(i)));
      HEADRACE_ARROW_TRY(inline_out.AppendNull());
      continue;
    }
    const std::string_view blob = bytes->GetView(i);
    HEADRACE_ARROW_TRY(length_out.Append(static_cast<int64_t>(blob.size())));
    HEADRACE_ARROW_TRY(checksum_out.Append(Xxh3(blob)));
    if (static_cast<int64_t>(blob.size()) <= inline_bytes_) {
      HEADRACE_ARROW_TRY(pack_out.AppendNull());
      HEADRACE_ARROW_TRY(offset_out.AppendNull());
      HEADRACE_ARROW_TRY(inline_out.Append(blob));
      continue;
    }
    Uuid pack;
    int64_t offset = 0;
    HEADRACE_TRY(Add(blob, &pack, &offset));
    (*used)[pack] += static_cast<int64_t>(blob.size());
    HEADRACE_ARROW_TRY(pack_out.Append(pack.ToString()));
    HEADRACE_ARROW_TRY(offset_out.Append(offset));
    HEADRACE_ARROW_TRY(inline_out.AppendNull());
  }
  arrow::ArrayVector children;
  for (size_t i = 0; i < field.type.children.size(); ++i) {
    const std::string& name = field.type.children[i].name;
    arrow::ArrayBuilder* builder = name == "pack"       ? static_cast<arrow::ArrayBuilder*>(&pack_out)
                                   : name == "offset"   ? static_cast<arrow::ArrayBuilder*>(&offset_out)
                                   : name == "length"   ? static_cast<arrow::ArrayBuilder*>(&length_out)
                                   : name == "checksum" ? static_cast<arrow::ArrayBuilder*>(&checksum_out)
                                   : name == "inline"   ? static_cast<arrow::ArrayBuilder*>(&inline_out)
                                                        : nullptr;
    std::shared_ptr<arrow::Array> array = cells.field(static_cast<int>(i));
    if (builder != nullptr) HEADRACE_ARROW_TRY(builder->Finish(&array));
    children.push_back(std::move(array));
  }
  // Conformed structs have offset 0, so their validity can be shared as it is.
  HEADRACE_CHECK(cells.offset() == 0 || cells.null_count() == 0);
  return std::shared_ptr<arrow::Array>(std::make_shared<arrow::StructArray>(
      cells.type(), cells.length(), std::move(children), cells.null_count() ? cells.null_bitmap() : nullptr,
      cells.null_count()));
}

}  // namespace headrace::table
