// JSON files as record batches.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/cancel.h"
#include "base/limits.h"
#include "base/task_pool.h"
#include "ingest/ingest.h"

namespace arrow {
class RecordBatchReader;
}

namespace headrace::ingest {

struct JsonSource {
  std::string path;
  std::string name;  // in errors
  std::string encoding;
  std::vector<table::Field> given;  // columns whose type does not come from the file's values
  TaskPool* pool = nullptr;
  StopToken stop;
  int64_t chunk_bytes = 4 << 20;
  int64_t record_bytes = limits::kMaxJsonLineBytes;
};

// Objects become rows, the others errors ("file.jsonl:17", "file.json[17]"), as do those that do not fit the
// columns given. A column of nulls alone has the null type. The file is read twice, by all of the pool's
// threads; the pool must outlive the reader.
Result<std::shared_ptr<arrow::RecordBatchReader>> OpenJson(const JsonSource& source,
                                                           std::vector<IngestError>* errors);

}  // namespace headrace::ingest
