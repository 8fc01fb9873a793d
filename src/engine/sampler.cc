#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "engine/sampler_loops.h"
#include "engine/sampling_ranges.h"

namespace headrace::engine {
namespace {

constexpr float kNever = -1e30F;  // of what a mask or a bias forbids; no logit comes near

constexpr size_t kBlock = 4096;
constexpr uint64_t kOtherStream = 0x517CC1B727220A95ULL;  // of random numbers, beside the one that draws

double TotalExp(std::span<const float> values, float top, float scale) {
  double sum = 0;
  for (size_t at = 0; at < values.size(); at += kBlock)
    sum += loops::SumExp(values.data() + at, std::min(kBlock, values.size() - at), top, scale);
  return sum;
}

std::string MustBe(const Range& range) {
  const auto text = [](double number) {
    std::string digits = std::to_string(number);  // of six decimals
    digits.erase(digits.find_last_not_of('0') + 1);
    if (digits.ends_with('.')) digits.pop_back();
    return digits;
  };
  return " must be from " + text(range.least) + " to " + text(range.most);
}

float Largest(std::span<const float> values) { return loops::Largest(values.data(), values.size()); }

// Appends (value, token) of all values ≥ bound, in ascending order of tokens.
void Gather(std::span<const float> values, float bound, std::vector<std::pair<float, Token>>* out) {
  constexpr size_t kStride = 64;
  for (size_t at = 0; at < values.size(); at += kStride) {
    const std::span<const float> block = values.subspan(at, std::min(kStride, values.size() - at));
    if (Largest(block) < bound) continue;
    for (size_t i = 0; i < block.size(); ++i)
      if (block[i] >= bound) out->emplace_back(block[i], static_cast<Token>(at + i));
  }
}

bool Before(const std::pair<float, Token>& a, const std::pair<float, Token>& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

// Whether min_tokens still keeps the answer from ending.
bool Holds(const Sampling& sampling, const History& history) {
  return !sampling.held.empty() && history.own().size() < static_cast<size_t>(sampling.min_tokens);
}

// Whether XTC strikes at the n-th token.
bool Excludes(const Sampling& sampling, uint64_t n) {
  return sampling.xtc_probability > 0 && sampling.xtc_threshold <= 0.5F &&
         Uniform(sampling.seed + kOtherStream, n) < sampling.xtc_probability;
}

}  // namespace

Token ArgMax(std::span<const float> values) {
  constexpr size_t kStride = 1024;
  float best = kNever;
  size_t found = 0;
  for (size_t at = 0; at < values.size(); at += kStride) {
    const float top = Largest(values.subspan(at, std::min(kStride, values.size() - at)));
    if (top > best) {
      best = top;
      found = at;
    }
  }
  while (found < values.size() && values[found] != best) ++found;
  return found < values.size() ? static_cast<Token>(found) : 0;
}

double Uniform(uint64_t seed, uint64_t n) {
  uint64_t z = seed + (n + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  z ^= z >> 31;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;  // twice: seeds 0, 1, 2 must not give related streams
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

std::string Sampling::Problem() const {
  const std::tuple<const char*, float, Range> numbers[] = {
      {"temperature", temperature, kTemperatures},
      {"min_p", min_p, kProbabilities},
      {"repetition_penalty", repetition_penalty, kRepetitionPenalties},
      {"frequency_penalty", frequency_penalty, kOpenAiPenalties},
      {"presence_penalty", presence_penalty, kOpenAiPenalties},
      {"xtc_probability", xtc_probability, kProbabilities},
      {"xtc_threshold", xtc_threshold, kProbabilities},
      {"dry_multiplier", dry.multiplier, kDryMultipliers},
      {"dry_base", dry.base, kDryBases}};
  for (const auto& [name, value, range] : numbers)
    if (!range.Holds(value)) return std::string(name) + MustBe(range);
  if (!(top_p > 0 && top_p <= 1)) return "top_p must be above 0 and at most 1";
  if (top_k < 0) return "top_k must be 0 (all tokens) or more";
  for (const auto& [token, bias] : logit_bias)
    if (!kBiases.Holds(bias)) return "logit_bias of token " + std::to_string(token) + MustBe(kBiases);
  for (const auto& word : bad_words)
    if (word.empty()) return "a word of bad_words has no tokens";
  if (min_tokens < 0) return "min_tokens must be 0 or more";
  return dry.Problem();
}

void History::Said(Token token) {
  const auto at = std::lower_bound(answer.begin(), answer.end(), token,
                                   [](const auto& a, Token t) { return a.first < t; });
  if (at != answer.end() && at->first == token) {
    ++at->second;
  } else {
    answer.insert(at, {token, 1});
  }
}

Sampler::Sampler(int32_t vocabulary) { work_.resize(static_cast<size_t>(vocabulary)); }

std::span<const float> Sampler::Adjust(std::span<const float> logits, const Sampling& sampling,
                                       const History& history, std::span<const int32_t> mask, bool hold) {
  const bool penalties = sampling.repetition_penalty != 1.0F || sampling.frequency_penalty != 0.0F ||
                         sampling.presence_penalty != 0.0F || sampling.dry.on();
  if (mask.empty() && !penalties && sampling.logit_bias.empty() && sampling.bad_words.empty() && !hold)
    return logits;
  if (mask.empty()) {
    work_.assign(logits.begin(), logits.end());
  } else {
    const size_t whole = logits.size() / 32 * 32;
    work_.resize(logits.size());
    loops::Masked(logits.data(), whole, mask.data(), work_.data());
    for (size_t i = whole; i < logits.size(); ++i)
      work_[i] = ((static_cast<uint32_t>(mask[i / 32]) >> (i % 32)) & 1U) != 0 ? logits[i] : kNever;
  }
  for (const auto& [token, bias] : sampling.logit_bias)
    if (token >= 0 && static_cast<size_t>(token) < work_.size())
      work_[static_cast<size_t>(token)] += bias <= -100.0F ? kNever : bias;
  if (hold)
    for (const Token token : sampling.held) work_[static_cast<size_t>(token)] = kNever;
  const std::span<const Token> own = history.own();
  for (const std::vector<Token>& word : sampling.bad_words) {
    const size_t before = word.size() - 1;
    if (own.size() >= before &&
        std::equal(word.begin(), word.end() - 1, own.end() - static_cast<ptrdiff_t>(before)))
      work_[static_cast<size_t>(word.back())] = kNever;
  }
  if (sampling.repetition_penalty != 1.0F) {
    const auto punish = [&](Token token) {
      float& value = work_[static_cast<size_t>(token)];
      value = value > 0 ? value / sampling.repetition_penalty : value * sampling.repetition_penalty;
    };
    for (const Token token : history.prompt) punish(token);
    for (const auto& [token, count] : history.answer)
      if (!std::binary_search(history.prompt.begin(), history.prompt.end(), token)) punish(token);
  }
  for (const auto& [token, count] : history.answer)
    work_[static_cast<size_t>(token)] -=
        sampling.presence_penalty + sampling.frequency_penalty * static_cast<float>(count);
  PunishRepetition(sampling.dry, history.said, work_);
  return work_;
}

Token Sampler::Sample(std::span<const float> logits, const Sampling& sampling, const History& history,
                      std::span<const int32_t> mask, uint64_t n) {
  candidates_.clear();
  const bool hold = Holds(sampling, history);
  std::span<const float> values = Adjust(logits, sampling, history, mask, hold);
  float top = Largest(values);
  if (hold && !(top > kNever / 2)) {  // a grammar may leave nothing but the end
    values = Adjust(logits, sampling, history, mask, false);
    top = Largest(values);
  }
  if (!(top > kNever / 2)) return -1;  // nothing is allowed, or nothing is a number
  if (sampling.temperature <= 0 || sampling.top_k == 1) return ArgMax(values);
  const float scale = 1.0F / sampling.temperature;
  if (sampling.top_k > 0 && static_cast<size_t>(sampling.top_k) < values.size())
    return AmongLikeliest(values, sampling, top, scale, n);

  terms_.resize(values.size());
  double total = 0;
  block_sums_.clear();
  for (size_t at = 0; at < values.size(); at += kBlock) {
    const float sum = loops::StoreExp(values.data() + at, std::min(kBlock, values.size() - at), top, scale,
                                      terms_.data() + at);
    block_sums_.push_back(sum);
    total += sum;
  }
  if (sampling.top_p < 1.0F || sampling.min_p > 0.0F || Excludes(sampling, n))
    return AmongNucleus(sampling, total, n);
  // The whole distribution: the block where the sum passes u, then the token in it.
  double left = Uniform(sampling.seed, n) * total;
  Token last = -1;
  for (size_t block = 0; block < block_sums_.size(); ++block) {
    if (block_sums_[block] <= 0) continue;
    if (left >= block_sums_[block]) {
      left -= block_sums_[block];
      continue;
    }
    for (size_t i = block * kBlock; i < std::min((block + 1) * kBlock, terms_.size()); ++i) {
      if (terms_[i] <= 0) continue;
      last = static_cast<Token>(i);
      if (left < terms_[i]) return last;
      left -= terms_[i];
    }
  }
  return last >= 0 ? last : ArgMax(values);
}

// One of `candidates_` (probability, token), in proportion.
Token Sampler::Pick(double u) const {
  double kept = 0;
  for (const auto& [p, token] : candidates_) kept += p;
  double left = u * kept;
  for (const auto& [p, token] : candidates_) {
    if (left < p) return token;
    left -= p;
  }
  return candidates_.front().second;
}

Token Sampler::Choose(const Sampling& sampling, uint64_t n) {
  if (Excludes(sampling, n)) ExcludeTop(sampling.xtc_threshold);
  return Pick(Uniform(sampling.seed, n));
}

void Sampler::ExcludeTop(float threshold) {
  double total = 0;
  for (const auto& [p, token] : candidates_) total += p;
  const double bound = threshold * total;
  const auto is_top = [&](const auto& candidate) { return candidate.first >= bound; };
  const auto least = std::min_element(
      candidates_.begin(), candidates_.end(),
      [&](const auto& a, const auto& b) { return is_top(a) != is_top(b) ? is_top(a) : Before(b, a); });
  if (least == candidates_.end() || !is_top(*least)) return;
  const auto stays = *least;
  std::erase_if(candidates_, [&](const auto& candidate) { return is_top(candidate) && candidate != stays; });
}

// top_p and min_p over the whole vocabulary. Terms below (1 − p)·Z/V sum to less than (1 − p)·Z, so the
// nucleus lies above them; of what is left, buckets by the float's leading bits find the boundary, and only
// its bucket is sorted.
Token Sampler::AmongNucleus(const Sampling& sampling, double total, uint64_t n) {
  const double goal = sampling.top_p * total;
  float bound = sampling.top_p < 1.0F
                    ? static_cast<float>((total - goal) / static_cast<double>(terms_.size()) * 0.999)
                    : 0.0F;
  bound = std::max({bound, sampling.min_p, std::numeric_limits<float>::min()});  // the likeliest term is 1
  Gather(terms_, bound, &candidates_);
  if (sampling.top_p >= 1.0F) return Choose(sampling, n);
  constexpr int kShift = 17;  // 8 bits of exponent, 6 of mantissa
  const auto bucket = [](float term) { return std::bit_cast<uint32_t>(term) >> kShift; };
  masses_.assign(bucket(1.0F) + 2, 0.0);
  for (const auto& [term, token] : candidates_)
    masses_[std::min<size_t>(bucket(term), masses_.size() - 1)] += term;
  size_t edge = masses_.size();
  double sum = 0;
  while (edge > 0 && sum < goal) sum += masses_[--edge];
  sum -= masses_[edge];
  std::vector<std::pair<float, Token>> ties;
  for (const auto& c : candidates_)
    if (bucket(c.first) == edge) ties.push_back(c);
  std::sort(ties.begin(), ties.end(), Before);
  size_t keep = 0;
  while (keep < ties.size() && sum < goal) sum += ties[keep++].first;
  if (keep == 0 && ties.size() == candidates_.size()) keep = 1;
  // What is kept stays in ascending order of tokens: the order that Pick goes by.
  const auto out = [&](const std::pair<float, Token>& c) {
    if (bucket(c.first) != edge) return bucket(c.first) < edge;
    return keep == 0 || Before(ties[keep - 1], c);
  };
  std::erase_if(candidates_, out);
  return Choose(sampling, n);
}

void Sampler::Likeliest(std::span<const float> values, size_t k) {
  candidates_.clear();
  // The k-th largest of the blocks' maxima is no larger than the k-th largest value: a bound that keeps k and
  // few more.
  constexpr size_t kStride = 64;
  block_sums_.clear();
  for (size_t at = 0; at < values.size(); at += kStride)
    block_sums_.push_back(Largest(values.subspan(at, std::min(kStride, values.size() - at))));
  float bound = std::numeric_limits<float>::lowest();
  if (k <= block_sums_.size()) {
    std::nth_element(block_sums_.begin(), block_sums_.begin() + static_cast<ptrdiff_t>(k - 1),
                     block_sums_.end(), std::greater<>());
    bound = std::max(bound, block_sums_[k - 1]);
  }
  Gather(values, bound, &candidates_);
  if (candidates_.size() > k) {
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k), candidates_.end(),
                     Before);
    candidates_.resize(k);
  }
  std::sort(candidates_.begin(), candidates_.end(), Before);
}

Token Sampler::SampleAsking(std::span<const float> logits, const Sampling& sampling, const History& history,
                            const std::function<bool(Token)>& allows, uint64_t n) {
  constexpr size_t kAsked = 64;
  constexpr double kFaint = 1e-25;  // of the likeliest token's: too near to where floats end
  constexpr double kSlack = 1e-5;   // Sample's sums are of floats: closer than this, either may be right
  const bool greedy = sampling.temperature <= 0 || sampling.top_k == 1;
  if (!greedy && (sampling.top_k > 0 || sampling.top_p >= 1.0F || Excludes(sampling, n))) return kUnresolved;
  const std::span<const float> values = Adjust(logits, sampling, history, {}, Holds(sampling, history));
  const float top = Largest(values);
  if (!(top > kNever / 2)) return kUnresolved;
  Likeliest(values, kAsked);
  if (greedy) {
    for (const auto& [value, token] : candidates_)
      if (value > kNever / 2 && allows(token)) return token;
    return kUnresolved;
  }
  const float scale = 1.0F / sampling.temperature;
  // What the tokens have together that are not asked about: summed by itself, not as a difference, since what
  // is allowed may be a thousandth of what is not.
  terms_.resize(values.size());
  for (size_t at = 0; at < values.size(); at += kBlock)
    loops::StoreExp(values.data() + at, std::min(kBlock, values.size() - at), top, scale, terms_.data() + at);
  for (const auto& [value, token] : candidates_) terms_[static_cast<size_t>(token)] = 0;
  double tail = 0;
  for (const float term : terms_) tail += term;
  std::vector<double> after(candidates_.size() + 1, tail);  // of candidates from here on, and the others
  for (size_t i = candidates_.size(); i-- > 0;)
    after[i] = after[i + 1] + std::exp((candidates_[i].first - top) * scale);
  double allowed = 0;  // of those that are
  std::vector<std::pair<float, Token>> kept;
  const std::vector<std::pair<float, Token>> asked = candidates_;
  for (size_t i = 0; i < asked.size(); ++i) {
    const auto& [value, token] = asked[i];
    if (value <= kNever / 2 || !allows(token)) continue;
    kept.emplace_back(value, token);
    allowed += std::exp((value - top) * scale);
    const double rest = after[i + 1];
    if (allowed < kFaint) return kUnresolved;
    // All allowed tokens have between `allowed` and `allowed + rest`: does the nucleus end at the same place
    // either way?
    if (allowed < sampling.top_p * (allowed + rest) * (1 + kSlack)) continue;
    double least = 0, most = 0;
    size_t first = 0, last = 0;
    for (const auto& [v, t] : kept) {
      const double mass = std::exp((v - top) * scale);
      if (least < sampling.top_p * allowed * (1 - kSlack)) {
        least += mass;
        ++first;
      }
      if (most < sampling.top_p * (allowed + rest) * (1 + kSlack)) {
        most += mass;
        ++last;
      }
    }
    if (first != last) continue;
    kept.resize(std::max<size_t>(first, 1));
    const float likeliest = kept.front().first;
    candidates_.clear();
    double total = 0;
    for (const auto& [v, t] : kept) {
      const float p = std::exp((v - likeliest) * scale);
      if (std::abs(p - sampling.min_p) < kSlack * p) return kUnresolved;
      if (p < sampling.min_p) continue;
      candidates_.emplace_back(p, t);
      total += p;
    }
    std::sort(candidates_.begin(), candidates_.end(),
              [](const auto& a, const auto& b) { return a.second < b.second; });
    const double u = Uniform(sampling.seed, n);
    double sum = 0;
    for (const auto& [p, t] : candidates_)  // between two tokens, where rounding decides
      if (sum += p; std::abs(sum - u * total) < kSlack * total) return kUnresolved;
    return Pick(u);
  }
  return kUnresolved;
}

// top_k, and then top_p and min_p among the k.
Token Sampler::AmongLikeliest(std::span<const float> values, const Sampling& sampling, float top, float scale,
                              uint64_t n) {
  Likeliest(values, static_cast<size_t>(sampling.top_k));
  double total = 0;
  for (auto& [value, token] : candidates_) {
    value = std::exp((value - top) * scale);
    total += value;
  }
  double sum = 0;
  size_t keep = 0;
  while (keep < candidates_.size() && candidates_[keep].first >= sampling.min_p &&
         (sampling.top_p >= 1.0F || sum < sampling.top_p * total))
    sum += candidates_[keep++].first;
  candidates_.resize(std::max<size_t>(keep, 1));
  return Choose(sampling, n);
}

LogProb Sampler::LogProbability(std::span<const float> logits, Token chosen, int top,
                                std::vector<LogProb>* best) {
  const float largest = Largest(logits);
  const double total = std::log(TotalExp(logits, largest, 1.0F)) + largest;
  const auto of = [&](Token t) {
    return LogProb{t, static_cast<float>(logits[static_cast<size_t>(t)] - total)};
  };
  if (top > 0 && best != nullptr) {
    std::vector<Token> order(logits.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<Token>(i);
    const auto n = std::min<size_t>(static_cast<size_t>(top), order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(n), order.end(),
                      [&](Token a, Token b) {
                        const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
                        return x != y ? x > y : a < b;
                      });
    for (size_t i = 0; i < n; ++i) best->push_back(of(order[i]));
  }
  return of(chosen);
}

}  // namespace headrace::engine
