#include "trace/tail.h"

#include <arrow/record_batch.h>

#include <algorithm>

#include "base/file.h"
#include "store/object_store.h"
#include "table/arrow_bridge.h"
#include "trace/committer.h"
#include "trace/live.h"
#include "trace/repeats.h"
#include "trace/tables.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

// The last note whose rows the view has.
int64_t NotesOf(const table::View& view, const std::string& table, const Note& note) {
  const int64_t last = LastSequence(view, note.committer);
  const auto since = note.since.find(table);
  const bool forgotten = view.snapshot().writers_forgotten > (since == note.since.end() ? 0 : since->second);
  return last < 0 && forgotten && note.finished ? note.number : last;
}

// Whether records of a kind have a part in the rows of a table. What a run's metrics are at last is in its
// own row.
bool HasPart(Kind kind, size_t table) {
  const KindFacts* facts = FindKind(kind);
  if (facts == nullptr || facts->table == table) return true;
  if (facts->role == Role::kSpans) return table == FindTable(kMedia);
  return table == FindTable(kRuns) && facts->table == FindTable(kMetrics);
}

// Rows of one folder that no version up to `view` has.
Status FolderTail(const std::string& folder, size_t table, const Note& note, const table::View& view,
                  std::vector<json>* wanted) {
  const std::string writer = WriterOf(folder);
  const int64_t notes = NotesOf(view, SpoolTables()[table].name, note);
  const int64_t older = LastSequence(view, writer);  // of version 1
  const int64_t done = std::max(note.Taken(writer, notes).sequence(), older);
  // Before its records are read: a writer that is dead by now has written all of them.
  const bool alive = IsAlive(ParentFolder(folder), writer);
  const auto stays = Takeover::Try(folder);  // while it is read here
  Replay replay(writer);
  if (table != FindTable(kMetrics)) replay.WithoutPoints();
  Rows rows = NoRows();
  const auto take = [&] {
    std::move(rows[table].begin(), rows[table].end(), std::back_inserter(*wanted));
    rows = NoRows();
  };
  HEADRACE_ASSIGN(const ReadReport report, ReadSpool(folder, {}, [&](const Record& record) {
                    if (!HasPart(record.kind, table)) return Status::Ok();
                    replay.Take(record, &rows);
                    if (record.end.sequence() > done) {
                      take();
                    } else {
                      rows = NoRows();
                      replay.DropPoints();
                    }
                    return Status::Ok();
                  }));
  replay.Flush(&rows);
  take();
  if (note.TookInterrupted(writer, notes) || older > report.end.sequence()) return Status::Ok();
  if (alive) {
    replay.AddRunning(&rows);
  } else {
    replay.AddInterrupted(&rows);
  }
  take();
  return Status::Ok();
}

Status AllTails(const table::Catalog& catalog, size_t table, const table::View& view,
                std::vector<json>* rows) {
  const std::string root = SpoolRoot(catalog);
  // After the view: a note that it has was written before it.
  HEADRACE_ASSIGN(const Note note, ReadNote(root));
  for (const std::string& folder : SpoolFolders(root))
    HEADRACE_TRY(FolderTail(folder, table, note, view, rows));
  return Status::Ok();
}

}  // namespace

namespace {

Result<std::shared_ptr<arrow::RecordBatch>> TailFrom(const table::Catalog& catalog, const std::string& name,
                                                     const table::View& view, bool others_too) {
  const bool whole = table::IsSystemName(name);
  const std::string plain = whole ? name.substr(table::kSystemSchema.size()) : name;
  const size_t table = FindTable(plain.c_str());
  if (table == SpoolTables().size()) return Status::Invalid("'" + name + "' has no tail");
  std::vector<json> rows;
  HEADRACE_ASSIGN(const auto ours, Newest(catalog, plain.c_str()));
  if (!ours || ours->prefix() != view.prefix()) return ToBatch(SpoolTables()[table].columns(), rows);
  const Status read = AllTails(catalog, table, view, &rows);
  arrow::RecordBatchVector parts;
  if (others_too && !catalog.environment()->store->is_local()) {
    HEADRACE_ASSIGN(const Note note, ReadNote(SpoolRoot(catalog)));
    HEADRACE_ASSIGN(parts, LiveRows(catalog, table, view, note.committer));
  }
  // What was committed meanwhile may be gone from the spools, and is not in this version.
  HEADRACE_ASSIGN(const auto opened, catalog.OpenTable(name));
  HEADRACE_ASSIGN(const table::View now, opened->At());
  if (now.snapshot().version != view.snapshot().version)
    return Status::Conflict("'" + name + "' has a newer version now");
  HEADRACE_TRY(read);
  if (plain == kTraces) HEADRACE_TRY(Repeats().Drop(view, &rows));
  HEADRACE_ASSIGN(auto local, ToBatch(SpoolTables()[table].columns(), rows));
  if (parts.empty()) return local;
  parts.push_back(std::move(local));
  HEADRACE_ARROW_ASSIGN(auto all, arrow::ConcatenateRecordBatches(parts));
  return all;
}

}  // namespace

Result<std::shared_ptr<arrow::RecordBatch>> Tail(const table::Catalog& catalog, const std::string& name,
                                                 const table::View& view) {
  return TailFrom(catalog, name, view, true);
}

Result<std::shared_ptr<arrow::RecordBatch>> LocalTail(const table::Catalog& catalog, const std::string& name,
                                                      const table::View& view) {
  return TailFrom(catalog, name, view, false);
}

std::function<Result<std::shared_ptr<arrow::RecordBatch>>(const std::string&, const table::View&)> TailOf(
    std::shared_ptr<table::Catalog> catalog) {
  return [catalog = std::move(catalog)](const std::string& name, const table::View& view) {
    return Tail(*catalog, name, view);
  };
}

std::vector<std::string> TailedTables() {
  std::vector<std::string> names;
  for (const SpoolTable& table : SpoolTables()) names.emplace_back(table.name);
  return names;
}

}  // namespace headrace::trace
