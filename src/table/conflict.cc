#include "table/conflict.h"

#include <arrow/record_batch.h>

#include <algorithm>
#include <set>

#include "base/check.h"
#include "table/arrow_bridge.h"
#include "table/follow.h"
#include "table/key_table.h"
#include "table/row_map.h"
#include "table/row_set_file.h"

namespace headrace::table {
namespace {

Status CheckSameFields(const Change& change, const View& head) {
  for (const auto& used : change.fields_used) {
    const Field* now = head.schema().FindId(used.id);
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

std::set<std::string> Names(const Schema& schema) {
  std::set<std::string> names;
  for (const auto& field : schema.fields) names.insert(field.name);
  return names;
}

Status CheckFreeNames(const Change& change, const View& head) {
  std::set<std::string> taken = Names(head.schema());
  if (const auto* fill = std::get_if<FillColumns>(&change.what)) {
    for (const auto& field : fill->new_fields) {
      if (!taken.insert(field.name).second) {
        return Status::Conflict("a column '" + field.name + "' was added meanwhile; nothing was committed");
      }
    }
    return Status::Ok();
  }
  const auto& schema_change = std::get<ChangeSchema>(change.what);
  const auto leave = [&](int32_t id) {
    if (const Field* field = head.schema().FindId(id)) taken.erase(field->name);
  };
  for (const int32_t id : schema_change.drops) leave(id);
  for (const auto& rename : schema_change.renames) leave(rename.id);
  for (const auto& rename : schema_change.renames) {
    if (!taken.insert(rename.to).second) {
      return Status::AlreadyExists("there is a column '" + rename.to + "' already");
    }
  }
  return Status::Ok();
}

// Whether a fill may land on a fragment that compaction wrote since it began.
bool MayFollow(const Change& change, const View& head) {
  return std::holds_alternative<FillColumns>(change.what) && change.base > 0 &&
         change.base >= head.snapshot().follow_from;
}

Status CheckOpenHoles(const Change& change, const View& head) {
  HEADRACE_ASSIGN(const auto fragments, head.Fragments());
  const RowMap rows(*fragments);
  for (const auto& entry : std::get<FillColumns>(change.what).entries) {
    const Fragment* now = rows.Holding(entry);
    if (now == nullptr || (now != rows.Same(entry) && !MayFollow(change, head))) {
      return Status::Conflict("the rows from " + std::to_string(entry.first_row_id) +
                              " were rewritten meanwhile; nothing was committed");
    }
    for (const auto& file : entry.files) {
      for (const int32_t field : file.column_group->fields) {
        if (!now->Fills(field)) continue;
        const Field* named = head.schema().FindId(field);
        return Status::Conflict("the column '" + (named ? named->name : std::to_string(field)) +
                                "' of the rows from " + std::to_string(entry.first_row_id) +
                                " was filled meanwhile; nothing was committed");
      }
    }
  }
  return Status::Ok();
}

Status CheckSameTag(const Change& change, const View& head) {
  const auto& move = std::get<MoveTag>(change.what);
  const auto& tags = head.snapshot().tags;
  const auto it = tags.find(move.tag);
  if (!move.version || move.from_anywhere || it == tags.end() || it->second == *move.version) {
    return Status::Ok();
  }
  return Status::AlreadyExists("the tag '" + move.tag + "' is on version " + std::to_string(it->second) +
                               "; move it explicitly if that is meant");
}

std::string NameOf(const Change& change, int32_t field) {
  for (const auto& used : change.fields_used) {
    if (used.id == field) return used.name;
  }
  return std::to_string(field);
}

bool SameFile(const Overlay& a, const Overlay& b, int32_t field) {
  const DataFile* in_a = a.FileOf(field);
  const DataFile* in_b = b.FileOf(field);
  return in_a != nullptr && in_b != nullptr && in_a->id == in_b->id;
}

// Whether the values of some rows (null: of all) are those of before.
Result<bool> SameValuesOf(const View& head, const Fragment& before, const Fragment& now, int32_t field,
                          const RowSet* rows) {
  if (SameValues(before, now, field)) return true;
  Fragment file_only = now;  // what it would be without the overlays that came since
  file_only.overlays = before.overlays;
  if (rows == nullptr || !SameValues(before, file_only, field)) return false;
  const auto touches = [&](const std::vector<Overlay>& some,
                           const std::vector<Overlay>& known) -> Result<bool> {
    for (const auto& overlay : some) {
      const auto same = [&](const Overlay& other) { return SameFile(other, overlay, field); };
      if (overlay.FileOf(field) == nullptr || std::any_of(known.begin(), known.end(), same)) continue;
      HEADRACE_ASSIGN(const auto changed,
                      LoadRowSet(head.environment().get(), head.prefix(), overlay.rows, now.rows));
      if (changed->Without(*rows)->count() != changed->count()) return true;
    }
    return false;
  };
  HEADRACE_ASSIGN(const bool came, touches(now.overlays, before.overlays));
  if (came) return false;
  HEADRACE_ASSIGN(const bool went, touches(before.overlays, now.overlays));  // by a restore
  if (went) return false;
  return true;
}

// Whether a row of the fragment that was deleted is there again: a restore brings rows back.
Result<bool> RowsAreBack(const View& head, const Fragment& before, const Fragment& now) {
  if (before.deleted.empty() || before.deleted == now.deleted) return false;
  if (now.deleted.count < before.deleted.count) return true;
  Environment* env = head.environment().get();
  HEADRACE_ASSIGN(const auto gone, LoadRowSet(env, head.prefix(), before.deleted, before.rows));
  HEADRACE_ASSIGN(const auto gone_now, LoadRowSet(env, head.prefix(), now.deleted, now.rows));
  return gone->Without(*gone_now)->count() > 0;
}

// Of a merge that adds rows: a restore may bring fragments back that it did not read, since compaction had
// left them out.
Status CheckSameRows(const Change& change, const std::vector<Fragment>& fragments) {
  const auto* merge = std::get_if<MergeRows>(&change.what);
  if (merge == nullptr || merge->keys == nullptr || merge->append.fragments.empty()) return Status::Ok();
  std::set<int64_t> known;
  for (const auto& used : change.values_used) known.insert(used.fragment.id);
  for (const auto& fragment : fragments) {
    if (fragment.first_row_id >= merge->next_row_id || known.contains(fragment.id)) continue;
    return Status::Conflict("the rows from " + std::to_string(fragment.first_row_id) +
                            " came back meanwhile; nothing was committed");
  }
  return Status::Ok();
}

// Of a merge: a row that it changes may be gone by now, deleted or by a restore. Its key would be nowhere,
// though the merge was committed after it went.
Status CheckMatchedRows(const Change& change, const View& head, const RowMap& rows) {
  const auto* merge = std::get_if<MergeRows>(&change.what);
  if (merge == nullptr) return Status::Ok();
  for (const auto& [before, matched] : merge->matched) {
    const Fragment* now = rows.Same(before);
    HEADRACE_CHECK(now != nullptr);  // its values were compared
    if (now->deleted.empty() || now->deleted == before.deleted) continue;
    HEADRACE_ASSIGN(const auto gone, head.Deleted(*now));
    if (matched->Without(*gone)->count() == matched->count()) continue;
    return Status::Conflict("some of the rows from " + std::to_string(before.first_row_id) +
                            " that have a key of this merge were deleted meanwhile; nothing was committed");
  }
  return Status::Ok();
}

Status CheckSameValues(const Change& change, const View& head) {
  HEADRACE_ASSIGN(const auto fragments, head.Fragments());
  const RowMap rows(*fragments);
  for (const auto& used : change.values_used) {
    const std::string where = "the rows from " + std::to_string(used.fragment.first_row_id);
    const Fragment* now = rows.Same(used.fragment);
    const bool follows = now == nullptr && used.rows == nullptr && MayFollow(change, head);
    if (follows) now = rows.Holding(used.fragment);
    if (now == nullptr) return Status::Conflict(where + " were rewritten meanwhile; nothing was committed");
    if (used.rows == nullptr && !follows) {
      HEADRACE_ASSIGN(const bool back, RowsAreBack(head, used.fragment, *now));
      if (back) return Status::Conflict("some of " + where + " came back meanwhile; nothing was committed");
    }
    for (const int32_t field : used.fields) {
      HEADRACE_ASSIGN(const bool same, follows
                                           ? SameValuesGathered(head, used.fragment, *now, field, change.base)
                                           : SameValuesOf(head, used.fragment, *now, field, used.rows.get()));
      if (same) continue;
      return Status::Conflict("the column '" + NameOf(change, field) + "' of " + where +
                              " changed meanwhile; nothing was committed");
    }
  }
  HEADRACE_TRY(CheckMatchedRows(change, head, rows));
  return CheckSameRows(change, *fragments);
}

// (Rows may be deleted meanwhile: the new fragments are told of it. Those that are back have no values in
// them.)
Status CheckSameFragments(const Change& change, const View& head) {
  HEADRACE_ASSIGN(const auto fragments, head.Fragments());
  const RowMap rows(*fragments);
  const auto& fields = head.schema().fields;
  for (const auto& part : std::get<CompactFragments>(change.what).parts) {
    for (const auto& before : part.replaced) {
      const Fragment* now = rows.Same(before);
      const auto same = [&](const Field& field) { return SameValues(before, *now, field.id); };
      if (now != nullptr && std::all_of(fields.begin(), fields.end(), same)) {
        HEADRACE_ASSIGN(const bool back, RowsAreBack(head, before, *now));
        if (!back) continue;
      }
      return Status::Conflict("the rows from " + std::to_string(before.first_row_id) +
                              " changed meanwhile; nothing was committed");
    }
  }
  return Status::Ok();
}

Status CheckFreeKeys(const Change& change, const View& head) {
  const auto& merge = std::get<MergeRows>(change.what);
  if (merge.keys == nullptr || merge.append.fragments.empty() ||
      head.snapshot().next_row_id == merge.next_row_id)
    return Status::Ok();
  ScanOptions scan;
  scan.columns = merge.on;
  scan.where = std::string(kRowIdColumn) + " >= " + std::to_string(merge.next_row_id);
  HEADRACE_ASSIGN(const auto rows, head.Scan(scan));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(rows->ReadNext(&batch));
    if (!batch) return Status::Ok();
    HEADRACE_ASSIGN(const auto keys, KeyColumns::Of(batch->columns()));
    std::string buffer;
    std::string_view key;
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      if (!keys.KeyOf(i, &buffer, &key) || merge.keys->Find(key) < 0) continue;
      return Status::Conflict("a row with a key of this merge was added meanwhile; nothing was committed");
    }
  }
}

Status CheckNewItems(const Change& change, const View& head) {
  return CheckTaken(head.environment().get(), head.prefix(), head.snapshot(), AppendOf(change)->taken);
}

Status CheckRetained(const Change& change, const View& head) {
  int64_t version = 0;
  if (const auto* restore = std::get_if<RestoreVersion>(&change.what)) version = restore->version->version;
  if (const auto* tag = std::get_if<MoveTag>(&change.what)) version = tag->version.value_or(INT64_MAX);
  if (!head.snapshot().expired.Has(version)) return Status::Ok();
  return Status::Conflict("version " + std::to_string(version) + " expired meanwhile; nothing was committed");
}

Status CheckUncollected(const Change& change, const View& head) {
  if (change.base == 0 || change.base >= head.snapshot().collected) return Status::Ok();
  return Status::Conflict(
      "it began at version " + std::to_string(change.base) +
      ", and garbage collection has taken its files for those of a writer that died; nothing was committed");
}

// In the order in which they are checked: cheap ones first.
struct RuleCheck {
  Rule rule;
  Status (*holds)(const Change& change, const View& head);
};
constexpr RuleCheck kRuleChecks[] = {{kRetained, CheckRetained},     {kUncollected, CheckUncollected},
                                     {kSameFields, CheckSameFields}, {kFreeNames, CheckFreeNames},
                                     {kSameTag, CheckSameTag},       {kFreeKeys, CheckFreeKeys},
                                     {kOpenHoles, CheckOpenHoles},   {kSameValues, CheckSameValues},
                                     {kNewItems, CheckNewItems},     {kSameFragments, CheckSameFragments}};

}  // namespace

Status CheckConflicts(const Change& change, const View& head, Rule* broken) {
  HEADRACE_CHECK(change.kind() != OperationKind::kCreate);
  Rule row = kRebase;
  for (const Rule cell : kConflictMatrix[static_cast<int>(change.kind())]) row = row | cell;
  if (broken != nullptr) *broken = kRebase;
  for (const auto& check : kRuleChecks) {
    if ((row & check.rule) == 0) continue;
    Status status = check.holds(change, head);
    if (status.ok()) continue;
    if (broken != nullptr) *broken = check.rule;
    return status;
  }
  return Status::Ok();
}

}  // namespace headrace::table
