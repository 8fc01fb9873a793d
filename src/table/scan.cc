// Scan, plan and count: a view as batches, in row-id order.
#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <deque>
#include <future>
#include <set>

#include "base/limits.h"
#include "table/arrow_bridge.h"
#include "table/replace_rows.h"
#include "table/view.h"

namespace headrace::table {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;
using BatchPtr = std::shared_ptr<arrow::RecordBatch>;

int CostOf(const Type& type) {
  if (type.kind == Kind::kString || type.kind == Kind::kBinary) return 3;
  if (type.kind >= Kind::kList) return 10;
  return 1;
}

int CostOf(const Expr& expr) {
  int cost = expr.op == ExprOp::kColumn ? CostOf(expr.field.type) : 0;
  for (const auto& arg : expr.args) cost += CostOf(*arg);
  return cost;
}

struct ScanPlan {
  View view;
  std::vector<Projection> columns;
  std::shared_ptr<arrow::Schema> schema;
  std::vector<ExprPtr> conjuncts;                    // cheapest first
  bool evaluate = true;                              // false: the conjuncts only prune
  std::map<std::string, Projection> filter_columns;  // by canonical column text
  std::shared_ptr<const std::vector<Fragment>> fragments;
  std::vector<size_t> kept;    // fragments left after pruning
  std::vector<uint8_t> whole;  // of those: the filter is true for every row
  RowSets deleted;             // of those: null where no row was
  std::map<int32_t, std::vector<std::optional<FieldStats>>>
      known;                            // statistics by leaf field, one per fragment
  std::shared_ptr<const RowSets> rows;  // null: every row
  StopToken stop;
  ScanStats stats;

  // The rows of a fragment that are meant at all; null: every one.
  const RowSet* Only(size_t fragment) const { return rows ? (*rows)[fragment].get() : nullptr; }

