#include "table/table.h"

#include "base/clock.h"
#include "table/keys.h"
#include "table/retype.h"

namespace headrace::table {
namespace {

bool AllDigits(const std::string& text) {
  return !text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

Table::Table(std::shared_ptr<Environment> env, std::string name, Uuid id)
    : env_(std::move(env)),
      name_(std::move(name)),
      id_(id),
      prefix_(TableFolder(id)),
      log_(std::make_shared<SnapshotLog>(env_, prefix_)) {}

Operation Table::MakeOperation(const CommitOptions& options) const {
  Operation operation;
  operation.who = options.who.empty() ? DefaultWho() : options.who;
  operation.why = options.why;
  operation.how = options.how;
  operation.inputs = options.inputs;
  return operation;
}

Result<View> Table::At(const std::string& version) const {
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  if (version.empty() || version == "latest") return View(env_, prefix_, head);
  const auto tag = head->tags.find(version);
  int64_t wanted = -1;
  if (tag != head->tags.end()) {
    wanted = tag->second;
  } else if (AllDigits(version)) {
    wanted = std::stoll(version);
  } else if (version[0] == 'v' && AllDigits(version.substr(1))) {
    wanted = std::stoll(version.substr(1));
  }
  if (wanted >= 0) {
    if (wanted < 1 || wanted > head->version) {
      return Status::NotFound("table '" + name_ + "' has no version " + std::to_string(wanted) +
                              "; its versions are 1 to " + std::to_string(head->version));
    }
    HEADRACE_TRY(CheckRetained(*head, wanted));
    HEADRACE_ASSIGN(auto snapshot, log_->Read(wanted));
    return View(env_, prefix_, std::move(snapshot));
  }
  const auto time = ParseMicros(version);
  if (!time.ok()) {
    std::string tags;
    for (const auto& [name, at] : head->tags) tags += (tags.empty() ? "" : ", ") + name;
    return Status::NotFound("table '" + name_ + "' has no tag '" + version + "'" +
                            (tags.empty() ? std::string() : " (its tags: " + tags + ")") +
                            "; give a tag, a version such as v3, or a time such as 2026-11-22T08:00");
  }
  // Commit times rise with versions: the last one not after `time`.
  int64_t low = 0;
  int64_t high = head->version + 1;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    HEADRACE_ASSIGN(const auto snapshot, log_->ReadLine(middle));
    (snapshot->time_us <= *time ? low : high) = middle;
  }
  if (low == 0) return Status::NotFound("table '" + name_ + "' did not exist yet at " + FormatMicros(*time));
  HEADRACE_TRY(CheckRetained(*head, low));
  HEADRACE_ASSIGN(auto snapshot, log_->Read(low));
  return View(env_, prefix_, std::move(snapshot));
}

Status Table::CheckRetained(const Snapshot& head, int64_t version) const {
  if (!head.expired.Has(version)) return Status::Ok();
  std::string kept;
  for (const int64_t earlier : head.expired.kept) kept += "v" + std::to_string(earlier) + ", ";
  return Status::NotFound("version " + std::to_string(version) + " of table '" + name_ +
                          "' has expired; it keeps " + kept + "v" + std::to_string(head.expired.before) +
                          " and all that came after");
}

Result<Taken> Table::TakenIn() const {
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  return LoadTaken(env_.get(), prefix_, *head);
}

Result<std::vector<HistoryEntry>> Table::History(int64_t limit, bool with_reservations) const {
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  std::vector<HistoryEntry> history;
  for (int64_t version = head->version; version >= 1 && limit != 0; --version) {
    HEADRACE_ASSIGN(const auto snapshot, log_->ReadLine(version));
    if (snapshot->operation.kind == OperationKind::kReserve && !with_reservations) continue;
    HistoryEntry entry{version, snapshot->time_us,         snapshot->rows, snapshot->operation,
                       {},      head->expired.Has(version)};
    for (const auto& [tag, at] : head->tags) {
      if (at == version) entry.tags.push_back(tag);
    }
    history.push_back(std::move(entry));
    if (limit > 0) --limit;
  }
  return history;
}

Result<int32_t> Table::ReserveFields(int32_t count, const CommitOptions& options) {
  const Change change{ReserveFieldIds{count}, MakeOperation(options), {}, {}};
  HEADRACE_ASSIGN(const Committed committed, log_->Commit(change, options.stop));
  return committed.snapshot->next_field_id - count;
}

Result<CommitResult> Table::CommitSmall(Change change, const CommitOptions& options) {
  change.claim = ClaimOf(options);
  HEADRACE_ASSIGN(const Committed committed, log_->Commit(change, options.stop));
  return CommitResult{committed.version, 0, 0, 0, committed.repeated};
}

Result<CommitResult> Table::RenameColumn(const std::string& from, const std::string& to,
                                         const CommitOptions& options) {
  HEADRACE_TRY(ValidateName("column", to));
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  HEADRACE_ASSIGN(const Field* field, head->schema.Get(from));
  Operation operation = MakeOperation(options);
  operation.columns = {from + " -> " + to};
  operation.field_ids = {field->id};
  return CommitSmall({ChangeSchema{{{field->id, to}}, {}}, std::move(operation), {}, {*field}}, options);
}

Result<CommitResult> Table::WidenColumn(const std::string& name, const std::string& type,
                                        const CommitOptions& options) {
  HEADRACE_ASSIGN(const Type to, ParseType(type));
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  HEADRACE_ASSIGN(const Field* field, head->schema.Get(name));
  HEADRACE_ASSIGN(Field wide, WidenedField(*field, to));
  Operation operation = MakeOperation(options);
  operation.columns = {name + ": " + field->type.ToString() + " -> " + wide.type.ToString()};
  operation.field_ids = {field->id};
  return CommitSmall({ChangeSchema{{}, {}, {std::move(wide)}}, std::move(operation), {}, {*field}}, options);
}

Result<CommitResult> Table::DropColumn(const std::string& name, const CommitOptions& options) {
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  HEADRACE_ASSIGN(const Field* field, head->schema.Get(name));
  if (head->schema.fields.size() == 1) return Status::Invalid("'" + name + "' is the table's only column");
  Operation operation = MakeOperation(options);
  operation.columns = {"drop " + name};
  operation.field_ids = {field->id};
  return CommitSmall({ChangeSchema{{}, {field->id}}, std::move(operation), {}, {*field}}, options);
}

Result<CommitResult> Table::Tag(const std::string& tag, const std::string& version, bool move,
                                const CommitOptions& options) {
  HEADRACE_TRY(ValidateName("tag", tag));
  if (AllDigits(tag) || tag == "latest" || (tag[0] == 'v' && AllDigits(tag.substr(1))) ||
      ParseMicros(tag).ok()) {
    return Status::Invalid("a tag may not look like a version or a time: '" + tag + "'");
  }
  HEADRACE_ASSIGN(const View view, At(version));
  const int64_t target = view.snapshot().version;
  Operation operation = MakeOperation(options);
  operation.columns = {tag + " -> v" + std::to_string(target)};
  return CommitSmall({MoveTag{tag, target, move}, std::move(operation), {}, {}}, options);
}

Result<CommitResult> Table::RemoveTag(const std::string& tag, const CommitOptions& options) {
  Operation operation = MakeOperation(options);
  operation.columns = {"remove " + tag};
  return CommitSmall({MoveTag{tag, std::nullopt, true}, std::move(operation), {}, {}}, options);
}

}  // namespace headrace::table
