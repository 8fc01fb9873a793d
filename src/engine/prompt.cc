#include "engine/prompt.h"

#include "base/check.h"
#include "base/hash.h"

namespace headrace::engine {
namespace {

// A media key: the sign, a mark of the first position, and 30 bits of the content's hash that differ from
// position to position. Two contents of n positions have the same keys by chance once in 2^(30 n).
constexpr uint32_t kMedia = uint32_t{1} << 31, kFirst = uint32_t{1} << 30, kHash = kFirst - 1;

Token MediaKey(const Media& media, int32_t position) {
  const uint64_t hash = Xxh3(media.content_hash + ":" + std::to_string(position));
  return static_cast<Token>(kMedia | (position == 0 ? kFirst : 0) | (static_cast<uint32_t>(hash) & kHash));
}

bool BeginsPiece(Token key) { return !IsMediaKey(key) || (static_cast<uint32_t>(key) & kFirst) != 0; }

}  // namespace

int32_t WholePieces(std::span<const Token> keys, int32_t length) {
  const auto at = [&](int32_t position) { return keys[static_cast<size_t>(position)]; };
  const auto size = static_cast<int32_t>(keys.size());
  // At the end of the keys nobody knows whether the last piece goes on.
  if (length == size && length > 0 && IsMediaKey(at(length - 1))) --length;
  while (length > 0 && length < size && !BeginsPiece(at(length))) --length;
  return length;
}

void Prompt::Add(std::vector<Token> tokens) {
  if (tokens.empty()) return;
  keys_.insert(keys_.end(), tokens.begin(), tokens.end());
  if (!pieces_.empty())
    if (auto* last = std::get_if<std::vector<Token>>(&pieces_.back())) {
      last->insert(last->end(), tokens.begin(), tokens.end());
      return;
    }
  pieces_.emplace_back(std::move(tokens));
}

void Prompt::Add(Media media) {
  HEADRACE_CHECK(media.positions > 0 && !media.content_hash.empty());
  for (int32_t i = 0; i < media.positions; ++i) keys_.push_back(MediaKey(media, i));
  pieces_.emplace_back(std::move(media));
}

}  // namespace headrace::engine
