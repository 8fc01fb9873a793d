// Inside of ParquetFile: what is known of a leaf and of its pages.
#pragma once

#include <arrow/buffer.h>
#include <parquet/exception.h>
#include <parquet/types.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "table/arrow_bridge.h"
#include "table/parquet_file.h"
#include "table/parquet_leaf.h"

namespace headrace::table {

struct ParquetFile::Leaf {
  int column = 0;  // in the file
  int32_t field_id = -1;
  int max_level = 0;
  int max_repetition = 0;
  std::vector<parquet::Repetition::type> path;  // of the nodes from the top-level one to this
  StoredType stored;

  struct Page {
    int64_t offset = 0;
    int64_t bytes = 0;  // header included
    int64_t first_row = 0;
    int group = 0;
  };
  struct Dictionary {
    store::Bytes bytes;
    std::shared_ptr<arrow::Buffer> owner;
    std::vector<std::string_view> values;
  };
  bool pages_loaded = false;
  std::vector<Page> pages;
  std::unique_ptr<std::atomic<uint8_t>[]> verified;
  std::vector<std::shared_ptr<const Dictionary>> dictionaries;  // by row group, loaded when first needed
  bool bounds_loaded = false;
  std::vector<std::optional<FieldStats>> bounds;  // by page

  size_t PageOf(int64_t row) const {
    const auto it = std::upper_bound(pages.begin(), pages.end(), row,
                                     [](int64_t r, const Page& page) { return r < page.first_row; });
    return static_cast<size_t>(it - pages.begin()) - 1;
  }
};

// A page of a leaf that some rows lie in, fetched.
struct ParquetFile::Touched {
  size_t page;
  int64_t from, to;  // indexes of the rows asked for
  int64_t rows;      // in the page
  store::Bytes bytes;
};

// Runs `fn`, turning the library's exceptions into a Status.
template <typename Fn>
Status Guard(const std::string& key, Fn fn) {
  try {
    return fn();
  } catch (const parquet::ParquetStatusException& error) {
    return FromArrow(error.status())
        .Wrap("cannot read " + key);  // a store that is away is not a damaged file
  } catch (const std::exception& error) {
    return Status::Corrupt("cannot read " + key + ": " + error.what());
  }
}

}  // namespace headrace::table
