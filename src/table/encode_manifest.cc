#include "table/manifest.h"

#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/io/memory.h>
#include <arrow/table.h>
#include <arrow/util/key_value_metadata.h>
#include <parquet/arrow/writer.h>
#include <parquet/exception.h>

#include <optional>
#include <set>
#include "base/json.h"

#include "base/hash.h"
#include "table/arrow_bridge.h"
#include "table/features.h"
#include "table/fragment_json.h"

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

Status AddFileColumns(const std::vector<Fragment>& entries, const ColumnGroup& group, size_t index,
                      Columns* columns) {
  arrow::FixedSizeBinaryBuilder ids(arrow::fixed_size_binary(16));
  arrow::Int64Builder sizes, tails, sums, decoded, versions;
  for (const auto& entry : entries) {
    const DataFile* found = nullptr;
    for (const auto& file : entry.files) {
      if (*file.column_group == group) found = &file;
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
    const bool shrunk = found != nullptr && found->decoded > 0;
    HEADRACE_ARROW_TRY(shrunk ? decoded.Append(found->decoded) : decoded.AppendNull());
    const bool updated = found != nullptr && found->version > 0;
    HEADRACE_ARROW_TRY(updated ? versions.Append(found->version) : versions.AppendNull());
  }
  std::shared_ptr<arrow::Array> array;
  HEADRACE_ARROW_TRY(ids.Finish(&array));
  columns->Add("file_" + std::to_string(index), array);
  HEADRACE_ARROW_TRY(sizes.Finish(&array));
  columns->Add("bytes_" + std::to_string(index), array);
  for (auto& [name, builder] : {std::pair("decoded_", &decoded), std::pair("version_", &versions)}) {
    if (builder->null_count() == builder->length()) continue;
    HEADRACE_ARROW_TRY(builder->Finish(&array));
    columns->Add(name + std::to_string(index), array);
  }
  if (group.kind != FileKind::kParquet) return Status::Ok();
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
  HEADRACE_TRY(AddJsonColumn(
      entries, "gathered", [](const Fragment& e) { return !e.gathered.empty(); },
      [](const Fragment& e) { return GatheredToJson(e.gathered); }, &columns));
  HEADRACE_TRY(AddJsonColumn(
      entries, "sorted_by", [](const Fragment& e) { return !e.sorted_by.empty(); },
      [](const Fragment& e) { return json(e.sorted_by); }, &columns));

  std::set<ColumnGroup> groups;
  std::set<int32_t> stat_fields;
  for (const auto& entry : entries) {
    for (const auto& file : entry.files) groups.insert(*file.column_group);
    for (const auto& [field, stats] : entry.stats) stat_fields.insert(field);
  }
  json group_list = json::array();
  for (const auto& group : groups) {
    HEADRACE_TRY(AddFileColumns(entries, group, group_list.size(), &columns));
    group_list.push_back({{"kind", FileKindName(group.kind)}, {"fields", group.fields}});
  }
  for (const int32_t field : stat_fields) HEADRACE_TRY(AddStatColumns(entries, field, &columns));

  const auto metadata = arrow::key_value_metadata(
      {"headrace.format", "headrace.families", "headrace.stats", "headrace.requires"},
      {std::to_string(kFormatVersion), group_list.dump(), json(stat_fields).dump(),
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

}  // namespace headrace::table
