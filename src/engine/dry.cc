#include "engine/dry.h"

#include <algorithm>
#include <cmath>

namespace headrace::engine {
namespace {

using model::Token;

constexpr size_t kMostBreakers = 64, kMostBytes = 40, kMostTail = 20;  // llama.cpp's, but for the first
constexpr double kLargestLog = 88.7228391;                             // of a float

// How many of the newest tokens may belong to a repetition: none before the last breaker.
int32_t Reach(const DryBreakers& breakers, std::span<const Token> said) {
  const auto size = static_cast<int32_t>(said.size());
  const auto back = [&](int32_t i) { return said[static_cast<size_t>(size - 1 - i)]; };
  for (int32_t i = 0; i < size; ++i) {
    int32_t longest = -1;
    const auto [first, last] = breakers.equal_range(back(i));
    for (auto it = first; it != last; ++it) {
      const auto length = static_cast<int32_t>(it->second.size());
      if (length <= longest || length > i) continue;
      bool same = true;
      for (int32_t k = 0; same && k < length; ++k)
        same = it->second[static_cast<size_t>(k)] == back(i - k - 1);
      if (same) longest = length;
    }
    if (longest >= 0) return i - longest;
  }
  return size;
}

// For each token of `said` but the newest, counted from the newest: how many tokens up to it are those up to
// the newest, at most `reach` (the Z-algorithm, backwards).
std::vector<int32_t> Repeats(std::span<const Token> said, int32_t reach) {
  const auto size = static_cast<int32_t>(said.size());
  const auto back = [&](int32_t i) { return said[static_cast<size_t>(size - 1 - i)]; };
  std::vector<int32_t> whole(said.size(), 0);
  int32_t left = 0, right = -1;  // the box that was compared last
  for (int32_t k = 1; k < size; ++k) {
    int32_t n = k <= right ? std::min(whole[static_cast<size_t>(k - left)], right - k + 1) : 0;
    while (n + k < size && back(n) == back(n + k)) ++n;
    whole[static_cast<size_t>(k)] = n;
    if (n > 0 && k + n - 1 > right) {
      left = k;
      right = k + n - 1;
    }
  }
  for (int32_t& n : whole) n = std::min(n, reach);
  return whole;
}

}  // namespace

std::string Dry::Problem() const {
  if (allowed_length < 0) return "dry_allowed_length must be 0 or more";
  if (breakers.size() > kMostBreakers) return "dry_sequence_breakers has more than 64 entries";
  return "";
}

DryBreakers FindDryBreakers(const Vocabulary& vocabulary, int32_t size,
                            const std::vector<std::string>& breakers) {
  DryBreakers found;
  const auto add = [&](Token head, std::vector<Token> tail) {
    tail.resize(std::min(tail.size(), kMostTail));
    const auto [first, last] = found.equal_range(head);
    if (std::none_of(first, last, [&](const auto& entry) { return entry.second == tail; }))
      found.emplace(head, std::move(tail));
  };
  for (const std::string& whole : breakers) {
    const std::string breaker = whole.substr(0, kMostBytes);
    if (breaker.empty()) continue;
    for (Token token = 0; token < size; ++token) {
      const std::string_view piece = vocabulary.Piece(token);
      if (piece.find(breaker) != std::string_view::npos) {
        add(token, {});
        continue;
      }
      // It may end with the breaker's beginning: what comes next must be the rest.
      for (size_t length = std::min(piece.size(), breaker.size() - 1); length > 0; --length)
        if (piece.ends_with(std::string_view(breaker).substr(0, length)))
          add(token, vocabulary.Tokenize(breaker.substr(length)));
    }
  }
  return found;
}

void PunishRepetition(const Dry& dry, std::span<const Token> said, std::span<float> logits) {
  if (!dry.on()) return;
  if (said.size() > static_cast<size_t>(dry.last_n)) said = said.last(static_cast<size_t>(dry.last_n));
  const auto size = static_cast<int32_t>(said.size());
  if (size <= dry.allowed_length) return;
  static const DryBreakers kNone;
  const DryBreakers& breakers = dry.tokens ? *dry.tokens : kNone;
  const int32_t reach = Reach(breakers, said);
  if (reach < dry.allowed_length) return;
  const std::vector<int32_t> repeats = Repeats(said, reach);
  std::unordered_map<Token, int32_t> longest;  // by the token that would go on with a repetition
  for (int32_t k = 1; k < size; ++k)
    if (repeats[static_cast<size_t>(k)] >= dry.allowed_length) {
      int32_t& most = longest[said[static_cast<size_t>(size - k)]];
      most = std::max(most, repeats[static_cast<size_t>(k)]);
    }
  const int32_t largest = dry.base > 1.000001F ? static_cast<int32_t>(kLargestLog / std::log(dry.base)) : 0;
  for (const auto& [token, length] : longest) {
    const auto [first, last] = breakers.equal_range(token);
    if (std::any_of(first, last, [](const auto& entry) { return entry.second.empty(); })) continue;
    int32_t exponent = length - dry.allowed_length;
    if (largest > 0) exponent = std::min(exponent, largest);
    logits[static_cast<size_t>(token)] -= dry.multiplier * std::pow(dry.base, static_cast<float>(exponent));
  }
}

}  // namespace headrace::engine
