// DuckDB's table function over our scans: headrace_scan('photos@v3').
#pragma once

#include <duckdb.hpp>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "query/query.h"

namespace headrace::query {

// What the running statement has resolved and read. Shared by the engine and its scans.
class Session {
 public:
  explicit Session(std::shared_ptr<table::Catalog> catalog) : catalog_(std::move(catalog)) {}

  void Begin(StopToken stop);
  // The view of a name: the same one for the whole statement.
  Result<std::shared_ptr<table::View>> Resolve(const std::string& name);
  StopToken stop() const { return stop_; }
  // What ended the statement here. DuckDB passes on the text alone: the code would be lost.
  void Fail(const Status& status);
  // The failure that `text`, an error of DuckDB's, tells; Ok if it is DuckDB's own.
  Status FailureIn(const std::string& text) const;
  // The DuckDB table that holds this table's tail, "" for none.
  std::string TailOf(const std::string& name) const;
  void SetTail(const std::string& name, const std::string& holder);
  // The SELECT of a view, with the schema or without; "" where there is none of this name.
  std::string ViewOf(const std::string& name) const;
  void SetView(const std::string& name, const std::string& select);

  struct Scan {
    std::string table;
    std::shared_ptr<table::View> view;
    table::ScanStats planned;
    std::atomic<int64_t> rows{0};
  };
  std::shared_ptr<Scan> AddScan(const std::string& table, std::shared_ptr<table::View> view,
                                const table::ScanStats& planned);
  // Corrupt where a file was cut off since the query began: its rows may be zeros.
  Status CheckFiles() const;
  std::vector<std::string> inputs() const;
  std::vector<ScanReport> reports() const;
  const std::shared_ptr<table::Catalog>& catalog() const { return catalog_; }

 private:
  struct Resolved {
    std::string name;
    std::string label;  // "photos@7"
    std::shared_ptr<table::View> view;
  };
  std::shared_ptr<table::Catalog> catalog_;
  mutable std::mutex mutex_;
  StopToken stop_;
  Status failed_;
  int64_t tears_ = 0;  // MappedFile::tears when the query began
  std::vector<Resolved> resolved_;
  std::map<std::string, std::string> tails_;
  std::map<std::string, std::string> views_;  // by the name without the schema
  std::vector<std::shared_ptr<Scan>> scans_;
};

// Registers the scan function, and the replacement scan that sends unknown table names to it.
void RegisterScan(duckdb::Connection* connection, std::shared_ptr<Session> session);
void AddReplacementScan(duckdb::DBConfig* config, std::shared_ptr<Session> session);

}  // namespace headrace::query
