#include "engine/drawer.h"

#include <algorithm>
#include <atomic>

#include "base/clock.h"

namespace headrace::engine {
namespace {

constexpr double kDearMask = 1e-3;  // seconds

}  // namespace

Drawer::Hand::Hand(int32_t vocabulary)
    : sampler(vocabulary), mask(static_cast<size_t>(vocabulary + 31) / 32) {}

Drawer::Drawer(int32_t vocabulary, int threads) {
  for (int i = 0; i < std::max(threads, 1); ++i) hands_.push_back(std::make_unique<Hand>(vocabulary));
  if (threads > 1) others_ = std::make_unique<TaskPool>(threads - 1, "hr-draw");
}

Token Drawer::DrawWith(Hand* hand, const Draw& draw) {
  std::span<const int32_t> mask;
  if (draw.matcher != nullptr) {
    // Masks of a bounded string's last characters take up to 20 ms (of 262,144 tokens): there it is cheaper
    // to ask about the likeliest tokens one by one. The token is the same.
    if (draw.matcher->mask_seconds > kDearMask) {
      const Token token = hand->sampler.SampleAsking(
          draw.logits, *draw.sampling, *draw.history, [&](Token t) { return draw.matcher->Allows(t); },
          draw.n);
      if (token != Sampler::kUnresolved) return token;
    }
    const double start = MonotonicSeconds();
    if (draw.matcher->Mask(hand->mask)) mask = hand->mask;
    draw.matcher->mask_seconds = MonotonicSeconds() - start;
  }
  return hand->sampler.Sample(draw.logits, *draw.sampling, *draw.history, mask, draw.n);
}

void Drawer::Together(std::span<Draw> draws) {
  std::atomic<size_t> next = 0;
  const auto work = [&](Hand* hand) {
    for (size_t i = 0; (i = next++) < draws.size();) draws[i].token = DrawWith(hand, draws[i]);
  };
  std::vector<std::future<void>> others;
  if (others_)
    for (size_t i = 1; i < std::min(hands_.size(), draws.size()); ++i)
      others.push_back(others_->Submit([&work, hand = hands_[i].get()] { work(hand); }));
  work(hands_.front().get());
  for (auto& other : others) other.get();
}

}  // namespace headrace::engine
