#include "table/needed_files.h"

namespace headrace::table {
namespace {

void OfFiles(const std::vector<DataFile>& files, const NeededFileFn& fn) {
  for (const auto& file : files)
    fn(file.column_group->kind == FileKind::kParquet ? ObjectKind::kParquet : ObjectKind::kTensor, file.id);
}

void OfRowSet(const RowSetRef& rows, const NeededFileFn& fn) {
  if (!rows.empty() && rows.inside.empty()) fn(ObjectKind::kRowSets, rows.file);
}

}  // namespace

void ForEachListFile(const Snapshot& snapshot, const NeededFileFn& fn) {
  for (const auto& manifest : snapshot.manifests) fn(ObjectKind::kManifest, manifest.id);
  for (const auto& list : snapshot.taken) fn(ObjectKind::kTaken, list.id);
}

Status ForEachDataFile(const View& view, const NeededFileFn& fn) {
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  for (const auto& fragment : *fragments) {
    OfFiles(fragment.files, fn);
    OfRowSet(fragment.deleted, fn);
    for (const auto& pack : fragment.packs) fn(ObjectKind::kPack, pack.id);
    for (const auto& overlay : fragment.overlays) {
      OfFiles(overlay.files, fn);
      OfRowSet(overlay.rows, fn);
    }
  }
  return Status::Ok();
}

}  // namespace headrace::table
