// The errors table: what could not be ingested.
#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <set>

#include "base/clock.h"
#include "base/hash.h"
#include "ingest/items.h"
#include "ingest/run_state.h"
#include "table/arrow_bridge.h"

namespace headrace::ingest {
namespace {

using table::Field;
using table::Kind;

table::Schema ErrorSchema() {
  table::Schema schema;
  for (const char* name : {"path", "error", "code"}) {
    Field field;
    field.name = name;
    field.type.kind = Kind::kString;
    schema.fields.push_back(field);
  }
  Field time;
  time.name = "time";
  time.type.kind = Kind::kTimestamp;
  time.type.zone = "UTC";
  schema.fields.push_back(time);
  return schema;
}

// An error's identity: its file (and line) and message.
table::TakenItem ItemOf(const IngestError& error) {
  const std::string words = error.error.ToString();
  table::TakenItem item;
  item.source = "error:" + error.source + '\0' + error.path + '\0' + Hex64(Xxh3(words));
  item.bytes = static_cast<int64_t>(words.size());
  item.content = Xxh3(words);
  return item;
}

Status WriteOnce(table::Table* table, const RunState& run) {
  HEADRACE_ASSIGN(const auto known, table->TakenIn());
  HEADRACE_ASSIGN(const auto appender, table->StartAppend({"path", "error", "code", "time"}, run.commit));
  arrow::StringBuilder path, error, code;
  arrow::TimestampBuilder when(arrow::timestamp(arrow::TimeUnit::MICRO, "UTC"), arrow::default_memory_pool());
  std::set<std::string> seen;
  for (const auto& row : run.report.errors) {
    auto item = ItemOf(row);
    if (known.items.contains(item.source) || !seen.insert(item.source).second) continue;
    appender->Take(std::move(item));
    HEADRACE_ARROW_TRY(path.Append(TextOfName(row.path)));
    HEADRACE_ARROW_TRY(error.Append(TextOfName(row.error.ToString())));
    HEADRACE_ARROW_TRY(code.Append(CodeName(row.error.code())));
    HEADRACE_ARROW_TRY(when.Append(NowMicros()));
  }
  if (path.length() == 0) return Status::Ok();
  HEADRACE_ARROW_ASSIGN(const auto paths, path.Finish());
  HEADRACE_ARROW_ASSIGN(const auto errors, error.Finish());
  HEADRACE_ARROW_ASSIGN(const auto codes, code.Finish());
  HEADRACE_ARROW_ASSIGN(const auto times, when.Finish());
  const auto batch =
      arrow::RecordBatch::Make(ErrorSchema().ToArrow(), paths->length(), {paths, errors, codes, times});
  HEADRACE_TRY(appender->Write(*batch));
  return appender->Commit().status();
}

}  // namespace

Status WriteErrors(RunState* run) {
  run->report.errors_table = run->options.table + "_errors";
  HEADRACE_ASSIGN(const auto table,
                  run->catalog->OpenOrCreateTable(run->report.errors_table, ErrorSchema(), run->commit));
  for (int tries = 1;; ++tries) {
    const Status written = WriteOnce(table.get(), *run);
    if (!written.Is(Code::kConflict) || tries == kMaxRedone) return written;
  }
}

}  // namespace headrace::ingest
