#include "table/manifest.h"

#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/io/memory.h>
#include <arrow/table.h>
#include <arrow/util/key_value_metadata.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/writer.h>
#include <parquet/exception.h>

#include <map>
#include <set>
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

// Which of int64, double, binary a field's bounds are: chosen by the first that has one.
enum class BoundKind { kInt, kDouble, kString };

BoundKind KindOf(const Value& value) {
  if (std::holds_alternative<double>(value)) return BoundKind::kDouble;
  if (std::holds_alternative<std::string>(value)) return BoundKind::kString;
  return BoundKind::kInt;
}

int64_t AsInt(const Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? 1 : 0;
  return std::get<int64_t>(value);
}

std::string EncodePacks(
    const std::vector<PackUse>& packs) {  // 16 bytes of id, 8 of live bytes (little-endian), repeated
  std::string out;
  for (const auto& pack : packs) {
    out.append(reinterpret_cast<const char*>(pack.id.bytes.data()), 16);
    for (int shift = 0; shift < 64; shift += 8)
      out += static_cast<char>(static_cast<uint64_t>(pack.live_bytes) >> shift);
  }
  return out;
}

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

class Columns {
 public:
  void Add(std::string name, const std::shared_ptr<arrow::Array>& array) {
    fields_.push_back(arrow::field(std::move(name), array->type()));
    arrays_.push_back(array);
  }
  std::shared_ptr<arrow::Table> Finish(std::shared_ptr<arrow::KeyValueMetadata> metadata) const {
    return arrow::Table::Make(arrow::schema(fields_, std::move(metadata)), arrays_);
  }

 private:
  arrow::FieldVector fields_;
  arrow::ArrayVector arrays_;
};

template <typename Get>
Result<std::shared_ptr<arrow::Array>> Int64Column(const std::vector<Fragment>& entries, Get get) {
  arrow::Int64Builder builder;
  HEADRACE_ARROW_TRY(builder.Reserve(static_cast<int64_t>(entries.size())));
  for (const auto& entry : entries) {
    const std::optional<int64_t> value = get(entry);
    if (value) {
      builder.UnsafeAppend(*value);
    } else {
      builder.UnsafeAppendNull();
    }
  }
  HEADRACE_ARROW_ASSIGN(auto array, builder.Finish());
  return array;
}

const FieldStats* StatsOf(const Fragment& entry, int32_t field) {
  const auto it = entry.stats.find(field);
  return it == entry.stats.end() ? nullptr : &it->second;
}

// One bound (min or max) of one field over all entries.
Result<std::shared_ptr<arrow::Array>> BoundColumn(const std::vector<Fragment>& entries, int32_t field,
                                                  Value FieldStats::*bound, BoundKind kind) {
  arrow::Int64Builder ints;
  arrow::DoubleBuilder doubles;
  arrow::BinaryBuilder strings;
  for (const auto& entry : entries) {
    const FieldStats* stats = StatsOf(entry, field);
    const bool present = stats != nullptr && !IsNull(stats->*bound) && KindOf(stats->*bound) == kind;
    switch (kind) {
      case BoundKind::kInt:
        HEADRACE_ARROW_TRY(present ? ints.Append(AsInt(stats->*bound)) : ints.AppendNull());
        break;
      case BoundKind::kDouble:
        HEADRACE_ARROW_TRY(present ? doubles.Append(std::get<double>(stats->*bound)) : doubles.AppendNull());
        break;
      case BoundKind::kString:
        HEADRACE_ARROW_TRY(present ? strings.Append(std::get<std::string>(stats->*bound))
                                   : strings.AppendNull());
        break;
    }
  }
  std::shared_ptr<arrow::Array> array;
  if (kind == BoundKind::kInt) {
    HEADRACE_ARROW_TRY(ints.Finish(&array));
  } else if (kind == BoundKind::kDouble) {
    HEADRACE_ARROW_TRY(doubles.Finish(&array));
  } else {
    HEADRACE_ARROW_TRY(strings.Finish(&array));
  }
  return array;
}

