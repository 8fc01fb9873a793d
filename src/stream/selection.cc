#include "stream/selection.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "base/limits.h"
#include "table/arrow_bridge.h"
#include "table/expr.h"
#include "table/keys.h"
#include "table/place_name.h"

namespace headrace::stream {
namespace {

constexpr char kSelectionMagic[] = "HRSEL001";
constexpr size_t kPartFragments = 64;

void PutInt(std::string* out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}
  bool Int(int bytes, uint64_t* value) {
    if (bytes_.size() - at_ < static_cast<size_t>(bytes)) return false;
    *value = 0;
    for (int i = 0; i < bytes; ++i)
      *value |= uint64_t{static_cast<uint8_t>(bytes_[at_ + static_cast<size_t>(i)])} << (8 * i);
    at_ += static_cast<size_t>(bytes);
    return true;
  }
  bool Text(size_t length, std::string_view* text) {
    if (bytes_.size() - at_ < length) return false;
    *text = bytes_.substr(at_, length);
    at_ += length;
    return true;
  }
  size_t at() const { return at_; }

 private:
  std::string_view bytes_;
  size_t at_ = 0;
};

// One part's directory entry.
struct Entry {
  Extent extent;
  uint64_t offset = 0;
  uint64_t length = 0;  // 0: none or all of the rows
  uint64_t checksum = 0;
};

std::string EncodePart(int64_t version, const std::string& canonical, const std::vector<Extent>& extents,
                       const std::vector<std::string>& sets) {
  std::string head(kSelectionMagic, 8);
  const size_t head_bytes = 8 + 4 + 8 + 4 + canonical.size() + 4 + extents.size() * 48 + 8;
  PutInt(&head, head_bytes, 4);
  PutInt(&head, static_cast<uint64_t>(version), 8);
  PutInt(&head, canonical.size(), 4);
  head += canonical;
  PutInt(&head, extents.size(), 4);
  uint64_t offset = head_bytes;
  for (size_t i = 0; i < extents.size(); ++i) {
    PutInt(&head, static_cast<uint64_t>(extents[i].first_row_id), 8);
    PutInt(&head, static_cast<uint64_t>(extents[i].rows), 8);
    PutInt(&head, static_cast<uint64_t>(extents[i].selected), 8);
    PutInt(&head, offset, 8);
    PutInt(&head, sets[i].size(), 8);
    PutInt(&head, Xxh3(sets[i]), 8);
    offset += sets[i].size();
  }
  PutInt(&head, Xxh3(head), 8);
  for (const auto& set : sets) head += set;
  return head;
}

Result<std::vector<Entry>> DecodeHead(std::string_view bytes, const std::string& key, int64_t version,
                                      const std::string& canonical, const std::vector<Extent>& expected) {
  const auto damaged = [&] { return Status::Corrupt(key + " is damaged; delete it, it is made again"); };
  if (bytes.size() < 12 || std::memcmp(bytes.data(), kSelectionMagic, 8) != 0) return damaged();
  Cursor cursor(bytes.substr(8));
  uint64_t head_bytes = 0;
  if (!cursor.Int(4, &head_bytes) || head_bytes > bytes.size() || head_bytes < 36) return damaged();
  uint64_t sum = 0;
  Cursor tail(bytes.substr(head_bytes - 8));
  if (!tail.Int(8, &sum) || sum != Xxh3(bytes.substr(0, head_bytes - 8))) return damaged();
  uint64_t number = 0;
  std::string_view text;
  if (!cursor.Int(8, &number) || static_cast<int64_t>(number) != version) return damaged();
  if (!cursor.Int(4, &number) || !cursor.Text(number, &text)) return damaged();
  if (text != canonical) return Status::NotFound(key + " holds another filter");
  if (!cursor.Int(4, &number) || number != expected.size()) return damaged();
  std::vector<Entry> entries(expected.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    Entry& e = entries[i];
    uint64_t first = 0;
    uint64_t rows = 0;
    uint64_t selected = 0;
    if (!cursor.Int(8, &first) || !cursor.Int(8, &rows) || !cursor.Int(8, &selected) ||
        !cursor.Int(8, &e.offset) || !cursor.Int(8, &e.length) || !cursor.Int(8, &e.checksum)) {
      return damaged();
    }
    e.extent = {static_cast<int64_t>(first), static_cast<int64_t>(rows), static_cast<int64_t>(selected)};
    if (e.extent.first_row_id != expected[i].first_row_id || e.extent.rows != expected[i].rows ||
        selected > rows || (e.length == 0) != (selected == 0 || selected == rows)) {
      return damaged();
    }
  }
  return entries;
}

// Evaluates the filter over some fragments: their selected rows.
Status Evaluate(const table::View& view, const std::string& where, std::vector<Extent>* extents,
                std::vector<std::string>* sets, const StopToken& stop) {
  HEADRACE_TRY(table::CheckPlaceName(view.schema()));
  table::ScanOptions options;
  options.columns = {std::string(table::kRowPlaceColumn)};
  options.where = "(" + where + ") and _row_place >= " + std::to_string(extents->front().first_row_id) +
                  " and _row_place < " + std::to_string(extents->back().first_row_id + extents->back().rows);
  options.stop = stop;
  HEADRACE_ASSIGN(const auto reader, view.Scan(options));
  std::vector<std::vector<uint32_t>> rows(extents->size());
  size_t at = 0;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) break;
    const auto& places = static_cast<const arrow::Int64Array&>(*batch->column(0));
    for (int64_t i = 0; i < places.length(); ++i) {
      const int64_t place = places.Value(i);
      while (place >= (*extents)[at].first_row_id + (*extents)[at].rows) ++at;
      rows[at].push_back(static_cast<uint32_t>(place - (*extents)[at].first_row_id));
    }
  }
  sets->clear();
  for (size_t i = 0; i < extents->size(); ++i) {
    Extent& extent = (*extents)[i];
    extent.selected = static_cast<int64_t>(rows[i].size());
    const bool plain = extent.selected == 0 || extent.selected == extent.rows;
    sets->push_back(plain ? std::string() : RowSet::Encode(rows[i]));
  }
  return Status::Ok();
}

