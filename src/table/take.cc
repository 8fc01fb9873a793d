// Rows by id: any of a view, in any order.
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

#include "table/arrow_bridge.h"
#include "table/prefetch.h"
#include "table/row_map.h"
#include "table/view.h"

namespace headrace::table {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;

using Pieces = std::vector<arrow::ArrayVector>;  // of each column, by part

// Some places of one fragment, ascending; repeats allowed.
struct Part {
  size_t fragment = 0;  // its index among the view's
  std::vector<int64_t> rows;
};

constexpr size_t kPartsAtOnce = 32;

// Some columns of one part, each to its place.
Status ReadColumns(const FragmentReader& reader, const Fragment& fragment, const Rows& rows,
                   const std::vector<Projection>& columns, const std::vector<size_t>& which, size_t part,
                   Pieces* pieces) {
  for (const size_t c : which) {
    HEADRACE_ASSIGN((*pieces)[c][part], reader.Read(fragment, columns[c], rows));
  }
  return Status::Ok();
}

// All columns of a part of a distant store. The pages of Parquet files are fetched together, tensors
// meanwhile.
class DistantPart {
 public:
  DistantPart(const View& view, const FragmentReader& reader, const Fragment& fragment, Rows rows,
              const std::vector<Projection>& columns, size_t part, Pieces* pieces)
      : view_(view),
        reader_(reader),
        fragment_(fragment),
        rows_(rows),
        columns_(columns),
        part_(part),
        pieces_(pieces) {}

  // `at_once`: columns are read, and their pages decoded, beside each other.
  Status Read(bool at_once) {
    std::vector<size_t> pages, tensors;
    for (size_t c = 0; c < columns_.size(); ++c)
      (columns_[c].top.type.kind == Kind::kTensor ? tensors : pages).push_back(c);
    std::deque<std::future<Status>> reading;
    if (at_once && !pages.empty()) {
      for (const size_t c : tensors) reading.push_back(Begin({c}));
      tensors.clear();
    }
    Prefetch(view_.environment().get(), view_.prefix(), fragment_, columns_, rows_);
    while (at_once && pages.size() > 1) {
      reading.push_back(Begin({pages.back()}));
      pages.pop_back();
    }
    pages.insert(pages.end(), tensors.begin(), tensors.end());
    Status first = ReadColumns(reader_, fragment_, rows_, columns_, pages, part_, pieces_);
    for (auto& column : reading) {
      const Status done = column.get();
      if (first.ok()) first = done;
    }
    return first;
  }

 private:
  std::future<Status> Begin(std::vector<size_t> which) {
    return std::async(std::launch::async, [this, which = std::move(which)] {
      return ReadColumns(reader_, fragment_, rows_, columns_, which, part_, pieces_);
    });
  }

  const View& view_;
  const FragmentReader& reader_;
  const Fragment& fragment_;
  const Rows rows_;
  const std::vector<Projection>& columns_;
  const size_t part_;
  Pieces* const pieces_;
};

// All columns of all parts. Where each read waits for a distant store, several parts are read beside each
// other.
Result<Pieces> ReadParts(const View& view, const FragmentReader& reader,
                         const std::vector<Fragment>& fragments, const std::vector<Part>& parts,
                         const std::vector<Projection>& columns) {
  Pieces pieces(columns.size(), arrow::ArrayVector(parts.size()));
  if (view.environment()->store->is_local()) {
    std::vector<size_t> all(columns.size());
    std::iota(all.begin(), all.end(), 0);
    for (size_t p = 0; p < parts.size(); ++p)
      HEADRACE_TRY(ReadColumns(reader, fragments[parts[p].fragment], Rows::Picks(parts[p].rows), columns, all,
                               p, &pieces));
    return pieces;
  }
  const bool at_once = parts.size() * columns.size() <= kPartsAtOnce;
  std::deque<std::future<Status>> reading;
  Status first;
  const auto finish = [&] {
    const Status done = reading.front().get();
    if (first.ok()) first = done;
    reading.pop_front();
  };
  for (size_t p = 0; p < parts.size() && first.ok(); ++p) {
    if (reading.size() == kPartsAtOnce) finish();
    reading.push_back(std::async(std::launch::async, [&, p] {
      return DistantPart(view, reader, fragments[parts[p].fragment], Rows::Picks(parts[p].rows), columns, p,
                         &pieces)
          .Read(at_once);
    }));
  }
  while (!reading.empty()) finish();
  if (!first.ok()) return first;
  return pieces;
}

Result<ArrayPtr> Join(arrow::ArrayVector pieces, const arrow::DataType& type) {
  if (pieces.size() == 1) return pieces[0];
  ArrayPtr joined;
  if (pieces.empty()) {
    HEADRACE_ARROW_ASSIGN(joined, arrow::MakeArrayOfNull(type.GetSharedPtr(), 0));
  } else {
    HEADRACE_ARROW_ASSIGN(joined, arrow::Concatenate(pieces));
  }
  return joined;
}

// Where some rows lie.
struct Found {
  std::vector<Part> parts;
  // Of the rows in the order of their ids: where each is among those of the parts. Empty: in the same order.
  std::vector<int64_t> order;
};

// The rows with these ids, which ascend. NotFound names one that is not there.
Result<Found> FindRows(const View& view, const std::vector<Fragment>& fragments,
                       const std::vector<int64_t>& row_ids) {
  const std::string version = " in version " + std::to_string(view.snapshot().version);
  const auto by_fragment = RowMap(fragments).FindAll(row_ids);
  if (!by_fragment.ok()) {
    return Status::NotFound(by_fragment.status().message() + version + "; ids run from 0 to " +
                            std::to_string(view.snapshot().next_row_id - 1));
  }
  Found found;
  std::vector<size_t> order;  // of all parts: indexes into row_ids, as the places ascend
  bool in_order = true;
  for (const auto& [index, ids] : *by_fragment) {
    const Fragment& fragment = fragments[index];
    HEADRACE_ASSIGN(const RowIds known, view.reader().Ids(fragment));
    HEADRACE_ASSIGN(const auto deleted, view.Deleted(fragment));
    std::vector<std::pair<int64_t, size_t>> places;  // and which of the ids it is
    for (const int64_t id : ids) {
      places.emplace_back(known.PlaceOf(id), order.size() + places.size());
      if (deleted != nullptr && deleted->Contains(places.back().first))
        return Status::NotFound("the row with the id " + std::to_string(id) + " is deleted" + version);
    }
    if (!known.ascend()) {
      std::sort(places.begin(), places.end());
      in_order = false;
    }
    Part part{index, {}};
    for (const auto& [place, which] : places) {
      part.rows.push_back(place);
      order.push_back(which);
    }
    found.parts.push_back(std::move(part));
  }
  if (in_order) return found;
  found.order.resize(order.size());
  for (size_t k = 0; k < order.size(); ++k) found.order[order[k]] = static_cast<int64_t>(k);
  return found;
}

}  // namespace