Status AddStatColumns(const std::vector<Fragment>& entries, int32_t field, Columns* columns) {
  BoundKind kind = BoundKind::kInt;
  for (const auto& entry : entries) {
    const FieldStats* stats = StatsOf(entry, field);
    if (stats != nullptr && !IsNull(stats->min)) {
      kind = KindOf(stats->min);
      break;
    }
  }
  const std::string id = std::to_string(field);
  HEADRACE_ASSIGN(auto low, BoundColumn(entries, field, &FieldStats::min, kind));
  HEADRACE_ASSIGN(auto high, BoundColumn(entries, field, &FieldStats::max, kind));
  HEADRACE_ASSIGN(auto nulls, Int64Column(entries, [&](const Fragment& e) -> std::optional<int64_t> {
                    const FieldStats* stats = StatsOf(e, field);
                    return stats ? std::optional(stats->nulls) : std::nullopt;
                  }));
  // The sign carries has_nan: -1 - values where there are NaN.
  HEADRACE_ASSIGN(auto values, Int64Column(entries, [&](const Fragment& e) -> std::optional<int64_t> {
                    const FieldStats* stats = StatsOf(e, field);
                    if (stats == nullptr) return std::nullopt;
                    return stats->has_nan ? -1 - stats->values : stats->values;
                  }));
  columns->Add("min_" + id, low);
  columns->Add("max_" + id, high);
  columns->Add("nulls_" + id, nulls);
  columns->Add("values_" + id, values);
  return Status::Ok();
}

Status AddFileColumns(const std::vector<Fragment>& entries, const Family& family, size_t index,
                      Columns* columns) {
  arrow::FixedSizeBinaryBuilder ids(arrow::fixed_size_binary(16));
  arrow::Int64Builder sizes, tails, sums, versions;
  for (const auto& entry : entries) {
    const DataFile* found = nullptr;
    for (const auto& file : entry.files) {
      if (*file.family == family) found = &file;
    }
    if (found != nullptr) {
      HEADRACE_ARROW_TRY(ids.Append(found->id.bytes.data()));
      HEADRACE_ARROW_TRY(sizes.Append(found->bytes));
    } else {
      HEADRACE_ARROW_TRY(ids.AppendNull());
      HEADRACE_ARROW_TRY(sizes.AppendNull());
    }
    const bool known = found != nullptr && found->tail.bytes > 0;
    HEADRACE_ARROW_TRY(known ? tails.Append(found->tail.bytes) : tails.AppendNull());
    HEADRACE_ARROW_TRY(known ? sums.Append(static_cast<int64_t>(found->tail.sum)) : sums.AppendNull());
    const bool updated = found != nullptr && found->version > 0;
    HEADRACE_ARROW_TRY(updated ? versions.Append(found->version) : versions.AppendNull());
  }
  std::shared_ptr<arrow::Array> array;
  HEADRACE_ARROW_TRY(ids.Finish(&array));
  columns->Add("file_" + std::to_string(index), array);
  HEADRACE_ARROW_TRY(sizes.Finish(&array));
  columns->Add("bytes_" + std::to_string(index), array);
  if (versions.null_count() < versions.length()) {
    HEADRACE_ARROW_TRY(versions.Finish(&array));
    columns->Add("version_" + std::to_string(index), array);
  }
  if (family.kind != FileKind::kParquet) return Status::Ok();
  HEADRACE_ARROW_TRY(tails.Finish(&array));
  columns->Add("tail_" + std::to_string(index), array);
  HEADRACE_ARROW_TRY(sums.Finish(&array));
  columns->Add("sum_" + std::to_string(index), array);
  return Status::Ok();
}

// JSON of what few entries have; null for the others. No column where none has it.
template <typename Has, typename ToJson>
Status AddJsonColumn(const std::vector<Fragment>& entries, const char* name, Has has, ToJson to_json,
                     Columns* columns) {
  if (std::none_of(entries.begin(), entries.end(), has)) return Status::Ok();
  arrow::BinaryBuilder builder;
  for (const auto& entry : entries) {
    HEADRACE_ARROW_TRY(has(entry) ? builder.Append(to_json(entry).dump()) : builder.AppendNull());
  }
  HEADRACE_ARROW_ASSIGN(auto array, builder.Finish());
  columns->Add(name, array);
  return Status::Ok();
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

// What was deleted from an entry's fragment, and laid over it.
Status ReadChanges(const arrow::BinaryArray* deleted, const arrow::BinaryArray* overlays, int64_t row,
                   Fragment* entry) {
  try {
    if (deleted != nullptr && deleted->IsValid(row)) {
      HEADRACE_ASSIGN(entry->deleted, RowSetFromJson(ParseJsonOrThrow(deleted->GetView(row))));
    }
    if (overlays != nullptr && overlays->IsValid(row)) {
      HEADRACE_ASSIGN(entry->overlays, OverlaysFromJson(ParseJsonOrThrow(overlays->GetView(row))));
    }
  } catch (const std::exception& error) {
    return Status::Corrupt(ExceptionText(error));
  }
  return CheckRowSets(*entry);
}

}  // namespace

