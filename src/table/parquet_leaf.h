// From the values of Parquet pages to an Arrow array, for one leaf column.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include <arrow/type_fwd.h>
#include <parquet/types.h>

#include "table/page.h"
#include "table/schema.h"
#include "table/value.h"

namespace headrace::table {

class LeafBuilder {
 public:
  virtual ~LeafBuilder() = default;
  // Rows [begin, end) of the page. `dictionary` is given for dictionary-encoded pages.
  virtual Status AppendRange(const PageView& page, int max_level,
                             const std::vector<std::string_view>* dictionary, int64_t begin, int64_t end) = 0;
  // Rows of the page by index, ascending.
  virtual Status AppendPicks(const PageView& page, int max_level,
                             const std::vector<std::string_view>* dictionary,
                             const std::vector<int64_t>& picks) = 0;
  virtual Result<std::shared_ptr<arrow::Array>> Finish() = 0;
};

// How a file stores the values of a leaf.
struct StoredType {
  parquet::Type::type physical = parquet::Type::INT32;
  bool is_unsigned = false;  // integers
  int32_t length = 0;        // bytes of a FIXED_LEN_BYTE_ARRAY
};

// For `rows` values of `type`, or of a narrower one that was widened to it (retype.h). Corrupt where a file
// cannot store such values so.
Result<std::unique_ptr<LeafBuilder>> NewLeafBuilder(const Type& type, const StoredType& stored, int64_t rows);

// A bound from a page index: the PLAIN encoding of one value, as a filter sees it. Null where filters have no
// use for it.
Value DecodeBound(const Type& type, const StoredType& stored, std::string_view encoded);

}  // namespace headrace::table
