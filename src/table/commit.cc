#include "table/commit.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "base/clock.h"
#include "base/limits.h"
#include "table/settle.h"

namespace headrace::table {
namespace {

Status CheckFields(const Change& change, const Schema& schema) {
  for (const auto& used : change.fields_used) {
    const Field* now = schema.FindId(used.id);
    if (now == nullptr) {
      return Status::Conflict("the column '" + used.name + "' was dropped meanwhile; nothing was committed");
    }
    if (now->name != used.name) {
      return Status::Conflict("the column '" + used.name + "' was renamed to '" + now->name +
                              "' meanwhile; nothing was committed");
    }
    if (!now->type.Equals(used.type)) {
      return Status::Conflict("the column '" + used.name + "' became " + now->type.ToString() +
                              " meanwhile; nothing was committed");
    }
  }
  return Status::Ok();
}

Status ApplySchemaChange(const Change& change, Snapshot* next) {
  for (const auto& rename : change.renames) {
    for (auto& field : next->schema.fields) {
      if (field.id == rename.id) field.name = rename.to;
    }
  }
  for (const int32_t id : change.drops) {
    std::erase_if(next->schema.fields, [&](const Field& field) { return field.id == id; });
  }
  for (size_t i = 0; i < next->schema.fields.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (next->schema.fields[i].name == next->schema.fields[j].name) {
        return Status::AlreadyExists("there is a column '" + next->schema.fields[i].name + "' already");
      }
    }
  }
  return Status::Ok();
}

Status ApplyTag(const Change& change, Snapshot* next) {
  const auto it = next->tags.find(change.tag);
  if (change.tag_version == 0) {
    if (it == next->tags.end()) return Status::NotFound("there is no tag '" + change.tag + "'");
    next->tags.erase(it);
    return Status::Ok();
  }
  if (it != next->tags.end() && it->second != change.tag_version && !change.move_tag) {
    return Status::AlreadyExists("the tag '" + change.tag + "' is on version " + std::to_string(it->second) +
                                 "; move it explicitly if that is meant");
  }
  if (change.tag_version < 0 || change.tag_version >= next->version) {
    return Status::NotFound("there is no version " + std::to_string(change.tag_version));
  }
  next->tags[change.tag] = change.tag_version;
  return Status::Ok();
}

// Entries of one fragment joined into one.
std::vector<Fragment> Fold(std::vector<Fragment> entries) {
  std::map<int64_t, Fragment> by_id;
  for (auto& entry : entries) {
    const int64_t id = entry.id;
    auto [it, fresh] = by_id.try_emplace(id, std::move(entry));
    if (fresh) continue;
    Fragment& joined = it->second;
    joined.files.insert(joined.files.end(), entry.files.begin(), entry.files.end());
    joined.packs.insert(joined.packs.end(), entry.packs.begin(), entry.packs.end());
    joined.version = std::max(joined.version, entry.version);
    joined.stats.merge(entry.stats);
  }
  std::vector<Fragment> folded;
  folded.reserve(by_id.size());
  for (auto& [id, entry] : by_id) folded.push_back(std::move(entry));
  return folded;
}

int TierOf(int64_t entries) {
  int tier = 0;
  for (int64_t size = limits::kInlineFragments; size < entries; size *= limits::kManifestFanIn) ++tier;
  return tier;
}

}  // namespace

Rule RuleFor(OperationKind mine, OperationKind theirs) {
  using K = OperationKind;
  HEADRACE_CHECK(mine != K::kCreate);
  if (theirs == K::kCreate) return Rule::kRebase;
  const bool mine_is_note = mine == K::kTag || mine == K::kReserve;
  const bool theirs_is_note = theirs == K::kTag || theirs == K::kReserve;
  if (mine_is_note) return mine == K::kTag && theirs == K::kTag ? Rule::kSameTag : Rule::kRebase;
  if (theirs_is_note || theirs == K::kAppend) return Rule::kRebase;
  if (theirs == K::kSchemaChange) return Rule::kSameFields;
  // Theirs added or filled columns.
  if (mine == K::kAppend) return Rule::kRebase;
  return mine == K::kAddColumns ? Rule::kSamePairs : Rule::kSameFields;
}

