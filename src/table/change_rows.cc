// Rows deleted and changed, and versions restored.
#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>

#include "base/limits.h"
#include "table/arrow_bridge.h"
#include "table/change_rows.h"
#include "table/row_updater.h"
#include "table/settle.h"
#include "table/table.h"

namespace headrace::table {

Result<std::vector<Field>> FieldsOfFilter(const Schema& schema, const std::string& where) {
  std::vector<Field> fields;
  if (where.empty()) return fields;
  HEADRACE_ASSIGN(const ExprPtr parsed, ParseExpr(where));
  HEADRACE_ASSIGN(const ExprPtr filter, BindFilter(parsed, schema));
  const std::function<Status(const Expr&)> collect = [&](const Expr& expr) -> Status {
    if (expr.op == ExprOp::kColumn) {
      HEADRACE_ASSIGN(const auto projection, ProjectPath(schema, "", expr.path));
      AddField(schema, projection.top.id, &fields);
    }
    for (const auto& arg : expr.args) HEADRACE_TRY(collect(*arg));
    return Status::Ok();
  };
  HEADRACE_TRY(collect(*filter));
  return fields;
}

void AddField(const Schema& schema, int32_t id, std::vector<Field>* fields) {
  const Field* field = schema.FindId(id);
  const bool there =
      std::any_of(fields->begin(), fields->end(), [&](const Field& known) { return known.id == id; });
  if (field != nullptr && !there) fields->push_back(*field);
}

std::vector<int32_t> IdsOf(const std::vector<Field>& fields) {
  std::vector<int32_t> ids;
  for (const auto& field : fields) ids.push_back(field.id);
  return ids;
}

Result<RowSets> SelectRows(const View& view, const RowFilter& rows, const StopToken& stop) {
  if (rows.ids) return view.SelectIds(*rows.ids);
  if (rows.where.empty()) {
    return Status::Invalid("say which rows: a filter ('true' for every row) or row ids");
  }
  return view.Select(rows.where, stop);
}

namespace {

int64_t Count(const RowSets& sets) {
  int64_t count = 0;
  for (const auto& set : sets) count += set == nullptr ? 0 : set->count();
  return count;
}

}  // namespace

Result<CommitResult> Table::CommitAgain(const CommitOptions& options,
                                        const std::function<Result<CommitResult>(const View&)>& attempt) {
  for (int64_t tries = 0;; ++tries) {
    HEADRACE_TRY(options.stop.Check());
    HEADRACE_ASSIGN(const View view, At());
    if (const auto version = FindCommitted(view.snapshot(), ClaimOf(options))) {
      return CommitResult{.version = *version, .repeated = true};
    }
    auto done = attempt(view);
    if (!done.status().Is(Code::kConflict) || tries + 1 == limits::kMaxRecomputes) return done;
    Backoff(tries);
  }
}

Result<CommitResult> Table::Delete(const RowFilter& rows, const CommitOptions& options, bool erase) {
  return CommitAgain(options, [&](const View& view) -> Result<CommitResult> {
    HEADRACE_ASSIGN(const auto selected, SelectRows(view, rows, options.stop));
    CommitResult result{.version = view.snapshot().version};
    if (Count(selected) == 0) return result;
    HEADRACE_ASSIGN(const auto fragments, view.Fragments());
    Change change{DeleteRows{}, MakeOperation(options), ClaimOf(options), {}};
    HEADRACE_ASSIGN(change.fields_used, FieldsOfFilter(view.schema(), rows.where));
    auto& deletes = std::get<DeleteRows>(change.what);
    deletes.erase = erase;
    for (size_t i = 0; i < selected.size(); ++i) {
      if (selected[i] == nullptr) continue;
      deletes.rows.push_back({(*fragments)[i], selected[i]});
      change.values_used.push_back({(*fragments)[i], selected[i], IdsOf(change.fields_used)});
    }
    change.operation.fragments = static_cast<int64_t>(deletes.rows.size());
    HEADRACE_ASSIGN(const Committed committed, log_->Commit(change, options.stop));
    result.version = committed.version;
    result.repeated = committed.repeated;
    result.rows = committed.snapshot->operation.rows;
    result.fragments = change.operation.fragments;
    return result;
  });
}

// The rows of one update, and how their values come.
struct Table::UpdatePlan {
  View view;
  RowSets selected;
  std::vector<Projection> inputs;
  std::shared_ptr<arrow::Schema> schema;  // of the inputs
  std::vector<Field> fields;              // that change
};

Result<Table::UpdatePlan> Table::PlanUpdate(const View& view, const RowFilter& rows,
                                            const std::vector<std::string>& inputs,
                                            const std::vector<std::string>& columns,
                                            const StopToken& stop) const {
  UpdatePlan plan{view, {}, {}, {}, {}};
  for (const auto& name : columns) {
    HEADRACE_ASSIGN(const Field* field, view.schema().Get(name));
    AddField(view.schema(), field->id, &plan.fields);
  }
  if (plan.fields.empty()) return Status::Invalid("there are no columns to change");
  const std::vector<std::string> read =
      inputs.empty() ? std::vector<std::string>{std::string(kRowIdColumn)} : inputs;
  HEADRACE_ASSIGN(plan.inputs, ProjectColumns(view.schema(), read));
  plan.schema = table::ToArrow(plan.inputs);
  HEADRACE_ASSIGN(plan.selected, SelectRows(view, rows, stop));
  return plan;
}

Status Table::WriteUpdate(const UpdatePlan& plan, const BatchFn& fn, const CommitOptions& options,
                          RowUpdater* updater) const {
  HEADRACE_ASSIGN(const auto fragments, plan.view.Fragments());
  const int64_t total = Count(plan.selected);
  for (size_t i = 0; i < plan.selected.size(); ++i) {
    if (plan.selected[i] == nullptr) continue;
    const Fragment& fragment = (*fragments)[i];
    const auto values = [&](size_t,
                            const std::vector<int64_t>& rows) -> Result<std::shared_ptr<arrow::RecordBatch>> {
      HEADRACE_TRY(options.stop.Check());
      arrow::ArrayVector arrays;
      for (const auto& column : plan.inputs) {
        HEADRACE_ASSIGN(auto array, plan.view.reader().Read(fragment, column, Rows::Picks(rows)));
        arrays.push_back(std::move(array));
      }
      return fn(arrow::RecordBatch::Make(plan.schema, static_cast<int64_t>(rows.size()), std::move(arrays)));
    };
    HEADRACE_TRY(updater->Add(fragment, plan.selected[i], values));
    if (options.progress) options.progress({"updating rows", updater->rows(), total, updater->bytes(), 0});
  }
  return Status::Ok();
}

Result<CommitResult> Table::Update(const RowFilter& rows, const std::vector<std::string>& inputs,
                                   const std::vector<std::string>& columns, const BatchFn& fn,
                                   const CommitOptions& options) {
  return CommitAgain(options, [&](const View& view) -> Result<CommitResult> {
    HEADRACE_ASSIGN(const UpdatePlan plan, PlanUpdate(view, rows, inputs, columns, options.stop));
    if (Count(plan.selected) == 0) return CommitResult{.version = view.snapshot().version};
    Change change{UpdateRows{}, MakeOperation(options), ClaimOf(options), {}};
    change.base = view.snapshot().version;
    HEADRACE_ASSIGN(change.fields_used, FieldsOfFilter(view.schema(), rows.where));
    for (const auto& input : plan.inputs) AddField(view.schema(), input.top.id, &change.fields_used);
    for (const auto& field : plan.fields) {
      AddField(view.schema(), field.id, &change.fields_used);
      change.operation.columns.push_back(field.name);
      change.operation.field_ids.push_back(field.id);
    }
    RowUpdater updater(view, plan.fields, options.write);
    const Status written = WriteUpdate(plan, fn, options, &updater);
    change.values_used = updater.used(IdsOf(change.fields_used));
    if (!written.ok()) {
      updater.Discard();
      return written.Wrap("cannot update '" + name_ + "'");
    }
    return CommitUpdate(std::move(change), &updater, options);
  });
}

Result<CommitResult> Table::CommitUpdate(Change change, RowUpdater* updater, const CommitOptions& options) {
  auto entries = updater->Finish();
  if (!entries.ok()) {
    updater->Discard();
    return entries.status();
  }
  CommitResult result;
  result.rows = updater->rows();
  result.bytes = updater->bytes();
  result.fragments = static_cast<int64_t>(entries->size());
  change.operation.rows = result.rows;
  change.operation.bytes = result.bytes;
  change.operation.fragments = result.fragments;
  std::get<UpdateRows>(change.what).entries = std::move(entries).value();
  Attempt attempt;
  const auto committed = log_->Commit(change, options.stop, &attempt);
  if (!committed.ok() && attempt.unsettled == 0) updater->Discard();
  if (!committed.ok()) return committed.status();
  if (committed->repeated) updater->Discard();
  result.version = committed->version;
  result.repeated = committed->repeated;
  return result;
}

Result<CommitResult> Table::Restore(const std::string& version, const CommitOptions& options) {
  HEADRACE_ASSIGN(const View then, At(version));
  Operation operation = MakeOperation(options);
  operation.columns = {"v" + std::to_string(then.snapshot().version)};
  return CommitSmall(
      {RestoreVersion{std::make_shared<const Snapshot>(then.snapshot())}, std::move(operation), {}, {}},
      options);
}

}  // namespace headrace::table