Result<RowSets> View::SelectIds(std::vector<int64_t> row_ids) const {
  std::sort(row_ids.begin(), row_ids.end());
  row_ids.erase(std::unique(row_ids.begin(), row_ids.end()), row_ids.end());
  HEADRACE_ASSIGN(const auto fragments, Fragments());
  HEADRACE_ASSIGN(const Found found, FindRows(*this, *fragments, row_ids));
  RowSets selected(fragments->size());
  for (const auto& part : found.parts) {
    selected[part.fragment] = RowSet::Of(std::vector<uint32_t>(part.rows.begin(), part.rows.end()));
  }
  return selected;
}

Result<std::vector<int64_t>> View::IdsAt(const std::vector<int64_t>& places) const {
  HEADRACE_ASSIGN(const auto fragments, Fragments());
  std::vector<int64_t> before = {0};  // rows before each fragment
  for (const auto& fragment : *fragments) before.push_back(before.back() + fragment.live_rows());
  std::vector<std::shared_ptr<const RowSet>> live(fragments->size());
  std::vector<int64_t> ids;
  for (const int64_t place : places) {
    if (place < 0 || place >= before.back()) {
      return Status::Invalid("there is no row at place " + std::to_string(place) + " of " +
                             std::to_string(before.back()));
    }
    const auto i =
        static_cast<size_t>(std::upper_bound(before.begin(), before.end(), place) - before.begin() - 1);
    const Fragment& fragment = (*fragments)[i];
    int64_t row = place - before[i];
    if (!fragment.deleted.empty()) {
      if (!live[i]) {
        HEADRACE_ASSIGN(const auto deleted, Deleted(fragment));
        live[i] = deleted->Complement(fragment.rows);
      }
      row = live[i]->Select(static_cast<uint32_t>(row));
    }
    HEADRACE_ASSIGN(const RowIds known, reader_.Ids(fragment));
    ids.push_back(known.IdAt(row));
  }
  return ids;
}

Result<std::shared_ptr<arrow::RecordBatch>> View::Take(const std::vector<int64_t>& row_ids,
                                                       const std::vector<std::string>& columns) const {
  HEADRACE_ASSIGN(const auto projections, ProjectColumns(schema(), columns));
  HEADRACE_ASSIGN(const auto fragments, Fragments());
  std::vector<size_t> order(row_ids.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return row_ids[a] < row_ids[b]; });
  std::vector<int64_t> ascending(order.size());
  std::vector<int64_t> position(order.size());  // of each asked-for row among the ascending ones
  for (size_t k = 0; k < order.size(); ++k) {
    ascending[k] = row_ids[order[k]];
    position[order[k]] = static_cast<int64_t>(k);
  }
  HEADRACE_ASSIGN(const Found found, FindRows(*this, *fragments, ascending));
  if (!found.order.empty()) {
    for (auto& at : position) at = found.order[static_cast<size_t>(at)];
  }

  const bool sorted = std::is_sorted(position.begin(), position.end());
  const auto indices = std::make_shared<arrow::Int64Array>(
      static_cast<int64_t>(position.size()), arrow::Buffer::Wrap(position.data(), position.size()));
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);

  const auto result_schema = table::ToArrow(projections);
  HEADRACE_ASSIGN(auto pieces, ReadParts(*this, reader_, *fragments, found.parts, projections));
  arrow::ArrayVector arrays;
  for (size_t c = 0; c < projections.size(); ++c) {
    const auto& type = *result_schema->field(static_cast<int>(c))->type();
    HEADRACE_ASSIGN(auto joined, Join(std::move(pieces[c]), type));
    if (!sorted) {
      HEADRACE_ARROW_ASSIGN(joined, arrow::compute::Take(*joined, *indices));
    }
    arrays.push_back(std::move(joined));
  }
  return arrow::RecordBatch::Make(result_schema, static_cast<int64_t>(row_ids.size()), std::move(arrays));
}

}  // namespace headrace::table
