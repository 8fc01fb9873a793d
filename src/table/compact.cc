#include "table/compact.h"

#include <arrow/array.h>
#include <arrow/array/util.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/byte_size.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "table/arrow_bridge.h"
#include "table/blob_cells.h"
#include "table/change.h"
#include "table/conform.h"
#include "table/keys.h"
#include "table/merge_manifests.h"
#include "table/replace_rows.h"
#include "table/row_map.h"
#include "table/row_set_file.h"
#include "table/settle.h"
#include "table/sort_rows.h"
#include "table/table.h"

namespace headrace::table {
namespace {

// Copied at a time: as many rows as have about these bytes, and no more than these rows.
constexpr int64_t kBytes = 32 << 20;
constexpr int64_t kRows = 16'384;

// The newest update of each of these fields that is in the fragment's values.
void AddGathered(const Fragment& fragment, const std::vector<Field>& fields,
                 std::map<int32_t, int64_t>* gathered) {
  for (const auto& field : fields) {
    int64_t newest = 0;
    if (const DataFile* file = fragment.FileOf(field.id)) newest = file->version;
    for (const auto& overlay : fragment.overlays) {
      if (overlay.FileOf(field.id) != nullptr) newest = std::max(newest, overlay.version);
    }
    const auto before = fragment.gathered.find(field.id);
    if (before != fragment.gathered.end()) newest = std::max(newest, before->second);
    if (newest > 0) (*gathered)[field.id] = std::max((*gathered)[field.id], newest);
  }
}

// The bytes of each pack that cells of the view's blob columns speak of, each once.
Result<std::map<Uuid, int64_t>> UsedBytes(const View& view) {
  std::map<Uuid, std::map<int64_t, int64_t>> used;
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  for (const auto& fragment : *fragments) {
    if (fragment.packs.empty()) continue;
    for (const auto& pack : fragment.packs) used[pack.id];
    for (const auto& field : view.schema().fields) {
      if (field.type.kind != Kind::kBlob) continue;
      for (int64_t begin = 0; begin < fragment.rows; begin += kRows) {
        const auto rows = Rows::Range(begin, std::min(fragment.rows, begin + kRows));
        HEADRACE_ASSIGN(const auto array, view.reader().ReadTop(fragment, field, rows));
        HEADRACE_ASSIGN(const auto cells, BlobCells::Of(array));
        for (int64_t i = 0; i < cells.length(); ++i) {
          if (cells.IsNull(i) || !cells.IsPacked(i)) continue;
          HEADRACE_ASSIGN(const Uuid pack, Uuid::Parse(cells.Pack(i)));
          used[pack][cells.Offset(i)] = cells.PackedBytes(i);
        }
      }
    }
  }
  std::map<Uuid, int64_t> bytes;
  for (const auto& [pack, places] : used) {
    for (const auto& [offset, length] : places) bytes[pack] += length;
    bytes.try_emplace(pack, 0);
  }
  return bytes;
}

// Rows that wait to be sorted.
class HeldRows {
 public:
  Status Add(const std::shared_ptr<arrow::RecordBatch>& batch) {
    HEADRACE_ARROW_ASSIGN(const int64_t more, arrow::util::ReferencedBufferSize(*batch));
    bytes_ += more;
    batches_.push_back(batch);
    return Status::Ok();
  }
  int64_t bytes() const { return bytes_; }
  arrow::RecordBatchVector Take() { return std::exchange(batches_, {}); }
  // All as one. Lets the others go.
  Result<std::shared_ptr<arrow::RecordBatch>> Join() {
    HEADRACE_ARROW_ASSIGN(const auto table, arrow::Table::FromRecordBatches(Take()));
    std::shared_ptr<arrow::RecordBatch> rows;
    HEADRACE_ARROW_ASSIGN(rows, table->CombineChunksToBatch());
    HEADRACE_CHECK(rows->num_rows() == table->num_rows());
    return rows;
  }

