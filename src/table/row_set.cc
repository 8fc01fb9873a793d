#include "table/row_set.h"

#include <roaring/roaring.h>

#include "base/check.h"

namespace headrace::table {
namespace {

const roaring_bitmap_t* Bitmap(const void* p) { return static_cast<const roaring_bitmap_t*>(p); }

}  // namespace

std::string RowSet::Encode(const std::vector<uint32_t>& rows) {
  roaring_bitmap_t* bitmap = roaring_bitmap_of_ptr(rows.size(), rows.data());
  roaring_bitmap_run_optimize(bitmap);
  std::string bytes(roaring_bitmap_portable_size_in_bytes(bitmap), '\0');
  roaring_bitmap_portable_serialize(bitmap, bytes.data());
  roaring_bitmap_free(bitmap);
  return bytes;
}

Result<std::shared_ptr<const RowSet>> RowSet::Parse(std::string_view portable, int64_t rows,
                                                    int64_t selected) {
  std::shared_ptr<RowSet> set(new RowSet());
  roaring_bitmap_t* bitmap = roaring_bitmap_portable_deserialize_safe(portable.data(), portable.size());
  set->bitmap_ = bitmap;
  if (bitmap == nullptr || static_cast<int64_t>(roaring_bitmap_get_cardinality(bitmap)) != selected ||
      (selected > 0 && roaring_bitmap_maximum(bitmap) >= rows)) {
    return Status::Corrupt("a bitmap of rows is damaged");
  }
  return std::shared_ptr<const RowSet>(std::move(set));
}

RowSet::~RowSet() {
  if (bitmap_ != nullptr) roaring_bitmap_free(Bitmap(bitmap_));
}

int64_t RowSet::count() const {
  return static_cast<int64_t>(roaring_bitmap_get_cardinality(Bitmap(bitmap_)));
}

uint32_t RowSet::Select(uint32_t rank) const {
  uint32_t row = 0;
  HEADRACE_CHECK(roaring_bitmap_select(Bitmap(bitmap_), rank, &row));
  return row;
}

void RowSet::AppendRange(int64_t begin, int64_t end, std::vector<int64_t>* rows) const {
  roaring_uint32_iterator_t* it = roaring_create_iterator(Bitmap(bitmap_));
  bool more = roaring_move_uint32_iterator_equalorlarger(it, static_cast<uint32_t>(begin));
  for (; more && int64_t{it->current_value} < end; more = roaring_advance_uint32_iterator(it)) {
    rows->push_back(it->current_value);
  }
  roaring_free_uint32_iterator(it);
}

int64_t RowSet::bytes() const { return static_cast<int64_t>(roaring_bitmap_size_in_bytes(Bitmap(bitmap_))); }

}  // namespace headrace::table