Result<std::shared_ptr<const Snapshot>> SnapshotLog::Read(int64_t version) {
  {
    const std::lock_guard lock(mutex_);
    if (newest_ && newest_->version == version) return newest_;
  }
  const std::string key = prefix_ + SnapshotKey(version);
  auto bytes = env_->store->Get(key);
  if (bytes.status().Is(Code::kNotFound)) {
    return Status::NotFound("there is no version " + std::to_string(version) + " of this table");
  }
  if (!bytes.ok()) return bytes.status();
  HEADRACE_ASSIGN(Snapshot snapshot, DecodeSnapshot(bytes->view(), key));
  if (snapshot.version != version)
    return Status::Corrupt(key + " says that it is version " + std::to_string(snapshot.version));
  return std::make_shared<const Snapshot>(std::move(snapshot));
}

Result<int64_t> SnapshotLog::FindLatest(int64_t known) {
  if (!env_->store->probes_are_cheap()) {
    HEADRACE_ASSIGN(const auto first, env_->store->List(prefix_ + "snapshots/", "", 1));
    if (first.empty()) return int64_t{0};
    const std::string name = first[0].key.substr(first[0].key.rfind('/') + 1);
    char* end = nullptr;
    const uint64_t reversed = std::strtoull(name.c_str(), &end, 10);
    if (std::string_view(end) != ".json")
      return Status::Corrupt("'" + first[0].key + "' is not a snapshot's name");
    return static_cast<int64_t>(UINT64_MAX - reversed);
  }
  // Versions are dense: gallop up, then halve.
  int64_t have = known;
  int64_t step = 1;
  for (;;) {
    HEADRACE_ASSIGN(const bool there, env_->store->Exists(prefix_ + SnapshotKey(have + step)));
    if (!there) break;
    have += step;
    step *= 2;
  }
  int64_t missing = have + step;
  while (missing - have > 1) {
    const int64_t middle = have + (missing - have) / 2;
    HEADRACE_ASSIGN(const bool there, env_->store->Exists(prefix_ + SnapshotKey(middle)));
    (there ? have : missing) = middle;
  }
  return have;
}

Result<std::shared_ptr<const Snapshot>> SnapshotLog::Latest() {
  int64_t known = 0;
  {
    const std::lock_guard lock(mutex_);
    if (newest_) known = newest_->version;
  }
  HEADRACE_ASSIGN(const int64_t version, FindLatest(known));
  if (version == 0) return Status::NotFound("the table has no snapshots");
  HEADRACE_ASSIGN(auto snapshot, Read(version));
  const std::lock_guard lock(mutex_);
  if (!newest_ || newest_->version < version) newest_ = snapshot;
  return snapshot;
}

Status SnapshotLog::CheckPairs(const Change& change, const std::shared_ptr<const Snapshot>& head) {
  HEADRACE_ASSIGN(const auto fragments, View(env_, prefix_, head).Fragments());
  for (const auto& fill : change.fragments) {
    const auto it = std::lower_bound(fragments->begin(), fragments->end(), fill.first_row_id,
                                     [](const Fragment& f, int64_t row) { return f.first_row_id < row; });
    if (it == fragments->end() || it->id != fill.id || it->rows != fill.rows) {
      return Status::Conflict("the rows from " + std::to_string(fill.first_row_id) +
                              " were rewritten meanwhile");
    }
    for (const auto& file : fill.files) {
      for (const int32_t field : file.family->fields) {
        if (!it->Fills(field)) continue;
        const Field* named = head->schema.FindId(field);
        return Status::Conflict("the column '" + (named ? named->name : std::to_string(field)) +
                                "' of the rows from " + std::to_string(fill.first_row_id) +
                                " was filled meanwhile; nothing was committed");
      }
    }
  }
  return Status::Ok();
}

