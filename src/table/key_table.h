// Keys of rows: which row of a batch has the key of another row.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/status.h"

namespace headrace::table {

// The values of some columns, row by row, as bytes that are equal where the values are. Numbers, booleans,
// times, text, bytes, decimals, UUIDs; zeros of both signs are one key, as in SQL, and NaN is one.
class KeyColumns {
 public:
  // Unsupported for lists, structs, tensors, blobs and json.
  static Result<KeyColumns> Of(const arrow::ArrayVector& columns);
  int64_t rows() const { return rows_; }
  // The row's key in `*buffer`, which a view of it may borrow; false where a value is null: such a row has
  // none.
  bool KeyOf(int64_t row, std::string* buffer, std::string_view* key) const;

 private:
  arrow::ArrayVector columns_;
  int64_t rows_ = 0;
};

// A hash table from key to row.
class KeyTable {
 public:
  // Of all rows. AlreadyExists where two have one key, Invalid where one has none; `names`: of the columns,
  // for the message.
  static Result<KeyTable> Build(const KeyColumns& keys, const std::vector<std::string>& names);
  // The row with this key, or -1.
  int64_t Find(std::string_view key) const;

 private:
  struct Slot {
    uint32_t row = UINT32_MAX;
    uint32_t tag = 0;
  };
  std::string_view KeyAt(uint32_t row) const;
  std::string bytes_;
  std::vector<uint64_t> ends_;  // of each row's key
  std::vector<Slot> slots_;     // a power of two, at most half of them used
};

}  // namespace headrace::table
