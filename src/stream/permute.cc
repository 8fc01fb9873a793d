#include "stream/permute.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace headrace::stream {

Permutation::Permutation(int64_t size, uint64_t key) : size_(static_cast<uint64_t>(size)) {
  HEADRACE_CHECK(size >= 1);
  const int bits = std::max(2, static_cast<int>(std::bit_width(size_ - 1)));
  low_bits_ = bits / 2;
  high_bits_ = bits - low_bits_;
  rounds_ = bits <= 10 ? kMaxRounds : 8;
  Draws draws(key);
  for (int r = 0; r < rounds_; ++r) keys_[r] = draws.Next();
}

// x = high · 2^low_bits + low. Even rounds change the high half by the low one, odd rounds the other way.
uint64_t Permutation::Encrypt(uint64_t x) const {
  uint64_t low = x & ((1ULL << low_bits_) - 1);
  uint64_t high = x >> low_bits_;
  for (int r = 0; r < rounds_; r += 2) {
    high ^= Mix(keys_[r] ^ low) >> (64 - high_bits_);
    low ^= Mix(keys_[r + 1] ^ high) >> (64 - low_bits_);
  }
  return high << low_bits_ | low;
}

uint64_t Permutation::Decrypt(uint64_t x) const {
  uint64_t low = x & ((1ULL << low_bits_) - 1);
  uint64_t high = x >> low_bits_;
  for (int r = rounds_ - 2; r >= 0; r -= 2) {
    low ^= Mix(keys_[r + 1] ^ high) >> (64 - low_bits_);
    high ^= Mix(keys_[r] ^ low) >> (64 - high_bits_);
  }
  return high << low_bits_ | low;
}

int64_t Permutation::operator()(int64_t index) const {
  if (size_ == 1) return 0;
  auto x = static_cast<uint64_t>(index);
  do x = Encrypt(x);
  while (x >= size_);
  return static_cast<int64_t>(x);
}

int64_t Permutation::Inverse(int64_t image) const {
  if (size_ == 1) return 0;
  auto x = static_cast<uint64_t>(image);
  do x = Decrypt(x);
  while (x >= size_);
  return static_cast<int64_t>(x);
}

}  // namespace headrace::stream
