#include "schema/regex.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/utf8.h"

namespace headrace::schema {
namespace {

constexpr int kDeepestGroup = 200;  // groups in groups
constexpr int kMostTimes = 100000;  // of {m,n}

const CharSet& Digits() {
  static const CharSet set = {{'0', '9'}};
  return set;
}
const CharSet& WordCharacters() {
  static const CharSet set = {{'a', 'z'}, {'A', 'Z'}, {'0', '9'}, {'_', '_'}};
  return set;
}
// WhiteSpace and LineTerminator of ECMA-262.
const CharSet& Spaces() {
  static const CharSet set = {{9, 13},          {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680},
                              {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                              {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
  return set;
}
// What `.` stands for: all but line terminators.
const CharSet& Dot() {
  static const CharSet set =
      CharSet{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}.Complement().Intersect(CharSet::AllText());
  return set;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Regex> Parse() {
    HEADRACE_ASSIGN(Regex whole, Choice());
    if (at_ < text_.size()) return Wrong("has ')' without '('");
    return whole;
  }

 private:
  Status Wrong(const std::string& what) const {
    return Status::Invalid("the pattern " + what + " at character " + std::to_string(at_));
  }
  static Status CannotHold(const std::string& what) {
    return Status::Unsupported("the pattern's " + what + " cannot be enforced");
  }
  bool More() const { return at_ < text_.size(); }
  char Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool Take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Result<Regex> Choice() {
    if (++depth_ > kDeepestGroup) return Status::Limit("the pattern's groups are nested too deep");
    Regex choice{Regex::Kind::kChoice};
    do {
      HEADRACE_ASSIGN(Regex branch, Sequence());
      choice.parts.push_back(std::move(branch));
    } while (Take("|"));
    --depth_;
    if (choice.parts.size() == 1) {
      Regex only = std::move(choice.parts[0]);
      return only;
    }
    return choice;
  }

  Result<Regex> Sequence() {
    Regex sequence{Regex::Kind::kSequence};
    while (More() && Peek() != '|' && Peek() != ')') {
      HEADRACE_ASSIGN(Regex atom, Atom());
      const bool anchor = atom.kind == Regex::Kind::kBegin || atom.kind == Regex::Kind::kEnd;
      HEADRACE_ASSIGN(Regex quantified, Quantified(std::move(atom), anchor));
      sequence.parts.push_back(std::move(quantified));
    }
    return sequence;
  }

  Result<Regex> Quantified(Regex atom, bool anchor) {
    int least = 1, most = 1;
    if (Take("*")) {
      least = 0, most = -1;
    } else if (Take("+")) {
      most = -1;
    } else if (Take("?")) {
      least = 0;
    } else if (Peek() == '{') {
      HEADRACE_ASSIGN(const bool counted, Count(&least, &most));
      if (!counted) return atom;
    } else {
      return atom;
    }
    if (anchor) return Wrong("repeats an anchor");
    (void)Take("?");  // lazy: the same language
    if (Peek() == '+' || Peek() == '*' || Peek() == '?') return Wrong("has nothing to repeat");
    return Regex::Repeat(std::move(atom), least, most);
  }

  // {m}, {m,} or {m,n}; false where the brace stands for itself.
  Result<bool> Count(int* least, int* most) {
    const size_t end = text_.find('}', at_);
    if (end == std::string_view::npos) return false;
    const std::string_view inner = text_.substr(at_ + 1, end - at_ - 1);
    if (inner.empty() || inner[0] == ',' || inner.find_first_not_of("0123456789,") != std::string_view::npos)
      return false;
    const size_t comma = inner.find(',');
    const auto number = [](std::string_view digits) {
      return digits.size() > 6 ? kMostTimes + 1 : std::stoi(std::string(digits));
    };
    *least = number(inner.substr(0, comma));
    *most = comma == std::string_view::npos ? *least
            : comma + 1 == inner.size()     ? -1
                                            : number(inner.substr(comma + 1));
    if (*least > kMostTimes || *most > kMostTimes) return Status::Limit("the pattern repeats too often");
    if (*most >= 0 && *most < *least) return Wrong("repeats from more to less");
    at_ = end + 1;
    return true;
  }

  Result<Regex> Atom() {
    const char c = Peek();
    if (c == '^') {
      ++at_;
      return Regex{Regex::Kind::kBegin};
    }
    if (c == '$') {
      ++at_;
      return Regex{Regex::Kind::kEnd};
    }
    if (c == '.') {
      ++at_;
      return Regex::Set(Dot());
    }
    if (c == '(') return Group();
    if (c == '[') {
      ++at_;
      HEADRACE_ASSIGN(CharSet set, Class());
      return Regex::Set(std::move(set));
    }
    if (c == '*' || c == '+' || c == '?') return Wrong("has nothing to repeat");
    if (c == '\\') {
      ++at_;
      HEADRACE_ASSIGN(CharSet set, Escape(false));
      return Regex::Set(std::move(set));
    }
    HEADRACE_ASSIGN(const uint32_t code, Character());
    return Regex::Set({{code, code}});
  }

  Result<Regex> Group() {
    ++at_;
    if (Take("?:")) {
    } else if (Take("?=") || Take("?!") || Take("?<=") || Take("?<!")) {
      return CannotHold("look-around");
    } else if (Take("?<")) {
      const size_t end = text_.find('>', at_);
      if (end == std::string_view::npos) return Wrong("has a group's name without an end");
      at_ = end + 1;
    } else if (Peek() == '?') {
      return CannotHold("group (?" + std::string(1, Peek(1)));
    }
    HEADRACE_ASSIGN(Regex inner, Choice());
    if (!Take(")")) return Wrong("has '(' without ')'");
    return inner;
  }

  // One character of UTF-8.
  Result<uint32_t> Character() {
    if (!More() || Utf8Length(text_, at_) < 1) return Wrong("is not UTF-8");
    return NextCodePoint(text_, &at_);
  }

  std::optional<uint32_t> Hex(size_t digits) {
    if (at_ + digits > text_.size()) return std::nullopt;
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = text_[at_ + i];
      const int digit = c >= '0' && c <= '9'                 ? c - '0'
                        : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                             : -1;
      if (digit < 0) return std::nullopt;
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    at_ += digits;
    return value;
  }

  // \uHHHH, a pair of surrogates as one character, or \u{H…}.
  Result<uint32_t> Unicode() {
    if (Take("{")) {
      const size_t end = text_.find('}', at_);
      if (end == std::string_view::npos || end == at_ || end - at_ > 6) return Wrong("has a broken \\u{…}");
      const auto code = Hex(end - at_);
      if (!code || *code > kLastCodePoint) return Wrong("has a broken \\u{…}");
      ++at_;
      return *code;
    }
    const auto code = Hex(4);
    if (!code) return Wrong("has \\u without four hexadecimal digits");
    if (*code >= 0xD800 && *code < 0xDC00 && Take("\\u")) {
      const auto low = Hex(4);
      if (!low || *low < 0xDC00 || *low > 0xDFFF) return Wrong("has half a pair of surrogates");
      return 0x10000 + ((*code - 0xD800) << 10U) + (*low - 0xDC00);
    }
    return *code;
  }

  // After a backslash.
  Result<CharSet> Escape(bool in_class) {
    if (!More()) return Wrong("ends in a backslash");
    const char c = Peek();
    const auto one = [](uint32_t code) { return CharSet{{code, code}}; };
    if (static_cast<unsigned char>(c) >= 0x80) {
      HEADRACE_ASSIGN(const uint32_t code, Character());
      return one(code);
    }
    ++at_;
    switch (c) {
      case 'd':
        return Digits();
      case 'D':
        return Digits().Complement().Intersect(CharSet::AllText());
      case 'w':
        return WordCharacters();
      case 'W':
        return WordCharacters().Complement().Intersect(CharSet::AllText());
      case 's':
        return Spaces();
      case 'S':
        return Spaces().Complement().Intersect(CharSet::AllText());
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case '0':
        return one(0);
      case 'c': {
        const char letter = Peek();
        if ((letter | 32) < 'a' || (letter | 32) > 'z') return Wrong("has \\c without a letter");
        ++at_;
        return one(static_cast<uint32_t>(letter) & 31U);
      }
      case 'x': {
        const auto code = Hex(2);
        if (!code) return Wrong("has \\x without two hexadecimal digits");
        return one(*code);
      }
      case 'u': {
        HEADRACE_ASSIGN(const uint32_t code, Unicode());
        return one(code);
      }
      case 'b':
        if (in_class) return one('\b');
        return CannotHold("word boundary \\b");
      case 'B':
        return CannotHold("word boundary \\B");
      case 'p':
      case 'P':
        return CannotHold("\\p{…}");
      case 'k':
        return CannotHold("back reference");
      default:
        if (c >= '1' && c <= '9') return CannotHold("back reference");
        if ((c | 32) >= 'a' && (c | 32) <= 'z') return CannotHold("escape \\" + std::string(1, c));
        return one(static_cast<unsigned char>(c));
    }
  }

  // After '['.
  Result<CharSet> Class() {
    const bool negated = Take("^");
    CharSet set;
    while (More() && Peek() != ']') {
      HEADRACE_ASSIGN(const CharSet first, ClassAtom());
      if (Peek() != '-' || Peek(1) == ']' || at_ + 1 >= text_.size()) {
        set.Add(first);
        continue;
      }
      ++at_;
      HEADRACE_ASSIGN(const CharSet last, ClassAtom());
      const auto single = [](const CharSet& s) {
        return s.ranges().size() == 1 && s.ranges()[0].first == s.ranges()[0].last;
      };
      if (single(first) && single(last)) {
        if (first.ranges()[0].first > last.ranges()[0].first) return Wrong("has a range from more to less");
        set.Add(CharRange{first.ranges()[0].first, last.ranges()[0].first});
      } else {  // [\w-x]: the dash stands for itself
        set.Add(first);
        set.Add(CharRange{'-', '-'});
        set.Add(last);
      }
    }
    if (!Take("]")) return Wrong("has '[' without ']'");
    return negated ? set.Complement().Intersect(CharSet::AllText()) : set;
  }

  Result<CharSet> ClassAtom() {
    if (Take("\\")) return Escape(true);
    HEADRACE_ASSIGN(const uint32_t code, Character());
    return CharSet{{code, code}};
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Regex Regex::Repeat(Regex part, int least, int most) {
  Regex repeat{Kind::kRepeat};
  repeat.parts.push_back(std::move(part));
  repeat.least = least;
  repeat.most = most;
  return repeat;
}

Result<Regex> ParseRegex(std::string_view pattern) { return Parser(pattern).Parse(); }

}  // namespace headrace::schema
