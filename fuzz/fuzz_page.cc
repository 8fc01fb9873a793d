// The page reader: header, levels, values, dictionaries of a damaged page.
#include <cstdint>
#include <iterator>
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
  // As columns of their own types are stored, and ones that were widened.
  using P = parquet::Type;
  static constexpr std::pair<Kind, StoredType> kKinds[] = {
      {Kind::kInt8, {P::INT32, false, 0}},
      {Kind::kInt64, {P::INT64, false, 0}},
      {Kind::kFloat64, {P::DOUBLE, false, 0}},
      {Kind::kBool, {P::BOOLEAN, false, 0}},
      {Kind::kString, {P::BYTE_ARRAY, false, 0}},
      {Kind::kFloat16, {P::FIXED_LEN_BYTE_ARRAY, false, 2}},
      {Kind::kInt64, {P::INT32, false, 0}},
      {Kind::kUInt64, {P::INT32, true, 0}},
      {Kind::kFloat64, {P::FLOAT, false, 0}},
      {Kind::kFloat32, {P::FIXED_LEN_BYTE_ARRAY, false, 2}},
      {Kind::kDecimal, {P::FIXED_LEN_BYTE_ARRAY, false, 3}}};
  const auto& [type_kind, stored] = kKinds[kind % std::size(kKinds)];
  Type type;
  type.kind = type_kind;
  type.precision = 18;  // of the decimal
  const std::vector<std::string_view> dictionary = {"a", "bb"};
  const bool is_dictionary =
      page->encoding == PageEncoding::kRleDictionary || page->encoding == PageEncoding::kPlainDictionary;
  auto whole = NewLeafBuilder(type, stored, page->rows);
  if (whole.ok() &&
      (*whole)->AppendRange(*page, max_level, is_dictionary ? &dictionary : nullptr, 0, page->rows).ok()) {
    (void)(*whole)->Finish();
  }
  if (page->rows > 2) {
    const std::vector<int64_t> picks = {0, page->rows / 2, page->rows - 1};
    auto some = NewLeafBuilder(type, stored, 3);
    if (some.ok() &&
        (*some)->AppendPicks(*page, max_level, is_dictionary ? &dictionary : nullptr, picks).ok()) {
      (void)(*some)->Finish();
    }
  }
  return 0;
}
