#include "base/json_tape.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/limits.h"
#include "base/utf8.h"

namespace headrace {
namespace {

constexpr size_t kFewKeys = 12;  // compared with each other; more are sorted

bool Digit(char c) { return c >= '0' && c <= '9'; }

int HexDigit(char c) {
  if (Digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Four hexadecimal digits, or -1.
int32_t HexAt(std::string_view text, size_t at) {
  if (at + 4 > text.size()) return -1;
  int32_t code = 0;
  for (size_t i = at; i < at + 4; ++i) {
    const int digit = HexDigit(text[i]);
    if (digit < 0) return -1;
    code = code << 4 | digit;
  }
  return code;
}

bool IsHigh(int32_t code) { return code >= 0xd800 && code < 0xdc00; }
bool IsLow(int32_t code) { return code >= 0xdc00 && code < 0xe000; }

// Is none of these eight characters a quote, a backslash, a control character, or outside ASCII?
bool Plain(const char* eight) {
  constexpr uint64_t kOnes = 0x0101010101010101, kHighs = 0x8080808080808080;
  uint64_t word = 0;
  std::memcpy(&word, eight, sizeof word);
  const auto has = [&](uint64_t c) {
    const uint64_t x = word ^ (kOnes * c);
    return (x - kOnes) & ~x & kHighs;
  };
  const uint64_t control = (word - kOnes * 0x20) & ~word & kHighs;
  return (has('"') | has('\\') | control | (word & kHighs)) == 0;
}

}  // namespace

Status JsonTape::Read(std::string_view text, bool non_finite) {
  text_ = text;
  at_ = 0;
  non_finite_ = non_finite;
  finite_ = true;
  too_deep_ = false;
  why_.clear();
  values_.clear();
  keys_.clear();
  if (text.size() >= std::numeric_limits<uint32_t>::max()) return Status::Limit("JSON of more than 4 GiB");
  if (!Value(0)) return Fault();
  Space();
  if (at_ != text_.size()) {
    Fail("there is text behind its end");
    return Fault();
  }
  return Status::Ok();
}

Status JsonTape::Fault() const {
  const std::string_view before = text_.substr(0, at_);
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const size_t line = before.rfind('\n');
  const size_t column = line == std::string_view::npos ? at_ + 1 : at_ - line;
  const std::string where =
      (lines > 0 ? "line " + std::to_string(lines + 1) + " of it, column " : "column ") +
      std::to_string(column);
  if (too_deep_) return Status::Limit(where + ": " + why_);
  return Status::Corrupt(where + ": " + why_);
}

std::string_view JsonTape::Raw(uint32_t i) const {
  const JsonValue& value = values_[i];
  const uint32_t quote = value.kind == JsonKind::kString ? 1 : 0;
  return text_.substr(value.begin - quote, value.end - value.begin + 2 * quote);
}

std::string JsonTape::Text(uint32_t i) const {
  const std::string_view raw = Inner(i);
  if (!values_[i].escaped) return std::string(raw);
  std::string text;
  text.reserve(raw.size());
  for (size_t at = 0; at < raw.size(); ++at) {
    if (raw[at] != '\\') {
      text += raw[at];
      continue;
    }
    switch (raw[++at]) {
      case 'b':
        text += '\b';
        break;
      case 'f':
        text += '\f';
        break;
      case 'n':
        text += '\n';
        break;
      case 'r':
        text += '\r';
        break;
      case 't':
        text += '\t';
        break;
      case 'u': {
        int32_t code = HexAt(raw, at + 1);
        at += 4;
        if (IsHigh(code)) {
          code = 0x10000 + ((code - 0xd800) << 10) + (HexAt(raw, at + 3) - 0xdc00);
          at += 6;
        }
        AppendUtf8(static_cast<uint32_t>(code), &text);
        break;
      }
      default:
        text += raw[at];
    }
  }
  return text;
}

bool JsonTape::Fail(const char* why) {
  why_ = why;
  return false;
}

bool JsonTape::TooDeep() {
  too_deep_ = true;
  why_ = "it nests deeper than " + std::to_string(limits::kMaxJsonDepth);
  return false;
}

void JsonTape::Space() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
    ++at_;
  }
}

bool JsonTape::Value(int depth) {
  Space();
  if (at_ == text_.size()) return Fail("it ends where a value is expected");
  const auto self = static_cast<uint32_t>(values_.size());
  switch (text_[at_]) {
    case '{':
      return Object(self, depth);
    case '[':
      return Array(self, depth);
    case '"':
      return String();
    case 't':
      return Word("true", JsonKind::kTrue);
    case 'f':
      return Word("false", JsonKind::kFalse);
    case 'n':
      return Word("null", JsonKind::kNull);
    default:
      return Number();
  }
}

bool JsonTape::Array(uint32_t self, int depth) {
  if (depth == limits::kMaxJsonDepth) return TooDeep();
  values_.push_back({.kind = JsonKind::kArray, .begin = static_cast<uint32_t>(at_)});
  ++at_;
  Space();
  if (at_ < text_.size() && text_[at_] == ']') {
    ++at_;
  } else {
    for (;;) {
      if (!Value(depth + 1)) return false;
      Space();
      if (at_ == text_.size()) return Fail("it ends inside an array");
      const char c = text_[at_];
      if (c != ',' && c != ']') return Fail("a comma or ] is expected");
      ++at_;
      if (c == ']') break;
    }
  }
  values_[self].end = static_cast<uint32_t>(at_);
  values_[self].next = static_cast<uint32_t>(values_.size());
  return true;
}

bool JsonTape::Object(uint32_t self, int depth) {
  if (depth == limits::kMaxJsonDepth) return TooDeep();
  values_.push_back({.kind = JsonKind::kObject, .begin = static_cast<uint32_t>(at_)});
  const size_t first = keys_.size();
  ++at_;
  Space();
  if (at_ < text_.size() && text_[at_] == '}') {
    ++at_;
  } else {
    for (;;) {
      Space();
      if (at_ == text_.size()) return Fail("it ends inside an object");
      if (text_[at_] != '"') return Fail("a key in double quotes is expected");
      keys_.push_back(static_cast<uint32_t>(values_.size()));
      if (!String()) return false;
      Space();
      if (at_ == text_.size()) return Fail("it ends inside an object");
      if (text_[at_] != ':') return Fail("a colon is expected");
      ++at_;
      if (!Value(depth + 1)) return false;
      Space();
      if (at_ == text_.size()) return Fail("it ends inside an object");
      const char c = text_[at_];
      if (c != ',' && c != '}') return Fail("a comma or } is expected");
      ++at_;
      if (c == '}') break;
    }
  }
  if (!DistinctKeys(first)) return false;
  keys_.resize(first);
  values_[self].end = static_cast<uint32_t>(at_);
  values_[self].next = static_cast<uint32_t>(values_.size());
  return true;
}

bool JsonTape::DistinctKeys(size_t first) {
  const size_t count = keys_.size() - first;
  if (count < 2) return true;
  const auto twice = [&](std::string_view key) {
    why_ = "the key '" + std::string(key.substr(0, 100)) + "' is in one object twice";
    return false;
  };
  bool escaped = false;
  for (size_t i = first; i < keys_.size(); ++i) escaped |= values_[keys_[i]].escaped;
  if (!escaped && count <= kFewKeys) {
    for (size_t i = first + 1; i < keys_.size(); ++i) {
      const std::string_view key = Inner(keys_[i]);
      for (size_t j = first; j < i; ++j) {
        if (Inner(keys_[j]) == key) return twice(key);
      }
    }
    return true;
  }
  sorted_.clear();
  unescaped_.clear();
  unescaped_.reserve(count);
  for (size_t i = first; i < keys_.size(); ++i) {
    if (!values_[keys_[i]].escaped) {
      sorted_.push_back(Inner(keys_[i]));
    } else {
      sorted_.push_back(unescaped_.emplace_back(Text(keys_[i])));
    }
  }
  std::sort(sorted_.begin(), sorted_.end());
  const auto same = std::adjacent_find(sorted_.begin(), sorted_.end());
  return same == sorted_.end() || twice(*same);
}

bool JsonTape::String() {
  const auto self = values_.size();
  ++at_;
  values_.push_back({.kind = JsonKind::kString, .begin = static_cast<uint32_t>(at_)});
  for (;;) {
    while (at_ + 8 <= text_.size() && Plain(text_.data() + at_)) at_ += 8;
    if (at_ >= text_.size()) return Fail("it ends inside a string");
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (c == '"') break;
    if (c == '\\') {
      values_[self].escaped = true;
      if (!Escape()) return false;
    } else if (c < 0x20) {
      return Fail("a string holds a line break or another control character");
    } else if (c < 0x80) {
      ++at_;
    } else if (!Character()) {
      return Fail("the text is not valid UTF-8");
    }
  }
  values_[self].end = static_cast<uint32_t>(at_);
  values_[self].next = static_cast<uint32_t>(self + 1);
  ++at_;
  return true;
}

bool JsonTape::Escape() {
  const char c = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
  if (c != 'u') {
    if (c == '\0' || std::strchr("\"\\/bfnrt", c) == nullptr) return Fail("a backslash before no escape");
    at_ += 2;
    return true;
  }
  const int32_t code = HexAt(text_, at_ + 2);
  if (code < 0) return Fail("\\u without four hexadecimal digits");
  if (IsLow(code)) return Fail("half a surrogate pair, which no text holds");
  if (IsHigh(code)) {
    const bool pair = at_ + 8 <= text_.size() && text_[at_ + 6] == '\\' && text_[at_ + 7] == 'u';
    if (!pair || !IsLow(HexAt(text_, at_ + 8))) return Fail("half a surrogate pair, which no text holds");
    at_ += 6;
  }
  at_ += 6;
  return true;
}

// A character of two to four bytes: no overlong forms, no surrogates, none beyond U+10FFFF.
bool JsonTape::Character() {
  const int size = Utf8Length(text_, at_);
  if (size <= 0) return false;
  at_ += static_cast<size_t>(size);
  return true;
}

bool JsonTape::Word(std::string_view word, JsonKind kind) {
  if (text_.substr(at_, word.size()) != word) return Fail("a value is expected");
  const auto begin = static_cast<uint32_t>(at_);
  at_ += word.size();
  values_.push_back({.kind = kind,
                     .begin = begin,
                     .end = static_cast<uint32_t>(at_),
                     .next = static_cast<uint32_t>(values_.size() + 1)});
  return true;
}

bool JsonTape::NonFinite() {
  for (const std::string_view word : {"NaN", "Infinity", "-Infinity"}) {
    if (text_.substr(at_, word.size()) != word) continue;
    if (!non_finite_) return Fail("NaN and Infinity are no JSON");
    finite_ = false;
    const bool done = Word(word, JsonKind::kNumber);
    values_.back().finite = false;
    return done;
  }
  return Fail("a value is expected");
}

bool JsonTape::Number() {
  const size_t begin = at_;
  const auto here = [&] { return at_ < text_.size() ? text_[at_] : '\0'; };
  const auto digits = [&] {
    const size_t first = at_;
    while (Digit(here())) ++at_;
    return at_ > first;
  };
  if (here() == '-') ++at_;
  const size_t first = at_;
  if (!digits()) {
    at_ = begin;
    return NonFinite();
  }
  if (text_[first] == '0' && at_ > first + 1) return Fail("a number begins with a zero");
  bool whole = true;
  if (here() == '.') {
    whole = false;
    ++at_;
    if (!digits()) return Fail("a number ends in its point");
  }
  if (here() == 'e' || here() == 'E') {
    whole = false;
    ++at_;
    if (here() == '-' || here() == '+') ++at_;
    if (!digits()) return Fail("a number ends in its exponent");
  }
  values_.push_back({.kind = JsonKind::kNumber,
                     .whole = whole,
                     .begin = static_cast<uint32_t>(begin),
                     .end = static_cast<uint32_t>(at_),
                     .next = static_cast<uint32_t>(values_.size() + 1)});
  return true;
}

std::string WhyNotJson(std::string_view text) {
  JsonTape tape;
  const Status read = tape.Read(text);
  return read.ok() ? "" : read.message();
}

}  // namespace headrace