 private:
  arrow::RecordBatchVector batches_;
  int64_t bytes_ = 0;
};

}  // namespace

Result<std::set<Uuid>> SparsePacks(const View& view, double share) {
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  std::map<Uuid, int64_t> used;
  for (const auto& fragment : *fragments) {
    for (const auto& pack : fragment.packs) used[pack.id] += pack.live_bytes;
  }
  std::set<Uuid> sparse;
  if (used.empty() || share <= 0) return sparse;
  if (share >= 1) {  // what fragments say counts bytes twice that two rows share
    HEADRACE_ASSIGN(used, UsedBytes(view));
  }
  HEADRACE_ASSIGN(const auto packs,
                  view.environment()->store->List(PacksFolder(view.prefix()), "", INT64_MAX));
  for (const auto& object : packs) {
    const auto key = ParseKey(object.key);
    if (!key || key->kind != ObjectKind::kPack) continue;
    const auto it = used.find(key->id);
    if (it != used.end() && static_cast<double>(it->second) < share * static_cast<double>(object.size))
      sparse.insert(key->id);
  }
  return sparse;
}

Status Compactor::Add(const std::vector<Fragment>& fragments, const CompactGroup& group, const RowsFn& done) {
  const auto begin = fragments.begin() + static_cast<std::ptrdiff_t>(group.begin);
  const auto end = fragments.begin() + static_cast<std::ptrdiff_t>(group.end);
  compact_.parts.push_back({{begin, end}, {}});
  if (group.empty) return Status::Ok();
  if (IsFilledInPart(view_.schema(), *begin)) {
    // Nobody's fill follows its rows into a fragment that was sorted (follow.h).
    HEADRACE_CHECK(end - begin == 1 && !IsSorted(*begin));
    HEADRACE_ASSIGN(const auto pieces, PiecesOf(*begin));
    for (const auto& piece : pieces) HEADRACE_TRY(Write({piece}, done));
    return Status::Ok();
  }
  std::vector<Piece> pieces;
  for (auto it = begin; it != end; ++it) pieces.push_back({&*it, 0, it->rows});
  return Write(pieces, done);
}

Result<std::vector<Compactor::Piece>> Compactor::PiecesOf(const Fragment& fragment) const {
  std::set<int64_t> cuts = {0, fragment.rows};
  for (const auto& field : view_.schema().fields) {
    if (fragment.FilledRows(field.id) != Filled::kSome) continue;
    for (const auto& overlay : fragment.overlays) {
      if (!overlay.fill || overlay.FileOf(field.id) == nullptr) continue;
      HEADRACE_ASSIGN(const auto rows,
                      LoadRowSet(view_.environment().get(), view_.prefix(), overlay.rows, fragment.rows));
      // A fill has all rows of what was a fragment when it began.
      cuts.insert(rows->Select(0));
      cuts.insert(rows->Select(0) + rows->count());
    }
  }
  std::vector<Piece> pieces;
  for (auto begin = cuts.begin(), end = std::next(begin); end != cuts.end(); ++begin, ++end)
    pieces.push_back({&fragment, *begin, *end});
  return pieces;
}

Result<std::vector<Field>> Compactor::FieldsOf(const Piece& piece) const {
  const Fragment& fragment = *piece.fragment;
  std::vector<Field> fields;
  for (const auto& field : view_.schema().fields) {
    bool has = fragment.Fills(field.id);
    // A hole with updates of some rows gets nulls for the others, as an update of many rows writes them.
    const bool in_part = fragment.FilledRows(field.id) == Filled::kSome;
    for (const auto& overlay : fragment.overlays) {
      if (has || overlay.FileOf(field.id) == nullptr) continue;
      if (!in_part) {
        has = true;
        break;
      }
      HEADRACE_ASSIGN(const auto rows,
                      LoadRowSet(view_.environment().get(), view_.prefix(), overlay.rows, fragment.rows));
      has = rows->Rank(piece.end) > rows->Rank(piece.begin);
    }
    if (has) fields.push_back(field);
  }
  return fields;
}

bool Compactor::Sorts(const std::vector<Piece>& pieces) const {
  int64_t bytes = 0;
  for (const auto& piece : pieces) bytes += DecodedBytes(*piece.fragment);
  return !view_.snapshot().sort_by.empty() && bytes <= kMostSortedBytes;
}

std::vector<Field> Compactor::KeyOf(const std::vector<Field>& fields) const {
  std::vector<Field> key;
  for (const int32_t id : view_.snapshot().sort_by) {
    const auto found =
        std::find_if(fields.begin(), fields.end(), [&](const Field& field) { return field.id == id; });
    if (found != fields.end()) key.push_back(*found);
  }
  return key;
}

DataWriter* Compactor::NewWriter(const std::vector<Field>& fields) {
  Schema written;
  for (const auto& field : fields) {
    if (field.id != kRowIdField) written.fields.push_back(field);
  }
  writers_.push_back(NewDataWriter(view_, fields, StatFields(written), options_.Unsplit()));
  return writers_.back().get();
}

Status Compactor::Write(const std::vector<Piece>& pieces, const RowsFn& done) {
  HEADRACE_ASSIGN(std::vector<Field> fields, FieldsOf(pieces[0]));
  const std::vector<Field> values = fields;
  const std::vector<Field> key = Sorts(pieces) ? KeyOf(fields) : std::vector<Field>();
  const bool sorted_before =
      std::any_of(pieces.begin(), pieces.end(), [](const Piece& piece) { return IsSorted(*piece.fragment); });
  if (sorted_before || !key.empty()) fields.push_back(RowIdField());
  DataWriter* writer = nullptr;
  if (key.empty()) {
    writer = NewWriter(fields);
    HEADRACE_TRY(Copy(
        pieces, fields, [&](const auto& batch) { return writer->Write(*batch); }, done));
  } else {
    const std::vector<Field>& written = sorted_before ? fields : values;
    HeldRows held;
    const auto write = [&](const arrow::RecordBatch& batch) -> Status {
      if (sorted_before) return writer->Write(batch);
      std::shared_ptr<arrow::RecordBatch> without_ids;
      HEADRACE_ARROW_ASSIGN(without_ids, batch.RemoveColumn(batch.num_columns() - 1));
      return writer->Write(*without_ids);
    };
    const auto hold = [&](const std::shared_ptr<arrow::RecordBatch>& batch) -> Status {
      if (writer != nullptr) return write(*batch);
      HEADRACE_TRY(held.Add(batch));
      if (held.bytes() <= kMostSortedMemory) return Status::Ok();
      writer = NewWriter(written);  // too much to be sorted: the rows stay in their order
      for (const auto& some : held.Take()) HEADRACE_TRY(write(*some));
      return Status::Ok();
    };
    HEADRACE_TRY(Copy(pieces, fields, hold, done));
    if (writer == nullptr) {
      HEADRACE_ASSIGN(const auto rows, held.Join());
      HEADRACE_ASSIGN(writer, WriteSorted(*rows, key, written));
    }
  }
  int64_t erased = 0;
  std::map<int32_t, int64_t> gathered;
  for (const auto& piece : pieces) {
    AddGathered(*piece.fragment, values, &gathered);
    HEADRACE_ASSIGN(const auto deleted, view_.Deleted(*piece.fragment));
    if (deleted) erased += deleted->Rank(piece.end) - deleted->Rank(piece.begin);
  }
  HEADRACE_ASSIGN(auto merged, writer->Finish());
  HEADRACE_CHECK(merged.size() == 1);
  merged[0].first_row_id = FirstId(pieces[0]);
  merged[0].deleted.erased = erased;
  merged[0].gathered = std::move(gathered);
  for (const auto& field : key) merged[0].sorted_by.push_back(field.id);
  bytes_ += writer->bytes();
  compact_.parts.back().merged.push_back(std::move(merged[0]));
  return Status::Ok();
}

Result<DataWriter*> Compactor::WriteSorted(const arrow::RecordBatch& rows, const std::vector<Field>& key,
                                           std::vector<Field> fields) {
  arrow::ArrayVector columns;
  arrow::FieldVector names;
  for (const auto& field : key) {
    columns.push_back(rows.GetColumnByName(field.name));
    names.push_back(rows.schema()->GetFieldByName(field.name));
  }
  HEADRACE_ASSIGN(const auto order,
                  SortedOrder(*arrow::RecordBatch::Make(arrow::schema(names), rows.num_rows(), columns)));
  // Rows that lie in order already need no column of ids.
  const bool moved = !IsIdentity(*order);
  if (moved && fields.back().id != kRowIdField) fields.push_back(RowIdField());
  std::vector<int> wanted;
  for (const auto& field : fields) wanted.push_back(rows.schema()->GetFieldIndex(field.name));
  std::shared_ptr<arrow::RecordBatch> given;
  HEADRACE_ARROW_ASSIGN(given, rows.SelectColumns(wanted));
  DataWriter* const writer = NewWriter(fields);
  for (int64_t begin = 0; begin < rows.num_rows(); begin += kRows) {
    HEADRACE_TRY(options_.stop.Check());
    const int64_t count = std::min(kRows, rows.num_rows() - begin);
    HEADRACE_ASSIGN(const auto some, TakeRows(*given, *order->Slice(begin, count)));
    HEADRACE_TRY(writer->Write(*some));
  }
  return writer;
}

Status Compactor::Copy(const std::vector<Piece>& pieces, const std::vector<Field>& fields,
                       const BatchFn& write, const RowsFn& done) {
  for (const auto& piece : pieces) HEADRACE_TRY(CopyPiece(piece, fields, write, done));
  return Status::Ok();
}

Status Compactor::CopyPiece(const Piece& piece, const std::vector<Field>& fields, const BatchFn& write,
                            const RowsFn& done) {
  const Fragment& fragment = *piece.fragment;
  HEADRACE_ASSIGN(const auto deleted, view_.Deleted(fragment));
  const int64_t bytes_each = std::max<int64_t>(1, DecodedBytes(fragment) / fragment.rows);
  const int64_t step = std::clamp<int64_t>(kBytes / bytes_each, 1, kRows);
  for (int64_t begin = piece.begin; begin < piece.end; begin += step) {
    HEADRACE_TRY(options_.stop.Check());
    const int64_t end = std::min(piece.end, begin + step);
    std::vector<int64_t> gone;
    if (deleted) deleted->AppendRange(begin, end, &gone);
    for (auto& row : gone) row -= begin;
    arrow::FieldVector names;
    arrow::ArrayVector arrays;
    for (const auto& field : fields) {
      const Projection projection{field.name, field, field, {field.name}, false};
      HEADRACE_ASSIGN(auto array, view_.reader().Read(fragment, projection, Rows::Range(begin, end)));
      HEADRACE_ASSIGN(array, ConformArray(array, field));
      if (!gone.empty() && field.id != kRowIdField) {
        HEADRACE_ARROW_ASSIGN(const auto nulls,
                              arrow::MakeArrayOfNull(array->type(), static_cast<int64_t>(gone.size())));
        HEADRACE_ASSIGN(array, Replaced(std::move(array), gone, nulls));
      }
      names.push_back(arrow::field(field.name, array->type()));
      arrays.push_back(std::move(array));
    }
    HEADRACE_TRY(write(arrow::RecordBatch::Make(arrow::schema(names), end - begin, arrays)));
    done(end - begin);
  }
  return Status::Ok();
}

void Compactor::Discard() {
  for (const auto& writer : writers_) writer->Discard();
}

Result<CompactResult> Table::Compact(const CompactOptions& asked, const CommitOptions& options) {
  CompactOptions compact = asked;
  CompactResult result;
  std::optional<int64_t> planned;  // groups; each commit takes one or more
  int64_t budget = compact.commit_bytes;
  for (int64_t tries = 0;;) {
    HEADRACE_ASSIGN(const View view, At());
    if (result.commits == 0) result.version = view.snapshot().version;
    HEADRACE_ASSIGN(const auto fragments, view.Fragments());
    HEADRACE_ASSIGN(compact.sparse_packs, SparsePacks(view, compact.pack_share));
    compact.sort_by = view.snapshot().sort_by;
    const auto groups = PlanCompaction(view.schema(), *fragments, compact);
    if (!planned) planned = static_cast<int64_t>(groups.size());
    // What others go on adding is left for the next time.
    if (groups.empty() || result.commits >= *planned) return result;
    WriteOptions write = options.write;
    write.stop = options.stop;
    write.copied_packs = compact.sparse_packs;
    Compactor compactor(view, write);
    const auto done = CommitCompaction(&compactor, *fragments, groups, budget, options);
    if (done.ok()) {
      tries = 0;
      result.version = done->version;
      result.commits += 1;
      result.rows += done->rows;
      result.bytes += done->bytes;
      result.fragments += done->fragments;
      result.replaced += done->replaced;
      continue;
    }
    if (!done.status().Is(Code::kConflict) || ++tries == limits::kMaxRecomputes)
      return done.status().Wrap("cannot compact '" + name_ + "'");
    // What is written in less time is less often overtaken.
    budget /= 4;
    Backoff(tries);
  }
}

Result<CompactResult> Table::Upkeep(const CommitOptions& options) {
  HEADRACE_ASSIGN(const View view, At());
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  if (!WantsUpkeep(*fragments)) return CompactResult{{.version = view.snapshot().version}};
  CompactOptions compact;
  compact.fragment_bytes = limits::kUpkeepBytes;
  compact.pack_share = 0;
  compact.sort_alone = false;
  return Compact(compact, options);
}

Result<CompactResult> Table::CommitCompaction(Compactor* compactor, const std::vector<Fragment>& fragments,
                                              const std::vector<CompactGroup>& groups, int64_t budget,
                                              const CommitOptions& options) {
  int64_t total = 0;
  for (const auto& group : groups) total += RowsOf(fragments, group);
  CompactResult result;
  const auto progress = [&](int64_t rows) {
    result.rows += rows;
    if (options.progress) options.progress({"compacting", result.rows, total, compactor->bytes(), 0});
  };
  for (const auto& group : groups) {
    const Status added = compactor->Add(fragments, group, progress);
    if (!added.ok()) {
      compactor->Discard();
      return added;
    }
    result.replaced += static_cast<int64_t>(group.end - group.begin);
    if (compactor->bytes() > budget) break;
  }
  result.bytes = compactor->bytes();
  CompactFragments compact = compactor->Take();
  for (const auto& part : compact.parts) result.fragments += static_cast<int64_t>(part.merged.size());
  Change change{std::move(compact), MakeOperation(options), {}, {}};
  change.base = compactor->base();
  change.operation.rows = result.rows;
  change.operation.fragments = result.fragments;
  change.operation.bytes = result.bytes;
  Attempt attempt;
  const auto committed = log_->Commit(change, options.stop, &attempt);
  if (!committed.ok() && attempt.unsettled == 0) compactor->Discard();
  if (!committed.ok()) return committed.status();
  result.version = committed->version;
  return result;
}

Status WriteCompaction(const CompactFragments& compact, const View& head, Snapshot* next,
                       std::vector<std::string>* written) {
  HEADRACE_ASSIGN(const auto fragments, head.Fragments());
  const RowMap rows(*fragments);
  std::set<int64_t> gone;
  RowSetWriter sets(*head.environment());
  std::vector<Fragment> merged;
  for (const auto& part : compact.parts) {
    std::vector<int64_t> deleted;  // ids, ascending
    for (const auto& before : part.replaced) {
      const Fragment* now = rows.Same(before);
      HEADRACE_CHECK(now != nullptr);
      gone.insert(now->id);
      if (part.merged.empty()) continue;
      HEADRACE_ASSIGN(const auto set, head.Deleted(*now));
      if (set == nullptr) continue;
      HEADRACE_ASSIGN(const RowIds ids, head.reader().Ids(*now));
      const size_t first = deleted.size();
      set->AppendRange(0, now->rows, &deleted);
      for (size_t i = first; i < deleted.size(); ++i) deleted[i] = ids.IdAt(deleted[i]);
    }
    std::sort(deleted.begin(), deleted.end());
    for (Fragment fragment : part.merged) {
      const int64_t erased = fragment.deleted.erased;
      fragment.id = next->next_fragment_id++;
      fragment.version = next->version;
      fragment.deleted = RowSetRef{};
      std::vector<uint32_t> places;
      const auto begin = std::lower_bound(deleted.begin(), deleted.end(), fragment.first_row_id);
      const auto end = std::lower_bound(begin, deleted.end(), fragment.end_row_id());
      if (begin != end) {
        HEADRACE_ASSIGN(const RowIds ids, head.reader().Ids(fragment));
        for (auto id = begin; id != end; ++id) places.push_back(static_cast<uint32_t>(ids.PlaceOf(*id)));
        std::sort(places.begin(), places.end());
      }
      if (!places.empty()) fragment.deleted = sets.Add(*RowSet::Of(places));
      fragment.deleted.erased = erased;
      merged.push_back(std::move(fragment));
    }
  }
  HEADRACE_TRY(DropEntries(head.environment().get(), head.prefix(), gone, next, written));
  for (auto& fragment : merged) next->inline_entries.push_back(std::move(fragment));
  return sets.Finish(head.environment().get(), head.prefix(), written);
}

}  // namespace headrace::table