std::vector<Extent> ExtentsOf(const std::vector<table::Fragment>& fragments) {
  std::vector<Extent> extents;
  extents.reserve(fragments.size());
  for (const auto& fragment : fragments)
    extents.push_back({fragment.first_row_id, fragment.rows, fragment.live_rows()});
  return extents;
}

// All rows that were not deleted.
std::shared_ptr<Selection> LiveRows(const table::View& view,
                                    std::shared_ptr<const std::vector<table::Fragment>> all,
                                    std::vector<Extent> extents) {
  return Selection::From(std::move(extents), [view, all](size_t i) -> Result<store::Bytes> {
    const table::Fragment& fragment = (*all)[i];
    HEADRACE_ASSIGN(const auto deleted, view.Deleted(fragment));
    return store::Bytes::FromString(deleted->Complement(fragment.rows)->Encode());
  });
}

constexpr int64_t kHeadRead = 64 << 10;

struct Part {
  std::vector<Entry> entries;
  std::shared_ptr<store::ObjectReader> reader;
  std::string bytes;  // where it could not be kept in the catalog
};

Result<Part> OpenPart(store::ObjectStore* store, const std::string& key, int64_t version,
                      const std::string& canonical, const std::vector<Extent>& extents) {
  Part part;
  HEADRACE_ASSIGN(part.reader, store->Open(key));
  if (part.reader->size() == 0) {  // what earlier versions locked on a local disk
    HEADRACE_TRY(store->Delete(key));
    return Status::NotFound(key + " is empty");
  }
  HEADRACE_ASSIGN(auto head, part.reader->Read(0, std::min(part.reader->size(), kHeadRead)));
  if (head.size() >= 12) {
    Cursor cursor(head.view().substr(8));
    uint64_t head_bytes = 0;
    cursor.Int(4, &head_bytes);
    if (static_cast<int64_t>(head_bytes) > head.size() &&
        static_cast<int64_t>(head_bytes) <= part.reader->size()) {
      HEADRACE_ASSIGN(head, part.reader->Read(0, static_cast<int64_t>(head_bytes)));
    }
  }
  HEADRACE_ASSIGN(part.entries, DecodeHead(head.view(), key, version, canonical, extents));
  return part;
}

}  // namespace

