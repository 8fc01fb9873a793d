// TextOut: from tokens' bytes to text that may be shown. Whole UTF-8 characters only; nothing that could
// still become a stop string; a stop string itself never.
//
// Two kinds of strings end a text. A stop does wherever it comes. The end of a turn is a template's way to
// write an end token: inside a structured answer (a JSON string that quotes it) it is text like any other.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace headrace::engine {

class TextOut {
 public:
  explicit TextOut(std::vector<std::string> stops, const std::vector<std::string>& turn_ends = {});

  // Adds a token's bytes; returns what may now be shown. After a stop or the end of a turn, nothing more
  // comes. `may_end`: whether an end token could follow these bytes.
  std::string Add(std::string_view bytes, bool may_end = true);
  // Adds bytes that end nothing, whatever they say: a stop string may only begin after them.
  std::string AddPlain(std::string_view bytes);
  // The end came: what was held back. Bytes that are no UTF-8 become U+FFFD.
  std::string Finish();

  bool stopped() const { return ended_ < stop_count_; }
  bool turn_ended() const { return ended_ >= stop_count_ && ended_ < ends_.size(); }
  const std::string& stop() const { return ends_[ended_]; }  // where stopped()

 private:
  std::vector<std::string> ends_;  // the stops, then the ends of a turn
  size_t stop_count_;
  std::string held_;
  size_t ended_ = static_cast<size_t>(-1);  // of ends_
};

}  // namespace headrace::engine
