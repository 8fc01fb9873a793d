#include "table/manifest.h"

#include <arrow/array.h>
#include <arrow/io/memory.h>
#include <arrow/table.h>
#include <arrow/util/key_value_metadata.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>

#include <map>
#include "base/json.h"

#include "base/exception_text.h"
#include "base/hash.h"
#include "table/arrow_bridge.h"
#include "table/features.h"
#include "table/fragment_json.h"
#include "table/json_read.h"

namespace headrace::table {
namespace {

using nlohmann::json;

Result<std::vector<PackUse>> DecodePacks(std::string_view bytes) {
  std::vector<PackUse> packs;
  if (bytes.size() % 24 != 0) return Status::Corrupt("a manifest's pack list has a torn entry");
  for (size_t at = 0; at < bytes.size(); at += 24) {
    PackUse pack;
    std::copy_n(bytes.data() + at, 16, reinterpret_cast<char*>(pack.id.bytes.data()));
    uint64_t live = 0;
    for (size_t i = 0; i < 8; ++i)
      live |= uint64_t{static_cast<unsigned char>(bytes[at + 16 + i])} << (8 * i);
    pack.live_bytes = static_cast<int64_t>(live);
    packs.push_back(pack);
  }
  return packs;
}

// Reads whole columns, by name, as single arrays.
class ColumnSet {
 public:
  static Result<ColumnSet> Read(const store::Bytes& bytes, const std::vector<std::string>& names,
                                bool must_exist) {
    ColumnSet set;
    std::unique_ptr<parquet::arrow::FileReader> reader;
    try {
      auto file = std::make_shared<arrow::io::BufferReader>(ToBuffer(bytes));
      parquet::arrow::FileReaderBuilder builder;
      HEADRACE_ARROW_TRY(builder.Open(file));
      HEADRACE_ARROW_TRY(builder.Build(&reader));
      const auto* schema = reader->parquet_reader()->metadata()->schema();
      std::vector<int> wanted;
      for (const auto& name : names) {
        const int index = schema->ColumnIndex(name);
        if (index >= 0) wanted.push_back(index);
        if (index < 0 && must_exist) return Status::Corrupt("a manifest has no column " + name);
      }
      HEADRACE_ARROW_ASSIGN(set.table_, reader->ReadTable(wanted));
      HEADRACE_ARROW_ASSIGN(set.table_, set.table_->CombineChunks());
      set.metadata_ = reader->parquet_reader()->metadata()->key_value_metadata();
    } catch (const std::exception& error) {
      return Status::Corrupt(std::string("a manifest cannot be read: ") + error.what());
    }
    return set;
  }
  // Null if the file has no such column; Corrupt if it has another type.
  template <typename ArrayType>
  Result<const ArrayType*> Get(const std::string& name) const {
    const auto column = table_->GetColumnByName(name);
    if (!column || column->num_chunks() == 0) return static_cast<const ArrayType*>(nullptr);
    const auto* typed = dynamic_cast<const ArrayType*>(column->chunk(0).get());
    if (typed == nullptr) return Status::Corrupt("a manifest's column " + name + " has the wrong type");
    return typed;
  }
  int64_t rows() const { return table_->num_rows(); }
  const std::shared_ptr<const arrow::KeyValueMetadata>& metadata() const { return metadata_; }
  std::shared_ptr<arrow::Array> Any(const std::string& name) const {
    const auto column = table_->GetColumnByName(name);
    return column && column->num_chunks() > 0 ? column->chunk(0) : nullptr;
  }

