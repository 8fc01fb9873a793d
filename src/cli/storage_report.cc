#include "cli/storage_report.h"

#include <cstdio>

#include "base/json.h"
#include "cli/render.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;

std::string Bytes(int64_t bytes) { return HumanBytes(static_cast<double>(bytes)); }

}  // namespace

void PrintColumns(const table::ColumnStorage& storage, int64_t rows) {
  std::vector<std::vector<std::string>> lines = {{"column", "type", "bytes", "a row", "files", "in updates"}};
  for (const auto& column : storage.columns) {
    const int64_t bytes = column.files.bytes + column.overlays.bytes;
    lines.push_back({column.field.name, column.field.type.ToString(), Bytes(bytes),
                     rows == 0 ? "" : HumanBytes(static_cast<double>(bytes) / static_cast<double>(rows)),
                     HumanCount(column.files.objects),
                     column.overlays.objects == 0
                         ? ""
                         : Bytes(column.overlays.bytes) + " of " + HumanCount(column.overlaid) + " rows"});
  }
  if (storage.packs.objects > 0) {
    lines.push_back(
        {"(media)", "packs", Bytes(storage.packs.bytes),
         rows == 0 ? "" : HumanBytes(static_cast<double>(storage.packs.bytes) / static_cast<double>(rows)),
         HumanCount(storage.packs.objects), ""});
    const int64_t dead = storage.packs.bytes - storage.packs_live;
    if (dead > 0) lines.push_back({"  of no row", "", Bytes(dead), "", "", ""});
  }
  lines.push_back({"(indexes)", "", Bytes(storage.overhead), "", "", ""});
  if (storage.left_in_files > 0)
    lines.push_back({"(replaced)", "", Bytes(storage.left_in_files), "", "", ""});
  PrintAligned(lines, 2, 5);
}

ordered_json ColumnsJson(const table::ColumnStorage& storage) {
  ordered_json columns = ordered_json::array();
  for (const auto& column : storage.columns) {
    columns.push_back({{"name", column.field.name},
                       {"type", column.field.type.ToString()},
                       {"bytes", column.files.bytes + column.overlays.bytes},
                       {"files", column.files.objects},
                       {"filled_rows", column.filled},
                       {"bytes_in_updates", column.overlays.bytes},
                       {"rows_in_updates", column.overlaid}});
  }
  return {
      {"columns", columns},
      {"packs",
       {{"objects", storage.packs.objects}, {"bytes", storage.packs.bytes}, {"live", storage.packs_live}}},
      {"indexes", storage.overhead},
      {"replaced", storage.left_in_files}};
}

Status PrintStorage(const table::View& view, const StopToken& stop) {
  HEADRACE_ASSIGN(const auto columns, table::MeasureColumns(view, stop));
  HEADRACE_ASSIGN(const table::Layout layout, table::LayoutOf(view));
  std::printf("\n");
  PrintColumns(columns, view.snapshot().rows);
  if (layout.fragments == 1) {
    std::printf("\n1 fragment of %s rows\n", HumanCount(layout.most_rows).c_str());
  } else {
    std::printf("\n%s fragments of %s to %s rows (half have %s or more); %s of them are small\n",
                HumanCount(layout.fragments).c_str(), HumanCount(layout.least_rows).c_str(),
                HumanCount(layout.most_rows).c_str(), HumanCount(layout.median_rows).c_str(),
                HumanCount(layout.small).c_str());
  }
  if (layout.deleted > 0)
    std::printf("%s deleted rows, the values of %s still in files\n", HumanCount(layout.deleted).c_str(),
                HumanCount(layout.deleted - layout.erased).c_str());
  if (layout.overlays > 0) std::printf("%s updates laid over files\n", HumanCount(layout.overlays).c_str());
  const bool untidy = layout.overlays > 0 || layout.deleted > layout.erased || layout.small > 1;
  if (untidy) std::printf("`headrace compact` writes what is small, updated or deleted anew\n");
  std::printf("listed in %s manifests and %s entries of the snapshot itself\n",
              HumanCount(layout.manifests).c_str(), HumanCount(layout.inline_entries).c_str());
  return Status::Ok();
}

Result<ordered_json> StorageJson(const table::View& view, const StopToken& stop) {
  HEADRACE_ASSIGN(const auto columns, table::MeasureColumns(view, stop));
  HEADRACE_ASSIGN(const table::Layout layout, table::LayoutOf(view));
  ordered_json json = ColumnsJson(columns);
  json["fragments"] = {{"count", layout.fragments},       {"small", layout.small},
                       {"least_rows", layout.least_rows}, {"median_rows", layout.median_rows},
                       {"most_rows", layout.most_rows},   {"deleted_rows", layout.deleted},
                       {"erased_rows", layout.erased},    {"updates", layout.overlays},
                       {"manifests", layout.manifests},   {"inline_entries", layout.inline_entries}};
  return json;
}

}  // namespace headrace::cli
