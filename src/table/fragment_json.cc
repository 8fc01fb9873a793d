#include "table/fragment_json.h"

#include "base/hash.h"
#include "base/json.h"
#include "table/json_read.h"

namespace headrace::table {
namespace {

using nlohmann::json;

json FilesToJson(const std::vector<DataFile>& files) {
  json out = json::array();
  for (const auto& file : files) {
    json entry = {{"id", file.id.ToString()},
                  {"kind", FileKindName(file.column_group->kind)},
                  {"fields", file.column_group->fields},
                  {"bytes", file.bytes}};
    if (file.tail.bytes > 0) {
      entry["tail"] = file.tail.bytes;
      entry["xxh3"] = Hex64(file.tail.sum);
    }
    if (file.decoded > 0) entry["decoded"] = file.decoded;
    if (file.version > 0) entry["v"] = file.version;
    out.push_back(std::move(entry));
  }
  return out;
}

Result<std::vector<DataFile>> FilesFromJson(const json& in) {
  std::vector<DataFile> files;
  for (const auto& entry : in) {
    DataFile file;
    HEADRACE_ASSIGN(file.id, Uuid::Parse(entry.at("id").get<std::string>()));
    file.bytes = JsonInt<int64_t>(entry.at("bytes"));
    if (entry.contains("tail")) {
      file.tail.bytes = JsonInt<int64_t>(entry.at("tail"));
      file.tail.sum = std::stoull(entry.at("xxh3").get<std::string>(), nullptr, 16);
    }
    if (entry.contains("decoded")) file.decoded = JsonInt<int64_t>(entry.at("decoded"));
    if (entry.contains("v")) file.version = JsonInt<int64_t>(entry.at("v"));
    ColumnGroup group;
    HEADRACE_ASSIGN(group.kind, ParseFileKind(entry.at("kind").get<std::string>()));
    group.fields = JsonInts(entry.at("fields"));
    file.column_group = std::make_shared<const ColumnGroup>(std::move(group));
    files.push_back(std::move(file));
  }
  return files;
}

json StatsToJson(const StatsByField& all) {
  json out = json::array();
  for (const auto& [field, stats] : all) {
    out.push_back({field, EncodeValue(stats.min), EncodeValue(stats.max), stats.nulls, stats.values,
                   stats.has_nan ? 1 : 0});
  }
  return out;
}

Result<StatsByField> StatsFromJson(const json& in) {
  StatsByField all;
  for (const auto& entry : in) {
    FieldStats stats;
    HEADRACE_ASSIGN(stats.min, DecodeValue(entry.at(1).get<std::string>()));
    HEADRACE_ASSIGN(stats.max, DecodeValue(entry.at(2).get<std::string>()));
    stats.nulls = JsonInt<int64_t>(entry.at(3));
    stats.values = JsonInt<int64_t>(entry.at(4));
    stats.has_nan = JsonInt<int>(entry.at(5)) != 0;
    all[JsonInt<int32_t>(entry.at(0))] = std::move(stats);
  }
  return all;
}

}  // namespace

json RowSetToJson(const RowSetRef& rows) {
  json out = {{"rows", rows.count}};
  if (rows.erased > 0) out["erased"] = rows.erased;
  if (!rows.inside.empty()) {
    out["set"] = EncodeValue(rows.inside);
    return out;
  }
  out["file"] = rows.file.ToString();
  out["offset"] = rows.offset;
  out["bytes"] = rows.bytes;
  out["xxh3"] = Hex64(rows.sum);
  return out;
}

Result<RowSetRef> RowSetFromJson(const json& in) {
  RowSetRef rows;
  rows.count = JsonInt<int64_t>(in.at("rows"));
  if (in.contains("erased")) rows.erased = JsonInt<int64_t>(in.at("erased"));
  if (in.contains("set")) {
    HEADRACE_ASSIGN(const Value set, DecodeValue(in.at("set").get<std::string>()));
    const std::string* bytes = std::get_if<std::string>(&set);
    if (bytes == nullptr || bytes->empty()) return Status::Corrupt("a set of rows is not one");
    rows.inside = *bytes;
  } else {
    HEADRACE_ASSIGN(rows.file, Uuid::Parse(in.at("file").get<std::string>()));
    rows.offset = JsonInt<int64_t>(in.at("offset"));
    rows.bytes = JsonInt<int64_t>(in.at("bytes"));
    rows.sum = std::stoull(in.at("xxh3").get<std::string>(), nullptr, 16);
  }
  if (rows.count < 1 || rows.offset < 0 || rows.bytes < 0 || rows.erased < 0 || rows.erased > rows.count) {
    return Status::Corrupt("a set of rows has impossible bounds");
  }
  return rows;
}

json OverlaysToJson(const std::vector<Overlay>& overlays) {
  json out = json::array();
  for (const auto& overlay : overlays) {
    out.push_back({{"v", overlay.version},
                   {"rows", RowSetToJson(overlay.rows)},
                   {"first", overlay.first},
                   {"files", FilesToJson(overlay.files)},
                   {"stats", StatsToJson(overlay.stats)}});
    if (overlay.fill) out.back()["fill"] = true;
  }
  return out;
}

Result<std::vector<Overlay>> OverlaysFromJson(const json& in) {
  std::vector<Overlay> overlays;
  for (const auto& entry : in) {
    Overlay overlay;
    overlay.version = JsonInt<int64_t>(entry.at("v"));
    HEADRACE_ASSIGN(overlay.rows, RowSetFromJson(entry.at("rows")));
    overlay.first = JsonInt<int64_t>(entry.at("first"));
    HEADRACE_ASSIGN(overlay.files, FilesFromJson(entry.at("files")));
    HEADRACE_ASSIGN(overlay.stats, StatsFromJson(entry.at("stats")));
    if (entry.contains("fill")) overlay.fill = entry.at("fill").get<bool>();
    if (overlay.first < 0 || overlay.first > INT64_MAX - overlay.rows.count) {
      return Status::Corrupt("an overlay has impossible bounds");
    }
    overlays.push_back(std::move(overlay));
  }
  return overlays;
}

json GatheredToJson(const std::map<int32_t, int64_t>& gathered) {
  json out = json::array();
  for (const auto& [field, version] : gathered) out.push_back({field, version});
  return out;
}

std::map<int32_t, int64_t> GatheredFromJson(const json& in) {
  std::map<int32_t, int64_t> gathered;
  for (const auto& entry : in) gathered[JsonInt<int32_t>(entry.at(0))] = JsonInt<int64_t>(entry.at(1));
  return gathered;
}

json FragmentToJson(const Fragment& fragment) {
  json out = {
      {"id", fragment.id}, {"row", fragment.first_row_id}, {"rows", fragment.rows}, {"v", fragment.version}};
  if (!fragment.files.empty()) out["files"] = FilesToJson(fragment.files);
  for (const auto& pack : fragment.packs)
    out["packs"].push_back({{"id", pack.id.ToString()}, {"live", pack.live_bytes}});
  if (!fragment.stats.empty()) out["stats"] = StatsToJson(fragment.stats);
  if (!fragment.deleted.empty()) out["deleted"] = RowSetToJson(fragment.deleted);
  if (!fragment.overlays.empty()) out["overlays"] = OverlaysToJson(fragment.overlays);
  if (!fragment.gathered.empty()) out["gathered"] = GatheredToJson(fragment.gathered);
  if (!fragment.sorted_by.empty()) out["sorted_by"] = fragment.sorted_by;
  return out;
}

Result<Fragment> FragmentFromJson(const json& in) {
  Fragment fragment;
  fragment.id = JsonInt<int64_t>(in.at("id"));
  fragment.first_row_id = JsonInt<int64_t>(in.at("row"));
  fragment.rows = JsonInt<int64_t>(in.at("rows"));
  fragment.version = JsonInt<int64_t>(in.at("v"));
  if (fragment.rows < 0 || fragment.first_row_id < 0 || fragment.rows > INT64_MAX - fragment.first_row_id) {
    return Status::Corrupt("a fragment with an impossible row range");
  }
  if (in.contains("files")) {
    HEADRACE_ASSIGN(fragment.files, FilesFromJson(in.at("files")));
  }
  if (in.contains("packs")) {
    for (const auto& entry : in.at("packs")) {
      PackUse pack;
      HEADRACE_ASSIGN(pack.id, Uuid::Parse(entry.at("id").get<std::string>()));
      pack.live_bytes = JsonInt<int64_t>(entry.at("live"));
      fragment.packs.push_back(pack);
    }
  }
  if (in.contains("stats")) {
    HEADRACE_ASSIGN(fragment.stats, StatsFromJson(in.at("stats")));
  }
  if (in.contains("deleted")) {
    HEADRACE_ASSIGN(fragment.deleted, RowSetFromJson(in.at("deleted")));
  }
  if (in.contains("overlays")) {
    HEADRACE_ASSIGN(fragment.overlays, OverlaysFromJson(in.at("overlays")));
  }
  if (in.contains("gathered")) fragment.gathered = GatheredFromJson(in.at("gathered"));
  if (in.contains("sorted_by")) fragment.sorted_by = JsonInts(in.at("sorted_by"));
  HEADRACE_TRY(CheckRowSets(fragment));
  return fragment;
}

}  // namespace headrace::table
