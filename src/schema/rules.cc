#include "schema/rules.h"

#include <cctype>
#include <cstdio>
#include <map>
#include <set>

#include "schema/json_schema.h"

namespace headrace::schema {
namespace {

// Text as Python's json.dumps writes it: where blanks are no choice, punctuation is none either, and is given
// without asking the model. Classes leave surrogates out, which are no UTF-8. `char` is one character; half a
// pair of surrogates (RFC 8259, 8.2) is none. Exponents have two digits: a number that no double holds helps
// nobody.
constexpr char kRawClass[] = R"([\u0020-\u0021\u0023-\u005B\u005D-\uD7FF\uE000-\U0010FFFF])";
constexpr char kCommon[] = R"(value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" (member (", " member)*)? "}"
member ::= string ": " value
array ::= "[" (value (", " value)*)? "]"
string ::= "\"" string_rest
string_rest ::= [\u0020-\u0021\u0023-\u005B\u005D-\uD7FF\uE000-\U0010FFFF] string_rest | "\\" escape string_rest | "\\u" [Dd] [89ABab] [0-9A-Fa-f] [0-9A-Fa-f] "\\u" [Dd] [C-Fc-f] [0-9A-Fa-f] [0-9A-Fa-f] string_rest | "\""
char ::= [\u0020-\u0021\u0023-\u005B\u005D-\uD7FF\uE000-\U0010FFFF] | "\\" escape
escape ::= ["\\/bfnrt] | "u" ([0-9A-CE-Fa-ce-f] [0-9A-Fa-f] [0-9A-Fa-f] [0-9A-Fa-f] | [Dd] [0-7] [0-9A-Fa-f] [0-9A-Fa-f])
control ::= "\\u00" ("0" [0-7bef] | "1" [0-9a-f])
integer ::= "-"? ("0" | [1-9] [0-9]*)
number ::= integer ("." [0-9]+)? ([Ee] [+\-]? [0-9] [0-9]?)?
)";

const CharSet& Raw() {  // stands for itself within a JSON string
  static const CharSet set =
      CharSet{{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}.Complement().Intersect(CharSet::AllText());
  return set;
}

const CharSet& Unnamed() {  // control characters whose only escape is \u00XX
  static const CharSet set = {{0, 7}, {0xB, 0xB}, {0xE, 0x1F}};
  return set;
}

std::string ClassCharacter(uint32_t code) {
  const bool plain =
      (code >= '0' && code <= '9') || (code >= 'A' && code <= 'Z') || (code >= 'a' && code <= 'z');
  if (plain) return std::string(1, static_cast<char>(code));
  char text[16];
  std::snprintf(text, sizeof text, code <= 0xFFFF ? "\\u%04X" : "\\U%08X", code);
  return text;
}

// The JSON escape of a character that cannot stand for itself.
std::string Escape(uint32_t code) {
  switch (code) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default: {
      char text[8];
      std::snprintf(text, sizeof text, "\\u%04x", code);
      return text;
    }
  }
}

// The rules that a body names.
std::vector<std::string> References(const std::string& body) {
  std::vector<std::string> names;
  for (size_t i = 0; i < body.size();) {
    const char c = body[i];
    if (c == '"' || c == '[') {
      const char close = c == '"' ? '"' : ']';
      for (++i; body[i] != close; ++i)
        if (body[i] == '\\') ++i;
      ++i;
    } else if (c >= 'a' && c <= 'z') {
      const size_t begin = i;
      while (i < body.size() && (std::isalnum(static_cast<unsigned char>(body[i])) != 0 || body[i] == '_'))
        ++i;
      names.push_back(body.substr(begin, i - begin));
    } else {
      ++i;
    }
  }
  return names;
}

// A regular expression without anchors, over the characters of a JSON string.
std::string Body(const Regex& regex) {
  using Kind = Regex::Kind;
  switch (regex.kind) {
    case Kind::kSet:
      return Rules::Character(regex.set);
    case Kind::kSequence: {
      std::string body;
      for (const Regex& part : regex.parts) body += (body.empty() ? "" : " ") + Body(part);
      return body.empty() ? "\"\"" : "(" + body + ")";
    }
    case Kind::kChoice: {
      std::string body;
      for (const Regex& part : regex.parts) body += (body.empty() ? "" : " | ") + Body(part);
      return "(" + body + ")";
    }
    case Kind::kRepeat:
      return "(" + Body(regex.parts[0]) + "){" + std::to_string(regex.least) + "," +
             (regex.most < 0 ? "" : std::to_string(regex.most)) + "}";
    default:
      return "\"\"";
  }
}

}  // namespace

std::string Rules::Grammar(const std::string& root) const {
  std::string text = "root ::= " + root + "\n" + kCommon;
  std::vector<std::string> open = {root};
  std::set<std::string> seen = {root};
  while (!open.empty()) {
    const auto rule = bodies_.find(open.back());
    open.pop_back();
    if (rule == bodies_.end()) continue;  // a common one
    text += rule->first + " ::= " + rule->second + "\n";
    for (std::string& name : References(rule->second))
      if (seen.insert(name).second) open.push_back(std::move(name));
  }
  return text;
}

std::string Rules::Literal(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string Rules::Character(const CharSet& set) {
  const CharSet raw = set.Intersect(Raw());
  if (raw.ranges() == Raw().ranges() && set.Contains('"') && set.Contains('\\') && set.Contains(0))
    return "char";
  std::string choices;
  if (!raw.empty()) {
    choices = "[";
    for (const CharRange range : raw.ranges()) {
      choices += ClassCharacter(range.first);
      if (range.last > range.first) choices += "-" + ClassCharacter(range.last);
    }
    choices += "]";
  }
  CharSet escaped = set.Intersect(Raw().Complement().Intersect(CharSet::AllText()));
  if (!choices.empty() && escaped.empty()) return choices;
  const auto add = [&](const std::string& choice) { choices += (choices.empty() ? "" : " | ") + choice; };
  if (escaped.Intersect(Unnamed()).ranges() == Unnamed().ranges()) {
    add("control");
    escaped = escaped.Intersect(Unnamed().Complement());
  }
  for (const CharRange range : escaped.ranges())
    for (uint32_t code = range.first; code <= range.last; ++code) add(Literal(Escape(code)));
  return "(" + choices + ")";
}

std::string Rules::OfAutomaton(const Automaton& texts, bool quoted) {
  const auto& states = texts.states();
  std::vector<std::string> names;
  for (size_t i = 0; i < states.size(); ++i) names.push_back(NewName());
  for (size_t i = 0; i < states.size(); ++i) {
    std::map<int32_t, CharSet> by_target;
    for (const auto& edge : states[i].edges) by_target[edge.to].Add(CharRange{edge.first, edge.last});
    std::string body;
    const auto add = [&](const std::string& choice) { body += (body.empty() ? "" : " | ") + choice; };
    for (const auto& [to, set] : by_target) add(Character(set) + " " + names[static_cast<size_t>(to)]);
    if (states[i].accepts) add(quoted ? R"("\"")" : "\"\"");
    Define(names[i], body);
  }
  if (!quoted) return names[0];
  std::string name = NewName();
  Define(name, R"("\"" )" + names[0]);
  return name;
}

std::string Rules::QuotedRegex(const Regex& regex) {
  std::string name = NewName();
  Define(name, R"("\"" )" + Body(regex) + R"( "\"")");
  return name;
}

// A rule for each character as long as these are few. A repetition of a class is what XGrammar counts
// cheaply: in strings that may be longer, no character is written as an escape. (With 262,144 tokens on two
// busy cores, a repetition of choices up to 2,000 took 275 s for an answer of 40 tokens, 200 rules took 20 s
// to compile.)
std::string Rules::QuotedLength(int64_t least, int64_t most) {
  constexpr int64_t kFew = 64;
  std::string name = NewName();
  const int64_t counted = most < 0 ? least : most;
  const std::string after = most < 0 ? "string_rest" : R"("\"")";
  if (counted > kFew) {
    Define(name, R"("\"" )" + std::string(kRawClass) + "{" + std::to_string(least) + "," +
                     std::to_string(counted) + "} " + after);
    return name;
  }
  std::string next = after;
  for (int64_t i = counted; i-- > 0;) {
    std::string one = NewName();
    Define(one, std::string(kRawClass) + " " + next + R"( | "\\" ["\\/bfnrt] )" + next +
                    (i >= least ? R"( | "\"")" : ""));
    next = std::move(one);
  }
  Define(name, R"("\"" )" + next);
  return name;
}

std::string AnyObjectGrammar() {
  std::string text = Rules().Grammar(Rules::kObject);
  const auto replace = [&](std::string_view rule, const std::string& body) {
    const size_t begin = text.find("\n" + std::string(rule) + " ::= ") + 1;
    text.replace(begin, text.find('\n', begin) - begin, std::string(rule) + " ::= " + body);
  };
  replace("object", R"("{" ws (member (ws "," ws member)* ws)? "}")");
  replace("member", R"(string ws ":" ws value)");
  replace("array", R"("[" ws (value (ws "," ws value)* ws)? "]")");
  return text + "ws ::= [ \\n\\t\\r]*\n";
}

}  // namespace headrace::schema
