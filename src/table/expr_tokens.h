// The words of a filter's text: what expr_parse.cc parses.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::table {

enum class TokenKind { kEnd, kWord, kQuoted, kNumber, kString, kSymbol };

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;  // of a quoted name and a string: without its quotes
  size_t at = 0;     // its first byte in the filter
};

// All tokens, the last one kEnd. Invalid where a quote is not closed or a character begins none.
Result<std::vector<Token>> TokenizeFilter(std::string_view text);

// Invalid: `what` is wrong at byte `at` of the filter `text`.
Status FilterError(std::string_view text, size_t at, const std::string& what);

}  // namespace headrace::table
