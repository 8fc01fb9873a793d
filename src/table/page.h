// One Parquet data page: its header, its definition levels, its values. The format is Apache Parquet's
// (https://parquet.apache.org/docs/file-format/, parquet.thrift); Arrow C++ has no reader of single pages, so
// this is ours.
//
// Every byte here may come from a damaged file: nothing is read past the given bytes, and every count is
// checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "store/object_store.h"

namespace headrace::table {

enum class PageType { kData = 0, kIndex = 1, kDictionary = 2, kDataV2 = 3 };
enum class PageEncoding { kPlain = 0, kPlainDictionary = 2, kRle = 3, kRleDictionary = 8, kOther = 99 };

struct PageHeader {
  PageType type = PageType::kData;
  int32_t uncompressed_bytes = 0;
  int32_t compressed_bytes = 0;
  bool has_crc = false;
  uint32_t crc = 0;
  int32_t values = 0;  // nulls among them
  PageEncoding encoding = PageEncoding::kOther;
  int32_t header_bytes = 0;
};

// Reads the Thrift compact-protocol header at the start of `bytes`.
Result<PageHeader> ParsePageHeader(std::string_view bytes);
// CRC-32 (IEEE) of a page's body, as stored in its header.
uint32_t PageCrc(std::string_view body);

// Parquet's RLE / bit-packed hybrid: exactly `count` values of `bit_width` bits (at most 32).
Status DecodeHybrid(std::string_view bytes, int bit_width, int64_t count, uint32_t* out);

// A page taken apart, pointing into its (uncompressed) body.
struct PageView {
  int64_t rows = 0;                  // of a leaf in lists: entries
  std::vector<uint32_t> repetition;  // levels of a leaf in lists: 0 where a row begins
  bool all_defined = true;
  std::vector<uint32_t> levels;  // definition levels; empty where all are defined (== max_level)
  std::string_view values;       // what follows the levels
  PageEncoding encoding = PageEncoding::kPlain;
};
Result<PageView> OpenPage(const PageHeader& header, std::string_view body, int max_level,
                          int max_repetition = 0);

// PLAIN byte arrays: `count` views into `bytes`.
Status DecodeByteArrays(std::string_view bytes, int64_t count, std::vector<std::string_view>* out);

}  // namespace headrace::table