  Result<ArrayPtr> ReadFilterColumn(const Fragment& fragment, const Expr& column, const Rows& rows) const {
    const Projection& found = filter_columns.at(ToString(column));
    // A place of bytes is compared as it leaves the table; of a blob only whether it is null counts.
    return found.pack ? view.reader().Read(fragment, found, rows)
                      : view.reader().ReadPath(fragment, found, rows);
  }
  bool HasStats(const Field& leaf) const {
    return std::none_of(filter_columns.begin(), filter_columns.end(), [&](const auto& column) {
      return column.second.leaf.id == leaf.id && column.second.pack;
    });
  }
};

Status SelectColumns(const ScanOptions& options, ScanPlan* plan) {
  std::vector<std::string> names = options.columns;
  if (options.with_row_ids) {
    if (names.empty()) {
      for (const auto& field : plan->view.schema().fields) names.push_back(field.name);
    }
    if (std::find(names.begin(), names.end(), kRowIdColumn) == names.end()) names.emplace_back(kRowIdColumn);
  }
  HEADRACE_ASSIGN(plan->columns, ProjectColumns(plan->view.schema(), names));
  plan->schema = table::ToArrow(plan->columns);
  return Status::Ok();
}

// The filter in parts, cheapest first, and the columns that it reads.
Status SelectConjuncts(const ScanOptions& options, ScanPlan* plan) {
  const Schema& schema = plan->view.schema();
  if (!options.where.empty()) {
    HEADRACE_ASSIGN(const ExprPtr parsed, ParseExpr(options.where));
    HEADRACE_ASSIGN(const ExprPtr filter, BindFilter(parsed, schema));
    plan->conjuncts = Conjuncts(filter);
  } else {
    plan->conjuncts = options.hints;
    // Filtering twice pays only where it saves reading something expensive.
    plan->evaluate = std::any_of(plan->columns.begin(), plan->columns.end(),
                                 [](const Projection& column) { return CostOf(column.leaf.type) > 1; });
  }
  std::stable_sort(plan->conjuncts.begin(), plan->conjuncts.end(),
                   [](const ExprPtr& a, const ExprPtr& b) { return CostOf(*a) < CostOf(*b); });
  const std::function<Status(const Expr&)> collect = [&](const Expr& expr) -> Status {
    if (expr.op == ExprOp::kColumn) {
      HEADRACE_ASSIGN(plan->filter_columns[ToString(expr)], ProjectPath(schema, "", expr.path));
    }
    for (const auto& arg : expr.args) HEADRACE_TRY(collect(*arg));
    return Status::Ok();
  };
  for (const auto& conjunct : plan->conjuncts) HEADRACE_TRY(collect(*conjunct));
  return Status::Ok();
}

// What the filter may be in the rows of a fragment, by its statistics.
Outcomes OutcomesIn(const ScanPlan& plan, size_t fragment) {
  Outcomes outcomes{true, false, false};
  for (const auto& conjunct : plan.conjuncts) {
    const Outcomes part = PossibleOutcomes(*conjunct, [&](const Field& leaf) {
      const auto it = plan.known.find(leaf.id);
      return it == plan.known.end() || !plan.HasStats(leaf) ? std::nullopt : it->second[fragment];
    });
    outcomes.can_true &= part.can_true;
    outcomes.can_false |= part.can_false || part.can_null;
  }
  return outcomes;
}

// The fragments that may have rows to give.
Status SelectFragments(ScanPlan* plan) {
  for (const auto& [text, column] : plan->filter_columns) {  // statistics of a field are loaded once
    if (plan->known.contains(column.leaf.id)) continue;
    HEADRACE_ASSIGN(plan->known[column.leaf.id], plan->view.Stats(column.leaf));
  }
  std::set<int32_t> wanted;
  for (const auto& column : plan->columns) wanted.insert(column.top.id);
  for (const auto& [text, column] : plan->filter_columns) wanted.insert(column.top.id);
  for (size_t i = 0; i < plan->fragments->size(); ++i) {
    const Fragment& fragment = (*plan->fragments)[i];
    plan->stats.fragments_total += 1;
    plan->stats.rows_total += fragment.live_rows();
    const Outcomes outcomes = OutcomesIn(*plan, i);
    const RowSet* only = plan->Only(i);
    if (!outcomes.can_true || fragment.live_rows() == 0 || (only != nullptr && only->count() == 0)) continue;
    plan->kept.push_back(i);
    plan->whole.push_back(!outcomes.can_false);
    HEADRACE_ASSIGN(auto deleted, plan->view.Deleted(fragment));
    plan->deleted.push_back(std::move(deleted));
    plan->stats.fragments += 1;
    plan->stats.rows_read += fragment.live_rows();
    for (const auto& file : fragment.files) {
      const auto& fields = file.column_group->fields;
      if (std::none_of(fields.begin(), fields.end(), [&](int32_t id) { return wanted.contains(id); }))
        continue;
      plan->stats.files += 1;
      plan->stats.bytes += file.bytes;
      if (file.column_group->kind == FileKind::kParquet) {
        plan->stats.row_groups += (fragment.rows + limits::kRowGroupRows - 1) / limits::kRowGroupRows;
      }
    }
  }
  return Status::Ok();
}

Result<std::shared_ptr<ScanPlan>> MakePlan(const View& view, const ScanOptions& options, bool read_columns) {
  auto plan = std::make_shared<ScanPlan>(
      ScanPlan{view, {}, {}, {}, true, {}, {}, {}, {}, {}, {}, options.rows, options.stop, {}});
  if (read_columns) HEADRACE_TRY(SelectColumns(options, plan.get()));
  HEADRACE_TRY(SelectConjuncts(options, plan.get()));
  HEADRACE_ASSIGN(plan->fragments, view.Fragments());
  if (plan->rows && plan->rows->size() != plan->fragments->size()) {
    return Status::Invalid("there are " + std::to_string(plan->rows->size()) + " sets of rows for " +
                           std::to_string(plan->fragments->size()) + " fragments");
  }
  HEADRACE_TRY(SelectFragments(plan.get()));
  return plan;
}

struct ScanTask {
  size_t fragment = 0;
  bool whole = false;               // the filter is true for every row
  const RowSet* deleted = nullptr;  // rows of the fragment that are not there any more; null: none
  int64_t begin = 0;
  int64_t end = 0;

