// The page reader: header, levels, values, dictionaries of a damaged page.
#include <cstdint>
#include <string_view>

#include "table/page.h"
#include "table/parquet_leaf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace::table;
  if (size < 3) return 0;
  const uint8_t kind = data[0];
  const int max_level = data[1] % 4;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 2), size - 2);
  const auto header = ParsePageHeader(bytes);
  if (!header.ok() || header->values > 100'000) return 0;
  const auto body = bytes.substr(static_cast<size_t>(header->header_bytes));
  const auto page = OpenPage(*header, body, max_level, data[1] / 4 % 3);
  if (!page.ok()) return 0;
  static constexpr std::pair<Kind, parquet::Type::type> kKinds[] = {
      {Kind::kInt8, parquet::Type::INT32},        {Kind::kInt64, parquet::Type::INT64},
      {Kind::kFloat64, parquet::Type::DOUBLE},    {Kind::kBool, parquet::Type::BOOLEAN},
      {Kind::kString, parquet::Type::BYTE_ARRAY}, {Kind::kFloat16, parquet::Type::FIXED_LEN_BYTE_ARRAY}};
  const auto& [type_kind, physical] = kKinds[kind % 6];
  Type type;
  type.kind = type_kind;
  const std::vector<std::string_view> dictionary = {"a", "bb"};
  const bool is_dictionary =
      page->encoding == PageEncoding::kRleDictionary || page->encoding == PageEncoding::kPlainDictionary;
  auto whole = NewLeafBuilder(type, physical, page->rows);
  if (whole.ok() &&
      (*whole)->AppendRange(*page, max_level, is_dictionary ? &dictionary : nullptr, 0, page->rows).ok()) {
    (void)(*whole)->Finish();
  }
  if (page->rows > 2) {
    const std::vector<int64_t> picks = {0, page->rows / 2, page->rows - 1};
    auto some = NewLeafBuilder(type, physical, 3);
    if (some.ok() &&
        (*some)->AppendPicks(*page, max_level, is_dictionary ? &dictionary : nullptr, picks).ok()) {
      (void)(*some)->Finish();
    }
  }
  return 0;
}
