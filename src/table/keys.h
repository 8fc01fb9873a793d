// clang-format off
// Keys: how every object of a catalog is named. The one place where names are put together and taken apart.
//
//   key                                      written                             may be deleted
//   ---------------------------------------------------------------------------------------------------------
//   catalog.json                             once, by init                       never
//   probe-<id>                               init, to try the store              at once, by init
//   refs/<name>/<rev>.json                   a move of a pointer                 never: the history
//   models/<sha256>/weights.gguf             model add, before its manifest      model rm, once no ref names it
//   models/<sha256>/manifest.json            model add, last                     model rm, first
//   artifacts/<sha256>                       run.save, before the row of its  never: the history of runs
//                                            run
//   checkpoints/<run>/<sha256>               a checkpoint, before the row that    its run, once no checkpoint that
//                                            names it                             it keeps names it
//   jobs/<name>/<digest>.json                first rank of a job                 by anybody, after the job
//   leases/<name>/<rev>.json                 whoever holds the lease             its holder, on the next; gc,
//                                                                                when it lapsed
//   queues/<id>/<rev>.json                   who claims, labels, skips, …        never: the history
//   live/want/<table>                        who looks at a table, in a bucket   gc, when it is old
//   live/tail/<table>/<id>                   a committer, while somebody looks   its committer; gc, when it is
//                                                                                old
//   tables/<id>/snapshots/<rev>.json         a commit                            never; a stub takes an expired
//                                                                                one's place
//   tables/<id>/manifests/<id>.parquet       a commit, before its snapshot       once no snapshot names it
//   tables/<id>/taken/<id>                   an append, before its snapshot      once no snapshot names it
//   tables/<id>/data/<id>.parquet            data writers                        once no manifest names it
//   tables/<id>/data/<id>.arrow, <id>.sums   data writers, both or none          as above
//   tables/<id>/packs/<id>.pack              data writers                        once no fragment has live bytes
//   tables/<id>/rowsets/<id>.roaring         a delete or an update               once no manifest names it
//   tables/<id>/collected.json               garbage collection                  at any time: derived
//   tables/<id>/damaged/<rev>.json           repair: a damaged snapshot          by anybody
//   tables/<id>/selections/<hash>/<part>.sel streams with a filter               at any time: derived
//   …/commit.lock, ….sel.lock                local disks: taking turns           never while it may be held
//
// Whoever writes an object and then fails to commit deletes it again (SnapshotLog, Appender); what a crash
// leaves behind, and what no version names any more, is for garbage collection. <rev> is 2^64 - 1 - number as
// 20 digits, so that a store's first listed key is the newest.
// clang-format on
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/status.h"
#include "table/fragment.h"

namespace headrace::table {

// Of the catalog.
inline constexpr const char* kCatalogKey = "catalog.json";
inline constexpr const char* kRefsFolder = "refs/";
std::string RefFolder(std::string_view name);  // refs/<encoded name>/
std::string RefKey(std::string_view name, int64_t revision);
inline constexpr const char* kTablesFolder = "tables/";
std::string TableFolder(const Uuid& table);  // tables/<id>/: `folder` below
std::string WeightsKey(const std::string& sha256);
std::string ModelManifestKey(const std::string& sha256);
std::string ArtifactKey(const std::string& sha256);  // of 64 hex digits
std::string CheckpointFolder(std::string_view run);  // checkpoints/<encoded id>/
std::string CheckpointKey(std::string_view run, const std::string& sha256);
inline constexpr const char* kLeasesFolder = "leases/";
std::string LeaseKey(std::string_view name, int64_t epoch);  // of letters, digits, '_' and '-'
std::string QueueLogFolder(const Uuid& queue);
std::string QueueLogKey(const Uuid& queue, int64_t number);
inline constexpr const char* kLiveFolder = "live/";
inline constexpr const char* kWantFolder = "live/want/";
std::string WantKey(const std::string& table);     // of letters and '_'
std::string TailFolder(const std::string& table);  // live/tail/<table>/
std::string TailKey(const std::string& table, const std::string& committer);

// Of one table.
std::string SnapshotFolder(const std::string& folder);
std::string SnapshotKey(const std::string& folder, int64_t version);
std::string ManifestKey(const std::string& folder, const Uuid& manifest);
std::string TakenKey(const std::string& folder, const Uuid& list);
std::string DataKey(const std::string& folder, const Uuid& file, FileKind kind);
std::string SumsKey(const std::string& folder, const Uuid& file);  // beside a tensor file
std::string PacksFolder(const std::string& folder);
std::string PackKey(const std::string& folder, const Uuid& pack);
std::string RowSetKey(const std::string& folder, const Uuid& file);
std::string CollectedKey(const std::string& folder);
std::string DamagedKey(const std::string& folder, int64_t version);
std::string SelectionKey(const std::string& folder, uint64_t filter, size_t part);
std::string CommitLockKey(const std::string& folder);
std::string LockKey(const std::string& key);  // for taking turns at making the object `key`

// Names of refs are percent-encoded outside [A-Za-z0-9_-], so that any name is one folder.
std::string EncodeRefName(std::string_view name);
Result<std::string> DecodeRefName(std::string_view encoded);

enum class ObjectKind {
  kCatalog,
  kProbe,
  kRef,
  kModelWeights,
  kModelManifest,
  kArtifact,
  kCheckpointFile,
  kJob,
  kLease,
  kQueueLog,
  kWant,
  kTail,
  kSnapshot,
  kManifest,
  kTaken,
  kParquet,
  kTensor,
  kTensorSums,
  kPack,
  kRowSets,
  kCollected,
  kDamaged,
  kSelection,
  kLock,
};

// A key taken apart; what its kind does not have is empty.
struct ObjectName {
  ObjectKind kind = ObjectKind::kCatalog;
  Uuid table;  // of everything below tables/, locks included
  Uuid id;     // kProbe, kQueueLog: its queue, kTail: its committer, kManifest, kTaken, kParquet, kTensor,
               // kTensorSums, kPack, kRowSets
  int64_t number =
      0;  // kSnapshot, kDamaged: version. kRef: revision. kLease: epoch. kQueueLog. kSelection: part
  std::string name;  // kRef, kLease: its name. kWant, kTail: the table's. kModel…: SHA-256. kJob, kSelection:
                     // folder. kLock: whose, a key
};

// Nothing where the key is none of the above: of a newer Headrace, or another's. Such objects are left alone.
std::optional<ObjectName> ParseKey(std::string_view key);

}  // namespace headrace::table
