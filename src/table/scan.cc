// Scan, plan, count and take: views of a snapshot as batches.
#include <arrow/array.h>
#include <arrow/array/concatenate.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <deque>
#include <future>
#include <numeric>
#include <set>

#include "base/limits.h"
#include "table/arrow_bridge.h"
#include "table/blob_cells.h"
#include "table/view.h"

namespace headrace::table {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;
using BatchPtr = std::shared_ptr<arrow::RecordBatch>;

// From a top-level array (pruned to one path) down to the value asked for, nulls of the structs above
// applied.
Result<ArrayPtr> Descend(ArrayPtr array, size_t levels) {
  for (size_t i = 0; i < levels; ++i) {
    HEADRACE_ARROW_ASSIGN(array, static_cast<const arrow::StructArray&>(*array).GetFlattenedField(0));
  }
  return array;
}

// Whether a path ends at the place of a blob's bytes (image.pack), which leaves the table with the table's
// id.
bool IsPack(const Schema& schema, const std::vector<std::string>& path) {
  const Field* field = schema.Find(path[0]);
  for (size_t i = 1; field != nullptr && i < path.size(); ++i) {
    if (field->type.kind == Kind::kBlob) return path[i] == "pack";
    const auto& children = field->type.children;
    const auto it =
        std::find_if(children.begin(), children.end(), [&](const Field& f) { return f.name == path[i]; });
    field = it == children.end() ? nullptr : &*it;
  }
  return false;
}

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

// One column of a filter: where to read it.
struct FilterColumn {
  Field top;
  Field leaf;
  size_t levels = 0;
  bool pack = false;  // statistics do not speak of it: they are of the packs' ids alone
};

struct ScanPlan {
  View view;
  std::vector<Projection> columns;
  std::shared_ptr<arrow::Schema> schema;
  std::vector<ExprPtr> conjuncts;                      // cheapest first
  bool evaluate = true;                                // false: the conjuncts only prune
  std::map<std::string, FilterColumn> filter_columns;  // by canonical column text
  std::shared_ptr<const std::vector<Fragment>> fragments;
  std::vector<size_t> kept;    // fragments left after pruning
  std::vector<uint8_t> whole;  // of those: the filter is true for every row
  std::map<int32_t, std::vector<std::optional<FieldStats>>>
      known;  // statistics by leaf field, one per fragment
  StopToken stop;
  ScanStats stats;

  Result<ArrayPtr> ReadFilterColumn(const Fragment& fragment, const Expr& column, const Rows& rows) const {
    const FilterColumn& found = filter_columns.at(ToString(column));
    HEADRACE_ASSIGN(auto array, view.ReadColumn(fragment, found.top, rows));
    HEADRACE_ASSIGN(array, Descend(std::move(array), found.levels));
    if (found.pack) return PacksWithTable(*array, view.prefix());
    return array;
  }
  bool HasStats(const Field& leaf) const {
    return std::none_of(filter_columns.begin(), filter_columns.end(), [&](const auto& column) {
      return column.second.leaf.id == leaf.id && column.second.pack;
    });
  }
};

Result<std::shared_ptr<ScanPlan>> MakePlan(const View& view, const ScanOptions& options, bool read_columns) {
  auto plan =
      std::make_shared<ScanPlan>(ScanPlan{view, {}, {}, {}, true, {}, {}, {}, {}, {}, options.stop, {}});
  if (read_columns) {
    std::vector<std::string> names = options.columns;
    if (options.with_row_ids) {
      if (names.empty()) {
        for (const auto& field : view.schema().fields) names.push_back(field.name);
      }
      if (std::find(names.begin(), names.end(), kRowIdColumn) == names.end())
        names.emplace_back(kRowIdColumn);
    }
    HEADRACE_ASSIGN(plan->columns, view.Project(names));
    arrow::FieldVector fields;
    for (const auto& column : plan->columns) {
      Field named = column.leaf;
      named.name = column.name;
      fields.push_back(table::ToArrow(named));
    }
    plan->schema = arrow::schema(std::move(fields));
  }
  if (!options.where.empty()) {
    HEADRACE_ASSIGN(const ExprPtr parsed, ParseExpr(options.where));
    HEADRACE_ASSIGN(const ExprPtr filter, BindFilter(parsed, view.schema()));
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
      HEADRACE_ASSIGN(const auto projected, view.ProjectPath("", expr.path));
      plan->filter_columns[ToString(expr)] = {projected.top, projected.leaf, projected.path.size() - 1,
                                              IsPack(view.schema(), expr.path)};
    }
    for (const auto& arg : expr.args) HEADRACE_TRY(collect(*arg));
    return Status::Ok();
  };
  for (const auto& conjunct : plan->conjuncts) HEADRACE_TRY(collect(*conjunct));
  HEADRACE_ASSIGN(plan->fragments, view.Fragments());