Selection::Selection(std::vector<Extent> extents) : extents_(std::move(extents)), sets_(extents_.size()) {
  starts_.reserve(extents_.size() + 1);
  starts_.push_back(0);
  for (const auto& extent : extents_) starts_.push_back(starts_.back() + extent.selected);
}

std::shared_ptr<Selection> Selection::All(std::vector<Extent> extents) {
  return std::shared_ptr<Selection>(new Selection(std::move(extents)));
}

std::shared_ptr<Selection> Selection::From(std::vector<Extent> extents, LoadFn load) {
  std::shared_ptr<Selection> selection(new Selection(std::move(extents)));
  selection->load_ = std::move(load);
  return selection;
}

Result<std::shared_ptr<Selection>> Selection::Load(const table::View& view, const std::string& where,
                                                   int share, int shares, const StopToken& stop,
                                                   const ProgressFn& progress) {
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  HEADRACE_ASSIGN(auto selection, LoadSets(view, fragments, where, share, shares, stop, progress));
  if (std::any_of(fragments->begin(), fragments->end(), table::IsSorted))
    selection->ids_ = [view, fragments](size_t i) { return view.reader().Ids((*fragments)[i]); };
  return selection;
}

Result<std::shared_ptr<Selection>> Selection::LoadSets(
    const table::View& view, const std::shared_ptr<const std::vector<table::Fragment>>& fragments,
    const std::string& where, int share, int shares, const StopToken& stop, const ProgressFn& progress) {
  std::vector<Extent> extents = ExtentsOf(*fragments);
  if (where.empty() || extents.empty()) return LiveRows(view, fragments, std::move(extents));
  HEADRACE_ASSIGN(const auto parsed, table::ParseExpr(where));
  HEADRACE_ASSIGN(const auto bound, table::BindFilter(parsed, view.schema()));
  const std::string canonical = table::ToString(*parsed);
  const int64_t version = view.snapshot().version;
  const uint64_t hash = Xxh3(std::to_string(version) + ":" + canonical);
  store::ObjectStore* store = view.environment()->store.get();
  const size_t count = (extents.size() + kPartFragments - 1) / kPartFragments;
  auto parts = std::make_shared<std::vector<Part>>(count);
  const size_t first = shares > 0 ? count * static_cast<size_t>(share) / static_cast<size_t>(shares) : 0;
  for (size_t k = 0; k < count; ++k) {
    HEADRACE_TRY(stop.Check());
    const size_t p = (first + k) % count;
    const auto begin = extents.begin() + static_cast<int64_t>(p * kPartFragments);
    const auto end =
        extents.begin() + static_cast<int64_t>(std::min(extents.size(), (p + 1) * kPartFragments));
    std::vector<Extent> mine(begin, end);
    const std::string key = table::SelectionKey(view.prefix(), hash, p);
    // Not the part's own key: a local store makes the lock's file, and an empty part would be a damaged one.
    const auto turn = store->CourtesyLock(table::LockKey(key));
    auto opened = OpenPart(store, key, version, canonical, mine);
    if (!opened.ok() && !opened.status().Is(Code::kNotFound)) return opened.status();
    if (opened.ok()) {
      (*parts)[p] = std::move(opened).value();
    } else {
      std::vector<std::string> sets;
      HEADRACE_TRY(Evaluate(view, where, &mine, &sets, stop));
      Part& part = (*parts)[p];
      part.bytes = EncodePart(version, canonical, mine, sets);
      // Another writer puts the same bytes; in a read-only catalog, or on a full disk, nothing is kept.
      const Status put = store->PutIfAbsent(key, part.bytes);
      if (!put.ok() && !put.Is(Code::kAlreadyExists) && !put.Is(Code::kPermission) &&
          !put.Is(Code::kUnsupported) && !put.Is(Code::kIo) && !put.Is(Code::kUnknown) &&
          !put.Is(Code::kTimeout)) {
        return put.Wrap("cannot keep the selection of \"" + where + "\"");
      }
      HEADRACE_ASSIGN(part.entries, DecodeHead(part.bytes, key, version, canonical, mine));
    }
    if (progress)
      progress({"selecting rows", static_cast<int64_t>(k + 1), static_cast<int64_t>(count), 0, 0});
  }
  for (size_t i = 0; i < extents.size(); ++i) {
    extents[i] = (*parts)[i / kPartFragments].entries[i % kPartFragments].extent;
  }
  auto selection = From(
      std::move(extents), [parts, hash, prefix = view.prefix()](size_t fragment) -> Result<store::Bytes> {
        const Part& part = (*parts)[fragment / kPartFragments];
        const Entry& entry = part.entries[fragment % kPartFragments];
        const auto offset = static_cast<int64_t>(entry.offset);
        const auto length = static_cast<int64_t>(entry.length);
        store::Bytes bytes;
        if (part.reader) {
          HEADRACE_ASSIGN(bytes, part.reader->Read(offset, length));
        } else {
          bytes = store::Bytes::FromString(part.bytes.substr(entry.offset, entry.length));
        }
        if (Xxh3(bytes.view()) != entry.checksum) {
          return Status::Corrupt(table::SelectionKey(prefix, hash, fragment / kPartFragments) +
                                 " is damaged; delete it, it is made again");
        }
        return bytes;
      });
  selection->hash_ = hash;
  selection->canonical_ = canonical;
  return selection;
}

