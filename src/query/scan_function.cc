#include "query/scan_function.h"

#include <arrow/c/bridge.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <duckdb/catalog/catalog.hpp>
#include <duckdb/common/string_util.hpp>
#include <duckdb/function/replacement_scan.hpp>
#include <duckdb/function/table/arrow.hpp>
#include <duckdb/parser/expression/constant_expression.hpp>
#include <duckdb/parser/expression/function_expression.hpp>
#include <duckdb/parser/parsed_data/create_table_function_info.hpp>
#include <duckdb/parser/parser.hpp>
#include <duckdb/parser/statement/select_statement.hpp>
#include <duckdb/parser/tableref/subqueryref.hpp>
#include <duckdb/parser/tableref/table_function_ref.hpp>
#include <duckdb/planner/operator/logical_get.hpp>
#include <set>

#include "base/mapped_file.h"
#include "query/filters.h"
#include "query/widen.h"
#include "table/catalog.h"

namespace headrace::query {
namespace {

using table::View;

[[noreturn]] void Throw(Session* session, const Status& status) {
  session->Fail(status);
  if (status.Is(Code::kCancelled)) throw duckdb::InterruptException();
  throw duckdb::InvalidInputException(status.ToString());
}

struct FunctionInfo : public duckdb::TableFunctionInfo {
  explicit FunctionInfo(std::shared_ptr<Session> s) : session(std::move(s)) {}
  std::shared_ptr<Session> session;
};

struct BindData : public duckdb::TableFunctionData {
  std::shared_ptr<Session> session;
  std::shared_ptr<View> view;
  std::string label;
  duckdb::ArrowTableSchema arrow_table;
  duckdb::ArrowSchemaWrapper schema_root;
  std::vector<std::string> names;  // of the columns; the last are _row_id and _row_place
  std::vector<table::ExprPtr> hints;
};

// These are virtual columns: selectable by name, absent from `select *`.
const duckdb::column_t kRowId = duckdb::VIRTUAL_COLUMN_START + 4242;
const duckdb::column_t kRowPlace = kRowId + 1;

size_t ColumnOf(const BindData& bind, duckdb::column_t id) {
  return id == kRowId ? bind.names.size() - 2 : id == kRowPlace ? bind.names.size() - 1 : id;
}

// The columns' names in SQL, where case makes no difference: one that is taken so gets a number.
std::vector<std::string> DistinctNames(const arrow::FieldVector& fields) {
  std::set<std::string> given, used;
  for (const auto& field : fields) given.insert(duckdb::StringUtil::Lower(field->name()));
  std::vector<std::string> names;
  for (const auto& field : fields) {
    std::string name = field->name();
    for (int k = 1; used.contains(duckdb::StringUtil::Lower(name)); ++k) {
      const std::string other = field->name() + "_" + std::to_string(k);
      if (!given.contains(duckdb::StringUtil::Lower(other))) name = other;
    }
    used.insert(duckdb::StringUtil::Lower(name));
    names.push_back(std::move(name));
  }
  return names;
}

duckdb::unique_ptr<duckdb::FunctionData> Bind(duckdb::ClientContext& context,
                                              duckdb::TableFunctionBindInput& input,
                                              duckdb::vector<duckdb::LogicalType>& types,
                                              duckdb::vector<std::string>& names) {
  auto bind = duckdb::make_uniq<BindData>();
  bind->session = input.info->Cast<FunctionInfo>().session;
  const std::string name = input.inputs[0].GetValue<std::string>();
  auto view = bind->session->Resolve(name);
  if (!view.ok()) Throw(bind->session.get(), view.status());
  bind->view = *view;
  bind->label = name.substr(0, name.rfind('@')) + "@" + std::to_string(bind->view->snapshot().version);
  arrow::FieldVector fields = bind->view->schema().ToArrow()->fields();
  for (auto& field : fields) field = Widened(*field);
  for (const auto own : {table::kRowIdColumn, table::kRowPlaceColumn})
    fields.push_back(arrow::field(std::string(own), arrow::int64()));
  const auto exported = arrow::ExportSchema(
      *arrow::schema(fields), reinterpret_cast<::ArrowSchema*>(&bind->schema_root.arrow_schema));
  if (!exported.ok()) throw duckdb::InvalidInputException(exported.ToString());
  duckdb::ArrowTableFunction::PopulateArrowTableSchema(context, bind->arrow_table,
                                                       bind->schema_root.arrow_schema);
  const auto distinct = DistinctNames(fields);
  for (size_t i = 0; i < fields.size(); ++i) {
    bind->names.push_back(fields[i]->name());
    if (i + 2 >= fields.size()) continue;
    names.push_back(distinct[i]);
    types.push_back(bind->arrow_table.GetColumns().at(i)->GetDuckType());
  }
  return bind;
}

struct GlobalState : public duckdb::GlobalTableFunctionState {
  std::shared_ptr<Session> session;
  std::shared_ptr<const table::ScanSource> source;
  std::shared_ptr<Session::Scan> scan;
  std::vector<size_t> columns;  // of the arrays that a task gives, in order
  std::atomic<size_t> next{0};
  duckdb::idx_t MaxThreads() const override { return std::max<duckdb::idx_t>(1, source->tasks()); }
};

struct LocalState : public duckdb::ArrowScanLocalState {
  explicit LocalState(duckdb::ClientContext& context)
      : ArrowScanLocalState(duckdb::make_uniq<duckdb::ArrowArrayWrapper>(), context) {}
  size_t task = 0;
};

duckdb::unique_ptr<duckdb::GlobalTableFunctionState> InitGlobal(duckdb::ClientContext&,
                                                                duckdb::TableFunctionInitInput& input) {
  const auto& bind = input.bind_data->Cast<BindData>();
  auto state = duckdb::make_uniq<GlobalState>();
  table::ScanOptions options;
  options.hints = bind.hints;
  options.stop = bind.session->stop();
  for (const auto id : input.column_ids) {
    // count(*) asks for no column: a cheap one is scanned for its row count only.
    const bool number_only = id == duckdb::COLUMN_IDENTIFIER_ROW_ID || id == duckdb::COLUMN_IDENTIFIER_EMPTY;
    const size_t column = number_only ? bind.names.size() - 1 : ColumnOf(bind, id);
    state->columns.push_back(number_only ? duckdb::COLUMN_IDENTIFIER_ROW_ID : column);
    options.columns.push_back(bind.names[column]);
  }
  if (options.columns.empty()) options.columns.push_back(bind.names.back());
  auto source = bind.view->StartScan(options);
  if (!source.ok()) Throw(bind.session.get(), source.status());
  state->session = bind.session;
  state->source = *source;
  state->scan = bind.session->AddScan(bind.label, bind.view, state->source->planned());
  return state;
}

duckdb::unique_ptr<duckdb::LocalTableFunctionState> InitLocal(duckdb::ExecutionContext& context,
                                                              duckdb::TableFunctionInitInput&,
                                                              duckdb::GlobalTableFunctionState* global) {
  auto state = duckdb::make_uniq<LocalState>(context.client);
  for (const size_t column : global->Cast<GlobalState>().columns) state->column_ids.push_back(column);
  return state;
}

bool NextBatch(const GlobalState& global, LocalState* local, std::atomic<size_t>* next) {
  for (;;) {
    const size_t task = next->fetch_add(1);
    if (task >= global.source->tasks()) return false;
    auto batch = global.source->Run(task);
    if (!batch.ok()) Throw(global.session.get(), batch.status());
    if ((*batch)->num_rows() == 0) continue;
    global.scan->rows += (*batch)->num_rows();
    batch = Widened(std::move(batch).value());
    if (!batch.ok()) Throw(global.session.get(), batch.status());
    auto chunk = duckdb::make_shared_ptr<duckdb::ArrowArrayWrapper>();
    const auto exported =
        arrow::ExportRecordBatch(**batch, reinterpret_cast<::ArrowArray*>(&chunk->arrow_array));
    if (!exported.ok()) throw duckdb::InvalidInputException(exported.ToString());
    local->Reset();
    local->chunk = std::move(chunk);
    local->chunk_offset = 0;
    local->batch_index = task;
    return true;
  }
}

void Function(duckdb::ClientContext&, duckdb::TableFunctionInput& input, duckdb::DataChunk& output) {
  const auto& bind = input.bind_data->Cast<BindData>();
  auto& global = input.global_state->Cast<GlobalState>();
  auto& local = input.local_state->Cast<LocalState>();
  if (local.chunk_offset >= static_cast<duckdb::idx_t>(local.chunk->arrow_array.length)) {
    if (!NextBatch(global, &local, &global.next)) return;
  }
  const auto rows = std::min<duckdb::idx_t>(
      STANDARD_VECTOR_SIZE, static_cast<duckdb::idx_t>(local.chunk->arrow_array.length) - local.chunk_offset);
  output.SetCardinality(rows);
  duckdb::ArrowTableFunction::ArrowToDuckDB(local, bind.arrow_table.GetColumns(), output, true);
  local.chunk_offset += rows;
}

// Keeps every filter with DuckDB, and takes what it can read of them as hints for pruning.
void TakeHints(duckdb::ClientContext&, duckdb::LogicalGet& get, duckdb::FunctionData* bind_data,
               duckdb::vector<duckdb::unique_ptr<duckdb::Expression>>& filters) {
  auto& bind = bind_data->Cast<BindData>();
  std::vector<std::string> names;
  for (const auto& id : get.GetColumnIds()) {
    const auto primary = id.GetPrimaryIndex();
    const size_t column = ColumnOf(bind, primary);
    const bool own = primary == kRowId || primary == kRowPlace;
    names.push_back(own || column < bind.names.size() - 2 ? bind.names[column] : std::string());
  }
  bind.hints.clear();
  for (const auto& filter : filters) {
    const auto translated = TranslateFilter(*filter, names);
    if (!translated) continue;
    const auto bound = table::BindFilter(translated, bind.view->schema());
    if (!bound.ok()) continue;  // not a thing that our language compares
    for (const auto& conjunct : table::Conjuncts(*bound)) bind.hints.push_back(conjunct);
  }
}

duckdb::unique_ptr<duckdb::NodeStatistics> Cardinality(duckdb::ClientContext&,
                                                       const duckdb::FunctionData* bind_data) {
  const auto rows = static_cast<duckdb::idx_t>(bind_data->Cast<BindData>().view->snapshot().rows);
  return duckdb::make_uniq<duckdb::NodeStatistics>(rows, rows);
}

duckdb::OperatorPartitionData PartitionData(duckdb::ClientContext&,
                                            duckdb::TableFunctionGetPartitionInput& input) {
  if (input.partition_info.RequiresPartitionColumns())
    throw duckdb::InternalException("scans have no partition columns");
  return duckdb::OperatorPartitionData(input.local_state->Cast<LocalState>().batch_index);
}

duckdb::virtual_column_map_t VirtualColumns(duckdb::ClientContext&,
                                            duckdb::optional_ptr<duckdb::FunctionData>) {
  duckdb::virtual_column_map_t columns;
  for (const auto& [id, name] :
       {std::pair(kRowId, table::kRowIdColumn), std::pair(kRowPlace, table::kRowPlaceColumn)})
    columns.insert({id, duckdb::TableColumn(std::string(name), duckdb::LogicalType::BIGINT)});
  columns.insert({duckdb::COLUMN_IDENTIFIER_EMPTY, duckdb::TableColumn("", duckdb::LogicalType::BOOLEAN)});
  return columns;
}

duckdb::InsertionOrderPreservingMap<std::string> Describe(duckdb::TableFunctionToStringInput& input) {
  duckdb::InsertionOrderPreservingMap<std::string> text;
  const auto& bind = input.bind_data->Cast<BindData>();
  text["Table"] = bind.label;
  std::string hints;
  for (const auto& hint : bind.hints) hints += (hints.empty() ? "" : " and ") + table::ToString(*hint);
  if (!hints.empty()) text["Pruned by"] = hints;
  return text;
}

struct ReplacementData : public duckdb::ReplacementScanData {
  explicit ReplacementData(std::shared_ptr<Session> s) : session(std::move(s)) {}
  std::shared_ptr<Session> session;
};

duckdb::unique_ptr<duckdb::TableRef> Subquery(const std::string& sql, const std::string& alias) {
  duckdb::Parser parser;
  parser.ParseQuery(sql);
  auto select = duckdb::unique_ptr_cast<duckdb::SQLStatement, duckdb::SelectStatement>(
      std::move(parser.statements.at(0)));
  auto ref = duckdb::make_uniq<duckdb::SubqueryRef>(std::move(select));
  ref->alias = alias;
  return ref;
}

duckdb::unique_ptr<duckdb::TableRef> Replace(duckdb::ClientContext&, duckdb::ReplacementScanInput& input,
                                             duckdb::optional_ptr<duckdb::ReplacementScanData> data) {
  const auto& session = static_cast<ReplacementData&>(*data).session;
  std::string name = input.table_name;
  if (!input.schema_name.empty()) name = input.schema_name + "." + name;
  const auto view = session->Resolve(name);
  if (view.status().Is(Code::kNotFound)) {
    if (const std::string select = session->ViewOf(name); !select.empty())
      return Subquery(select, input.table_name);
  }
  if (!view.ok()) {
    const bool looks_like_file = !table::IsSystemName(name) && name.find('@') == std::string::npos &&
                                 name.find_first_of("./*") != std::string::npos;
    if (view.status().Is(Code::kNotFound) && looks_like_file) return nullptr;  // DuckDB reads files itself
    Throw(session.get(), view.status());
  }
  if (const std::string tail = session->TailOf(name); !tail.empty()) {
    return Subquery("select * from headrace_scan('" + name + "') union all by name select * from " + tail,
                    input.table_name);
  }
  auto ref = duckdb::make_uniq<duckdb::TableFunctionRef>();
  duckdb::vector<duckdb::unique_ptr<duckdb::ParsedExpression>> arguments;
  arguments.push_back(duckdb::make_uniq<duckdb::ConstantExpression>(duckdb::Value(name)));
  ref->function = duckdb::make_uniq<duckdb::FunctionExpression>("headrace_scan", std::move(arguments));
  ref->alias = input.table_name.substr(0, input.table_name.rfind('@'));
  return ref;
}

}  // namespace

void Session::Begin(StopToken stop) {
  const std::lock_guard lock(mutex_);
  stop_ = std::move(stop);
  failed_ = Status::Ok();
  tears_ = MappedFile::tears();
  resolved_.clear();
  scans_.clear();
  tails_.clear();
  views_.clear();
}

void Session::Fail(const Status& status) {
  const std::lock_guard lock(mutex_);
  if (failed_.ok()) failed_ = status;
}

Status Session::CheckFiles() const {
  const std::lock_guard lock(mutex_);
  for (const auto& scan : scans_) {
    HEADRACE_TRY(MappedFile::CheckSince(tears_, scan->view->prefix()));
    HEADRACE_TRY(scan->view->reader().CheckViews());
  }
  return Status::Ok();
}

Status Session::FailureIn(const std::string& text) const {
  const std::lock_guard lock(mutex_);
  return !failed_.ok() && text.find(failed_.ToString()) != std::string::npos ? failed_ : Status::Ok();
}

std::string Session::TailOf(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = tails_.find(name);
  return found == tails_.end() ? "" : found->second;
}

void Session::SetTail(const std::string& name, const std::string& holder) {
  const std::lock_guard lock(mutex_);
  tails_[name] = holder;
}

std::string Session::ViewOf(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = views_.find(table::IsSystemName(name) ? name.substr(table::kSystemSchema.size()) : name);
  return found == views_.end() ? "" : found->second;
}

void Session::SetView(const std::string& name, const std::string& select) {
  const std::lock_guard lock(mutex_);
  views_[name] = select;
}

Result<std::shared_ptr<View>> Session::Resolve(const std::string& name) {
  const std::lock_guard lock(mutex_);
  for (const auto& known : resolved_) {
    if (known.name == name) return known.view;
  }
  HEADRACE_ASSIGN(View view, catalog_->Resolve(name));
  Resolved resolved{name, name.substr(0, name.rfind('@')) + "@" + std::to_string(view.snapshot().version),
                    std::make_shared<View>(std::move(view))};
  resolved_.push_back(resolved);
  return resolved.view;
}

std::shared_ptr<Session::Scan> Session::AddScan(const std::string& table, std::shared_ptr<View> view,
                                                const table::ScanStats& planned) {
  auto scan = std::make_shared<Scan>();
  scan->table = table;
  scan->view = std::move(view);
  scan->planned = planned;
  const std::lock_guard lock(mutex_);
  scans_.push_back(scan);
  return scan;
}

std::vector<std::string> Session::inputs() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> inputs;
  for (const auto& resolved : resolved_) inputs.push_back(resolved.label);
  return inputs;
}

