#include "table/collect_files.h"

#include <algorithm>
#include <cstring>

namespace headrace::table {
namespace {

bool IsList(ObjectKind kind) { return kind == ObjectKind::kManifest || kind == ObjectKind::kTaken; }

bool IsFile(ObjectKind kind) {
  return IsList(kind) || kind == ObjectKind::kParquet || kind == ObjectKind::kTensor ||
         kind == ObjectKind::kTensorSums || kind == ObjectKind::kPack || kind == ObjectKind::kRowSets;
}

// Objects that stay whatever happens, or that anybody may delete at any time.
bool IsLeftAlone(ObjectKind kind) {
  return kind == ObjectKind::kLock || kind == ObjectKind::kSelection || kind == ObjectKind::kCollected ||
         kind == ObjectKind::kDamaged;
}

}  // namespace

size_t FolderFiles::IdHash::operator()(const Uuid& id) const {
  size_t hash = 0;  // the bits are random
  std::memcpy(&hash, id.bytes.data(), sizeof hash);
  return hash;
}

Result<FolderFiles> FolderFiles::List(store::ObjectStore* store, const std::string& folder) {
  HEADRACE_ASSIGN(const auto objects, store->List(folder, "", INT64_MAX));
  FolderFiles all;
  for (const auto& object : objects) {
    const auto name = ParseKey(object.key);
    if (name && name->kind == ObjectKind::kSnapshot) {
      all.snapshots_.push_back({name->number, object.size, object.modified_us});
    } else if (name && IsFile(name->kind)) {
      const bool sums = name->kind == ObjectKind::kTensorSums;
      File& file = all.files_[name->id];
      file.kind = sums ? ObjectKind::kTensor : name->kind;
      file.has_sums = file.has_sums || sums;
      file.has_tensor = file.has_tensor || name->kind == ObjectKind::kTensor;
      file.bytes += object.size;
      // One whose time the store does not tell is as young as can be.
      file.put_us = std::max(file.put_us, object.modified_us == 0 ? INT64_MAX : object.modified_us);
    } else if (!name || !IsLeftAlone(name->kind)) {
      all.unknown_.Add(object.size);
    }
  }
  for (const auto& [id, file] : all.files_) {
    ++all.unneeded_;
    all.unneeded_lists_ += IsList(file.kind);
  }
  return all;
}

void FolderFiles::Need(ObjectKind kind, const Uuid& id, ObjectCount* held) {
  const auto it = files_.find(id);
  if (it == files_.end() || it->second.kind != kind || it->second.needed) return;
  it->second.needed = true;
  held->Add({it->second.objects(), it->second.bytes});
  --unneeded_;
  unneeded_lists_ -= IsList(kind);
}

template <typename Fn>
void FolderFiles::ForUnneeded(const Fn& fn) const {
  for (const auto& [id, file] : files_) {
    if (!file.needed) fn(id, file);
  }
}

ObjectCount FolderFiles::Unneeded(int64_t before_us) const {
  ObjectCount count;
  ForUnneeded([&](const Uuid&, const File& file) {
    if (file.put_us < before_us) count.Add({file.objects(), file.bytes});
  });
  return count;
}

ObjectCount FolderFiles::Young(int64_t before_us) const {
  ObjectCount count;
  ForUnneeded([&](const Uuid&, const File& file) {
    if (file.put_us >= before_us) count.Add({file.objects(), file.bytes});
  });
  return count;
}

std::vector<std::string> FolderFiles::KeysUnneeded(const std::string& folder, int64_t before_us) const {
  std::vector<std::string> keys;
  ForUnneeded([&](const Uuid& id, const File& file) {
    if (file.put_us >= before_us) return;
    switch (file.kind) {
      case ObjectKind::kManifest:
        return keys.push_back(ManifestKey(folder, id));
      case ObjectKind::kTaken:
        return keys.push_back(TakenKey(folder, id));
      case ObjectKind::kPack:
        return keys.push_back(PackKey(folder, id));
      case ObjectKind::kRowSets:
        return keys.push_back(RowSetKey(folder, id));
      case ObjectKind::kParquet:
        return keys.push_back(DataKey(folder, id, FileKind::kParquet));
      default:
        if (file.has_tensor) keys.push_back(DataKey(folder, id, FileKind::kTensor));
        if (file.has_sums) keys.push_back(SumsKey(folder, id));
    }
  });
  return keys;
}

bool FolderFiles::AnyUnneeded(bool lists_only) const {
  return lists_only ? unneeded_lists_ > 0 : unneeded_ > unneeded_lists_;
}

}  // namespace headrace::table