Result<int64_t> Selection::RowIdAt(const RowPlace& place) const {
  const auto fragment = static_cast<size_t>(place.fragment);
  if (!ids_) return extents_[fragment].first_row_id + place.row;
  HEADRACE_ASSIGN(const table::RowIds ids, ids_(fragment));
  return ids.IdAt(place.row);
}

Result<RowPlace> Selection::At(int64_t ordinal) {
  HEADRACE_CHECK(ordinal >= 0 && ordinal < rows());
  const auto it = std::upper_bound(starts_.begin(), starts_.end(), ordinal) - 1;
  const auto fragment = static_cast<size_t>(it - starts_.begin());
  const auto rank = static_cast<uint32_t>(ordinal - *it);
  RowPlace place{static_cast<int32_t>(fragment), static_cast<int32_t>(rank)};
  const Extent& extent = extents_[fragment];
  if (extent.selected == extent.rows) return place;
  const std::lock_guard lock(mutex_);
  auto& set = sets_[fragment];
  if (!set) {
    HEADRACE_ASSIGN(set, LoadSet(fragment));
  }
  place.row = static_cast<int32_t>(set->Select(rank));
  return place;
}

Result<std::shared_ptr<const RowSet>> Selection::LoadSet(size_t fragment) const {
  const Extent& extent = extents_[fragment];
  HEADRACE_ASSIGN(const auto bytes, load_(fragment));
  return RowSet::Parse(bytes.view(), extent.rows, extent.selected);
}

Result<std::shared_ptr<const table::RowSets>> Selection::Sets() {
  const auto whole = [](const Extent& extent) { return extent.selected == extent.rows; };
  if (std::all_of(extents_.begin(), extents_.end(), whole)) return std::shared_ptr<const table::RowSets>();
  HEADRACE_ASSIGN(const auto none, RowSet::Parse(RowSet::Encode({}), 0, 0));
  auto sets = std::make_shared<table::RowSets>(extents_.size());
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < extents_.size(); ++i) {
    if (whole(extents_[i])) continue;
    (*sets)[i] = none;
    if (extents_[i].selected == 0) continue;
    HEADRACE_ASSIGN((*sets)[i], sets_[i] ? Result<std::shared_ptr<const RowSet>>(sets_[i]) : LoadSet(i));
  }
  return std::shared_ptr<const table::RowSets>(std::move(sets));
}

int64_t Selection::memory_bytes() {
  const std::lock_guard lock(mutex_);
  int64_t bytes = static_cast<int64_t>(extents_.size() * (sizeof(Extent) + sizeof(int64_t)));
  for (const auto& set : sets_) bytes += set ? set->bytes() : 0;
  return bytes;
}

}  // namespace headrace::stream
