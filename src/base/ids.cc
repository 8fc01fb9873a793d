#include "base/ids.h"

#include <sys/random.h>

#include "base/hash.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace headrace {
namespace {
constexpr char kHex[] = "0123456789abcdef";

int LowerHexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}
}  // namespace

Uuid Uuid::Random() {
  Uuid id;
  size_t filled = 0;
  while (filled < id.bytes.size()) {
    const ssize_t got = getrandom(id.bytes.data() + filled, id.bytes.size() - filled, 0);
    if (got > 0) filled += static_cast<size_t>(got);
  }
  id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x40);
  id.bytes[8] = static_cast<uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  return id;
}

Result<Uuid> Uuid::Parse(std::string_view hex) {
  Uuid id;
  if (hex.size() != 32)
    return Status::Invalid("'" + std::string(hex.substr(0, 64)) + "' is not a 32-digit hex id");
  for (size_t i = 0; i < 16; ++i) {
    const int high = LowerHexDigit(hex[2 * i]);
    const int low = LowerHexDigit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return Status::Invalid("'" + std::string(hex) + "' is not a 32-digit hex id");
    id.bytes[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return id;
}

std::string Uuid::ToString() const {
  std::string text(32, '0');
  for (size_t i = 0; i < 16; ++i) {
    text[2 * i] = kHex[bytes[i] >> 4];
    text[2 * i + 1] = kHex[bytes[i] & 15];
  }
  return text;
}

std::optional<Uuid> Uuid::ParseWritten(std::string_view text) {
  if (text.size() > 2 && text.front() == '{' && text.back() == '}') text = text.substr(1, text.size() - 2);
  std::string digits;
  for (const char c : text) {
    if (c != '-') digits += c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  const auto parsed = Parse(digits);
  return parsed.ok() ? std::optional(*parsed) : std::nullopt;
}

std::string Uuid::Hyphenated() const {
  std::string text = ToString();
  for (const size_t at : {8, 13, 18, 23}) text.insert(at, 1, '-');
  return text;
}

Xxh3Stream::Xxh3Stream() : state_(XXH3_createState()) {
  XXH3_64bits_reset(static_cast<XXH3_state_t*>(state_));
}
Xxh3Stream::~Xxh3Stream() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }
void Xxh3Stream::Add(std::string_view bytes) {
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), bytes.data(), bytes.size());
}
uint64_t Xxh3Stream::Digest() const { return XXH3_64bits_digest(static_cast<XXH3_state_t*>(state_)); }

uint64_t Xxh3(const void* data, size_t bytes) { return XXH3_64bits(data, bytes); }

uint64_t Xxh3Seeded(std::string_view bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::string Hex64(uint64_t value) {
  std::string text(16, '0');
  for (int i = 15; i >= 0; --i, value >>= 4) text[static_cast<size_t>(i)] = kHex[value & 15];
  return text;
}

}  // namespace headrace