Result<WrittenManifest> EncodeManifest(const std::vector<Fragment>& entries) {
  Columns columns;
  const auto add = [&](const char* name, auto get) -> Status {
    HEADRACE_ASSIGN(auto array,
                    Int64Column(entries, [&](const Fragment& e) { return std::optional<int64_t>(get(e)); }));
    columns.Add(name, array);
    return Status::Ok();
  };
  HEADRACE_TRY(add("fragment", [](const Fragment& e) { return e.id; }));
  HEADRACE_TRY(add("first_row_id", [](const Fragment& e) { return e.first_row_id; }));
  HEADRACE_TRY(add("rows", [](const Fragment& e) { return e.rows; }));
  HEADRACE_TRY(add("version", [](const Fragment& e) { return e.version; }));
  arrow::BinaryBuilder packs;
  for (const auto& entry : entries) HEADRACE_ARROW_TRY(packs.Append(EncodePacks(entry.packs)));
  HEADRACE_ARROW_ASSIGN(auto packs_array, packs.Finish());
  columns.Add("packs", packs_array);
  HEADRACE_TRY(AddJsonColumn(
      entries, "deleted", [](const Fragment& e) { return !e.deleted.empty(); },
      [](const Fragment& e) { return RowSetToJson(e.deleted); }, &columns));
  HEADRACE_TRY(AddJsonColumn(
      entries, "overlays", [](const Fragment& e) { return !e.overlays.empty(); },
      [](const Fragment& e) { return OverlaysToJson(e.overlays); }, &columns));

  std::set<Family> families;
  std::set<int32_t> stat_fields;
  for (const auto& entry : entries) {
    for (const auto& file : entry.files) families.insert(*file.family);
    for (const auto& [field, stats] : entry.stats) stat_fields.insert(field);
  }
  json family_list = json::array();
  for (const auto& family : families) {
    HEADRACE_TRY(AddFileColumns(entries, family, family_list.size(), &columns));
    family_list.push_back({{"kind", FileKindName(family.kind)}, {"fields", family.fields}});
  }
  for (const int32_t field : stat_fields) HEADRACE_TRY(AddStatColumns(entries, field, &columns));

  const auto metadata = arrow::key_value_metadata(
      {"headrace.format", "headrace.families", "headrace.stats", "headrace.requires"},
      {std::to_string(kFormatVersion), family_list.dump(), json(stat_fields).dump(),
       json(FeaturesOf(entries)).dump()});
  const auto table = columns.Finish(metadata);
  HEADRACE_ARROW_ASSIGN(auto sink, arrow::io::BufferOutputStream::Create(1 << 16));
  const auto properties = parquet::WriterProperties::Builder()
                              .compression(parquet::Compression::ZSTD)
                              ->compression_level(1)
                              ->disable_dictionary()
                              ->build();
  const auto arrow_properties = parquet::ArrowWriterProperties::Builder().store_schema()->build();
  HEADRACE_ARROW_TRY(parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), sink, 1 << 20,
                                                properties, arrow_properties));
  HEADRACE_ARROW_ASSIGN(auto buffer, sink->Finish());

  WrittenManifest written;
  written.bytes = buffer->ToString();
  written.ref.id = Uuid::Random();
  written.ref.entries = static_cast<int64_t>(entries.size());
  for (const auto& entry : entries) written.ref.rows += entry.rows;
  written.ref.bytes = buffer->size();
  written.ref.checksum = Xxh3(written.bytes);
  return written;
}

