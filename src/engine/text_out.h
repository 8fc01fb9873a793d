// TextOut: from tokens' bytes to text that may be shown. Whole UTF-8 characters only; nothing that could
// still become a stop string; a stop string itself never.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace headrace::engine {

class TextOut {
 public:
  explicit TextOut(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Adds a token's bytes; returns what may now be shown. After a stop, `stopped()` says which and nothing
  // more comes.
  std::string Add(std::string_view bytes);
  // The end came: what was held back. Bytes that are no UTF-8 become U+FFFD.
  std::string Finish();

  bool stopped() const { return stopped_ >= 0; }
  const std::string& stop() const { return stops_[static_cast<size_t>(stopped_)]; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  int stopped_ = -1;
};

// `text` with every byte that is not part of valid UTF-8 replaced by U+FFFD.
std::string CleanUtf8(std::string_view text);
// How many bytes of `text` may be shown so that no character is cut that more bytes could complete.
size_t CompleteUtf8(std::string_view text);

}  // namespace headrace::engine
