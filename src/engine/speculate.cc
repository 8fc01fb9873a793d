#include "engine/speculate.h"

#include <algorithm>
#include <cmath>

namespace headrace::engine {
namespace {

uint64_t Key(std::span<const Token> tokens) {
  uint64_t key = 0x9E3779B97F4A7C15ULL;
  for (const Token token : tokens) {
    key ^= static_cast<uint32_t>(token);
    key *= 0xFF51AFD7ED558CCDULL;
    key ^= key >> 32;
  }
  return key == 0 ? 1 : key;
}

}  // namespace

void Lookup::Extend(std::span<const Token> tokens) {
  const auto size = static_cast<int32_t>(tokens.size());
  if ((filled_ + static_cast<size_t>(std::max(size - read_, 0))) * 2 >= table_.size()) {
    std::vector<std::pair<uint64_t, int32_t>> old(
        std::max<size_t>(256, std::max(table_.size() * 2, tokens.size() * 4)));
    old.swap(table_);
    filled_ = 0;
    for (const auto& [key, position] : old) {
      if (key == 0) continue;
      size_t at = key % table_.size();
      while (table_[at].first != 0) at = (at + 1) % table_.size();
      table_[at] = {key, position};
      ++filled_;
    }
  }
  // The n-gram that ends at the very last token is not entered yet: nothing follows it.
  for (int32_t end = std::max(read_, kLongest); end < size; ++end) {
    const uint64_t key = Key(tokens.subspan(static_cast<size_t>(end - kLongest), kLongest));
    size_t at = key % table_.size();
    while (table_[at].first != 0 && table_[at].first != key) at = (at + 1) % table_.size();
    if (table_[at].first == 0) ++filled_;
    table_[at] = {key, end};
  }
  read_ = std::max(read_, size);
}

std::vector<Token> Lookup::Draft(std::span<const Token> tokens, int32_t most) const {
  if (static_cast<int32_t>(tokens.size()) < kLongest + 1 || table_.empty() || most <= 0) return {};
  const uint64_t key = Key(tokens.last(kLongest));
  size_t at = key % table_.size();
  while (table_[at].first != 0 && table_[at].first != key) at = (at + 1) % table_.size();
  if (table_[at].first == 0) return {};
  const auto from = static_cast<size_t>(table_[at].second);
  const size_t count = std::min(static_cast<size_t>(most), tokens.size() - from);
  return {tokens.begin() + static_cast<ptrdiff_t>(from),
          tokens.begin() + static_cast<ptrdiff_t>(from + count)};
}

void Lookup::Verified(int32_t drafted, int32_t accepted) {
  if (drafted <= 0) return;
  const double share = static_cast<double>(accepted) / drafted;
  rate_ += (accepted == drafted ? 0.6 : 0.3) * (share - rate_);  // a copy that has begun goes on
  if (accepted == 0) {
    failures_ = std::min(failures_ + 1, 8);
    rest_ = 1 << failures_;
    rate_ = std::max(rate_, 0.3);
  } else {
    failures_ = 0;
    rest_ = 0;
  }
}

int32_t Lookup::Worth(const CostTable& costs, StepShape others, int64_t position, int threads) const {
  StepShape plain = others;
  plain.rows += 1;
  plain.outputs += 1;
  plain.attended += position;
  const double base = costs.Predict(plain, threads);
  const double per_token = base - (others.rows > 0 ? costs.Predict(others, threads) : 0);
  const double p = std::clamp(rate_, 0.05, 0.98);
  int32_t best = 0;
  double best_gain = 0;
  for (const int32_t draft : {4, 8, 16, 24, 31}) {
    StepShape with = plain;
    with.rows += draft;
    with.outputs += draft;
    with.attended += position * draft;
    const double extra = costs.Predict(with, threads) - base;  // what everybody waits more
    // Each draft accepted with chance p, all after a wrong one lost: expected tokens are p(1 − p^n)/(1 − p).
    const double expected = p * (1 - std::pow(p, draft)) / (1 - p);
    // A token gained is worth a step of this request's own; with neighbours, its part of the step and their
    // wait.
    const double gain =
        expected * (others.rows > 0 ? std::max(per_token, base / (others.rows + 1)) : base) - extra;
    if (gain > best_gain) {
      best_gain = gain;
      best = draft;
    }
  }
  return best;
}

}  // namespace headrace::engine
