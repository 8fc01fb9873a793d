// Checksums. XXH3-64 (https://github.com/Cyan4973/xxHash, format stable since 0.8.0) guards everything that
// we write outside Parquet pages, which carry their own CRC-32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace headrace {

uint64_t Xxh3(const void* data, size_t bytes);
uint64_t Xxh3Seeded(std::string_view bytes, uint64_t seed);  // seed 0: the same as Xxh3
inline uint64_t Xxh3(std::string_view bytes) { return Xxh3(bytes.data(), bytes.size()); }

// The same hash, computed incrementally.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  Xxh3Stream(const Xxh3Stream&) = delete;
  Xxh3Stream& operator=(const Xxh3Stream&) = delete;
  void Add(std::string_view bytes);
  uint64_t Digest() const;

 private:
  void* state_;
};

// 16 lower-case hex digits, most significant first.
std::string Hex64(uint64_t value);

}  // namespace headrace