Result<std::shared_ptr<const Manifest>> Manifest::Load(store::Bytes bytes, const ManifestRef& ref) {
  const std::string context = "cannot read the manifest " + ref.id.ToString();
  if (bytes.size() != ref.bytes || Xxh3(bytes.view()) != ref.checksum) {
    return Status::Corrupt("its checksum does not match").Wrap(context);
  }
  auto manifest = std::make_shared<Manifest>();
  manifest->bytes_ = bytes;
  HEADRACE_ASSIGN(const auto core,
                  ColumnSet::Read(bytes, {"fragment", "first_row_id", "rows", "version", "packs"}, true));
  if (!core.metadata() || core.rows() != ref.entries)
    return Status::Corrupt("it is no manifest").Wrap(context);
  std::vector<std::shared_ptr<const Family>> families;
  std::vector<std::string> file_columns;
  std::vector<std::string> optional_columns;  // that not every manifest has
  try {
    const std::string format = core.metadata()->Get("headrace.format").ValueOr("");
    if (format != std::to_string(kFormatVersion)) {
      return Status::Unsupported("it has format version '" + format + "' and this program reads " +
                                 std::to_string(kFormatVersion) + "; update Headrace")
          .Wrap(context);
    }
    const Status features = CheckFeatures(
        json{{"requires", ParseJsonOrThrow(core.metadata()->Get("headrace.requires").ValueOr("[]"))}});
    if (!features.ok()) return features.Wrap(context);
    const auto list = ParseJsonOrThrow(core.metadata()->Get("headrace.families").ValueOr("[]"));
    for (const auto& entry : list) {
      Family family;
      auto kind = ParseFileKind(entry.at("kind").get<std::string>());
      if (!kind.ok()) return kind.status().Wrap(context);
      family.kind = *kind;
      family.fields = JsonInts(entry.at("fields"));
      file_columns.push_back("file_" + std::to_string(families.size()));
      file_columns.push_back("bytes_" + std::to_string(families.size()));
      for (const char* name : {"tail_", "sum_", "version_"}) {
        optional_columns.push_back(name + std::to_string(families.size()));
      }
      families.push_back(std::make_shared<const Family>(std::move(family)));
    }
    manifest->stat_fields_ = JsonInts(ParseJsonOrThrow(core.metadata()->Get("headrace.stats").ValueOr("[]")));
  } catch (const std::exception& error) {
    return Status::Corrupt(ExceptionText(error)).Wrap(context);
  }
  HEADRACE_ASSIGN(const auto files, ColumnSet::Read(bytes, file_columns, true));
  optional_columns.insert(optional_columns.end(), {"deleted", "overlays"});
  HEADRACE_ASSIGN(const auto optional, ColumnSet::Read(bytes, optional_columns, false));
  HEADRACE_ASSIGN(const auto* ids, core.Get<arrow::Int64Array>("fragment"));
  HEADRACE_ASSIGN(const auto* first, core.Get<arrow::Int64Array>("first_row_id"));
  HEADRACE_ASSIGN(const auto* rows, core.Get<arrow::Int64Array>("rows"));
  HEADRACE_ASSIGN(const auto* versions, core.Get<arrow::Int64Array>("version"));
  HEADRACE_ASSIGN(const auto* packs, core.Get<arrow::BinaryArray>("packs"));
  HEADRACE_ASSIGN(const auto* deleted, optional.Get<arrow::BinaryArray>("deleted"));
  HEADRACE_ASSIGN(const auto* overlays, optional.Get<arrow::BinaryArray>("overlays"));
  manifest->entries_.resize(static_cast<size_t>(core.rows()));
  for (int64_t i = 0; i < core.rows(); ++i) {
    Fragment& entry = manifest->entries_[static_cast<size_t>(i)];
    entry.id = ids->Value(i);
    entry.first_row_id = first->Value(i);
    entry.rows = rows->Value(i);
    entry.version = versions->Value(i);
    if (entry.rows < 0 || entry.first_row_id < 0 || entry.rows > INT64_MAX - entry.first_row_id) {
      return Status::Corrupt("an entry has an impossible row range").Wrap(context);
    }
    if (packs->value_length(i) > 0) {
      HEADRACE_ASSIGN(entry.packs, DecodePacks(packs->GetView(i)));
    }
    entry.files.reserve(families.size());
    const Status changed = ReadChanges(deleted, overlays, i, &entry);
    if (!changed.ok()) return changed.Wrap(context);
  }
  for (size_t k = 0; k < families.size(); ++k) {
    HEADRACE_ASSIGN(const auto* file, files.Get<arrow::FixedSizeBinaryArray>("file_" + std::to_string(k)));
    HEADRACE_ASSIGN(const auto* size, files.Get<arrow::Int64Array>("bytes_" + std::to_string(k)));
    if (core.rows() > 0 && (file == nullptr || size == nullptr || file->byte_width() != 16)) {
      return Status::Corrupt("a file column is missing").Wrap(context);
    }
    HEADRACE_ASSIGN(const auto* tail, optional.Get<arrow::Int64Array>("tail_" + std::to_string(k)));
    HEADRACE_ASSIGN(const auto* sum, optional.Get<arrow::Int64Array>("sum_" + std::to_string(k)));
    HEADRACE_ASSIGN(const auto* version, optional.Get<arrow::Int64Array>("version_" + std::to_string(k)));
    for (int64_t i = 0; i < core.rows(); ++i) {
      if (file->IsNull(i)) continue;
      DataFile data;
      std::copy_n(file->GetValue(i), 16, data.id.bytes.data());
      data.bytes = size->Value(i);
      data.family = families[k];
      if (tail != nullptr && sum != nullptr && tail->IsValid(i) && sum->IsValid(i)) {
        data.tail = {tail->Value(i), static_cast<uint64_t>(sum->Value(i))};
      }
      if (version != nullptr && version->IsValid(i)) data.version = version->Value(i);
      manifest->entries_[static_cast<size_t>(i)].files.push_back(std::move(data));
    }
  }
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