  // Statistics of the filter's fields, loaded once each.
  for (const auto& [text, column] : plan->filter_columns) {
    if (plan->known.contains(column.leaf.id)) continue;
    HEADRACE_ASSIGN(plan->known[column.leaf.id], view.Stats(column.leaf));
  }
  std::set<int32_t> wanted;
  for (const auto& column : plan->columns) wanted.insert(column.top.id);
  for (const auto& [text, column] : plan->filter_columns) wanted.insert(column.top.id);
  for (size_t i = 0; i < plan->fragments->size(); ++i) {
    const Fragment& fragment = (*plan->fragments)[i];
    plan->stats.fragments_total += 1;
    plan->stats.rows_total += fragment.rows;
    Outcomes outcomes{true, false, false};
    for (const auto& conjunct : plan->conjuncts) {
      const Outcomes part = PossibleOutcomes(*conjunct, [&](const Field& leaf) {
        const auto it = plan->known.find(leaf.id);
        return it == plan->known.end() || !plan->HasStats(leaf) ? std::nullopt : it->second[i];
      });
      outcomes.can_true &= part.can_true;
      outcomes.can_false |= part.can_false || part.can_null;
    }
    if (!outcomes.can_true) continue;
    plan->kept.push_back(i);
    plan->whole.push_back(!outcomes.can_false);
    plan->stats.fragments += 1;
    plan->stats.rows_read += fragment.rows;
    for (const auto& file : fragment.files) {
      const bool used = std::any_of(file.family->fields.begin(), file.family->fields.end(),
                                    [&](int32_t id) { return wanted.contains(id); });
      if (!used) continue;
      plan->stats.files += 1;
      plan->stats.bytes += file.bytes;
      if (file.family->kind == FileKind::kParquet) {
        plan->stats.row_groups += (fragment.rows + limits::kRowGroupRows - 1) / limits::kRowGroupRows;
      }
    }
  }
  return plan;
}

struct ScanTask {
  size_t fragment = 0;
  bool whole = false;
  int64_t begin = 0;
  int64_t end = 0;
};

// Rows a batch may have so that it holds some tens of megabytes at most.
int64_t BatchRows(const Fragment& fragment, int64_t wanted) {
  int64_t bytes = 0;
  for (const auto& file : fragment.files) bytes += file.bytes;
  const int64_t each = std::max<int64_t>(1, bytes / std::max<int64_t>(1, fragment.rows));
  const int64_t by_bytes = std::max<int64_t>(1, (64 << 20) / each);
  const int64_t rows = std::min(wanted, by_bytes);
  return rows >= limits::kPageRows ? rows / limits::kPageRows * limits::kPageRows : rows;
}

// The rows of a task that pass the filter, as offsets in the fragment; `all` if every row does.
struct Survivors {
  bool all = true;
  std::vector<int64_t> picks;
};