std::vector<ScanReport> Session::reports() const {
  const std::lock_guard lock(mutex_);
  std::vector<ScanReport> reports;
  for (const auto& scan : scans_)
    reports.push_back({scan->table, scan->planned, scan->rows.load(), scan->view->reader().bytes_read()});
  return reports;
}

void RegisterScan(duckdb::Connection* connection, std::shared_ptr<Session> session) {
  duckdb::TableFunction function("headrace_scan", {duckdb::LogicalType::VARCHAR}, Function, Bind, InitGlobal,
                                 InitLocal);
  function.projection_pushdown = true;
  function.filter_pushdown = false;
  function.pushdown_complex_filter = TakeHints;
  function.cardinality = Cardinality;
  function.get_partition_data = PartitionData;
  function.get_virtual_columns = VirtualColumns;
  function.to_string = Describe;
  function.function_info = duckdb::make_shared_ptr<FunctionInfo>(std::move(session));
  duckdb::CreateTableFunctionInfo info(function);
  auto& context = *connection->context;
  context.RunFunctionInTransaction([&] {
    auto& catalog = duckdb::Catalog::GetSystemCatalog(context);
    catalog.CreateTableFunction(context, info);
  });
}

void AddReplacementScan(duckdb::DBConfig* config, std::shared_ptr<Session> session) {
  config->replacement_scans.emplace_back(Replace, duckdb::make_uniq<ReplacementData>(std::move(session)));
}

}  // namespace headrace::query
