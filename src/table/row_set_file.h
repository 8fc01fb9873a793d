// Where sets of rows are kept: in the manifest entry that they belong to where they are small, else many of
// them in one file, so that a delete that touches a thousand fragments writes one object.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "table/row_set.h"

namespace headrace::table {

struct Environment;

// A set of rows by its place. Compares by place: two that are equal hold the same rows.
struct RowSetRef {
  int64_t count = 0;   // rows in it; 0: there is no set
  std::string inside;  // Roaring's portable format, where it lies in the entry
  Uuid file;           // otherwise: tables/<id>/rowsets/<file>.roaring
  int64_t offset = 0;  // of its bytes in the file
  int64_t bytes = 0;
  uint64_t sum = 0;  // XXH3 of them
  // Of a fragment's deleted rows: of how many the values are gone from its files.
  int64_t erased = 0;
  bool empty() const { return count == 0; }
  bool operator==(const RowSetRef&) const = default;
};

class RowSetWriter {
 public:
  explicit RowSetWriter(const Environment& env);
  RowSetRef Add(const RowSet& rows);
  // Puts the file if one is needed; adds its key to `written` before.
  Status Finish(Environment* env, const std::string& folder, std::vector<std::string>* written);

 private:
  size_t inline_bytes_;
  Uuid file_;
  std::string bytes_;
};

// The set, which holds rows below `rows` of its fragment. Corrupt where it is damaged.
Result<std::shared_ptr<const RowSet>> LoadRowSet(Environment* env, const std::string& folder,
                                                 const RowSetRef& ref, int64_t rows);

}  // namespace headrace::table
