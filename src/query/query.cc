#include "query/query.h"

#include <arrow/array.h>
#include <arrow/c/bridge.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <duckdb.hpp>
#include <duckdb/common/arrow/result_arrow_wrapper.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "query/blob_export.h"
#include "query/diff_function.h"
#include "query/errors.h"
#include "query/held_rows.h"
#include "query/names.h"
#include "query/result_reader.h"
#include "query/scan_function.h"
#include "query/split_function.h"
#include "table/arrow_bridge.h"
#include "table/place_name.h"

namespace headrace::query {
namespace {

// Interrupts DuckDB when the token is stopped, and goes on doing so until the query is over: DuckDB forgets
// an interrupt that comes before the query begins.
class Interrupter {
 public:
  Interrupter(std::shared_ptr<duckdb::Connection> connection, const StopToken& stop)
      : connection_(std::move(connection)) {
    on_stop_.emplace(stop, [this] { thread_ = std::thread([this] { Run(); }); });
  }
  ~Interrupter() {
    on_stop_.reset();  // no thread begins from here on
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  Interrupter(const Interrupter&) = delete;
  Interrupter& operator=(const Interrupter&) = delete;

 private:
  void Run() {
    std::unique_lock lock(mutex_);
    while (!done_) {
      connection_->Interrupt();
      wake_.wait_for(lock, std::chrono::milliseconds(50));
    }
  }

  std::shared_ptr<duckdb::Connection> connection_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  std::thread thread_;  // once the token is stopped
  std::optional<StopCallback> on_stop_;
};

std::string Trimmed(const std::string& sql) {
  const size_t end = sql.find_last_not_of(" \t\r\n;");
  return end == std::string::npos ? "" : sql.substr(0, end + 1);
}

duckdb::Value ParamValue(const table::Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return duckdb::Value::BOOLEAN(*flag);
  if (const int64_t* whole = std::get_if<int64_t>(&value)) return duckdb::Value::BIGINT(*whole);
  if (const double* real = std::get_if<double>(&value)) return duckdb::Value::DOUBLE(*real);
  if (const auto* text = std::get_if<std::string>(&value)) return duckdb::Value(*text);
  return duckdb::Value();
}

class DuckEngine final : public SqlEngine {
 public:
  Status Start(std::shared_ptr<table::Catalog> catalog, const SqlEngineOptions& options) {
    options_ = options;
    session_ = std::make_shared<Session>(std::move(catalog));
    return Connect({});
  }

  Result<std::shared_ptr<arrow::RecordBatchReader>> Query(const std::string& sql,
                                                          const QueryOptions& options) override {
    session_->Begin(options.stop);
    auto watch = std::make_shared<Interrupter>(connection_, options.stop);
    try {
      HEADRACE_ASSIGN(const std::string statement, Readable(sql));
      HEADRACE_TRY(Prepare(statement, options.stop));
      auto result = Run(statement, options.params);
      if (result->HasError()) return FromDuckDb(result->GetErrorObject(), *session_, sql);
      const duckdb::vector<duckdb::LogicalType> types = result->types;
      auto* wrapper = new duckdb::ResultArrowArrayStreamWrapper(std::move(result), STANDARD_VECTOR_SIZE * 16);
      // The stream owns its wrapper from here on.
      HEADRACE_ARROW_ASSIGN(auto reader, arrow::ImportRecordBatchReader(
                                             reinterpret_cast<::ArrowArrayStream*>(&wrapper->stream)));
      return ReadResult(std::move(reader), types, session_, std::move(watch), options.stop);
    } catch (const std::exception& error) {
      return FromDuckDb(duckdb::ErrorData(error), *session_, sql);
    }
  }

  Result<int64_t> CopyTo(const std::string& sql, const std::string& path, const std::string& format,
                         const QueryOptions& options) override {
    const std::string how = format == "csv"    ? "format csv, header true"
                            : format == "json" ? "format json"
                                               : "format parquet";
    if (format == "parquet") {
      HEADRACE_ASSIGN(const bool ours, NeedsOurWriter(sql));
      if (ours) {
        HEADRACE_ASSIGN(const auto rows, Query(sql, options));
        return WriteParquetWithBytes(rows.get(), session_->catalog()->environment()->store.get(), path,
                                     options.stop);
      }
    }
    if (!options_.files) HEADRACE_TRY(Connect(path));
    HEADRACE_ASSIGN(const auto reader,
                    Query("copy (" + Trimmed(sql) + ") to " + Quoted(path) + " (" + how + ")", options));
    int64_t rows = 0;
    for (;;) {
      std::shared_ptr<arrow::RecordBatch> batch;
      HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
      if (!batch) return rows;
      if (batch->num_rows() > 0) rows = static_cast<const arrow::Int64Array&>(*batch->column(0)).Value(0);
    }
  }

