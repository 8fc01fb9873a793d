#include "table/immutable.h"

#include "table/keys.h"

namespace headrace::table {

bool IsImmutable(std::string_view key) {
  const auto name = ParseKey(key);
  if (!name) return false;
  switch (name->kind) {
    case ObjectKind::kManifest:
    case ObjectKind::kTaken:
    case ObjectKind::kParquet:
    case ObjectKind::kTensor:
    case ObjectKind::kTensorSums:
    case ObjectKind::kPack:
    case ObjectKind::kRowSets:
      return true;
    case ObjectKind::kCatalog:
    case ObjectKind::kProbe:
    case ObjectKind::kRef:
    case ObjectKind::kModelWeights:
    case ObjectKind::kModelManifest:
    case ObjectKind::kArtifact:
    case ObjectKind::kCheckpointFile:
    case ObjectKind::kJob:
    case ObjectKind::kLease:
    case ObjectKind::kQueueLog:
    case ObjectKind::kWant:
    case ObjectKind::kTail:
    case ObjectKind::kSnapshot:  // a stub takes an expired one's place
    case ObjectKind::kCollected:
    case ObjectKind::kDamaged:
    case ObjectKind::kSelection:
    case ObjectKind::kLock:
      return false;
  }
  return false;
}

}  // namespace headrace::table