  int64_t CountDeleted() const { return deleted == nullptr ? 0 : deleted->Rank(end) - deleted->Rank(begin); }
  bool HasDeleted() const { return CountDeleted() > 0; }
  bool MostAreThere() const { return CountDeleted() * 2 < end - begin; }
};

// Rows a batch may have so that it holds some tens of megabytes at most.
int64_t BatchRows(const Fragment& fragment, int64_t wanted) {
  int64_t bytes = 0;
  for (const auto& file : fragment.files) bytes += file.decoded_bytes();
  const int64_t each = std::max<int64_t>(1, bytes / std::max<int64_t>(1, fragment.rows));
  const int64_t by_bytes = std::max<int64_t>(1, (64 << 20) / each);
  const int64_t rows = std::min(wanted, by_bytes);
  return rows >= limits::kPageRows ? rows / limits::kPageRows * limits::kPageRows : rows;
}

// The rows of a task that pass the filter, as offsets in the fragment; `all`, and no picks, if every row
// does.
struct Survivors {
  bool all = true;
  std::vector<int64_t> picks;
};

// Whether any of the rows [begin, end) can pass, by what the page indexes say.
Result<bool> MayPass(const ScanPlan& plan, const Fragment& fragment, size_t index, int64_t begin,
                     int64_t end) {
  for (const auto& conjunct : plan.conjuncts) {
    Status failed;
    const Outcomes outcomes =
        PossibleOutcomes(*conjunct, [&](const Field& leaf) -> std::optional<FieldStats> {
          for (const auto& [text, column] : plan.filter_columns) {
            if (column.leaf.id != leaf.id || column.pack) continue;
            auto stats = plan.view.reader().PageStats(fragment, column, begin, end);
            if (!stats.ok()) {
              failed = stats.status();
              return std::nullopt;
            }
            std::optional<FieldStats> page = *stats;
            const auto& whole = plan.known.at(leaf.id)[index];
            if (page && whole && !whole->has_nan) page->has_nan = false;  // page indexes cannot tell
            return page;
          }
          return std::nullopt;
        });
    if (!failed.ok()) return failed;
    if (!outcomes.can_true) return false;
  }
  return true;
}

// Adds the rows [begin, end) that are asked for and are there.
void AddRows(const RowSet* only, const RowSet* deleted, int64_t begin, int64_t end,
             std::vector<int64_t>* rows) {
  if (only == nullptr && deleted == nullptr) {
    for (int64_t row = begin; row < end; ++row) rows->push_back(row);
  } else if (only == nullptr) {
    deleted->AppendOthers(begin, end, rows);
  } else {
    const size_t before = rows->size();
    only->AppendRange(begin, end, rows);
    if (deleted == nullptr) return;
    rows->erase(std::remove_if(rows->begin() + static_cast<std::ptrdiff_t>(before), rows->end(),
                               [&](int64_t row) { return deleted->Contains(row); }),
                rows->end());
  }
}

// The rows that are asked for and are there, without those of pages (runs of 2,048 rows) in which none can
// pass.
Result<Survivors> PrunePages(const ScanPlan& plan, const Fragment& fragment, const ScanTask& task) {
  Survivors survivors;
  const RowSet* only = plan.Only(task.fragment);
  const RowSet* deleted = task.HasDeleted() ? task.deleted : nullptr;
  survivors.all = only == nullptr && deleted == nullptr;
  if (task.whole) {
    if (!survivors.all) AddRows(only, deleted, task.begin, task.end, &survivors.picks);
    return survivors;
  }
  for (int64_t begin = task.begin; begin < task.end;) {
    const int64_t end = std::min(task.end, (begin / limits::kPageRows + 1) * limits::kPageRows);
    HEADRACE_ASSIGN(const bool possible, MayPass(plan, fragment, task.fragment, begin, end));
    if (!possible && survivors.all) {  // from here on the rows are listed
      AddRows(nullptr, nullptr, task.begin, begin, &survivors.picks);
      survivors.all = false;
    }
    if (possible && !survivors.all) AddRows(only, deleted, begin, end, &survivors.picks);
    begin = end;
  }
  return survivors;
}

Result<Survivors> RunFilter(const ScanPlan& plan, const Fragment& fragment, const ScanTask& task) {
  HEADRACE_ASSIGN(Survivors survivors, PrunePages(plan, fragment, task));
  if (!plan.evaluate || task.whole) return survivors;
  for (const auto& conjunct : plan.conjuncts) {
    if (!survivors.all && survivors.picks.empty()) break;
    const Rows rows = survivors.all ? Rows::Range(task.begin, task.end) : Rows::Picks(survivors.picks);
    HEADRACE_ASSIGN(const auto outcomes, EvaluateFilter(*conjunct, rows.count(), [&](const Expr& column) {
                      return plan.ReadFilterColumn(fragment, column, rows);
                    }));
    std::vector<int64_t> kept;
    for (int64_t i = 0; i < rows.count(); ++i) {
      if (outcomes[static_cast<size_t>(i)] == 1) kept.push_back(rows.at(i));
    }
    if (static_cast<int64_t>(kept.size()) == rows.count()) continue;
    survivors.all = false;
    survivors.picks = std::move(kept);
  }
  return survivors;
}

// All rows of a task but the deleted ones, where nothing else is left out: runs between them are copied.
Result<BatchPtr> ReadAround(const ScanPlan& plan, const ScanTask& task) {
  const Fragment& fragment = (*plan.fragments)[task.fragment];
  std::vector<int64_t> gaps;
  task.deleted->AppendRange(task.begin, task.end, &gaps);
  for (auto& gap : gaps) gap -= task.begin;
  arrow::ArrayVector arrays;
  for (const auto& column : plan.columns) {
    HEADRACE_ASSIGN(auto array, plan.view.reader().Read(fragment, column, Rows::Range(task.begin, task.end)));
    HEADRACE_ASSIGN(array, Without(std::move(array), gaps));
    arrays.push_back(std::move(array));
  }
  const int64_t rows = task.end - task.begin - static_cast<int64_t>(gaps.size());
  return arrow::RecordBatch::Make(plan.schema, rows, std::move(arrays));
}

Result<BatchPtr> RunTask(const ScanPlan& plan, const ScanTask& task) {
  HEADRACE_TRY(plan.stop.Check());
  const bool filters = !task.whole || plan.Only(task.fragment) != nullptr;
  if (!filters && task.HasDeleted() && task.MostAreThere()) return ReadAround(plan, task);
  const Fragment& fragment = (*plan.fragments)[task.fragment];
  HEADRACE_ASSIGN(const Survivors survivors, RunFilter(plan, fragment, task));
  const Rows rows = survivors.all ? Rows::Range(task.begin, task.end) : Rows::Picks(survivors.picks);
  arrow::ArrayVector arrays;
  for (const auto& column : plan.columns) {
    HEADRACE_ASSIGN(auto array, plan.view.reader().Read(fragment, column, rows));
    arrays.push_back(std::move(array));
  }
  return arrow::RecordBatch::Make(plan.schema, rows.count(), std::move(arrays));
}

class PlannedScan final : public ScanSource {
 public:
  PlannedScan(std::shared_ptr<const ScanPlan> plan, const ScanOptions& options) : plan_(std::move(plan)) {
    for (size_t k = 0; k < plan_->kept.size(); ++k) {
      const Fragment& fragment = (*plan_->fragments)[plan_->kept[k]];
      int64_t step = BatchRows(fragment, options.batch_rows);
      if (options.limit >= 0 && plan_->conjuncts.empty() && !plan_->rows)
        step = std::min(step, std::max<int64_t>(options.limit, 1));
      for (int64_t begin = 0; begin < fragment.rows; begin += step) {
        tasks_.push_back({plan_->kept[k], plan_->whole[k] != 0, plan_->deleted[k].get(), begin,
                          std::min(fragment.rows, begin + step)});
      }
    }
  }
  const std::shared_ptr<arrow::Schema>& schema() const override { return plan_->schema; }
  size_t tasks() const override { return tasks_.size(); }
  Result<BatchPtr> Run(size_t task) const override { return RunTask(*plan_, tasks_[task]); }
  const ScanStats& planned() const override { return plan_->stats; }