 private:
  std::shared_ptr<arrow::Table> table_;
  std::shared_ptr<const arrow::KeyValueMetadata> metadata_;
};

Value BoundAt(const std::shared_ptr<arrow::Array>& array, int64_t row) {
  if (!array || array->IsNull(row)) return {};
  switch (array->type_id()) {
    case arrow::Type::INT64:
      return static_cast<const arrow::Int64Array&>(*array).Value(row);
    case arrow::Type::DOUBLE:
      return static_cast<const arrow::DoubleArray&>(*array).Value(row);
    case arrow::Type::BINARY:
      return static_cast<const arrow::BinaryArray&>(*array).GetString(row);
    default:
      return {};
  }
}

// What was deleted from an entry's fragment, laid over it, and gathered in it, and how it was sorted.
struct ChangeColumns {
  const arrow::BinaryArray* deleted;
  const arrow::BinaryArray* overlays;
  const arrow::BinaryArray* gathered;
  const arrow::BinaryArray* sorted_by;
};

Status ReadChanges(const ChangeColumns& columns, int64_t row, Fragment* entry) {
  const auto& [deleted, overlays, gathered, sorted_by] = columns;
  try {
    if (deleted != nullptr && deleted->IsValid(row)) {
      HEADRACE_ASSIGN(entry->deleted, RowSetFromJson(ParseJsonOrThrow(deleted->GetView(row))));
    }
    if (overlays != nullptr && overlays->IsValid(row)) {
      HEADRACE_ASSIGN(entry->overlays, OverlaysFromJson(ParseJsonOrThrow(overlays->GetView(row))));
    }
    if (gathered != nullptr && gathered->IsValid(row)) {
      entry->gathered = GatheredFromJson(ParseJsonOrThrow(gathered->GetView(row)));
    }
    if (sorted_by != nullptr && sorted_by->IsValid(row))
      entry->sorted_by = JsonInts(ParseJsonOrThrow(sorted_by->GetView(row)));
  } catch (const std::exception& error) {
    return Status::Corrupt(ExceptionText(error));
  }
  return CheckRowSets(*entry);
}

// What a manifest's metadata says of its columns.
struct ManifestHead {
  std::vector<std::shared_ptr<const ColumnGroup>> groups;
  std::vector<int32_t> stat_fields;
};

Result<ManifestHead> ReadHead(const arrow::KeyValueMetadata& metadata) {
  ManifestHead head;
  try {
    const std::string format = metadata.Get("headrace.format").ValueOr("");
    if (format != std::to_string(kFormatVersion)) {
      return Status::Unsupported("it has format version '" + format + "' and this program reads " +
                                 std::to_string(kFormatVersion) + "; update Headrace");
    }
    HEADRACE_TRY(
        CheckFeatures(json{{"requires", ParseJsonOrThrow(metadata.Get("headrace.requires").ValueOr("[]"))}}));
    for (const auto& entry : ParseJsonOrThrow(metadata.Get("headrace.families").ValueOr("[]"))) {
      ColumnGroup group;
      HEADRACE_ASSIGN(group.kind, ParseFileKind(entry.at("kind").get<std::string>()));
      group.fields = JsonInts(entry.at("fields"));
      head.groups.push_back(std::make_shared<const ColumnGroup>(std::move(group)));
    }
    head.stat_fields = JsonInts(ParseJsonOrThrow(metadata.Get("headrace.stats").ValueOr("[]")));
  } catch (const std::exception& error) {
    return Status::Corrupt(ExceptionText(error));
  }
  return head;
}

// Entries without their files and statistics.
Result<std::vector<Fragment>> ReadEntries(const ColumnSet& core, const ColumnSet& optional) {
  HEADRACE_ASSIGN(const auto* ids, core.Get<arrow::Int64Array>("fragment"));
  HEADRACE_ASSIGN(const auto* first, core.Get<arrow::Int64Array>("first_row_id"));
  HEADRACE_ASSIGN(const auto* rows, core.Get<arrow::Int64Array>("rows"));
  HEADRACE_ASSIGN(const auto* versions, core.Get<arrow::Int64Array>("version"));
  HEADRACE_ASSIGN(const auto* packs, core.Get<arrow::BinaryArray>("packs"));
  ChangeColumns changes{};
  HEADRACE_ASSIGN(changes.deleted, optional.Get<arrow::BinaryArray>("deleted"));
  HEADRACE_ASSIGN(changes.overlays, optional.Get<arrow::BinaryArray>("overlays"));
  HEADRACE_ASSIGN(changes.gathered, optional.Get<arrow::BinaryArray>("gathered"));
  HEADRACE_ASSIGN(changes.sorted_by, optional.Get<arrow::BinaryArray>("sorted_by"));
  std::vector<Fragment> entries(static_cast<size_t>(core.rows()));
  for (int64_t i = 0; i < core.rows(); ++i) {
    Fragment& entry = entries[static_cast<size_t>(i)];
    entry.id = ids->Value(i);
    entry.first_row_id = first->Value(i);
    entry.rows = rows->Value(i);
    entry.version = versions->Value(i);
    if (entry.rows < 0 || entry.first_row_id < 0 || entry.rows > INT64_MAX - entry.first_row_id) {
      return Status::Corrupt("an entry has an impossible row range");
    }
    if (packs->value_length(i) > 0) {
      HEADRACE_ASSIGN(entry.packs, DecodePacks(packs->GetView(i)));
    }
    HEADRACE_TRY(ReadChanges(changes, i, &entry));
  }
  return entries;
}

// The files of one column group: columns `file_<k>`, `bytes_<k>` and their like, with k in `suffix`.
Status ReadFiles(const ColumnSet& files, const ColumnSet& optional, const std::string& suffix,
                 const std::shared_ptr<const ColumnGroup>& group, std::vector<Fragment>* entries) {
  HEADRACE_ASSIGN(const auto* file, files.Get<arrow::FixedSizeBinaryArray>("file_" + suffix));
  HEADRACE_ASSIGN(const auto* size, files.Get<arrow::Int64Array>("bytes_" + suffix));
  if (!entries->empty() && (file == nullptr || size == nullptr || file->byte_width() != 16)) {
    return Status::Corrupt("a file column is missing");
  }
  HEADRACE_ASSIGN(const auto* tail, optional.Get<arrow::Int64Array>("tail_" + suffix));
  HEADRACE_ASSIGN(const auto* sum, optional.Get<arrow::Int64Array>("sum_" + suffix));
  HEADRACE_ASSIGN(const auto* decoded, optional.Get<arrow::Int64Array>("decoded_" + suffix));
  HEADRACE_ASSIGN(const auto* version, optional.Get<arrow::Int64Array>("version_" + suffix));
  for (size_t entry = 0; entry < entries->size(); ++entry) {
    const auto i = static_cast<int64_t>(entry);
    if (file->IsNull(i)) continue;
    DataFile data;
    std::copy_n(file->GetValue(i), 16, data.id.bytes.data());
    data.bytes = size->Value(i);
    data.column_group = group;
    if (tail != nullptr && sum != nullptr && tail->IsValid(i) && sum->IsValid(i)) {
      data.tail = {tail->Value(i), static_cast<uint64_t>(sum->Value(i))};
    }
    if (decoded != nullptr && decoded->IsValid(i)) data.decoded = decoded->Value(i);
    if (version != nullptr && version->IsValid(i)) data.version = version->Value(i);
    (*entries)[entry].files.push_back(std::move(data));
  }
  return Status::Ok();
}

}  // namespace

Result<std::shared_ptr<const Manifest>> Manifest::Load(store::Bytes bytes, const ManifestRef& ref) {
  auto manifest = Parse(std::move(bytes), ref);
  if (!manifest.ok()) return manifest.status().Wrap("cannot read the manifest " + ref.id.ToString());
  return manifest;
}

Result<std::shared_ptr<const Manifest>> Manifest::Parse(store::Bytes bytes, const ManifestRef& ref) {
  if (bytes.size() != ref.bytes || Xxh3(bytes.view()) != ref.checksum) {
    return Status::Corrupt("its checksum does not match");
  }
  HEADRACE_ASSIGN(const auto core,
                  ColumnSet::Read(bytes, {"fragment", "first_row_id", "rows", "version", "packs"}, true));
  if (!core.metadata() || core.rows() != ref.entries) return Status::Corrupt("it is no manifest");
  HEADRACE_ASSIGN(ManifestHead head, ReadHead(*core.metadata()));
  std::vector<std::string> required, optional = {"deleted", "overlays", "gathered", "sorted_by"};
  for (size_t k = 0; k < head.groups.size(); ++k) {
    for (const char* name : {"file_", "bytes_"}) required.push_back(name + std::to_string(k));
    for (const char* name : {"tail_", "sum_", "decoded_", "version_"})
      optional.push_back(name + std::to_string(k));
  }
  HEADRACE_ASSIGN(const auto files, ColumnSet::Read(bytes, required, true));
  HEADRACE_ASSIGN(const auto more, ColumnSet::Read(bytes, optional, false));
  auto manifest = std::make_shared<Manifest>();
  HEADRACE_ASSIGN(manifest->entries_, ReadEntries(core, more));
  for (auto& entry : manifest->entries_) entry.files.reserve(head.groups.size());
  for (size_t k = 0; k < head.groups.size(); ++k)
    HEADRACE_TRY(ReadFiles(files, more, std::to_string(k), head.groups[k], &manifest->entries_));
  manifest->stat_fields_ = std::move(head.stat_fields);
  manifest->bytes_ = std::move(bytes);
  return std::shared_ptr<const Manifest>(std::move(manifest));
}

Result<std::vector<Manifest::KnownStats>> Manifest::LoadStats(int32_t field) const {
  std::vector<KnownStats> result(entries_.size());
  if (std::find(stat_fields_.begin(), stat_fields_.end(), field) == stat_fields_.end()) return result;
  const std::string id = std::to_string(field);
  HEADRACE_ASSIGN(const auto set,
                  ColumnSet::Read(bytes_, {"min_" + id, "max_" + id, "nulls_" + id, "values_" + id}, true));
  const auto low = set.Any("min_" + id);
  const auto high = set.Any("max_" + id);
  HEADRACE_ASSIGN(const auto* nulls, set.Get<arrow::Int64Array>("nulls_" + id));
  HEADRACE_ASSIGN(const auto* values, set.Get<arrow::Int64Array>("values_" + id));
  if (nulls == nullptr || values == nullptr) return result;
  for (size_t i = 0; i < result.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    if (nulls->IsNull(row) || values->IsNull(row)) continue;
    result[i].known = true;
    FieldStats& stats = result[i].stats;
    stats.min = BoundAt(low, row);
    stats.max = BoundAt(high, row);
    stats.nulls = nulls->Value(row);
    stats.has_nan = values->Value(row) < 0;
    stats.values = stats.has_nan ? -1 - values->Value(row) : values->Value(row);
  }
  return result;
}

Result<std::vector<Fragment>> Manifest::LoadAll() const {
  std::vector<Fragment> all = entries_;
  for (const int32_t field : stat_fields_) {
    HEADRACE_ASSIGN(auto stats, LoadStats(field));
    for (size_t i = 0; i < all.size(); ++i) {
      if (stats[i].known) all[i].stats[field] = std::move(stats[i].stats);
    }
  }
  return all;
}

}  // namespace headrace::table