  Result<std::string> Explain(const std::string& sql, const QueryOptions& options) override {
    HEADRACE_ASSIGN(const auto reader, Query("explain analyze " + sql, options));
    std::string text;
    for (;;) {
      std::shared_ptr<arrow::RecordBatch> batch;
      HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
      if (!batch) break;
      const auto& lines = static_cast<const arrow::StringArray&>(*batch->column(1));
      for (int64_t i = 0; i < lines.length(); ++i) text += lines.GetString(i);
    }
    text += "\n";
    for (const auto& scan : session_->reports()) {
      char line[512];
      std::snprintf(line, sizeof line,
                    "%s: %ld of %ld fragments, %ld files, %ld row groups, %ld of %ld rows, %.3f MB read of "
                    "%.3f MB in these files\n",
                    scan.table.c_str(), static_cast<long>(scan.planned.fragments),
                    static_cast<long>(scan.planned.fragments_total), static_cast<long>(scan.planned.files),
                    static_cast<long>(scan.planned.row_groups), static_cast<long>(scan.rows),
                    static_cast<long>(scan.planned.rows_total), static_cast<double>(scan.bytes) / 1e6,
                    static_cast<double>(scan.planned.bytes) / 1e6);
      text += line;
    }
    return text;
  }

  std::vector<std::string> inputs() const override { return session_->inputs(); }
  std::vector<ScanReport> scans() const override { return session_->reports(); }

 private:
  // A database of its own, in memory. `writable`: a file that statements may write although files are closed
  // to them; "" for none.
  Status Connect(const std::string& writable) {
    try {
      duckdb::DBConfig config;
      config.SetOptionByName("autoinstall_known_extensions", duckdb::Value::BOOLEAN(false));
      config.SetOptionByName("autoload_known_extensions", duckdb::Value::BOOLEAN(false));
      if (options_.threads > 0) config.SetOptionByName("threads", duckdb::Value::BIGINT(options_.threads));
      if (!options_.memory_limit.empty())
        config.SetOptionByName("memory_limit", duckdb::Value(options_.memory_limit));
      if (!options_.temp_folder.empty())
        config.SetOptionByName("temp_directory", duckdb::Value(options_.temp_folder));
      AddReplacementScan(&config, session_);
      connection_.reset();
      database_ = std::make_shared<duckdb::DuckDB>(nullptr, &config);
      if (std::string(duckdb::DuckDB::LibraryVersion()) != "v1.5.6") {
        return Status::Unsupported(std::string("the DuckDB library is ") + duckdb::DuckDB::LibraryVersion() +
                                   " and its headers are v1.5.6; run ./dev setup");
      }
      connection_ = std::make_shared<duckdb::Connection>(*database_);
      RegisterScan(connection_.get(), session_);
      RegisterSplit(connection_.get());
      RegisterDiff(connection_.get(), session_);
      if (!options_.files) {
        std::vector<std::string> settings = {"set enable_external_access = false"};
        if (!writable.empty()) settings.insert(settings.begin(), "set allowed_paths = " + PathsOf(writable));
        for (const std::string& setting : settings) {
          const auto set = connection_->Query(setting);
          if (set->HasError()) return FromDuckDb(set->GetErrorObject(), *session_, "");
        }
      }
    } catch (const std::exception& error) {
      return Status::Invalid(std::string("DuckDB does not start: ") + duckdb::ErrorData(error).RawMessage());
    }
    return Status::Ok();
  }

  // DuckDB writes tmp_NAME beside the file, and renames it.
  static std::string PathsOf(const std::string& path) {
    const size_t slash = path.rfind('/');
    const size_t name = slash == std::string::npos ? 0 : slash + 1;
    return "[" + Quoted(path) + ", " + Quoted(path.substr(0, name) + "tmp_" + path.substr(name)) + "]";
  }

  static std::string Quoted(const std::string& text) {
    std::string result = "'";
    for (const char c : text) result += c == '\'' ? std::string("''") : std::string(1, c);
    return result + "'";
  }

