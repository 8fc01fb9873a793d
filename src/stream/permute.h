// Keyed random numbers and permutations, computed from a key instead of stored. docs/format/order.md is
// the specification, with test vectors; changing a bit here changes every user's sequence.
#pragma once

#include <cstdint>

namespace headrace::stream {

// The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014; constants by David Stafford, "Mix13").
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Derives a subkey of `key`, identified by a number.
constexpr uint64_t Derive(uint64_t key, uint64_t name) {
  return Mix(key ^ Mix(name + 0x9e3779b97f4a7c15ULL));
}

// Numbers in order from one key.
class Draws {
 public:
  explicit Draws(uint64_t key) : key_(key) {}
  uint64_t Next() { return Mix(key_ + ++count_ * 0x9e3779b97f4a7c15ULL); }
  // In [0, 1), 53 bits.
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }
  double Uniform(double low, double high) { return low + (high - low) * Uniform(); }

 private:
  uint64_t key_;
  uint64_t count_ = 0;
};

// A permutation of [0, size): a Feistel network over the smallest number of bits that holds size - 1 (at
// least 2), with cycle walking: an image outside is permuted again until it lies inside (Black and Rogaway,
// "Ciphers with Arbitrary Finite Domains", 2002). 8 rounds; 24 up to 10 bits, where 8 would favour some
// permutations (a test counts them).
class Permutation {
 public:
  Permutation(int64_t size, uint64_t key);
  int64_t size() const { return static_cast<int64_t>(size_); }
  int64_t operator()(int64_t index) const;
  int64_t Inverse(int64_t image) const;

 private:
  static constexpr int kMaxRounds = 24;
  uint64_t Encrypt(uint64_t x) const;
  uint64_t Decrypt(uint64_t x) const;
  uint64_t size_;
  int low_bits_;  // of the half that is hashed in even rounds
  int high_bits_;
  int rounds_;
  uint64_t keys_[kMaxRounds];
};

}  // namespace headrace::stream
