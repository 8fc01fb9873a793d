#include "stream/sequence.h"

#include <algorithm>

namespace headrace::stream {
namespace {
constexpr uint64_t kDraws = 5;
constexpr uint64_t kSources = 6;
}  // namespace

Sequence::Sequence(std::vector<SequencePart> parts, std::shared_ptr<const Mixture> mixture, uint64_t seed)
    : parts_(std::move(parts)), mixture_(std::move(mixture)), seed_(seed) {}

std::shared_ptr<const Sequence::Orders> Sequence::OrdersOf(int source, int64_t epoch) const {
  const std::lock_guard lock(mutex_);
  auto& orders = orders_[{source, epoch}];
  if (orders) return orders;
  const SequencePart& part = parts_[static_cast<size_t>(source)];
  const uint64_t seed = mixture_ ? Derive(Derive(seed_, kSources), static_cast<uint64_t>(source)) : seed_;
  auto made = std::make_shared<Orders>();
  if (part.weights) {
    made->weighted = std::make_unique<WeightedOrder>(part.weights.get(), part.layout.rows, seed, epoch);
  } else {
    made->plain = std::make_unique<EpochOrder>(part.layout, seed, epoch);
  }
  orders = made;
  const auto result = orders;
  // Neighbouring epochs are used at once; those long gone are not.
  while (orders_.size() > parts_.size() * 4) {
    const auto oldest = std::min_element(orders_.begin(), orders_.end(), [](const auto& a, const auto& b) {
      return a.first.second < b.first.second;
    });
    orders_.erase(oldest);
  }
  return result;
}

Sequence::Place Sequence::At(const Point& point) const {
  Place place;
  int64_t epoch = point.epoch;
  int64_t index = point.position;
  if (mixture_) {
    const auto in = mixture_->At(point.position);
    place.source = in.source;
    epoch = (point.epoch << 32) + in.pass;
    index = in.index;
  }
  const auto orders = OrdersOf(place.source, epoch);
  place.ordinal = orders->weighted ? orders->weighted->Ordinal(index) : orders->plain->Ordinal(index);
  return place;
}

std::optional<int64_t> Sequence::length() const {
  if (mixture_) return mixture_->length();
  return parts_[0].layout.rows;
}

uint64_t Sequence::DrawKey(const Point& point) const {
  return Derive(Derive(Derive(seed_, static_cast<uint64_t>(point.epoch)), kDraws),
                static_cast<uint64_t>(point.position));
}

}  // namespace headrace::stream
