#include "base/byte_size.h"

#include <cctype>
#include <charconv>
#include <cmath>
#include <string>

namespace headrace {

Result<int64_t> ParseByteSize(std::string_view text) {
  const Status bad =
      Status::Invalid("'" + std::string(text) + "' is no size; write it as 500MB, 2GB or a number of bytes");
  std::string word;  // without blanks, upper case
  for (const char c : text) {
    if (!std::isspace(static_cast<unsigned char>(c)))
      word += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  double number = 0;
  const auto [end, error] =
      std::from_chars(word.data(), word.data() + word.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number) || std::signbit(number)) return bad;
  std::string_view unit = std::string_view(word).substr(static_cast<size_t>(end - word.data()));
  if (unit.ends_with('B')) unit.remove_suffix(1);
  if (unit.size() > 2 || (unit.size() == 2 && unit[1] != 'I')) return bad;
  const size_t prefix = unit.empty() ? 0 : std::string_view(" KMGT").find(unit[0]);
  if (prefix == std::string_view::npos) return bad;
  const double bytes = number * std::pow(unit.size() == 2 ? 1024.0 : 1000.0, static_cast<double>(prefix));
  if (!(bytes < 0x1p63)) return bad;
  return static_cast<int64_t>(bytes);
}

}  // namespace headrace
