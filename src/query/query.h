// query: SQL over tables, by DuckDB. Begin here.
//
//   HEADRACE_ASSIGN(auto engine, SqlEngine::Open(catalog));
//   HEADRACE_ASSIGN(auto rows, engine->Query("select lang, avg(image.width) from photos group by lang", {}));
//
// Any name that DuckDB does not know is looked up in the catalog: photos, "photos@v3", "photos@golden", a
// ref. Columns and filters reach our files; vectors are FLOAT[n], blobs are structs of facts. `_row_id` can
// be selected from every table. One query sees one version of each table. DuckDB never loads or fetches
// extensions here, and a statement reaches no files but the catalog's unless SqlEngineOptions::files says so.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/cancel.h"
#include "table/catalog.h"

namespace headrace::query {

// What a statement's $name or, under the names "1", "2", …, its ? stand for.
struct Param {
  std::string name;
  table::Value value;
};

struct QueryOptions {
  StopToken stop;
  std::vector<Param> params;
};

// What one scan of a table read.
struct ScanReport {
  std::string table;  // "photos@7"
  table::ScanStats planned;
  int64_t rows = 0;   // handed to DuckDB
  int64_t bytes = 0;  // of pages and tensors
};

// Rows that a table has beyond its newest version `view` (a server's spools). Conflict: there is a newer one.
using TailFn = std::function<Result<std::shared_ptr<arrow::RecordBatch>>(const std::string& table,
                                                                         const table::View& view)>;
// The SELECT that a view stands for. Asked when a statement names the view.
using ViewFn = std::function<Result<std::string>(const std::string& view)>;

struct SqlEngineOptions {
  int threads = 0;           // 0: one per hardware thread
  std::string memory_limit;  // "4GB"; empty: DuckDB's default, 80 % of memory
  std::string temp_folder;   // for results larger than memory; empty: the system's
  // Statements may read and write files and attach databases. Never for untrusted statements.
  bool files = false;
  // Tables with a tail, and what gives it: a statement that reads their newest version reads it too.
  std::vector<std::string> tailed;
  TailFn tail;
  // Views, and what gives their text: `name` and `hr.name` mean one where the catalog has nothing of that
  // name.
  std::vector<std::string> views;
  ViewFn view;
};

class SqlEngine {
 public:
  virtual ~SqlEngine() = default;
  static Result<std::unique_ptr<SqlEngine>> Open(std::shared_ptr<table::Catalog> catalog,
                                                 const SqlEngineOptions& options = {});

  // Runs one statement; rows stream while it runs. One query at a time: the next ends the last. Columns of
  // one name are told apart as DuckDB does: id, id_1.
  virtual Result<std::shared_ptr<arrow::RecordBatchReader>> Query(const std::string& sql,
                                                                  const QueryOptions& options) = 0;
  // Writes the result of a SELECT to a file: format "csv", "json" (one object a line) or "parquet". Rows
  // written.
  virtual Result<int64_t> CopyTo(const std::string& sql, const std::string& path, const std::string& format,
                                 const QueryOptions& options) = 0;
  // Runs the statement and tells what it did: DuckDB's operators with times, then our scans.
  virtual Result<std::string> Explain(const std::string& sql, const QueryOptions& options) = 0;
  // The tables of the last statement, as "photos@7".
  virtual std::vector<std::string> inputs() const = 0;
  virtual std::vector<ScanReport> scans() const = 0;
};

// A query's rows as a new table, its inputs and text as lineage. Sums of integers (HUGEINT) become int64
// where they fit.
Result<table::CommitResult> QueryInto(table::Catalog* catalog, SqlEngine* engine, const std::string& sql,
                                      const std::string& table, const table::CommitOptions& options,
                                      std::vector<Param> params = {});

// Columns that expressions make of a table's rows (`image.width * image.height as pixels`), added to it.
Result<table::CommitResult> AddColumns(table::Catalog* catalog, SqlEngine* engine,
                                       const std::string& expressions, const std::string& table,
                                       const table::CommitOptions& options);

// New values for a column: an SQL expression over the table's columns.
struct Assignment {
  std::string column;
  std::string expression;
};
// Gives the rows that pass the filter (empty: every row) new values. The expressions are SQL, the filter is
// one of docs/guide/expressions.md, which means the same in both.
Result<table::CommitResult> Update(table::Catalog* catalog, SqlEngine* engine,
                                   const std::vector<Assignment>& set, const std::string& where,
                                   const std::string& table, const table::CommitOptions& options);

}  // namespace headrace::query
