#include "table/expr_tokens.h"

#include <cctype>

namespace headrace::table {
namespace {

bool WordChar(char c) {
  return isalnum(static_cast<unsigned char>(c)) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool IsDigit(char c) { return isdigit(static_cast<unsigned char>(c)); }

// Each takes the token that begins at `*at` and moves `*at` past it.

Status TakeQuoted(std::string_view text, size_t* at, Token* token) {
  const char quote = text[*at];
  token->kind = quote == '"' ? TokenKind::kQuoted : TokenKind::kString;
  for (++*at; *at < text.size(); ++*at) {
    if (text[*at] != quote) {
      token->text += text[*at];
    } else if (*at + 1 < text.size() && text[*at + 1] == quote) {
      token->text += quote;
      ++*at;
    } else {
      ++*at;
      return Status::Ok();
    }
  }
  return FilterError(text, token->at, "a quote is not closed");
}

void TakeNumber(std::string_view text, size_t* at, Token* token) {
  token->kind = TokenKind::kNumber;
  while (*at < text.size() && (IsDigit(text[*at]) || text[*at] == '.')) ++*at;
  if (*at < text.size() && (text[*at] == 'e' || text[*at] == 'E')) {
    ++*at;
    if (*at < text.size() && (text[*at] == '+' || text[*at] == '-')) ++*at;
    while (*at < text.size() && IsDigit(text[*at])) ++*at;
  }
  token->text = std::string(text.substr(token->at, *at - token->at));
}

void TakeWord(std::string_view text, size_t* at, Token* token) {
  token->kind = TokenKind::kWord;
  while (*at < text.size() && WordChar(text[*at])) ++*at;
  token->text = std::string(text.substr(token->at, *at - token->at));
}

Status TakeSymbol(std::string_view text, size_t* at, Token* token) {
  static constexpr std::string_view kLong[] = {"<=", ">=", "<>", "!=", "==", "::", "->>"};
  static constexpr std::string_view kOne = "=<>()+-*/%,.";
  token->kind = TokenKind::kSymbol;
  token->text = std::string(1, text[*at]);
  for (const auto symbol : kLong) {
    if (text.substr(*at, symbol.size()) == symbol) token->text = std::string(symbol);
  }
  if (token->text.size() == 1 && kOne.find(text[*at]) == std::string_view::npos) {
    return FilterError(text, *at, "unexpected '" + token->text + "'");
  }
  *at += token->text.size();
  return Status::Ok();
}

}  // namespace

Status FilterError(std::string_view text, size_t at, const std::string& what) {
  return Status::Invalid("in the filter, at character " + std::to_string(at + 1) + ": " + what + " (…" +
                         std::string(text.substr(at, 30)) + ")");
}

Result<std::vector<Token>> TokenizeFilter(std::string_view text) {
  std::vector<Token> tokens;
  size_t at = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (isspace(static_cast<unsigned char>(c))) {
      ++at;
      continue;
    }
    Token token;
    token.at = at;
    if (c == '\'' || c == '"') {
      HEADRACE_TRY(TakeQuoted(text, &at, &token));
    } else if (IsDigit(c) || (c == '.' && at + 1 < text.size() && IsDigit(text[at + 1]))) {
      TakeNumber(text, &at, &token);
    } else if (WordChar(c)) {
      TakeWord(text, &at, &token);
    } else {
      HEADRACE_TRY(TakeSymbol(text, &at, &token));
    }
    tokens.push_back(std::move(token));
  }
  tokens.push_back({TokenKind::kEnd, {}, text.size()});
  return tokens;
}

}  // namespace headrace::table
