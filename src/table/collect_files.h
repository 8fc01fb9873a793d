// What lies in a table's folder, for garbage collection: which files some version needs is noted as versions
// are gone through.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "table/collect.h"
#include "table/keys.h"

namespace headrace::table {

class FolderFiles {
 public:
  struct SnapshotFile {
    int64_t version = 0;
    int64_t bytes = 0;
    int64_t put_us = 0;  // by the store's clock
  };
  // One listing of the folder.
  static Result<FolderFiles> List(store::ObjectStore* store, const std::string& folder);

  const std::vector<SnapshotFile>& snapshots() const { return snapshots_; }  // newest first
  const ObjectCount& unknown() const { return unknown_; }

  // Notes that a version needs this file; adds it to `held` if none did before.
  void Need(ObjectKind kind, const Uuid& id, ObjectCount* held);
  // Of those that no version needs: put before this time, and since then.
  ObjectCount Unneeded(int64_t before_us) const;
  ObjectCount Young(int64_t before_us) const;
  // Keys of the former.
  std::vector<std::string> KeysUnneeded(const std::string& folder, int64_t before_us) const;
  bool AnyUnneeded(bool lists_only) const;

 private:
  struct File {
    ObjectKind kind = ObjectKind::kParquet;
    bool needed = false;
    bool has_sums = false;  // kTensor: with its sums, whose id is the same
    bool has_tensor = false;
    int64_t bytes = 0;
    int64_t put_us = 0;  // of the later of the two
    int64_t objects() const { return kind == ObjectKind::kTensor ? has_sums + has_tensor : 1; }
  };
  struct IdHash {
    size_t operator()(const Uuid& id) const;
  };
  template <typename Fn>
  void ForUnneeded(const Fn& fn) const;

  std::unordered_map<Uuid, File, IdHash> files_;
  std::vector<SnapshotFile> snapshots_;
  ObjectCount unknown_;
  int64_t unneeded_ = 0;        // files
  int64_t unneeded_lists_ = 0;  // of those, manifests and lists of what was taken in
};

}  // namespace headrace::table