Result<Snapshot> SnapshotLog::Apply(const Change& change, const std::shared_ptr<const Snapshot>& head) {
  Snapshot next = *head;
  next.version = head->version + 1;
  next.time_us = std::max(NowMicros(), head->time_us + 1);
  next.operation = change.operation;
  HEADRACE_TRY(CheckFields(change, head->schema));
  switch (change.operation.kind) {
    case OperationKind::kAppend:
      for (Fragment fragment : change.fragments) {
        if (fragment.rows > INT64_MAX - next.next_row_id) return Status::Limit("row ids are used up");
        fragment.id = next.next_fragment_id++;
        fragment.first_row_id = next.next_row_id;
        fragment.version = next.version;
        next.next_row_id += fragment.rows;
        next.rows += fragment.rows;
        next.inline_entries.push_back(std::move(fragment));
      }
      break;
    case OperationKind::kAddColumns: {
      for (const auto& field : change.new_fields) {
        if (next.schema.Find(field.name) != nullptr) {
          return Status::Conflict("a column '" + field.name + "' was added meanwhile; nothing was committed");
        }
        if (static_cast<int64_t>(next.schema.fields.size()) >= limits::kMaxColumns) {
          return Status::Limit("a table has at most " + std::to_string(limits::kMaxColumns) + " columns");
        }
        next.schema.fields.push_back(field);
      }
      HEADRACE_TRY(CheckPairs(change, head));
      for (Fragment entry : change.fragments) {
        entry.version = next.version;
        next.inline_entries.push_back(std::move(entry));
      }
      break;
    }
    case OperationKind::kSchemaChange:
      HEADRACE_TRY(ApplySchemaChange(change, &next));
      break;
    case OperationKind::kTag:
      HEADRACE_TRY(ApplyTag(change, &next));
      break;
    case OperationKind::kReserve:
      next.next_field_id += change.reserve_fields;
      break;
    case OperationKind::kCreate:
      return Status::Invalid("a table is created once");
  }
  if (!change.writer.empty()) {
    next.writers[change.writer] = {change.sequence, next.version};
    if (static_cast<int64_t>(next.writers.size()) > limits::kMaxWriters) {
      const auto oldest =
          std::min_element(next.writers.begin(), next.writers.end(),
                           [](const auto& a, const auto& b) { return a.second.version < b.second.version; });
      next.writers.erase(oldest);
    }
  }
  return next;
}

Status SnapshotLog::Tidy(Snapshot* next, std::vector<std::string>* written) {
  const auto write = [&](std::vector<Fragment> entries) -> Status {
    HEADRACE_ASSIGN(const auto manifest, EncodeManifest(Fold(std::move(entries))));
    written->push_back(prefix_ + ManifestKey(manifest.ref.id));
    HEADRACE_TRY(store::PutFresh(env_->store.get(), written->back(), manifest.bytes));
    next->manifests.push_back(manifest.ref);
    return Status::Ok();
  };
  if (static_cast<int64_t>(next->inline_entries.size()) > limits::kInlineFragments) {
    HEADRACE_TRY(write(std::move(next->inline_entries)));
    next->inline_entries.clear();
  }
  for (;;) {
    std::map<int, std::vector<size_t>> tiers;
    for (size_t i = 0; i < next->manifests.size(); ++i)
      tiers[TierOf(next->manifests[i].entries)].push_back(i);
    std::vector<size_t> merge;
    for (const auto& [tier, members] : tiers) {
      if (static_cast<int64_t>(members.size()) >= limits::kManifestFanIn) {
        merge = members;
        break;
      }
    }
    if (merge.empty() && static_cast<int64_t>(next->manifests.size()) > limits::kMaxManifests) {
      for (const auto& [tier, members] : tiers) {
        merge.insert(merge.end(), members.begin(), members.end());
        if (merge.size() > 1) break;
      }
    }
    if (merge.empty()) return Status::Ok();
    std::vector<Fragment> entries;
    std::vector<ManifestRef> kept;
    for (size_t i = 0; i < next->manifests.size(); ++i) {
      if (std::find(merge.begin(), merge.end(), i) == merge.end()) {
        kept.push_back(next->manifests[i]);
        continue;
      }
      HEADRACE_ASSIGN(auto bytes, env_->store->Get(prefix_ + ManifestKey(next->manifests[i].id)));
      HEADRACE_ASSIGN(const auto manifest, Manifest::Load(std::move(bytes), next->manifests[i]));
      HEADRACE_ASSIGN(auto all, manifest->LoadAll());
      entries.insert(entries.end(), std::make_move_iterator(all.begin()), std::make_move_iterator(all.end()));
    }
    next->manifests = std::move(kept);
    HEADRACE_TRY(write(std::move(entries)));
  }
}

Result<bool> SnapshotLog::PutSnapshot(const Snapshot& next) {
  const std::string key = prefix_ + SnapshotKey(next.version);
  const std::string text = EncodeSnapshot(next);
  if (static_cast<int64_t>(text.size()) > limits::kMaxSnapshotBytes) {
    return Status::Limit("the snapshot would have " + std::to_string(text.size()) + " bytes");
  }
  return PutSettled(
      env_->store.get(), key, text,
      [&](std::string_view there) -> Result<bool> {
        HEADRACE_ASSIGN(const Snapshot theirs, DecodeSnapshot(there, key));
        return theirs.transaction == next.transaction;
      },
      "the store never said whether transaction " + next.transaction + " became version " +
          std::to_string(next.version) + "; look at the table's log before trying again");
}

