#include <algorithm>

#include "table/compact.h"
#include "table/sort_rows.h"

namespace headrace::table {
namespace {

// The columns that a fragment has values of.
std::vector<int32_t> FilledFields(const Schema& schema, const Fragment& fragment) {
  std::vector<int32_t> filled;
  for (const auto& field : schema.fields) {
    if (fragment.Fills(field.id) || fragment.Overlaid(field.id)) filled.push_back(field.id);
  }
  return filled;
}

int64_t FileBytes(const Fragment& fragment) {
  int64_t bytes = 0;
  for (const auto& file : fragment.files) bytes += file.bytes;
  return bytes;
}

bool IsToBeSorted(const Schema& schema, const Fragment& fragment, const CompactOptions& options) {
  if (!options.sort_alone || options.sort_by.empty() || fragment.rows <= 1) return false;
  const auto key = KeyAmong(options.sort_by, FilledFields(schema, fragment));
  return !key.empty() && fragment.sorted_by != key && DecodedBytes(fragment) <= kMostSortedBytes;
}

// Whether it gains from being written anew although no other joins it.
bool WorthAlone(const Schema& schema, const Fragment& fragment, const CompactOptions& options) {
  if (IsToBeSorted(schema, fragment, options)) return true;
  const auto held = static_cast<double>(fragment.deleted.count - fragment.deleted.erased);
  const auto& sparse = options.sparse_packs;
  return !fragment.overlays.empty() || held > options.deleted_share * static_cast<double>(fragment.rows) ||
         std::any_of(fragment.packs.begin(), fragment.packs.end(),
                     [&](const PackUse& pack) { return sparse.contains(pack.id); });
}

// Fragments that may become one: neighbours by row id, with the same columns filled.
class Groups {
 public:
  Groups(const Schema& schema, const std::vector<Fragment>& fragments, const CompactOptions& options)
      : schema_(schema), fragments_(fragments), options_(options) {
    if (!options_.sort_by.empty()) most_bytes_ = std::min(most_bytes_, kMostSortedBytes);
  }

  std::vector<CompactGroup> Plan() {
    for (size_t i = 0; i < fragments_.size(); ++i) {
      const Fragment& fragment = fragments_[i];
      auto filled = FilledFields(schema_, fragment);
      const int64_t bytes = options_.sort_by.empty() ? FileBytes(fragment) : DecodedBytes(fragment);
      const bool in_part = IsFilledInPart(schema_, fragment);
      const bool joins = begin_ < i && !in_part && !in_part_ &&
                         fragments_[i - 1].end_row_id() == fragment.first_row_id && filled == filled_ &&
                         fragment.rows <= options_.fragment_rows - rows_ && bytes <= most_bytes_ - bytes_ &&
                         // Places without rows are kept between others, as far as those are more.
                         (fragment.live_rows() > 0 || fragment.rows <= rows_);
      if (!joins) {
        Close(i);
        begin_ = i;
        filled_ = std::move(filled);
        in_part_ = in_part;
      }
      rows_ += fragment.rows;
      bytes_ += bytes;
    }
    Close(fragments_.size());
    return std::move(groups_);
  }

 private:
  // Ends the group that is open.
  void Close(size_t end) {
    if (begin_ < end) Split(begin_, end);
    begin_ = SIZE_MAX;
    rows_ = bytes_ = 0;
  }

  bool Empty(size_t i) const { return fragments_[i].live_rows() == 0; }

  // Leaves out what would have to be written again for little.
  void Split(size_t begin, size_t end) {
    size_t last = end;
    for (; begin < end && Empty(begin); ++begin) groups_.push_back({begin, begin + 1, true});
    while (begin < last && Empty(last - 1)) --last;
    if (begin + 1 == last) {
      if (WorthAlone(schema_, fragments_[begin], options_)) groups_.push_back({begin, last});
    } else if (begin < last) {
      SplitRows(begin, last);
    }
    for (size_t i = last; i < end; ++i) groups_.push_back({i, i + 1, true});
  }

  void SplitRows(size_t begin, size_t end) {
    size_t largest = begin;
    int64_t rows = 0;
    for (size_t i = begin; i < end; ++i) {
      rows += fragments_[i].rows;
      if (fragments_[i].rows > fragments_[largest].rows) largest = i;
    }
    const auto most = static_cast<double>(fragments_[largest].rows);
    if (most <= options_.largest_share * static_cast<double>(rows)) {
      groups_.push_back({begin, end});
      return;
    }
    Split(begin, largest);
    Split(largest, largest + 1);
    Split(largest + 1, end);
  }

  const Schema& schema_;
  const std::vector<Fragment>& fragments_;
  const CompactOptions& options_;
  int64_t most_bytes_ = options_.fragment_bytes;
  std::vector<CompactGroup> groups_;
  size_t begin_ = SIZE_MAX;  // of the one that is open; SIZE_MAX: none is
  std::vector<int32_t> filled_;
  bool in_part_ = false;
  int64_t rows_ = 0;
  int64_t bytes_ = 0;
};

}  // namespace

bool IsFilledInPart(const Schema& schema, const Fragment& fragment) {
  return std::any_of(schema.fields.begin(), schema.fields.end(),
                     [&](const Field& field) { return fragment.FilledRows(field.id) == Filled::kSome; });
}

std::vector<CompactGroup> PlanCompaction(const Schema& schema, const std::vector<Fragment>& fragments,
                                         const CompactOptions& options) {
  return Groups(schema, fragments, options).Plan();
}

int64_t RowsOf(const std::vector<Fragment>& fragments, const CompactGroup& group) {
  int64_t rows = 0;
  for (size_t i = group.begin; i < group.end; ++i) rows += group.empty ? 0 : fragments[i].rows;
  return rows;
}

bool WantsUpkeep(const std::vector<Fragment>& fragments) {
  const auto small = [](const Fragment& fragment) { return fragment.rows < limits::kSmallFragmentRows; };
  return std::count_if(fragments.begin(), fragments.end(), small) > limits::kMaxSmallFragments;
}

}  // namespace headrace::table