 private:
  std::shared_ptr<const ScanPlan> plan_;
  std::vector<ScanTask> tasks_;
};

// Runs tasks ahead on the environment's threads and gives their batches in order.
class ScanReader final : public arrow::RecordBatchReader {
 public:
  ScanReader(const View& view, std::shared_ptr<const ScanSource> source, int64_t limit,
             std::shared_ptr<ScanStats> stats)
      : view_(view), source_(std::move(source)), limit_(limit), stats_(std::move(stats)) {
    if (stats_) *stats_ = source_->planned();
    ahead_ = limit_ >= 0 ? 1 : static_cast<size_t>(view_.environment()->pool.threads()) + 1;
  }
  ~ScanReader() override {
    for (auto& future : running_) future.wait();
  }

  std::shared_ptr<arrow::Schema> schema() const override { return source_->schema(); }

  arrow::Status ReadNext(BatchPtr* batch) override {
    *batch = nullptr;
    // Batches lie ready for some time, and some are views.
    const Status whole = view_.reader().CheckViews();
    if (!whole.ok()) return table::ToArrow(whole);
    while (limit_ != 0) {
      while (running_.size() < ahead_ && next_ < source_->tasks()) {
        // Tasks borrow: were one the last to own the environment, its pool would have to join itself.
        running_.push_back(view_.environment()->pool.Submit(
            [source = source_.get(), task = next_] { return source->Run(task); }));
        ++next_;
      }
      if (running_.empty()) return arrow::Status::OK();
      Result<BatchPtr> result = running_.front().get();
      running_.pop_front();
      if (!result.ok()) {
        next_ = source_->tasks();
        return table::ToArrow(result.status());
      }
      BatchPtr ready = *result;
      if (ready->num_rows() == 0) continue;
      if (limit_ >= 0) {
        if (ready->num_rows() > limit_) ready = ready->Slice(0, limit_);
        limit_ -= ready->num_rows();
      }
      if (stats_) stats_->rows += ready->num_rows();
      *batch = std::move(ready);
      return arrow::Status::OK();
    }
    return arrow::Status::OK();
  }

