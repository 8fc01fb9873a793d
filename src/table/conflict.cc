#include "table/conflict.h"

#include <set>

#include "base/check.h"
#include "table/row_map.h"

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

Status CheckOpenHoles(const Change& change, const View& head) {
  HEADRACE_ASSIGN(const auto fragments, head.Fragments());
  const RowMap rows(*fragments);
  for (const auto& entry : std::get<FillColumns>(change.what).entries) {
    const Fragment* now = rows.Same(entry);
    if (now == nullptr) {
      return Status::Conflict("the rows from " + std::to_string(entry.first_row_id) +
                              " were rewritten meanwhile");
    }
    for (const auto& file : entry.files) {
      for (const int32_t field : file.family->fields) {
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

Status CheckNewItems(const Change& change, const View& head) {
  return CheckTaken(head.environment().get(), head.prefix(), head.snapshot(),
                    std::get<AppendRows>(change.what).taken);
}

// In the order in which they are checked: cheap ones first.
struct RuleCheck {
  Rule rule;
  Status (*holds)(const Change& change, const View& head);
};
constexpr RuleCheck kRuleChecks[] = {{kSameFields, CheckSameFields},
                                     {kFreeNames, CheckFreeNames},
                                     {kSameTag, CheckSameTag},
                                     {kOpenHoles, CheckOpenHoles},
                                     {kNewItems, CheckNewItems}};

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
