#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>

#include "table/arrow_bridge.h"
#include "table/expr_vec.h"

namespace headrace::table {

// % is any run, _ one UTF-8 character, and the escape character takes the next as it is.
std::optional<bool> Like(std::string_view text, std::string_view pattern, char escape) {
  size_t t = 0, p = 0, star = std::string_view::npos, mark = 0;
  const auto next = [&](size_t at) {
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
    return at;
  };
  while (t < text.size()) {
    const bool escaped = escape != 0 && p < pattern.size() && pattern[p] == escape;
    if (escaped && p + 1 == pattern.size()) return std::nullopt;
    if (escaped && pattern[p + 1] == text[t]) {
      ++t;
      p += 2;
    } else if (!escaped && p < pattern.size() && pattern[p] == '%') {
      star = p++;
      mark = t;
    } else if (!escaped && p < pattern.size() && pattern[p] == '_') {
      t = next(t);
      ++p;
    } else if (!escaped && p < pattern.size() && pattern[p] == text[t]) {
      ++t;
      ++p;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '%') ++p;
  return p == pattern.size();
}

int64_t CountCharacters(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return count;
}

Result<Vec> ChangeCase(const Vec& in, bool lower, int64_t rows) {
  static const arrow::Status ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(ready);
  const int64_t n = in.constant ? 1 : rows;
  arrow::LargeStringBuilder builder;
  for (int64_t i = 0; i < n; ++i)
    HEADRACE_ARROW_TRY(in.type == ValueType::kNull || in.IsNull(i) ? builder.AppendEmptyValue()
                                                                   : builder.Append(in.String(i)));
  HEADRACE_ARROW_ASSIGN(const auto given, builder.Finish());
  HEADRACE_ARROW_ASSIGN(const arrow::Datum changed,
                        arrow::compute::CallFunction(lower ? "utf8_lower" : "utf8_upper", {given}));
  const auto array = changed.make_array();
  const auto& texts = static_cast<const arrow::LargeStringArray&>(*array);
  Vec out;
  out.type = in.type;
  out.constant = in.constant;
  out.nulls = in.nulls;
  out.owners = {array};
  for (int64_t i = 0; i < n; ++i) out.strings.push_back(texts.GetView(i));
  return out;
}

}  // namespace headrace::table
