#include "schema/numbers.h"

#include <algorithm>
#include <cstdlib>

namespace headrace::schema {
namespace {

constexpr int kMostDigits = 400;  // of a bound without its exponent
constexpr int kExactDigits = 15;  // of decimals that keep their order as doubles (DBL_DIG)

// A magnitude: digits before and after the point, no needless zeros ("0", "").
struct Magnitude {
  std::string whole, fraction;
  bool zero() const { return whole == "0" && fraction.empty(); }
};

// Regular expressions as text: a digit at a time they are short, and the parser knows them already.
std::string Times(const std::string& what, size_t count) {
  return count == 0 ? "" : what + "{" + std::to_string(count) + "}";
}
std::string UpTo(const std::string& what, size_t most) {
  return most == 0 ? "" : what + "{0," + std::to_string(most) + "}";
}
std::string Range(char first, char last) { return std::string("[") + first + "-" + last + "]"; }

constexpr char kAnyFraction[] = "(?:\\.\\d+)?";

void Append(std::string* choices, const std::string& one) { *choices += (choices->empty() ? "" : "|") + one; }

// Magnitudes at or above `bound`.
std::string AtLeast(const Magnitude& bound, bool exclusive) {
  const std::string& whole = bound.whole;
  std::string choices = "[1-9]\\d{" + std::to_string(whole.size()) + ",}" + kAnyFraction;
  for (size_t i = 0; i < whole.size(); ++i)
    if (whole[i] < '9')
      Append(&choices, whole.substr(0, i) + Range(static_cast<char>(whole[i] + 1), '9') +
                           Times("\\d", whole.size() - i - 1) + kAnyFraction);
  for (size_t i = 0; i < bound.fraction.size(); ++i)
    if (bound.fraction[i] < '9')
      Append(&choices, whole + "\\." + bound.fraction.substr(0, i) +
                           Range(static_cast<char>(bound.fraction[i] + 1), '9') + "\\d*");
  const std::string more = exclusive ? "\\d*[1-9]\\d*" : "\\d*";
  if (!bound.fraction.empty()) {
    Append(&choices, whole + "\\." + bound.fraction + more);
  } else {
    Append(&choices, exclusive ? whole + "\\." + more : whole + kAnyFraction);
  }
  return "(?:" + choices + ")";
}

// Magnitudes at or below `bound`; "" where there are none.
std::string AtMost(const Magnitude& bound, bool exclusive) {
  const std::string& whole = bound.whole;
  std::string choices;
  if (whole.size() > 1) Append(&choices, "(?:0|[1-9]" + UpTo("\\d", whole.size() - 2) + ")" + kAnyFraction);
  for (size_t i = 0; i < whole.size(); ++i) {
    const char least = i == 0 && whole.size() > 1 ? '1' : '0';
    if (whole[i] > least)
      Append(&choices, whole.substr(0, i) + Range(least, static_cast<char>(whole[i] - 1)) +
                           Times("\\d", whole.size() - i - 1) + kAnyFraction);
  }
  for (size_t i = 0; i < bound.fraction.size(); ++i) {
    const std::string same = bound.fraction.substr(0, i);
    if (i > 0) Append(&choices, whole + "\\." + same);  // shorter, so less
    if (bound.fraction[i] > '0')
      Append(&choices, whole + "\\." + same + Range('0', static_cast<char>(bound.fraction[i] - 1)) + "\\d*");
  }
  if (!bound.fraction.empty()) Append(&choices, whole);
  if (!exclusive)
    Append(&choices, bound.fraction.empty() ? whole + "(?:\\.0+)?" : whole + "\\." + bound.fraction + "0*");
  return choices.empty() ? "" : "(?:" + choices + ")";
}

Result<Automaton> Whole(const std::string& choices) {
  HEADRACE_ASSIGN(const Regex regex, ParseRegex("^(?:" + choices + ")$"));
  return Automaton::OfPattern(regex);
}

struct Signed {
  bool negative = false, exclusive = false;
  Magnitude magnitude;
};

Result<std::optional<Signed>> Read(const std::optional<Bound>& bound) {
  if (!bound) return std::optional<Signed>();
  HEADRACE_ASSIGN(std::string plain, PlainDecimal(bound->digits));
  Signed out;
  out.exclusive = bound->exclusive;
  out.negative = plain[0] == '-';
  if (out.negative) plain.erase(0, 1);
  const size_t point = plain.find('.');
  out.magnitude.whole = plain.substr(0, point);
  if (point != std::string::npos) out.magnitude.fraction = plain.substr(point + 1);
  if (out.magnitude.zero()) out.negative = false;
  return std::optional<Signed>(out);
}

// Magnitudes from `least` to `most`, each where it is given; with a sign before them.
Result<Automaton> Magnitudes(const std::string& sign, const Signed* least, const Signed* most) {
  const std::string any = sign + "(?:0|[1-9]\\d*)" + kAnyFraction;
  std::string below = any;
  if (most != nullptr) {
    below = AtMost(most->magnitude, most->exclusive);
    if (below.empty()) return Automaton::OfTexts({});
    below = sign + below;
  }
  HEADRACE_ASSIGN(Automaton under, Whole(below));
  if (least == nullptr || (least->magnitude.zero() && !least->exclusive)) return under;
  HEADRACE_ASSIGN(const Automaton over, Whole(sign + AtLeast(least->magnitude, least->exclusive)));
  return under.Intersect(over);
}

Result<Automaton> Either(const Automaton& a, const Automaton& b) {
  HEADRACE_ASSIGN(const Automaton neither, a.Complement().Intersect(b.Complement()));
  return neither.Complement();
}

}  // namespace

Result<Automaton> NumbersWithin(const std::optional<Bound>& least, const std::optional<Bound>& most,
                                bool integer) {
  HEADRACE_ASSIGN(const std::optional<Signed> low, Read(least));
  HEADRACE_ASSIGN(const std::optional<Signed> high, Read(most));
  Automaton numbers = Automaton::OfTexts({});
  if (!low || low->negative) {  // from 0 down to `low`; not "-0", which some readers take for an integer
    const bool below_zero = high && high->negative;
    const Signed zero{false, true, {"0", ""}};
    const Signed* nearest = below_zero ? &*high : &zero;
    HEADRACE_ASSIGN(numbers, Magnitudes("-", nearest, low ? &*low : nullptr));
  }
  if (!high || !high->negative) {
    HEADRACE_ASSIGN(const Automaton positive,
                    Magnitudes("", low && !low->negative ? &*low : nullptr, high ? &*high : nullptr));
    HEADRACE_ASSIGN(numbers, Either(numbers, positive));
  }
  HEADRACE_ASSIGN(const Automaton shape,
                  Whole(integer ? std::string("-?\\d+")
                                : "-?\\d+|-?(?:0\\.\\d{1," + std::to_string(kExactDigits) + "}|" +
                                      [] {
                                        std::string forms;
                                        for (int before = 1; before < kExactDigits; ++before)
                                          Append(&forms, "[1-9]\\d{" + std::to_string(before - 1) +
                                                             "}\\.\\d{1," +
                                                             std::to_string(kExactDigits - before) + "}");
                                        return forms;
                                      }() +
                                      ")"));
  return numbers.Intersect(shape);
}

Automaton Multiples(int64_t divisor) {
  // A state for each remainder, after the first, the sign and a first digit 0, after which none may come.
  std::vector<Automaton::State> states(static_cast<size_t>(divisor) + 3);
  constexpr int32_t kSigned = 1, kZero = 2, kRemainders = 3;
  const auto digit = [](int d) { return static_cast<uint32_t>('0' + d); };
  for (const int32_t begin : {0, kSigned}) {
    auto& edges = states[static_cast<size_t>(begin)].edges;
    if (begin == 0) edges.push_back({'-', '-', kSigned});
    if (begin == 0) edges.push_back({'0', '0', kZero});
    for (int d = 1; d < 10; ++d)
      edges.push_back({digit(d), digit(d), kRemainders + static_cast<int32_t>(d % divisor)});
  }
  states[kZero].accepts = true;
  for (int64_t r = 0; r < divisor; ++r) {
    auto& state = states[static_cast<size_t>(kRemainders + r)];
    state.accepts = r == 0;
    for (int d = 0; d < 10; ++d)
      state.edges.push_back({digit(d), digit(d), kRemainders + static_cast<int32_t>((r * 10 + d) % divisor)});
  }
  return Automaton::OfStates(std::move(states));
}

Result<std::string> PlainDecimal(const std::string& number) {
  const bool negative = number.starts_with("-");
  std::string digits;
  long point = -1, exponent = 0;
  for (size_t i = negative ? 1 : 0; i < number.size(); ++i) {
    const char c = number[i];
    if (c == '.') {
      point = static_cast<long>(digits.size());
    } else if (c == 'e' || c == 'E') {
      exponent = std::strtol(number.c_str() + i + 1, nullptr, 10);
      break;
    } else {
      digits += c;
    }
  }
  if (point < 0) point = static_cast<long>(digits.size());
  point += std::clamp(exponent, -2000L, 2000L);
  if (point > kMostDigits || point < -kMostDigits)
    return Status::Unsupported("a bound of more than " + std::to_string(kMostDigits) +
                               " digits cannot be enforced");
  if (point <= 0) digits.insert(0, static_cast<size_t>(1 - point), '0'), point = 1;
  if (static_cast<size_t>(point) > digits.size())
    digits.append(static_cast<size_t>(point) - digits.size(), '0');
  std::string whole = digits.substr(0, static_cast<size_t>(point));
  std::string fraction = digits.substr(static_cast<size_t>(point));
  whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size() - 1));
  fraction.erase(fraction.find_last_not_of('0') + 1);
  return (negative ? "-" : "") + whole + (fraction.empty() ? "" : "." + fraction);
}

}  // namespace headrace::schema
