#include "table/table.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/clock.h"
#include "table/arrow_bridge.h"
#include "table/keys.h"

namespace headrace::table {
namespace {

bool AllDigits(const std::string& text) {
  return !text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == std::string::npos;
}

void Report(const CommitOptions& options, const char* what, int64_t done, int64_t total, int64_t bytes) {
  if (options.progress) options.progress({what, done, total, bytes, 0});
}

WriterClaim ClaimOf(const CommitOptions& options) {
  return {options.writer, options.sequence, options.after};
}

}  // namespace

std::string DefaultWho() {
  if (const char* user = getenv("HEADRACE_USER"); user != nullptr && *user != '\0') return user;
  char host[256] = "host";
  gethostname(host, sizeof host - 1);
  const char* name = getenv("USER");
  if (name == nullptr || *name == '\0') {
    const passwd* entry = getpwuid(getuid());
    name = entry != nullptr ? entry->pw_name : "user";
  }
  return std::string(name) + "@" + host;
}

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
    HEADRACE_ASSIGN(const auto snapshot, log_->Read(middle));
    (snapshot->time_us <= *time ? low : high) = middle;
  }
  if (low == 0) return Status::NotFound("table '" + name_ + "' did not exist yet at " + FormatMicros(*time));
  HEADRACE_ASSIGN(auto snapshot, log_->Read(low));
  return View(env_, prefix_, std::move(snapshot));
}

Result<Taken> Table::TakenIn() const {
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  return LoadTaken(env_.get(), prefix_, *head);
}

Result<std::vector<HistoryEntry>> Table::History(int64_t limit, bool with_reservations) const {
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  std::vector<HistoryEntry> history;
  for (int64_t version = head->version; version >= 1 && limit != 0; --version) {
    HEADRACE_ASSIGN(const auto snapshot, log_->Read(version));
    if (snapshot->operation.kind == OperationKind::kReserve && !with_reservations) continue;
    HistoryEntry entry{version, snapshot->time_us, snapshot->rows, snapshot->operation, {}};
    for (const auto& [tag, at] : head->tags) {
      if (at == version) entry.tags.push_back(tag);
    }
    history.push_back(std::move(entry));
    if (limit > 0) --limit;
  }
  return history;
}

class TableAppender final : public Appender {
 public:
  TableAppender(Table* table, CommitOptions options, std::vector<Field> fields,
                std::unique_ptr<DataWriter> writer, int64_t repeated_version)
      : table_(*table),
        options_(std::move(options)),
        fields_(std::move(fields)),
        writer_(std::move(writer)),
        repeated_version_(repeated_version) {}

  ~TableAppender() override {
    if (!landed_ && attempt_.unsettled == 0) writer_->Discard();
  }

  Status Write(const arrow::RecordBatch& batch) override {
    if (repeated_version_ > 0) return Status::Ok();  // it is there already
    if (change_) return Status::Invalid("rows were written after Commit");
    HEADRACE_TRY(broken_);
    broken_ = options_.stop.Check();
    if (broken_.ok()) broken_ = writer_->Write(batch);
    HEADRACE_TRY(broken_);
    Report(options_, "writing rows", writer_->rows(), -1, writer_->bytes());
    return Status::Ok();
  }
  void Take(TakenItem item) override { taken_.push_back(std::move(item)); }
  int64_t rows() const override { return writer_->rows(); }
  int64_t bytes() const override { return writer_->bytes(); }
  bool can_retry() const override { return change_.has_value(); }

  Result<CommitResult> Commit() override {
    CommitResult result;
    if (repeated_version_ > 0) {
      result.version = repeated_version_;
      result.repeated = true;
      return result;
    }
    if (!change_) HEADRACE_TRY(Finish());
    HEADRACE_ASSIGN(const Committed committed, table_.log_->Commit(*change_, options_.stop, &attempt_));
    landed_ = !committed.repeated;
    repeated_version_ = committed.version;
    result.version = committed.version;
    result.repeated = committed.repeated;
    if (committed.repeated) return result;
    result.rows = change_->operation.rows;
    result.bytes = change_->operation.bytes;
    result.fragments = change_->operation.fragments;
    return result;
  }

 private:
  // The files are whole: what is to be committed is known.
  Status Finish() {
    HEADRACE_TRY(broken_);
    auto fragments = writer_->Finish();
    broken_ = fragments.status();
    HEADRACE_TRY(broken_);
    Operation operation = table_.MakeOperation(options_);
    for (const auto& fragment : *fragments) operation.rows += fragment.rows;
    operation.fragments = static_cast<int64_t>(fragments->size());
    operation.bytes = BytesOf(*fragments);
    change_ =
        Change{AppendRows{std::move(*fragments), taken_}, std::move(operation), ClaimOf(options_), fields_};
    return Status::Ok();
  }

  Table table_;  // a handle of its own: the appender may outlive the caller's
  CommitOptions options_;
  std::vector<Field> fields_;
  std::unique_ptr<DataWriter> writer_;
  int64_t repeated_version_;  // that has these rows; 0: none, as far as is known
  std::vector<TakenItem> taken_;
  Status broken_;                 // why the files will never be whole
  std::optional<Change> change_;  // once they are
  Attempt attempt_;
  bool landed_ = false;  // a version names the files
};

Result<std::unique_ptr<Appender>> Table::StartAppend(const std::vector<std::string>& columns,
                                                     const CommitOptions& options) {
  if (!options.writer.empty() && options.sequence < 0) {
    return Status::Invalid("writer '" + options.writer + "' needs a sequence number, 0 or more");
  }
  HEADRACE_ASSIGN(const auto head, log_->Latest());
  const int64_t repeated = FindCommitted(*head, ClaimOf(options)).value_or(0);
  std::vector<Field> fields;
  std::set<std::string> seen;
  for (const auto& name : columns) {
    const auto field = head->schema.Get(name);
    if (!field.ok()) return field.status().Wrap("cannot append to '" + name_ + "'");
    if (!seen.insert(name).second) return Status::Invalid("the column '" + name + "' is given twice");
    fields.push_back(**field);
  }
  if (fields.empty()) return Status::Invalid("rows without columns cannot be appended to '" + name_ + "'");
  WriteOptions write = options.write;
  write.stop = options.stop;
  auto writer = NewDataWriter(env_->store, prefix_, fields, StatFields(head->schema), write);
  return std::unique_ptr<Appender>(
      std::make_unique<TableAppender>(this, options, std::move(fields), std::move(writer), repeated));
}

Result<CommitResult> Table::Append(arrow::RecordBatchReader* rows, const CommitOptions& options) {
  HEADRACE_ASSIGN(const auto appender, StartAppend(rows->schema()->field_names(), options));
  for (;;) {
    HEADRACE_TRY(options.stop.Check());
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(rows->ReadNext(&batch));
    if (!batch) break;
    const Status written = appender->Write(*batch);
    if (!written.ok()) return written.Wrap("cannot append to '" + name_ + "'");
  }
  return appender->Commit();
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
