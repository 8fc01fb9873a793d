#include "table/apply.h"

#include <algorithm>
#include <set>

#include "base/clock.h"
#include "base/limits.h"
#include "table/sort_rows.h"

namespace headrace::table {
namespace {

Status ApplyTo(const AppendRows& append, Snapshot* next) {
  for (Fragment fragment : append.fragments) {
    if (fragment.rows > INT64_MAX - next->next_row_id) return Status::Limit("row ids are used up");
    fragment.id = next->next_fragment_id++;
    fragment.first_row_id = next->next_row_id;
    fragment.version = next->version;
    next->next_row_id += fragment.rows;
    next->rows += fragment.rows;
    next->inline_entries.push_back(std::move(fragment));
  }
  return Status::Ok();
}

Status ApplyTo(const FillColumns& fill, Snapshot* next) {
  auto& fields = next->schema.fields;
  const size_t columns = fields.size() + fill.new_fields.size();
  if (!fill.new_fields.empty() && static_cast<int64_t>(columns) > limits::kMaxColumns) {
    return Status::Limit("a table has at most " + std::to_string(limits::kMaxColumns) + " columns");
  }
  // Where the entries' rows are by now is found out when what goes with the snapshot is written
  // (SnapshotLog::WriteLists).
  fields.insert(fields.end(), fill.new_fields.begin(), fill.new_fields.end());
  return Status::Ok();
}

Status ApplyTo(const ChangeSchema& change, Snapshot* next) {
  auto& fields = next->schema.fields;
  for (const auto& rename : change.renames) {
    for (auto& field : fields) {
      if (field.id == rename.id) field.name = rename.to;
    }
  }
  for (const int32_t id : change.drops) {
    std::erase_if(fields, [&](const Field& field) { return field.id == id; });
    std::erase(next->sort_by, id);
  }
  for (const Field& wide : change.widened) {
    for (auto& field : fields) {
      if (field.id == wide.id) field = wide;
    }
  }
  return Status::Ok();
}

Status ApplyTo(const MoveTag& move, Snapshot* next) {
  if (!move.version) {
    if (next->tags.erase(move.tag) == 0) return Status::NotFound("there is no tag '" + move.tag + "'");
    return Status::Ok();
  }
  if (*move.version < 1 || *move.version >= next->version) {
    return Status::NotFound("there is no version " + std::to_string(*move.version));
  }
  next->tags[move.tag] = *move.version;
  return Status::Ok();
}

Status ApplyTo(const ReserveFieldIds& reserve, Snapshot* next) {
  if (reserve.count > INT32_MAX - next->next_field_id) return Status::Limit("field ids are used up");
  next->next_field_id += reserve.count;
  return Status::Ok();
}

// What is deleted is written first (SnapshotLog::WriteLists): the sets join those of the head.
Status ApplyTo(const DeleteRows& deletes, Snapshot* next) {
  if (deletes.erase) next->erase = next->follow_from = next->version;
  return Status::Ok();
}

// Where the entries of the fragments that go lie is found out then too.
Status ApplyTo(const CompactFragments&, Snapshot*) { return Status::Ok(); }

Status ApplyTo(const UpdateRows& update, Snapshot* next) {
  for (Fragment entry : update.entries) {
    entry.version = next->version;
    for (auto& file : entry.files) file.version = next->version;
    for (auto& overlay : entry.overlays) overlay.version = next->version;
    next->inline_entries.push_back(std::move(entry));
  }
  return Status::Ok();
}

Status ApplyTo(const MergeRows& merge, Snapshot* next) {
  HEADRACE_TRY(ApplyTo(merge.update, next));
  return ApplyTo(merge.append, next);
}

Status ApplyTo(const KeepVersions& retain, Snapshot* next) {
  next->keep_us = retain.keep_us.value_or(next->keep_us);
  for (const auto& writer : retain.writers) HEADRACE_TRY(ChangeWriter(writer, next));
  return Status::Ok();
}

Status ApplyTo(const ExpireVersions& expire, Snapshot* next) {
  next->expired = ExpiredAfter(*next, std::min(expire.before, next->version));
  next->collected = std::max(next->collected, expire.collected);
  if (next->erase <= expire.erased) next->erase = 0;
  return Status::Ok();
}

Status ApplyTo(const SortRows& sort, Snapshot* next) {
  next->sort_by = sort.fields;
  return Status::Ok();
}

Status ApplyTo(const RestoreVersion& restore, Snapshot* next) {
  const Snapshot& then = *restore.version;
  next->schema = then.schema;
  // What lacks a column of the key, or has it in a type without an order that was widened since.
  std::erase_if(next->sort_by, [&](int32_t id) {
    const Field* field = next->schema.TopOf(id);
    return field == nullptr || !CheckSortable(*field).ok();
  });
  next->rows = then.rows;
  next->manifests = then.manifests;
  next->inline_entries = then.inline_entries;
  next->taken = then.taken;
  next->rows_before_taken = then.rows_before_taken;
  next->follow_from = next->version;
  return Status::Ok();
}

}  // namespace

ExpiredVersions ExpiredAfter(const Snapshot& head, int64_t before) {
  std::set<int64_t> kept;
  before = std::max(before, head.expired.before);
  for (const auto& [tag, version] : head.tags) {
    if (version < before && !head.expired.Has(version)) kept.insert(version);
  }
  return {before, {kept.begin(), kept.end()}};
}

Result<Snapshot> Apply(const Change& change, const Snapshot& head) {
  Snapshot next = head;
  next.version = head.version + 1;
  next.time_us = std::max(NowMicros(), head.time_us + 1);
  next.operation = change.operation;
  next.operation.kind = change.kind();
  HEADRACE_TRY(std::visit([&](const auto& part) { return ApplyTo(part, &next); }, change.what));
  NoteCommitted(change.claim, &next);
  return next;
}

}  // namespace headrace::table