Result<Survivors> RunFilter(const ScanPlan& plan, const Fragment& fragment, const ScanTask& task) {
  Survivors survivors;
  if (plan.conjuncts.empty() || task.whole) return survivors;
  // Pages first: runs of 2,048 rows of which the page index knows that none can pass are never read.
  bool narrowed = false;
  for (int64_t begin = task.begin; begin < task.end;) {
    const int64_t end = std::min(task.end, (begin / limits::kPageRows + 1) * limits::kPageRows);
    bool possible = true;
    for (const auto& conjunct : plan.conjuncts) {
      Status failed;
      const Outcomes outcomes =
          PossibleOutcomes(*conjunct, [&](const Field& leaf) -> std::optional<FieldStats> {
            for (const auto& [text, column] : plan.filter_columns) {
              if (column.leaf.id != leaf.id || column.pack) continue;
              auto stats = plan.view.PageStats(fragment, column.top, leaf, begin, end);
              if (!stats.ok()) {
                failed = stats.status();
                return std::nullopt;
              }
              std::optional<FieldStats> page = *stats;
              const auto& whole = plan.known.at(leaf.id)[task.fragment];
              if (page && whole && !whole->has_nan) page->has_nan = false;  // page indexes cannot tell
              return page;
            }
            return std::nullopt;
          });
      if (!failed.ok()) return failed;
      if (!outcomes.can_true) possible = false;
    }
    if (possible) {
      for (int64_t row = begin; row < end; ++row) survivors.picks.push_back(row);
    } else {
      narrowed = true;
    }
    begin = end;
  }
  survivors.all = !narrowed;
  if (!plan.evaluate) return survivors;
  for (const auto& conjunct : plan.conjuncts) {
    if (survivors.picks.empty()) break;
    const Rows rows = survivors.all ? Rows::Range(task.begin, task.end) : Rows::Picks(survivors.picks);
    HEADRACE_ASSIGN(const auto outcomes, EvaluateFilter(*conjunct, rows.count(), [&](const Expr& column) {
                      return plan.ReadFilterColumn(fragment, column, rows);
                    }));
    std::vector<int64_t> kept;
    for (int64_t i = 0; i < rows.count(); ++i) {
      if (outcomes[static_cast<size_t>(i)] == 1) kept.push_back(rows.at(i));
    }
    if (static_cast<int64_t>(kept.size()) < rows.count()) survivors.all = false;
    survivors.picks = std::move(kept);
  }
  if (survivors.picks.empty()) survivors.all = false;
  return survivors;
}

