#include "table/snapshot.h"

#include <algorithm>

#include "base/json.h"

#include "base/exception_text.h"
#include "base/hash.h"
#include "base/limits.h"
#include "table/features.h"
#include "table/fragment_json.h"
#include "table/json_read.h"
#include "table/retype.h"
#include "table/taken.h"

namespace headrace::table {
namespace {

using nlohmann::json;

constexpr const char* kOperations[kOperationKinds] = {
    "create", "append", "add_columns", "schema_change", "tag",    "reserve", "delete",
    "update", "merge",  "restore",     "compact",       "retain", "expire",  "sort"};
// {"xxh3":"0123456789abcdef","snapshot":{…}}
constexpr std::string_view kHead = "{\"xxh3\":\"";
constexpr std::string_view kMiddle = "\",\"snapshot\":";

json OperationToJson(const Operation& op) {
  json out = {{"kind", OperationName(op.kind)}, {"who", op.who}};
  if (!op.why.empty()) out["why"] = op.why;
  if (!op.how.empty()) out["how"] = op.how;
  if (op.rows) out["rows"] = op.rows;
  if (op.fragments) out["fragments"] = op.fragments;
  if (op.bytes) out["bytes"] = op.bytes;
  if (!op.columns.empty()) out["columns"] = op.columns;
  if (!op.field_ids.empty()) out["field_ids"] = op.field_ids;
  if (!op.inputs.empty()) out["inputs"] = op.inputs;
  return out;
}

Result<Operation> OperationFromJson(const json& in) {
  Operation op;
  const auto kind = in.at("kind").get<std::string>();
  bool known = false;
  for (int i = 0; i < kOperationKinds; ++i) {
    if (kind == kOperations[i]) {
      op.kind = static_cast<OperationKind>(i);
      known = true;
    }
  }
  if (!known)
    return Status::Unsupported("this table holds a '" + kind +
                               "' commit, made by a newer Headrace; update this one");
  op.who = in.at("who").get<std::string>();
  op.why = in.value("why", "");
  op.how = in.value("how", "");
  op.rows = (in.contains("rows") ? JsonInt<int64_t>(in.at("rows")) : 0);
  op.fragments = (in.contains("fragments") ? JsonInt<int64_t>(in.at("fragments")) : 0);
  op.bytes = (in.contains("bytes") ? JsonInt<int64_t>(in.at("bytes")) : 0);
  if (in.contains("columns")) op.columns = in.at("columns").get<std::vector<std::string>>();
  if (in.contains("field_ids")) op.field_ids = JsonInts(in.at("field_ids"));
  if (in.contains("inputs")) op.inputs = in.at("inputs").get<std::vector<std::string>>();
  return op;
}

// What a snapshot and its stub have in common.
json HeadToJson(const Snapshot& snapshot) {
  return {{"format", kFormatVersion},
          {"table", snapshot.table.ToString()},
          {"version", snapshot.version},
          {"transaction", snapshot.transaction},
          {"time_us", snapshot.time_us},
          {"operation", OperationToJson(snapshot.operation)},
          {"next_field_id", snapshot.next_field_id},
          {"next_row_id", snapshot.next_row_id},
          {"next_fragment_id", snapshot.next_fragment_id},
          {"rows", snapshot.rows}};
}

std::string Enveloped(const json& body_json) {
  const std::string body = body_json.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string text;
  text.reserve(body.size() + 64);
  text.append(kHead).append(Hex64(Xxh3(body))).append(kMiddle).append(body).append("}");
  return text;
}

Status ExpiredFromJson(const json& in, Snapshot* snapshot) {
  ExpiredVersions& expired = snapshot->expired;
  expired.before = JsonInt<int64_t>(in.at("before"));
  for (const auto& version : in.at("kept")) expired.kept.push_back(JsonInt<int64_t>(version));
  const bool ascending = std::is_sorted(expired.kept.begin(), expired.kept.end());
  if (!ascending || expired.before > snapshot->version ||
      (!expired.kept.empty() && (expired.kept.front() < 1 || expired.kept.back() >= expired.before))) {
    return Status::Corrupt("its expired versions are impossible");
  }
  return Status::Ok();
}

bool HasManyWriters(const Snapshot& snapshot) {
  return static_cast<int64_t>(snapshot.writers.size()) >= limits::kMaxWriters;
}

void WritersFromJson(const json& in, Snapshot* snapshot) {
  for (const auto& [name, mark] : in.at("writers").items()) {
    snapshot->writers[name] = {JsonInt<int64_t>(mark.at(0)), JsonInt<int64_t>(mark.at(1))};
  }
  if (in.contains("writers_kept")) {
    for (const auto& name : in.at("writers_kept"))
      snapshot->writers.at(name.get_ref<const std::string&>()).keep = true;
  }
  if (in.contains("writers_forgotten")) {
    snapshot->writers_forgotten = JsonInt<int64_t>(in.at("writers_forgotten"));
  } else if (HasManyWriters(*snapshot)) {
    // Earlier programs let the stalest mark go, and did not say so.
    int64_t stalest = snapshot->version;
    for (const auto& [name, mark] : snapshot->writers) stalest = std::min(stalest, mark.version);
    snapshot->writers_forgotten = stalest;
  }
}

void WritersToJson(const Snapshot& snapshot, json* out) {
  json kept = json::array();
  for (const auto& [name, mark] : snapshot.writers) {
    (*out)["writers"][name] = {mark.sequence, mark.version};
    if (mark.keep) kept.push_back(name);
  }
  if (snapshot.writers_forgotten > 0 || HasManyWriters(snapshot))
    (*out)["writers_forgotten"] = snapshot.writers_forgotten;
  if (!kept.empty()) (*out)["writers_kept"] = std::move(kept);
  // A program that forgot these would let marks go and not say so.
  if (out->contains("writers_forgotten") || out->contains("writers_kept"))
    (*out)["requires"].push_back(kWritersFeature);
}

Result<Snapshot> FromJson(const json& in) {
  Snapshot snapshot;
  const int format = JsonInt<int>(in.at("format"));
  if (format != kFormatVersion) {
    return Status::Unsupported("it has format version " + std::to_string(format) +
                               " and this program reads " + std::to_string(kFormatVersion) +
                               "; update Headrace");
  }
  HEADRACE_TRY(CheckFeatures(in));
  HEADRACE_ASSIGN(snapshot.table, Uuid::Parse(in.at("table").get<std::string>()));
  snapshot.version = JsonInt<int64_t>(in.at("version"));
  snapshot.transaction = in.at("transaction").get<std::string>();
  snapshot.time_us = JsonInt<int64_t>(in.at("time_us"));
  HEADRACE_ASSIGN(snapshot.operation, OperationFromJson(in.at("operation")));
  snapshot.next_field_id = JsonInt<int32_t>(in.at("next_field_id"));
  snapshot.next_row_id = JsonInt<int64_t>(in.at("next_row_id"));
  snapshot.next_fragment_id = JsonInt<int64_t>(in.at("next_fragment_id"));
  snapshot.rows = JsonInt<int64_t>(in.at("rows"));
  if (snapshot.version < 1 || snapshot.rows < 0 || snapshot.next_row_id < 0) {
    return Status::Corrupt("its counters are impossible");
  }
  snapshot.is_stub = in.value("stub", false);
  snapshot.is_lost = in.value("lost", false);
  if (snapshot.is_stub) return snapshot;
  for (const auto& entry : in.at("schema")) {
    HEADRACE_ASSIGN(Field field, FieldFromJson(entry));
    snapshot.schema.fields.push_back(std::move(field));
  }
  for (const auto& entry : in.at("manifests")) {
    ManifestRef ref;
    HEADRACE_ASSIGN(ref.id, Uuid::Parse(entry.at("id").get<std::string>()));
    ref.entries = JsonInt<int64_t>(entry.at("entries"));
    ref.rows = JsonInt<int64_t>(entry.at("rows"));
    ref.bytes = JsonInt<int64_t>(entry.at("bytes"));
    ref.checksum = std::stoull(entry.at("xxh3").get<std::string>(), nullptr, 16);
    snapshot.manifests.push_back(ref);
  }
  for (const auto& entry : in.at("fragments")) {
    HEADRACE_ASSIGN(Fragment fragment, FragmentFromJson(entry));
    snapshot.inline_entries.push_back(std::move(fragment));
  }
  WritersFromJson(in, &snapshot);
  if (in.contains("taken")) {
    for (const auto& entry : in.at("taken")) {
      TakenRef ref;
      HEADRACE_ASSIGN(ref.id, Uuid::Parse(entry.at("id").get<std::string>()));
      ref.items = JsonInt<int64_t>(entry.at("items"));
      ref.bytes = JsonInt<int64_t>(entry.at("bytes"));
      ref.checksum = std::stoull(entry.at("xxh3").get<std::string>(), nullptr, 16);
      snapshot.taken.push_back(ref);
    }
    snapshot.rows_before_taken = JsonInt<int64_t>(in.at("rows_before_taken"));
  }
  for (const auto& [name, version] : in.at("tags").items()) snapshot.tags[name] = JsonInt<int64_t>(version);
  if (in.contains("sort_by")) snapshot.sort_by = JsonInts(in.at("sort_by"));
  if (in.contains("keep_us")) snapshot.keep_us = JsonInt<int64_t>(in.at("keep_us"));
  if (in.contains("expired")) HEADRACE_TRY(ExpiredFromJson(in.at("expired"), &snapshot));
  if (in.contains("collected")) snapshot.collected = JsonInt<int64_t>(in.at("collected"));
  if (in.contains("erase")) snapshot.erase = JsonInt<int64_t>(in.at("erase"));
  if (in.contains("follow_from")) snapshot.follow_from = JsonInt<int64_t>(in.at("follow_from"));
  return snapshot;
}

}  // namespace

bool ExpiredVersions::Has(int64_t version) const {
  return version < before && !std::binary_search(kept.begin(), kept.end(), version);
}

const char* OperationName(OperationKind kind) { return kOperations[static_cast<int>(kind)]; }

std::string EncodeSnapshot(const Snapshot& snapshot) {
  json out = HeadToJson(snapshot);
  for (const char* list : {"schema", "manifests", "fragments"}) out[list] = json::array();
  for (const char* map : {"writers", "tags"}) out[map] = json::object();
  for (const auto& field : snapshot.schema.fields) out["schema"].push_back(FieldToJson(field));
  for (const auto& ref : snapshot.manifests) {
    out["manifests"].push_back({{"id", ref.id.ToString()},
                                {"entries", ref.entries},
                                {"rows", ref.rows},
                                {"bytes", ref.bytes},
                                {"xxh3", Hex64(ref.checksum)}});
  }
  for (const auto& fragment : snapshot.inline_entries) out["fragments"].push_back(FragmentToJson(fragment));
  WritersToJson(snapshot, &out);
  // Or the lists would be forgotten, or not be read.
  if (!snapshot.taken.empty()) {
    for (const char* feature : {kTakenFeature, kOriginsFeature}) out["requires"].push_back(feature);
  }
  for (const auto& feature : FeaturesOf(snapshot.inline_entries)) out["requires"].push_back(feature);
  const auto& fields = snapshot.schema.fields;
  if (std::any_of(fields.begin(), fields.end(), HasWidened)) out["requires"].push_back(kWidenedFeature);
  if (snapshot.follow_from > 0) {
    out["follow_from"] = snapshot.follow_from;
    auto& needed = out["requires"];
    if (std::find(needed.begin(), needed.end(), kFollowFeature) == needed.end())
      needed.push_back(kFollowFeature);
  }
  if (!snapshot.taken.empty()) {
    out["rows_before_taken"] = snapshot.rows_before_taken;
    for (const auto& ref : snapshot.taken) {
      out["taken"].push_back({{"id", ref.id.ToString()},
                              {"items", ref.items},
                              {"bytes", ref.bytes},
                              {"xxh3", Hex64(ref.checksum)}});
    }
  }
  for (const auto& [name, version] : snapshot.tags) out["tags"][name] = version;
  if (!snapshot.sort_by.empty()) {  // or it would be forgotten
    out["sort_by"] = snapshot.sort_by;
    auto& needed = out["requires"];
    if (std::find(needed.begin(), needed.end(), kSortedFeature) == needed.end())
      needed.push_back(kSortedFeature);
  }
  if (snapshot.keep_us > 0) out["keep_us"] = snapshot.keep_us;
  if (snapshot.expired != ExpiredVersions{}) {
    out["expired"] = {{"before", snapshot.expired.before}, {"kept", snapshot.expired.kept}};
  }
  if (snapshot.collected > 0) out["collected"] = snapshot.collected;
  if (snapshot.erase > 0) out["erase"] = snapshot.erase;
  // A program that forgot these would read what is gone, or commit files that are.
  if (out.contains("keep_us") || out.contains("expired") || out.contains("collected") ||
      out.contains("erase"))
    out["requires"].push_back(kExpiryFeature);
  return Enveloped(out);
}

std::string EncodeStub(const Snapshot& snapshot) {
  json out = HeadToJson(snapshot);
  out["stub"] = true;
  if (snapshot.is_lost) out["lost"] = true;
  out["requires"] = json::array({kStubFeature});
  return Enveloped(out);
}

Result<Snapshot> DecodeSnapshot(std::string_view text, const std::string& key) {
  const std::string context = "cannot read the snapshot " + key;
  const size_t head = kHead.size() + 16 + kMiddle.size();
  if (static_cast<int64_t>(text.size()) > limits::kMaxSnapshotBytes) {
    return Status::Limit("it has " + std::to_string(text.size()) + " bytes").Wrap(context);
  }
  if (text.size() < head + 3 || !text.starts_with(kHead) ||
      text.substr(kHead.size() + 16, kMiddle.size()) != kMiddle || text.back() != '}') {
    return Status::Corrupt("it is truncated or is no snapshot").Wrap(context);
  }
  const std::string_view body = text.substr(head, text.size() - head - 1);
  if (text.substr(kHead.size(), 16) != Hex64(Xxh3(body))) {
    return Status::Corrupt("its checksum does not match").Wrap(context);
  }
  try {
    auto snapshot = FromJson(ParseJsonOrThrow(body));
    if (!snapshot.ok()) return snapshot.status().Wrap(context);
    return snapshot;
  } catch (const std::exception& error) {
    return Status::Corrupt(ExceptionText(error)).Wrap(context);
  }
}

}  // namespace headrace::table
