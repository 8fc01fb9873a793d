#include "table/fragment.h"

#include <algorithm>

namespace headrace::table {
namespace {

bool Holds(const DataFile& file, int32_t field) {
  return std::binary_search(file.column_group->fields.begin(), file.column_group->fields.end(), field);
}

const DataFile* Find(const std::vector<DataFile>& files, int32_t field) {
  for (const auto& file : files) {
    if (Holds(file, field)) return &file;
  }
  return nullptr;
}

bool Meet(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  auto i = a.begin();
  auto j = b.begin();
  while (i != a.end() && j != b.end()) {
    if (*i == *j) return true;
    *i < *j ? ++i : ++j;
  }
  return false;
}

// Takes from `files` the fields that `newer` stands for.
void TakeFields(const DataFile& newer, std::vector<DataFile>* files) {
  std::erase_if(*files, [&](DataFile& file) {
    if (!Meet(file.column_group->fields, newer.column_group->fields)) return false;
    ColumnGroup left{file.column_group->kind, {}};
    std::set_difference(file.column_group->fields.begin(), file.column_group->fields.end(),
                        newer.column_group->fields.begin(), newer.column_group->fields.end(),
                        std::back_inserter(left.fields));
    if (left.fields.empty()) return true;
    file.column_group = std::make_shared<const ColumnGroup>(std::move(left));
    return false;
  });
}

void TakeFields(const DataFile& newer, std::vector<Overlay>* overlays) {
  std::erase_if(*overlays, [&](Overlay& overlay) {
    if (overlay.version < newer.version) TakeFields(newer, &overlay.files);
    return overlay.files.empty();
  });
}

}  // namespace

const DataFile* Fragment::FileOf(int32_t field) const { return Find(files, field); }

const DataFile* Overlay::FileOf(int32_t field) const { return Find(files, field); }

bool Fragment::Overlaid(int32_t field) const {
  return std::any_of(overlays.begin(), overlays.end(),
                     [&](const Overlay& overlay) { return overlay.FileOf(field) != nullptr; });
}

Filled Fragment::FilledRows(int32_t field) const {
  if (Fills(field)) return Filled::kAll;
  int64_t filled = 0;  // no two fills have a row in common
  for (const auto& overlay : overlays) {
    if (overlay.fill && overlay.FileOf(field) != nullptr) filled += overlay.rows.count;
  }
  if (filled == 0) return Filled::kNone;
  return filled < rows ? Filled::kSome : Filled::kAll;
}

bool Fragment::HasUpdates() const {
  return !overlays.empty() ||
         std::any_of(files.begin(), files.end(), [](const DataFile& file) { return file.version > 0; });
}

void JoinEntry(Fragment* fragment, const Fragment& other) {
  fragment->version = std::max(fragment->version, other.version);
  fragment->packs.insert(fragment->packs.end(), other.packs.begin(), other.packs.end());
  for (const auto& [field, version] : other.gathered) {
    int64_t& newest = fragment->gathered[field];
    newest = std::max(newest, version);
  }
  if (!other.sorted_by.empty()) fragment->sorted_by = other.sorted_by;
  const int64_t erased = std::max(fragment->deleted.erased, other.deleted.erased);
  if (other.deleted.count > fragment->deleted.count) fragment->deleted = other.deleted;  // deletes only grow
  fragment->deleted.erased = erased;
  for (DataFile file : other.files) {
    std::vector<DataFile> alone{std::move(file)};
    for (const auto& mine : fragment->files) {
      if (!alone.empty() && mine.version > alone[0].version) TakeFields(mine, &alone);
    }
    if (alone.empty()) continue;
    if (alone[0].version > 0) TakeFields(alone[0], &fragment->files);
    fragment->files.push_back(std::move(alone[0]));
  }
  if (fragment->overlays.empty() && other.overlays.empty()) return;
  fragment->overlays.insert(fragment->overlays.end(), other.overlays.begin(), other.overlays.end());
  std::stable_sort(fragment->overlays.begin(), fragment->overlays.end(),
                   [](const Overlay& a, const Overlay& b) { return a.version < b.version; });
  for (const auto& file : fragment->files) {
    if (file.version > 0) TakeFields(file, &fragment->overlays);
  }
}

bool SameValues(const Fragment& a, const Fragment& b, int32_t field) {
  const DataFile* in_a = a.FileOf(field);
  const DataFile* in_b = b.FileOf(field);
  if ((in_a == nullptr) != (in_b == nullptr) || (in_a != nullptr && in_a->id != in_b->id)) return false;
  const auto overlaid = [&](const Fragment& fragment) {
    std::vector<Uuid> files;
    for (const auto& overlay : fragment.overlays) {
      if (const DataFile* file = overlay.FileOf(field)) files.push_back(file->id);
    }
    return files;
  };
  return overlaid(a) == overlaid(b);
}

const char* FileKindName(FileKind kind) { return kind == FileKind::kParquet ? "parquet" : "tensor"; }

Result<FileKind> ParseFileKind(const std::string& name) {
  for (const FileKind kind : {FileKind::kParquet, FileKind::kTensor}) {
    if (name == FileKindName(kind)) return kind;
  }
  return Status::Unsupported("it holds a file of kind '" + name +
                             "', made by a newer Headrace; update this one");
}

Status CheckRowSets(const Fragment& fragment) {
  bool fits = fragment.deleted.count <= fragment.rows;
  for (const auto& overlay : fragment.overlays) fits = fits && overlay.rows.count <= fragment.rows;
  return fits ? Status::Ok() : Status::Corrupt("a set of rows is larger than its fragment");
}

int64_t BytesOf(const std::vector<Fragment>& fragments) {
  int64_t bytes = 0;
  for (const auto& fragment : fragments) {
    for (const auto& file : fragment.files) bytes += file.bytes;
    for (const auto& overlay : fragment.overlays) {
      for (const auto& file : overlay.files) bytes += file.bytes;
    }
    for (const auto& pack : fragment.packs) bytes += pack.live_bytes;
  }
  return bytes;
}

}  // namespace headrace::table
