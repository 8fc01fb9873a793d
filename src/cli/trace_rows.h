// trace_rows: the spans of traces, read by SQL from the table and this machine's spools.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "query/query.h"
#include "table/catalog.h"
#include "trace/span_tree.h"

namespace headrace::cli {

// Rows with these columns: trace, id, span_id, parent, name, kind, operation, service, model, finish, error
// (texts), started, ended (microseconds since 1970), prompt_tokens, answer_tokens (integers), cost,
// queue_seconds, prefill_seconds, decode_seconds, first_token_seconds (numbers); with `details` the columns
// that hold texts, too. What a table lacks, which an earlier program made, is null.
class TraceRows {
 public:
  size_t size() const { return rows_.size(); }
  std::string Text(size_t row, const char* column) const;  // "" for null
  int64_t Integer(size_t row, const char* column) const;   // -1 for null
  double Number(size_t row, const char* column) const;     // -1 for null
  bool IsNull(size_t row, const char* column) const;
  trace::SpanFacts Facts(size_t row) const;

 private:
  friend class TraceReader;
  std::vector<std::pair<std::shared_ptr<arrow::RecordBatch>, int64_t>> rows_;
};

struct Picture {
  std::string type, bytes;
};

class TraceReader {
 public:
  // NotFound: nothing was recorded in this catalog.
  static Result<TraceReader> Open(const std::shared_ptr<table::Catalog>& catalog);
  // The trace that a person names: its id or that of one of its rows, the beginning of one (6 characters or
  // more), "@last". NotFound; Invalid: several begin so.
  Result<std::string> Find(const std::string& told);
  // The newest traces that have a span for which `where` (SQL; "": any) holds, newest first.
  Result<std::vector<std::string>> Newest(const std::string& where, int64_t limit);
  // All spans of the trace.
  Result<TraceRows> Read(const std::string& trace, bool details);
  // The pictures that were cut out of their texts, by sha256; so many bytes at most in all.
  Result<std::map<std::string, Picture>> Pictures(const TraceRows& rows, size_t most) const;

 private:
  Result<std::vector<std::string>> Ids(const std::string& rest, const std::optional<std::string>& param);
  std::string Column(const char* name, const char* type) const;

  std::shared_ptr<table::Catalog> catalog_;
  std::unique_ptr<query::SqlEngine> engine_;
  std::string table_;  // as SQL names it
  std::vector<std::string> columns_;
};

// The columns of `details`, in the order in which a page shows them.
inline constexpr const char* kDetails[] = {"input",    "prompt",   "reasoning",  "answer",  "tool_calls",
                                           "sampling", "why",      "attributes", "events",  "links",
                                           "resource", "media",    "provider",   "session", "user",
                                           "endpoint", "key_name", "client"};

}  // namespace headrace::cli
