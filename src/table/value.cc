#include "table/value.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace headrace::table {

int CompareDoubles(double a, double b) {
  const bool nan_a = std::isnan(a);
  const bool nan_b = std::isnan(b);
  if (nan_a || nan_b) return static_cast<int>(nan_a) - static_cast<int>(nan_b);
  return a < b ? -1 : a > b ? 1 : 0;
}

int CompareValues(const Value& a, const Value& b) {
  if (std::holds_alternative<double>(a) && std::holds_alternative<int64_t>(b)) {
    return CompareDoubles(std::get<double>(a), static_cast<double>(std::get<int64_t>(b)));
  }
  if (std::holds_alternative<int64_t>(a) && std::holds_alternative<double>(b)) {
    return CompareDoubles(static_cast<double>(std::get<int64_t>(a)), std::get<double>(b));
  }
  if (std::holds_alternative<double>(a) && std::holds_alternative<double>(b)) {
    return CompareDoubles(std::get<double>(a), std::get<double>(b));
  }
  if (a.index() != b.index()) return a.index() < b.index() ? -1 : 1;
  return a < b ? -1 : b < a ? 1 : 0;
}

std::string EncodeValue(const Value& value) {
  char buffer[64];
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? "b:1" : "b:0";
  if (const int64_t* number = std::get_if<int64_t>(&value)) return "i:" + std::to_string(*number);
  if (const double* number = std::get_if<double>(&value)) {
    std::snprintf(buffer, sizeof buffer, "d:%a", *number);
    return buffer;
  }
  if (const std::string* text = std::get_if<std::string>(&value)) {
    static constexpr char kHex[] = "0123456789abcdef";
    std::string out = "s:";
    for (const char c : *text) {
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    }
    return out;
  }
  return "n:";
}

Result<Value> DecodeValue(const std::string& text) {
  const Status bad = Status::Corrupt("'" + text.substr(0, 40) + "' is not an encoded value");
  if (text.size() < 2 || text[1] != ':') return bad;
  const char* begin = text.c_str() + 2;
  char* end = nullptr;
  switch (text[0]) {
    case 'n':
      return Value();
    case 'b':
      return Value(text == "b:1");
    case 'i': {
      const long long number = std::strtoll(begin, &end, 10);
      if (end == begin || *end != '\0') return bad;
      return Value(static_cast<int64_t>(number));
    }
    case 'd': {
      const double number = std::strtod(begin, &end);
      if (end == begin || *end != '\0') return bad;
      return Value(number);
    }
    case 's': {
      if (text.size() % 2 != 0) return bad;
      std::string bytes;
      for (size_t i = 2; i + 1 < text.size(); i += 2) {
        const auto digit = [&](char c) { return c >= 'a' ? c - 'a' + 10 : c - '0'; };
        const int high = digit(text[i]);
        const int low = digit(text[i + 1]);
        if (high < 0 || high > 15 || low < 0 || low > 15) return bad;
        bytes += static_cast<char>(high * 16 + low);
      }
      return Value(std::move(bytes));
    }
    default:
      return bad;
  }
}

}  // namespace headrace::table