  duckdb::unique_ptr<duckdb::QueryResult> Run(const std::string& statement,
                                              const std::vector<Param>& params) {
    if (params.empty()) return connection_->SendQuery(statement);
    auto prepared = connection_->Prepare(statement);
    if (prepared->HasError())
      return duckdb::make_uniq<duckdb::MaterializedQueryResult>(prepared->GetErrorObject());
    duckdb::case_insensitive_map_t<duckdb::BoundParameterData> values;
    for (const auto& param : params) values[param.name] = duckdb::BoundParameterData(ParamValue(param.value));
    return prepared->Execute(values, true);
  }

  // Whether the result has blobs, or intervals, which DuckDB would cut to milliseconds. Nothing runs.
  Result<bool> NeedsOurWriter(const std::string& sql) {
    try {
      HEADRACE_ASSIGN(const std::string statement, Readable(sql));
      session_->Begin({});
      HEADRACE_ASSIGN(const auto views, ViewsIn(statement));
      for (const auto& [name, select] : views) session_->SetView(name, select);
      const auto prepared = connection_->Prepare(statement);
      if (prepared->HasError()) return FromDuckDb(prepared->error, *session_, sql);
      for (const auto& type : prepared->GetTypes()) {
        if (type.id() == duckdb::LogicalTypeId::INTERVAL) return true;
        if (type.id() != duckdb::LogicalTypeId::STRUCT) continue;
        std::set<std::string> names;
        for (const auto& child : duckdb::StructType::GetChildTypes(type)) names.insert(child.first);
        const auto& fields = table::BlobFields();
        if (names.size() == fields.size() && std::all_of(fields.begin(), fields.end(), [&](const auto& f) {
              return names.contains(f.name);
            })) {
          return true;
        }
      }
    } catch (const std::exception& error) {
      return FromDuckDb(duckdb::ErrorData(error), *session_, sql);
    }
    return false;
  }

  // One statement that reads. DuckDB would make tables too, but only in this process's memory, where they
  // would be lost.
  Result<std::string> Readable(const std::string& sql) {
    auto statements = connection_->ExtractStatements(sql);
    if (statements.empty()) return Status::Invalid("the query is empty");
    if (statements.size() > 1) {
      return Status::Invalid("these are " + std::to_string(statements.size()) +
                             " statements; give one at a time");
    }
    switch (statements[0]->type) {
      case duckdb::StatementType::CREATE_STATEMENT:
      case duckdb::StatementType::INSERT_STATEMENT:
      case duckdb::StatementType::UPDATE_STATEMENT:
      case duckdb::StatementType::DELETE_STATEMENT:
      case duckdb::StatementType::ALTER_STATEMENT:
      case duckdb::StatementType::DROP_STATEMENT:
        return Status::Unsupported(
            "SQL reads tables here, it does not change them: store a query's rows with --into NAME (in "
            "Python, "
            "into=\"NAME\"), and add rows and columns with ingest, append and add_columns");
      default:
        break;
    }
    if (statements[0]->query == "SHOW TABLES" || Lower(Trimmed(sql)) == "show tables") return ShowTables();
    return sql;
  }

  static std::string Lower(std::string text) {
    for (char& c : text) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
    return text;
  }

  // The views that a statement may name, with their texts.
  Result<std::map<std::string, std::string>> ViewsIn(const std::string& sql) const {
    std::map<std::string, std::string> views;
    const std::string lower = Lower(sql);
    for (const std::string& name : options_.views) {
      if (lower.find(name) == std::string::npos) continue;
      HEADRACE_ASSIGN(views[name], options_.view(name));
    }
    return views;
  }

  // What a statement needs before it runs: its views' texts, and the tails of the tables that it or they
  // name.
  Status Prepare(const std::string& sql, const StopToken& stop) {
    HEADRACE_ASSIGN(const auto views, ViewsIn(sql));
    std::string text = sql;
    for (const auto& [name, select] : views) text += "\n" + select;
    HEADRACE_TRY(ReadTails(text, stop));
    for (const auto& [name, select] : views) session_->SetView(name, select);  // ReadTails may begin anew
    return Status::Ok();
  }