 private:
  View view_;
  std::shared_ptr<const ScanSource> source_;
  int64_t limit_;
  std::shared_ptr<ScanStats> stats_;
  size_t next_ = 0;
  size_t ahead_ = 1;
  std::deque<std::future<Result<BatchPtr>>> running_;
};

// Calls `visit(task, survivors)` for the rows that pass, in row-id order: filters run on the environment's
// threads, fragments whose every row passes are one task that reads nothing.
template <typename Visit>
Status VisitSelected(const View& view, const ScanOptions& options, const Visit& visit) {
  HEADRACE_ASSIGN(const auto plan, MakePlan(view, options, false));
  TaskPool& pool = view.environment()->pool;
  std::deque<std::pair<ScanTask, std::future<Result<Survivors>>>> running;
  Status failed;
  const auto drain = [&](size_t keep) {
    while (running.size() > keep) {
      const auto survivors = running.front().second.get();
      if (survivors.ok()) {
        if (failed.ok()) visit(running.front().first, *survivors);
      } else if (failed.ok()) {
        failed = survivors.status();
      }
      running.pop_front();
    }
  };
  for (size_t k = 0; k < plan->kept.size() && failed.ok(); ++k) {
    const size_t index = plan->kept[k];
    const Fragment& fragment = (*plan->fragments)[index];
    const int64_t step = plan->whole[k] != 0 && plan->Only(index) == nullptr && plan->deleted[k] == nullptr
                             ? std::max<int64_t>(fragment.rows, 1)
                             : limits::kRowGroupRows;
    for (int64_t begin = 0; begin < fragment.rows && failed.ok(); begin += step) {
      const ScanTask task{index, plan->whole[k] != 0, plan->deleted[k].get(), begin,
                          std::min(fragment.rows, begin + step)};
      running.emplace_back(task, pool.Submit([plan = plan.get(), task]() -> Result<Survivors> {
        HEADRACE_TRY(plan->stop.Check());
        return RunFilter(*plan, (*plan->fragments)[task.fragment], task);
      }));
      drain(static_cast<size_t>(pool.threads()) * 2);
    }
  }
  drain(0);
  return failed;
}

}  // namespace

