// Refs: named pointers, moved by compare-and-swap, with history. A table's name is a ref to its uuid.
//
// One immutable file per move (keys.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/object_store.h"

namespace headrace::table {

enum class RefKind { kTable, kSnapshot, kModel, kNone };

struct RefValue {
  std::string name;
  int64_t revision = 0;           // 0: never set
  RefKind kind = RefKind::kNone;  // kNone: removed
  std::string target;             // table: uuid; snapshot: "<uuid>@<version>"; model: sha256
  std::string who;
  std::string why;
  int64_t time_us = 0;
  std::string tag;  // of the snapshot: holds it while the ref points there
};

class Refs {
 public:
  explicit Refs(std::shared_ptr<store::ObjectStore> store) : store_(std::move(store)) {}

  // revision 0 if the name was never used.
  Result<RefValue> Get(std::string_view name) const;
  // Moves the ref from `expected_revision` (0: it must be new); Conflict if it stands elsewhere.
  Result<RefValue> Move(std::string_view name, int64_t expected_revision, RefKind kind, std::string target,
                        std::string who, std::string why, std::string tag = "") const;
  // One move; NotFound where there is none.
  Result<RefValue> At(std::string_view name, int64_t revision) const { return Read(name, revision); }
  // Newest first.
  Result<std::vector<RefValue>> History(std::string_view name) const;
  // The newest value of every name that is set, by name.
  Result<std::vector<RefValue>> All() const;

 private:
  Result<RefValue> Read(std::string_view name, int64_t revision) const;
  std::shared_ptr<store::ObjectStore> store_;
};

}  // namespace headrace::table