Status SnapshotLog::Create(const Snapshot& first) {
  HEADRACE_ASSIGN(const bool ours, PutSnapshot(first));
  return ours ? Status::Ok() : Status::AlreadyExists("the table exists already");
}

Result<std::shared_ptr<const Snapshot>> SnapshotLog::Settle(const std::shared_ptr<const Snapshot>& head,
                                                            Attempt* attempt) {
  // Where its place is still free it may yet arrive there; the next put then finds out.
  if (attempt->unsettled == 0 || head->version < attempt->unsettled) return std::shared_ptr<const Snapshot>();
  auto there = head;
  if (head->version > attempt->unsettled) {
    HEADRACE_ASSIGN(there, Read(attempt->unsettled));
  }
  attempt->unsettled = 0;
  if (there->transaction == attempt->transaction) return there;
  Sweep(nullptr, attempt);
  return std::shared_ptr<const Snapshot>();
}

void SnapshotLog::Sweep(const Snapshot* kept, Attempt* attempt) {
  std::set<std::string> named;
  if (kept != nullptr) {
    for (const auto& manifest : kept->manifests) named.insert(prefix_ + ManifestKey(manifest.id));
    for (const auto& list : kept->taken) named.insert(TakenKey(prefix_, list.id));
  }
  std::erase_if(attempt->written,
                [&](const std::string& key) { return named.contains(key) || env_->store->Delete(key).ok(); });
}

Result<Committed> SnapshotLog::Commit(const Change& change, const StopToken& stop, Attempt* attempt) {
  if (attempt->transaction.empty()) attempt->transaction = Uuid::Random().ToString();
  Result<Committed> committed = TryCommit(change, stop, attempt);
  if (attempt->unsettled == 0)
    Sweep(committed.ok() && !committed->repeated ? committed->snapshot.get() : nullptr, attempt);
  return committed;
}

Result<Committed> SnapshotLog::TryCommit(const Change& change, const StopToken& stop, Attempt* attempt) {
  const auto turn = env_->store->CourtesyLock(prefix_ + "commit.lock");
  for (int64_t tries = 0; tries < limits::kMaxCommitAttempts; ++tries) {
    HEADRACE_TRY(stop.Check());
    HEADRACE_ASSIGN(const auto head, Latest());
    HEADRACE_ASSIGN(const auto landed, Settle(head, attempt));
    if (landed) return Committed{landed->version, false, landed};
    if (!change.writer.empty()) {
      const auto mark = head->writers.find(change.writer);
      const int64_t last = mark == head->writers.end() ? -1 : mark->second.sequence;
      if (mark != head->writers.end() &&
          (last == change.sequence || (last > change.sequence && !change.after)))
        return Committed{mark->second.version, true, head};
      if (change.after && *change.after != last)
        return Status::Conflict("writer '" + change.writer + "' has committed sequence " +
                                std::to_string(last) + ", not " + std::to_string(*change.after) +
                                ": somebody else writes under its name");
    }
    HEADRACE_ASSIGN(Snapshot next, Apply(change, head));
    next.transaction = attempt->transaction;
    HEADRACE_TRY(Tidy(&next, &attempt->written));
    if (!change.taken.empty()) {
      HEADRACE_TRY(AddTaken(env_.get(), prefix_, *head, change.taken, &next, &attempt->written));
    }
    const Result<bool> ours = PutSnapshot(next);
    if (ours.status().Is(Code::kUnknown)) attempt->unsettled = next.version;
    if (!ours.ok()) return ours.status();
    if (*ours && attempt->unsettled == 0) {
      auto committed = std::make_shared<const Snapshot>(std::move(next));
      const std::lock_guard lock(mutex_);
      newest_ = committed;
      return Committed{committed->version, false, committed};
    }
    // Another's stands there, or ours of an earlier call, whose bytes are not these: it is read.
    if (attempt->unsettled == 0) Sweep(nullptr, attempt);
    if (!*ours) Backoff(tries);
  }
  return Status::Conflict("lost " + std::to_string(limits::kMaxCommitAttempts) +
                          " races for the next version; nothing was committed");
}

}  // namespace headrace::table
