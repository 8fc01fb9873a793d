#include "table/row_updater.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>

#include "base/limits.h"
#include "table/conform.h"
#include "table/replace_rows.h"

namespace headrace::table {
namespace {

using BatchPtr = std::shared_ptr<arrow::RecordBatch>;

std::unique_ptr<DataWriter> NewWriter(const View& view, const std::vector<Field>& fields,
                                      const WriteOptions& options) {
  Schema written;
  written.fields = fields;
  return NewDataWriter(view, fields, StatFields(written), options.Unsplit());
}

Fragment EntryOf(const Fragment& fragment) {
  Fragment entry;
  entry.id = fragment.id;
  entry.first_row_id = fragment.first_row_id;
  entry.rows = fragment.rows;
  return entry;
}

}  // namespace

RowUpdater::RowUpdater(const View& view, std::vector<Field> fields, const WriteOptions& options)
    : view_(view), fields_(std::move(fields)), sets_(*view.environment()) {
  for (const auto& field : fields_) {
    has_blob_ = has_blob_ || field.type.kind == Kind::kBlob;
    projections_.push_back({field.name, field, field, {field.name}, false});
  }
  overlays_ = NewWriter(view_, fields_, options);
  files_ = NewWriter(view_, fields_, options);
}

bool RowUpdater::WritesWhole(const Fragment& fragment, const RowSet& rows) const {
  if (has_blob_) return false;  // cells of packs are laid over, whatever their number: no bytes are copied
  // Rows that are still to be filled must not get a value.
  const auto some = [&](const Field& field) { return fragment.FilledRows(field.id) == Filled::kSome; };
  if (std::any_of(fields_.begin(), fields_.end(), some)) return false;
  if (rows.count() * 2 >= fragment.live_rows()) return true;
  return std::any_of(fields_.begin(), fields_.end(), [&](const Field& field) {
    const auto on_it =
        std::count_if(fragment.overlays.begin(), fragment.overlays.end(),
                      [&](const Overlay& overlay) { return overlay.FileOf(field.id) != nullptr; });
    return static_cast<size_t>(on_it) >= kMaxOverlays;
  });
}

Status RowUpdater::Add(const Fragment& fragment, std::shared_ptr<const RowSet> rows, const ValuesFn& values) {
  if (rows->count() == 0) return Status::Ok();
  rows_ += rows->count();
  const bool whole = WritesWhole(fragment, *rows);
  used_.push_back({fragment, whole ? nullptr : rows, {}});
  return whole ? AddFiles(fragment, *rows, values) : AddOverlay(fragment, *rows, values);
}

std::vector<UsedValues> RowUpdater::used(const std::vector<int32_t>& fields) const {
  std::vector<UsedValues> used = used_;
  for (auto& values : used) values.fields = fields;
  return used;
}

Result<BatchPtr> RowUpdater::Conformed(size_t first, const std::vector<int64_t>& rows,
                                       const ValuesFn& values) const {
  HEADRACE_ASSIGN(const auto batch, values(first, rows));
  if (batch->num_rows() != static_cast<int64_t>(rows.size())) {
    return Status::Invalid("there are " + std::to_string(batch->num_rows()) + " new values for " +
                           std::to_string(rows.size()) + " rows; give one for each");
  }
  arrow::FieldVector names;
  arrow::ArrayVector arrays;
  for (const auto& field : fields_) {
    const auto given = batch->GetColumnByName(field.name);
    if (!given) return Status::Invalid("the new values have no column '" + field.name + "'");
    HEADRACE_ASSIGN(auto array, ConformArray(given, field));
    names.push_back(arrow::field(field.name, array->type()));
    arrays.push_back(std::move(array));
  }
  return arrow::RecordBatch::Make(arrow::schema(std::move(names)), batch->num_rows(), std::move(arrays));
}

Status RowUpdater::AddOverlay(const Fragment& fragment, const RowSet& rows, const ValuesFn& values) {
  // Blobs: a fragment of the writer for each, so that its packs are those of these rows.
  const bool full =
      overlay_rows_ >= limits::kFragmentRows || overlays_->bytes() - overlay_begun_ >= limits::kFragmentBytes;
  if (overlay_rows_ > 0 && (full || has_blob_)) {
    HEADRACE_TRY(overlays_->EndFragment());
    overlay_files_ += 1;
    overlay_rows_ = 0;
    overlay_begun_ = overlays_->bytes();
  }
  Pending pending{EntryOf(fragment), overlay_files_, false};
  Overlay overlay;
  overlay.rows = sets_.Add(rows);
  overlay.first = overlay_rows_;
  std::vector<int64_t> all;
  rows.AppendRange(0, fragment.rows, &all);
  for (size_t first = 0; first < all.size(); first += kRows) {
    const size_t last = std::min(all.size(), first + kRows);
    const std::vector<int64_t> some(all.begin() + static_cast<std::ptrdiff_t>(first),
                                    all.begin() + static_cast<std::ptrdiff_t>(last));
    HEADRACE_ASSIGN(const auto batch, Conformed(first, some, values));
    HEADRACE_TRY(overlays_->Write(*batch));
  }
  overlay_rows_ += rows.count();
  set_bytes_ += overlay.rows.bytes;
  pending.entry.overlays.push_back(std::move(overlay));
  pending_.push_back(std::move(pending));
  return Status::Ok();
}

Status RowUpdater::AddFiles(const Fragment& fragment, const RowSet& rows, const ValuesFn& values) {
  size_t first = 0;
  for (int64_t begin = 0; begin < fragment.rows; begin += kRows) {
    const int64_t end = std::min(fragment.rows, begin + kRows);
    std::vector<int64_t> some;
    rows.AppendRange(begin, end, &some);
    BatchPtr fresh;
    if (!some.empty()) {
      HEADRACE_ASSIGN(fresh, Conformed(first, some, values));
    }
    first += some.size();
    for (auto& row : some) row -= begin;
    arrow::FieldVector names;
    arrow::ArrayVector arrays;
    for (size_t i = 0; i < fields_.size(); ++i) {
      HEADRACE_ASSIGN(auto array, view_.reader().Read(fragment, projections_[i], Rows::Range(begin, end)));
      if (fresh) {
        HEADRACE_ASSIGN(array, ConformArray(array, fields_[i]));
        HEADRACE_ASSIGN(array, Replaced(std::move(array), some, fresh->column(static_cast<int>(i))));
      }
      names.push_back(arrow::field(fields_[i].name, array->type()));
      arrays.push_back(std::move(array));
    }
    HEADRACE_TRY(files_->Write(*arrow::RecordBatch::Make(arrow::schema(names), end - begin, arrays)));
  }
  HEADRACE_TRY(files_->EndFragment());
  pending_.push_back({EntryOf(fragment), whole_files_++, true});
  return Status::Ok();
}

Result<std::vector<Fragment>> RowUpdater::Finish() {
  HEADRACE_ASSIGN(const auto overlays, overlays_->Finish());
  HEADRACE_ASSIGN(const auto files, files_->Finish());
  HEADRACE_TRY(sets_.Finish(view_.environment().get(), view_.prefix(), &keys_));
  std::vector<Fragment> entries;
  for (auto& pending : pending_) {
    const Fragment& written = pending.whole ? files[pending.written] : overlays[pending.written];
    Fragment entry = std::move(pending.entry);
    entry.packs = written.packs;
    if (pending.whole) {
      entry.files = written.files;
      entry.stats = written.stats;
    } else {
      entry.overlays[0].files = written.files;
      entry.overlays[0].stats = written.stats;
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

void RowUpdater::Discard() {
  overlays_->Discard();
  files_->Discard();
  for (const auto& key : keys_) (void)view_.environment()->store->Delete(key);
}

}  // namespace headrace::table