Result<BatchPtr> RunTask(const ScanPlan& plan, const ScanTask& task) {
  HEADRACE_TRY(plan.stop.Check());
  const Fragment& fragment = (*plan.fragments)[task.fragment];
  HEADRACE_ASSIGN(const Survivors survivors, RunFilter(plan, fragment, task));
  const Rows rows = survivors.all ? Rows::Range(task.begin, task.end) : Rows::Picks(survivors.picks);
  arrow::ArrayVector arrays;
  for (const auto& column : plan.columns) {
    HEADRACE_ASSIGN(auto array, plan.view.ReadProjection(fragment, column, rows));
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
      if (options.limit >= 0 && plan_->conjuncts.empty())
        step = std::min(step, std::max<int64_t>(options.limit, 1));
      for (int64_t begin = 0; begin < fragment.rows; begin += step) {
        tasks_.push_back(
            {plan_->kept[k], plan_->whole[k] != 0, begin, std::min(fragment.rows, begin + step)});
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

}  // namespace

Result<ArrayPtr> View::ReadProjection(const Fragment& fragment, const Projection& projection,
                                      const Rows& rows) const {
  HEADRACE_ASSIGN(auto array, ReadColumn(fragment, projection.top, rows));
  HEADRACE_ASSIGN(array, Descend(std::move(array), projection.path.size() - 1));
  if (projection.leaf.type.kind == Kind::kBlob) return WithTable(array, prefix_);
  if (IsPack(schema(), projection.path)) return PacksWithTable(*array, prefix_);
  return array;
}

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

Result<int64_t> View::Count(const std::string& where, StopToken stop) const {
  if (where.empty()) return snapshot_->rows;
  ScanOptions options;
  options.where = where;
  options.stop = stop;
  HEADRACE_ASSIGN(const auto plan, MakePlan(*this, options, false));
  std::deque<std::future<Result<int64_t>>> running;
  int64_t total = 0;
  Status failed;
  const auto drain = [&](size_t keep) {
    while (running.size() > keep) {
      const Result<int64_t> part = running.front().get();
      running.pop_front();
      if (part.ok()) {
        total += *part;
      } else if (failed.ok()) {
        failed = part.status();
      }
    }
  };
  for (size_t k = 0; k < plan->kept.size() && failed.ok(); ++k) {
    const Fragment& fragment = (*plan->fragments)[plan->kept[k]];
    if (plan->whole[k]) {
      total += fragment.rows;
      continue;
    }
    for (int64_t begin = 0; begin < fragment.rows; begin += limits::kRowGroupRows) {
      const ScanTask task{plan->kept[k], false, begin,
                          std::min(fragment.rows, begin + limits::kRowGroupRows)};
      running.push_back(env_->pool.Submit([plan = plan.get(), task]() -> Result<int64_t> {
        HEADRACE_TRY(plan->stop.Check());
        HEADRACE_ASSIGN(const auto survivors, RunFilter(*plan, (*plan->fragments)[task.fragment], task));
        return survivors.all ? task.end - task.begin : static_cast<int64_t>(survivors.picks.size());
      }));
      drain(static_cast<size_t>(env_->pool.threads()) * 2);
    }
  }
  drain(0);
  if (!failed.ok()) return failed;
  return total;
}

Result<BatchPtr> View::Take(const std::vector<int64_t>& row_ids,
                            const std::vector<std::string>& columns) const {
  HEADRACE_ASSIGN(const auto projections, Project(columns));
  HEADRACE_ASSIGN(const auto fragments, Fragments());
  std::vector<size_t> order(row_ids.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return row_ids[a] < row_ids[b]; });

  // The rows asked for, fragment by fragment.
  struct Part {
    const Fragment* fragment;
    std::vector<int64_t> picks;
  };
  std::vector<Part> parts;
  for (const size_t i : order) {
    const int64_t id = row_ids[i];
    if (parts.empty() || id >= parts.back().fragment->end_row_id()) {
      auto it = std::upper_bound(fragments->begin(), fragments->end(), id,
                                 [](int64_t row, const Fragment& f) { return row < f.first_row_id; });
      if (it == fragments->begin() || id >= (it - 1)->end_row_id()) {
        return Status::NotFound("no row has the id " + std::to_string(id) + " in version " +
                                std::to_string(snapshot_->version) + "; ids run from 0 to " +
                                std::to_string(snapshot_->next_row_id - 1));
      }
      parts.push_back({&*(it - 1), {}});
    }
    parts.back().picks.push_back(id - parts.back().fragment->first_row_id);
  }

  std::vector<int64_t> position(order.size());  // of each asked-for row among the sorted ones
  for (size_t k = 0; k < order.size(); ++k) position[order[k]] = static_cast<int64_t>(k);
  const bool sorted = std::is_sorted(position.begin(), position.end());
  const auto indices = std::make_shared<arrow::Int64Array>(
      static_cast<int64_t>(position.size()), arrow::Buffer::Wrap(position.data(), position.size()));
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);

  arrow::FieldVector fields;
  arrow::ArrayVector arrays;
  for (const auto& column : projections) {
    Field named = column.leaf;
    named.name = column.name;
    fields.push_back(table::ToArrow(named));
    arrow::ArrayVector pieces;
    for (const auto& part : parts) {
      HEADRACE_ASSIGN(auto piece, ReadProjection(*part.fragment, column, Rows::Picks(part.picks)));
      pieces.push_back(std::move(piece));
    }
    ArrayPtr joined;
    if (pieces.empty()) {
      HEADRACE_ARROW_ASSIGN(joined, arrow::MakeArrayOfNull(fields.back()->type(), 0));
    } else if (pieces.size() == 1) {
      joined = pieces[0];
    } else {
      HEADRACE_ARROW_ASSIGN(joined, arrow::Concatenate(pieces));
    }
    if (!sorted) {
      HEADRACE_ARROW_ASSIGN(joined, arrow::compute::Take(*joined, *indices));
    }
    arrays.push_back(std::move(joined));
  }
  return arrow::RecordBatch::Make(arrow::schema(std::move(fields)), static_cast<int64_t>(row_ids.size()),
                                  std::move(arrays));
}

}  // namespace headrace::table