Result<std::shared_ptr<const ScanSource>> View::StartScan(const ScanOptions& options) const {
  if (options.batch_rows < 1) return Status::Invalid("a batch has at least 1 row");
  HEADRACE_ASSIGN(auto plan, MakePlan(*this, options, true));
  return std::shared_ptr<const ScanSource>(std::make_shared<PlannedScan>(std::move(plan), options));
}

Result<std::shared_ptr<arrow::RecordBatchReader>> View::Scan(const ScanOptions& options,
                                                             std::shared_ptr<ScanStats> stats) const {
  HEADRACE_ASSIGN(auto source, StartScan(options));
  return std::shared_ptr<arrow::RecordBatchReader>(
      std::make_shared<ScanReader>(*this, std::move(source), options.limit, std::move(stats)));
}

Result<ScanStats> View::Plan(const ScanOptions& options) const {
  HEADRACE_ASSIGN(const auto plan, MakePlan(*this, options, true));
  return plan->stats;
}

Result<RowSets> View::Select(const std::string& where, StopToken stop) const {
  ScanOptions options;
  options.where = where;
  options.stop = stop;
  HEADRACE_ASSIGN(const auto fragments, Fragments());
  RowSets selected(fragments->size());
  std::vector<uint32_t> rows;  // of one fragment
  size_t current = 0;
  const auto close = [&] {
    if (!rows.empty()) selected[current] = RowSet::Of(rows);
    rows.clear();
  };
  HEADRACE_TRY(VisitSelected(*this, options, [&](const ScanTask& task, const Survivors& survivors) {
    if (task.fragment != current) close();
    current = task.fragment;
    if (survivors.all) {
      for (int64_t row = task.begin; row < task.end; ++row) rows.push_back(static_cast<uint32_t>(row));
    } else {
      for (const int64_t row : survivors.picks) rows.push_back(static_cast<uint32_t>(row));
    }
  }));
  close();
  return selected;
}

Result<int64_t> View::Count(const std::string& where, StopToken stop) const {
  if (where.empty()) return snapshot_->rows;
  ScanOptions options;
  options.where = where;
  options.stop = stop;
  int64_t total = 0;
  HEADRACE_TRY(VisitSelected(*this, options, [&](const ScanTask& task, const Survivors& survivors) {
    total += survivors.all ? task.end - task.begin : static_cast<int64_t>(survivors.picks.size());
  }));
  return total;
}

}  // namespace headrace::table
