#include "table/row_set.h"

#include <roaring/roaring.h>

#include "base/check.h"

namespace headrace::table {
namespace {

const roaring_bitmap_t* Bitmap(const void* p) { return static_cast<const roaring_bitmap_t*>(p); }

// The set's rows from `begin` on, until `visit` returns false.
template <typename Visit>
void Walk(const void* bitmap, int64_t begin, const Visit& visit) {
  if (begin > UINT32_MAX) return;
  roaring_uint32_iterator_t* it = roaring_create_iterator(Bitmap(bitmap));
  bool more = roaring_move_uint32_iterator_equalorlarger(it, static_cast<uint32_t>(begin));
  for (; more && visit(int64_t{it->current_value}); more = roaring_advance_uint32_iterator(it)) {
  }
  roaring_free_uint32_iterator(it);
}

}  // namespace

std::shared_ptr<const RowSet> RowSet::Own(void* bitmap) {
  roaring_bitmap_run_optimize(static_cast<roaring_bitmap_t*>(bitmap));
  return std::shared_ptr<const RowSet>(new RowSet(bitmap));
}

std::shared_ptr<const RowSet> RowSet::Of(const std::vector<uint32_t>& rows) {
  return Own(roaring_bitmap_of_ptr(rows.size(), rows.data()));
}

std::shared_ptr<const RowSet> RowSet::Range(int64_t begin, int64_t end) {
  return Own(roaring_bitmap_from_range(static_cast<uint64_t>(begin), static_cast<uint64_t>(end), 1));
}

std::string RowSet::Encode() const {
  std::string bytes(roaring_bitmap_portable_size_in_bytes(Bitmap(bitmap_)), '\0');
  roaring_bitmap_portable_serialize(Bitmap(bitmap_), bytes.data());
  return bytes;
}

Result<std::shared_ptr<const RowSet>> RowSet::Parse(std::string_view portable, int64_t rows,
                                                    int64_t selected) {
  roaring_bitmap_t* bitmap = roaring_bitmap_portable_deserialize_safe(portable.data(), portable.size());
  std::shared_ptr<const RowSet> set(new RowSet(bitmap));
  if (bitmap == nullptr || static_cast<int64_t>(roaring_bitmap_get_cardinality(bitmap)) != selected ||
      (selected > 0 && roaring_bitmap_maximum(bitmap) >= rows)) {
    return Status::Corrupt("a bitmap of rows is damaged");
  }
  return set;
}

RowSet::~RowSet() {
  if (bitmap_ != nullptr) roaring_bitmap_free(Bitmap(bitmap_));
}

std::shared_ptr<const RowSet> RowSet::Union(const RowSet& other) const {
  return Own(roaring_bitmap_or(Bitmap(bitmap_), Bitmap(other.bitmap_)));
}

std::shared_ptr<const RowSet> RowSet::Without(const RowSet& other) const {
  return Own(roaring_bitmap_andnot(Bitmap(bitmap_), Bitmap(other.bitmap_)));
}

std::shared_ptr<const RowSet> RowSet::Complement(int64_t rows) const {
  return Own(roaring_bitmap_flip(Bitmap(bitmap_), 0, static_cast<uint64_t>(rows)));
}

int64_t RowSet::count() const {
  return static_cast<int64_t>(roaring_bitmap_get_cardinality(Bitmap(bitmap_)));
}

bool RowSet::Contains(int64_t row) const {
  return roaring_bitmap_contains(Bitmap(bitmap_), static_cast<uint32_t>(row));
}

int64_t RowSet::Rank(int64_t row) const {
  return row == 0
             ? 0
             : static_cast<int64_t>(roaring_bitmap_rank(Bitmap(bitmap_), static_cast<uint32_t>(row - 1)));
}

uint32_t RowSet::Select(uint32_t rank) const {
  uint32_t row = 0;
  HEADRACE_CHECK(roaring_bitmap_select(Bitmap(bitmap_), rank, &row));
  return row;
}

void RowSet::AppendRange(int64_t begin, int64_t end, std::vector<int64_t>* rows) const {
  Walk(bitmap_, begin, [&](int64_t row) {
    if (row >= end) return false;
    rows->push_back(row);
    return true;
  });
}

void RowSet::AppendOthers(int64_t begin, int64_t end, std::vector<int64_t>* rows) const {
  int64_t next = begin;
  const auto up_to = [&](int64_t stop) {
    for (; next < stop; ++next) rows->push_back(next);
  };
  Walk(bitmap_, begin, [&](int64_t row) {
    if (row >= end) return false;
    up_to(row);
    next = row + 1;
    return true;
  });
  up_to(end);
}

int64_t RowSet::bytes() const { return static_cast<int64_t>(roaring_bitmap_size_in_bytes(Bitmap(bitmap_))); }

}  // namespace headrace::table
