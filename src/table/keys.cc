#include "table/keys.h"

#include <charconv>
#include <cstdio>
#include <vector>

#include "base/hash.h"
#include "store/object_store.h"

namespace headrace::table {
namespace {

constexpr std::string_view kLockEnd = ".lock";
constexpr std::string_view kCommitLock = "commit.lock";
constexpr std::string_view kCollectedFile = "collected.json";
constexpr std::string_view kDamagedFolder = "damaged";

// <rev>: newest first in a listing.
std::string Rev(int64_t number) {
  char text[24];
  std::snprintf(text, sizeof text, "%020llu",
                static_cast<unsigned long long>(UINT64_MAX - static_cast<uint64_t>(number)));
  return text;
}

// Exactly `digits` decimal digits.
std::optional<uint64_t> ParseDigits(std::string_view text, size_t digits) {
  uint64_t value = 0;
  if (text.size() != digits) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> ParseRev(std::string_view text) {
  const auto reversed = ParseDigits(text, 20);
  if (!reversed || UINT64_MAX - *reversed > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<int64_t>(UINT64_MAX - *reversed);
}

bool IsHex(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Takes `end` off the end of `text`, if it is there.
bool TakeEnd(std::string_view* text, std::string_view end) {
  if (text->size() <= end.size() || !text->ends_with(end)) return false;
  text->remove_suffix(end.size());
  return true;
}

std::vector<std::string_view> SplitKey(std::string_view key) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t slash = key.find('/');
    parts.push_back(key.substr(0, slash));
    if (slash == std::string_view::npos) return parts;
    key.remove_prefix(slash + 1);
  }
}

using MaybeName = std::optional<ObjectName>;

MaybeName WithNumber(ObjectName name, std::optional<int64_t> number) {
  if (!number) return std::nullopt;
  name.number = *number;
  return name;
}

MaybeName WithId(ObjectName name, ObjectKind kind, std::string_view id) {
  const auto parsed = Uuid::Parse(id);
  if (!parsed.ok()) return std::nullopt;
  name.kind = kind;
  name.id = *parsed;
  return name;
}

MaybeName ParseData(ObjectName name, std::string_view file) {
  if (TakeEnd(&file, ".parquet")) return WithId(name, ObjectKind::kParquet, file);
  if (TakeEnd(&file, ".arrow")) return WithId(name, ObjectKind::kTensor, file);
  if (TakeEnd(&file, ".sums")) return WithId(name, ObjectKind::kTensorSums, file);
  return std::nullopt;
}

// What lies below tables/<id>/: `parts` without those two.
MaybeName ParseInTable(ObjectName name, const std::vector<std::string_view>& parts) {
  std::string_view file = parts.back();
  if (parts.size() == 2 && parts[0] == "snapshots" && TakeEnd(&file, ".json")) {
    name.kind = ObjectKind::kSnapshot;
    return WithNumber(name, ParseRev(file));
  }
  if (parts.size() == 2 && parts[0] == kDamagedFolder && TakeEnd(&file, ".json")) {
    name.kind = ObjectKind::kDamaged;
    return WithNumber(name, ParseRev(file));
  }
  if (parts.size() == 2 && parts[0] == "manifests" && TakeEnd(&file, ".parquet")) {
    return WithId(name, ObjectKind::kManifest, file);
  }
  if (parts.size() == 2 && parts[0] == "taken") return WithId(name, ObjectKind::kTaken, file);
  if (parts.size() == 2 && parts[0] == "data") return ParseData(name, file);
  if (parts.size() == 2 && parts[0] == "packs" && TakeEnd(&file, ".pack")) {
    return WithId(name, ObjectKind::kPack, file);
  }
  if (parts.size() == 2 && parts[0] == "rowsets" && TakeEnd(&file, ".roaring")) {
    return WithId(name, ObjectKind::kRowSets, file);
  }
  if (parts.size() == 1 && file == kCollectedFile) {
    name.kind = ObjectKind::kCollected;
    return name;
  }
  if (parts.size() == 3 && parts[0] == "selections" && IsHex(parts[1], 16) && TakeEnd(&file, ".sel")) {
    const auto part = ParseDigits(file, std::max<size_t>(8, file.size()));
    if (!part || *part > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    name.kind = ObjectKind::kSelection;
    name.name = parts[1];
    return WithNumber(name, static_cast<int64_t>(*part));
  }
  return std::nullopt;
}

MaybeName ParseRef(const std::vector<std::string_view>& parts) {
  std::string_view file = parts.back();
  if (parts.size() != 3 || !TakeEnd(&file, ".json")) return std::nullopt;
  auto decoded = DecodeRefName(parts[1]);
  if (!decoded.ok()) return std::nullopt;
  return WithNumber({ObjectKind::kRef, {}, {}, 0, std::move(decoded).value()}, ParseRev(file));
}

MaybeName ParseLease(const std::vector<std::string_view>& parts) {
  std::string_view file = parts.back();
  if (parts.size() != 3 || parts[1].empty() || !TakeEnd(&file, ".json")) return std::nullopt;
  return WithNumber({ObjectKind::kLease, {}, {}, 0, std::string(parts[1])}, ParseRev(file));
}

MaybeName ParseArtifact(const std::vector<std::string_view>& parts) {
  if (parts.size() != 2 || !IsHex(parts[1], 64)) return std::nullopt;
  return ObjectName{ObjectKind::kArtifact, {}, {}, 0, std::string(parts[1])};
}

MaybeName ParseCheckpoint(const std::vector<std::string_view>& parts) {
  if (parts.size() != 3 || parts[1].empty() || !IsHex(parts[2], 64)) return std::nullopt;
  return ObjectName{ObjectKind::kCheckpointFile, {}, {}, 0, std::string(parts[2])};
}

MaybeName ParseQueueLog(const std::vector<std::string_view>& parts) {
  std::string_view file = parts.back();
  if (parts.size() != 3 || !TakeEnd(&file, ".json")) return std::nullopt;
  const auto queue = Uuid::Parse(parts[1]);
  if (!queue.ok()) return std::nullopt;
  return WithNumber({ObjectKind::kQueueLog, {}, *queue, 0, {}}, ParseRev(file));
}

MaybeName ParseLive(const std::vector<std::string_view>& parts) {
  const auto is_table = [](std::string_view name) {
    return !name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string_view::npos;
  };
  if (parts.size() == 3 && parts[1] == "want" && is_table(parts[2]))
    return ObjectName{ObjectKind::kWant, {}, {}, 0, std::string(parts[2])};
  if (parts.size() == 4 && parts[1] == "tail" && is_table(parts[2]))
    return WithId({ObjectKind::kTail, {}, {}, 0, std::string(parts[2])}, ObjectKind::kTail, parts[3]);
  return std::nullopt;
}

MaybeName ParseModel(const std::vector<std::string_view>& parts) {
  if (parts.size() != 3 || !IsHex(parts[1], 64)) return std::nullopt;
  const bool weights = parts[2] == "weights.gguf";
  if (!weights && parts[2] != "manifest.json") return std::nullopt;
  const ObjectKind kind = weights ? ObjectKind::kModelWeights : ObjectKind::kModelManifest;
  return ObjectName{kind, {}, {}, 0, std::string(parts[1])};
}

}  // namespace

std::string RefFolder(std::string_view name) { return kRefsFolder + EncodeRefName(name) + "/"; }
std::string RefKey(std::string_view name, int64_t revision) {
  return RefFolder(name) + Rev(revision) + ".json";
}
std::string TableFolder(const Uuid& table) { return kTablesFolder + table.ToString() + "/"; }
std::string ArtifactKey(const std::string& sha256) { return "artifacts/" + sha256; }
std::string CheckpointFolder(std::string_view run) { return "checkpoints/" + EncodeRefName(run) + "/"; }
std::string CheckpointKey(std::string_view run, const std::string& sha256) {
  return CheckpointFolder(run) + sha256;
}
std::string WeightsKey(const std::string& sha256) { return "models/" + sha256 + "/weights.gguf"; }
std::string ModelManifestKey(const std::string& sha256) { return "models/" + sha256 + "/manifest.json"; }

std::string LeaseKey(std::string_view name, int64_t epoch) {
  return kLeasesFolder + std::string(name) + "/" + Rev(epoch) + ".json";
}

std::string QueueLogFolder(const Uuid& queue) { return "queues/" + queue.ToString() + "/"; }
std::string QueueLogKey(const Uuid& queue, int64_t number) {
  return QueueLogFolder(queue) + Rev(number) + ".json";
}

std::string WantKey(const std::string& table) { return kWantFolder + table; }
std::string TailFolder(const std::string& table) { return "live/tail/" + table + "/"; }
std::string TailKey(const std::string& table, const std::string& committer) {
  return TailFolder(table) + committer;
}

std::string SnapshotFolder(const std::string& folder) { return folder + "snapshots/"; }
std::string SnapshotKey(const std::string& folder, int64_t version) {
  return SnapshotFolder(folder) + Rev(version) + ".json";
}
std::string ManifestKey(const std::string& folder, const Uuid& manifest) {
  return folder + "manifests/" + manifest.ToString() + ".parquet";
}
std::string TakenKey(const std::string& folder, const Uuid& list) {
  return folder + "taken/" + list.ToString();
}
std::string DataKey(const std::string& folder, const Uuid& file, FileKind kind) {
  return folder + "data/" + file.ToString() + (kind == FileKind::kParquet ? ".parquet" : ".arrow");
}
std::string SumsKey(const std::string& folder, const Uuid& file) {
  return folder + "data/" + file.ToString() + ".sums";
}
std::string PacksFolder(const std::string& folder) { return folder + "packs/"; }
std::string PackKey(const std::string& folder, const Uuid& pack) {
  return PacksFolder(folder) + pack.ToString() + ".pack";
}
std::string RowSetKey(const std::string& folder, const Uuid& file) {
  return folder + "rowsets/" + file.ToString() + ".roaring";
}
std::string CollectedKey(const std::string& folder) { return folder + std::string(kCollectedFile); }
std::string DamagedKey(const std::string& folder, int64_t version) {
  return folder + std::string(kDamagedFolder) + "/" + Rev(version) + ".json";
}
std::string SelectionKey(const std::string& folder, uint64_t filter, size_t part) {
  char file[32];
  std::snprintf(file, sizeof file, "/%08zu.sel", part);
  return folder + "selections/" + Hex64(filter) + file;
}
std::string CommitLockKey(const std::string& folder) { return folder + std::string(kCommitLock); }
std::string LockKey(const std::string& key) { return key + std::string(kLockEnd); }

std::string EncodeRefName(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-') {
      out += c;
    } else {
      char hex[4];
      std::snprintf(hex, sizeof hex, "%%%02X", static_cast<unsigned char>(c));
      out += hex;
    }
  }
  return out;
}

Result<std::string> DecodeRefName(std::string_view encoded) {
  std::string out;
  for (size_t i = 0; i < encoded.size(); ++i) {
    if (encoded[i] != '%') {
      out += encoded[i];
      continue;
    }
    if (i + 2 >= encoded.size()) return Status::Corrupt("a ref's folder name is cut off");
    out += static_cast<char>(std::strtol(std::string(encoded.substr(i + 1, 2)).c_str(), nullptr, 16));
    i += 2;
  }
  return out;
}

std::optional<ObjectName> ParseKey(std::string_view key) {
  if (key == kCatalogKey) return ObjectName{};
  if (key.starts_with(store::kProbePrefix)) {
    return WithId({}, ObjectKind::kProbe, key.substr(std::string_view(store::kProbePrefix).size()));
  }
  const auto parts = SplitKey(key);
  if (parts[0] == "refs") return ParseRef(parts);
  if (parts[0] == "models") return ParseModel(parts);
  if (parts[0] == "artifacts") return ParseArtifact(parts);
  if (parts[0] == "checkpoints") return ParseCheckpoint(parts);
  if (parts[0] == "leases") return ParseLease(parts);
  if (parts[0] == "queues") return ParseQueueLog(parts);
  if (parts[0] == "live") return ParseLive(parts);
  if (parts[0] == "jobs" && parts.size() == 3 && parts[2].ends_with(".json")) {
    return ObjectName{ObjectKind::kJob, {}, {}, 0, std::string(parts[1])};
  }
  if (parts[0] != "tables" || parts.size() < 3) return std::nullopt;
  const auto table = Uuid::Parse(parts[1]);
  if (!table.ok()) return std::nullopt;
  if (parts.size() == 3 && parts[2] == kCommitLock) {
    return ObjectName{ObjectKind::kLock, *table, {}, 0, {}};
  }
  std::string_view whose = key;
  if (TakeEnd(&whose, kLockEnd)) {
    return ParseKey(whose) ? MaybeName(ObjectName{ObjectKind::kLock, *table, {}, 0, std::string(whose)})
                           : std::nullopt;
  }
  ObjectName in_table;
  in_table.table = *table;
  return ParseInTable(in_table, {parts.begin() + 2, parts.end()});
}

}  // namespace headrace::table
