// JSON text as a flat list of its values, each with its place in the text: numbers keep every digit, and any
// value's source text can be read back unchanged.
//
//   JsonTape tape;
//   HEADRACE_TRY(tape.Read(R"({"a": [1, 2.50]})"));
//   for (uint32_t i = 1; i < tape[0].next; i = tape[i + 1].next)   // a key, and behind it its value
//     Use(tape.Text(i), tape.Raw(i + 1));
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace {

enum class JsonKind : uint8_t { kNull, kTrue, kFalse, kNumber, kString, kArray, kObject };

struct JsonValue {
  JsonKind kind = JsonKind::kNull;
  bool escaped = false;  // strings: with a backslash
  bool whole = false;    // numbers: without point and exponent
  bool finite = true;    // numbers: not NaN, Infinity, -Infinity
  uint32_t begin = 0;    // of its text, a string's without the quotes
  uint32_t end = 0;
  uint32_t next = 0;  // the first value behind it and all that is in it
};

class JsonTape {
 public:
  // One value and nothing else (RFC 8259: UTF-8, whole surrogate pairs), up to 4 GiB. `non_finite`: take NaN,
  // Infinity and -Infinity for numbers. Corrupt with the place and the reason, Limit beyond
  // limits::kMaxJsonDepth. An
  // object with two equal keys is Corrupt too. The text must stay as long as the tape is asked.
  Status Read(std::string_view text, bool non_finite = false);

  const JsonValue& operator[](uint32_t i) const { return values_[i]; }
  std::string_view Raw(uint32_t i) const;  // as written
  std::string_view Inner(uint32_t i) const {
    return text_.substr(values_[i].begin, values_[i].end - values_[i].begin);
  }
  std::string Text(uint32_t i) const;      // a string's characters
  bool finite() const { return finite_; }  // no NaN or infinity in it
  bool IsNull(uint32_t i) const { return values_[i].kind == JsonKind::kNull; }

 private:
  bool Value(int depth);
  bool Array(uint32_t self, int depth);
  bool Object(uint32_t self, int depth);
  bool String();
  bool Escape();
  bool Character();
  bool Number();
  bool Word(std::string_view word, JsonKind kind);
  bool NonFinite();
  bool DistinctKeys(size_t first);
  bool Fail(const char* why);
  bool TooDeep();
  void Space();
  Status Fault() const;

  std::string_view text_;
  size_t at_ = 0;
  bool non_finite_ = false, finite_ = true, too_deep_ = false;
  std::string why_;
  std::vector<JsonValue> values_;
  std::vector<uint32_t> keys_;  // of the objects that are open
  std::vector<std::string> unescaped_;
  std::vector<std::string_view> sorted_;
};

// "" if the text is JSON, else what is wrong with it.
std::string WhyNotJson(std::string_view text);

}  // namespace headrace