  // Tails are read before the statement runs, and lie in tables of DuckDB's own while it does.
  Status ReadTails(const std::string& sql, const StopToken& stop) {
    const std::string lower = Lower(sql);
    if (!options_.tail || lower.find(table::kRowIdColumn) != std::string::npos ||
        lower.find(table::kRowPlaceColumn) != std::string::npos)
      return Status::Ok();  // they have neither yet
    std::vector<std::string> names;
    for (const std::string& name : options_.tailed) {
      const std::string whole = std::string(table::kSystemSchema) + name;
      std::string others = lower;  // without the whole name
      for (size_t at; (at = others.find(whole)) != std::string::npos;) others.erase(at, whole.size());
      if (others.size() < lower.size()) names.push_back(whole);
      if (others.find(name) != std::string::npos) names.push_back(name);
    }
    for (int attempt = 0;; ++attempt) {
      const Status read = ReadTailsOf(names);
      if (!read.Is(Code::kConflict) || attempt == kTailAttempts) return read;
      session_->Begin(stop);  // all are resolved anew: a table has a newer version now
    }
  }

  Status ReadTailsOf(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      const auto view = session_->Resolve(name);
      if (view.status().Is(Code::kNotFound)) continue;
      HEADRACE_TRY(view.status());
      HEADRACE_ASSIGN(const auto batch, options_.tail(name, **view));
      if (batch->num_rows() == 0) continue;
      std::string holder = "headrace_tail_" + name;
      std::replace(holder.begin(), holder.end(), '.', '_');
      HEADRACE_TRY(HoldRows(connection_.get(), *session_, holder, *batch));
      session_->SetTail(name, holder);
    }
    return Status::Ok();
  }

  Result<std::string> ShowTables() {
    HEADRACE_ASSIGN(const auto names, session_->catalog()->TableNames());
    std::string list;
    for (const auto& name : names) list += (list.empty() ? "" : ", ") + Quoted(name);
    return "select unnest([" + list + "]::varchar[]) as name";
  }

  static constexpr int kTailAttempts = 20;
  SqlEngineOptions options_;
  std::shared_ptr<Session> session_;
  std::shared_ptr<duckdb::DuckDB> database_;
  std::shared_ptr<duckdb::Connection> connection_;
};

}  // namespace

Result<std::unique_ptr<SqlEngine>> SqlEngine::Open(std::shared_ptr<table::Catalog> catalog,
                                                   const SqlEngineOptions& options) {
  auto engine = std::make_unique<DuckEngine>();
  HEADRACE_TRY(engine->Start(std::move(catalog), options));
  return std::unique_ptr<SqlEngine>(std::move(engine));
}

Result<table::CommitResult> QueryInto(table::Catalog* catalog, SqlEngine* engine, const std::string& sql,
                                      const std::string& name, const table::CommitOptions& options,
                                      std::vector<Param> params) {
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);
  HEADRACE_ASSIGN(auto rows, engine->Query(sql, {options.stop, std::move(params)}));
  const auto narrowed = ForTable(std::move(rows));
  HEADRACE_ASSIGN(table::Schema schema, table::SchemaFromArrow(*narrowed->schema()));
  table::CommitOptions commit = options;
  commit.inputs = engine->inputs();
  if (commit.how.empty()) commit.how = sql;
  HEADRACE_ASSIGN(const auto table, catalog->CreateTable(name, std::move(schema), commit));
  auto appended = table->Append(narrowed.get(), commit);
  if (!appended.ok()) {
    const Status dropped = catalog->DropTable(name, commit);  // it never held a row
    (void)dropped;
  }
  return appended;
}

Result<table::CommitResult> AddColumns(table::Catalog* catalog, SqlEngine* engine,
                                       const std::string& expressions, const std::string& name,
                                       const table::CommitOptions& options) {
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable(name));
  // Values are put to rows by their order: those that the query reads must be those that are filled, whatever
  // others commit meanwhile.
  HEADRACE_ASSIGN(const table::View view, table->At());
  HEADRACE_TRY(table::CheckPlaceName(view.schema()));
  auto rows = engine->Query("select " + expressions + "\nfrom " + FromVersion(name, view.snapshot().version) +
                                " order by _row_place",
                            {options.stop, {}});
  if (rows.status().message().find("\"_row_place\" must appear in the GROUP BY") != std::string::npos)
    return Status::Invalid(
        "an aggregate gives one value, not one for each row; over all rows it is written count(*) over ()");
  HEADRACE_TRY(rows.status());
  const auto narrowed = ForTable(std::move(*rows));
  table::CommitOptions commit = options;
  commit.inputs = engine->inputs();
  return table->AddColumns(view, narrowed.get(), ColumnsNamedIn(expressions, view.schema()), commit);
}

}  // namespace headrace::query
