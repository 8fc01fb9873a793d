// Manifests: lists of fragments as Parquet, one row an entry, statistics as columns so that a plan reads only
// those of the fields that its filter names. docs/format/manifest.md gives the columns.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "store/object_store.h"
#include "table/snapshot.h"

namespace headrace::table {

struct WrittenManifest {
  std::string bytes;
  ManifestRef ref;
};
// Entries must carry their statistics.
Result<WrittenManifest> EncodeManifest(const std::vector<Fragment>& entries);

class Manifest {
 public:
  // Checks the checksum; reads what every plan needs: row ranges and files.
  static Result<std::shared_ptr<const Manifest>> Load(store::Bytes bytes, const ManifestRef& ref);

  const std::vector<Fragment>& entries() const { return entries_; }  // without statistics
  // One per entry, in order; `known` is false for those whose entry says nothing of this field.
  struct KnownStats {
    bool known = false;
    FieldStats stats;
  };
  Result<std::vector<KnownStats>> LoadStats(int32_t field) const;
  // The entries again, with every statistic: to merge manifests.
  Result<std::vector<Fragment>> LoadAll() const;

 private:
  static Result<std::shared_ptr<const Manifest>> Parse(store::Bytes bytes, const ManifestRef& ref);

  store::Bytes bytes_;
  std::vector<Fragment> entries_;
  std::vector<int32_t> stat_fields_;
};

}  // namespace headrace::table
