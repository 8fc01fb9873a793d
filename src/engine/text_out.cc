#include "engine/text_out.h"

#include <algorithm>

namespace headrace::engine {
namespace {

// Length of the character that begins at `text[at]`: 1 to 4; 0 if it is no UTF-8; -1 if it may become one
// with more bytes. (The table of well-formed sequences: Unicode 15, table 3-7.)
int Character(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return 1;
  int length = 0;
  unsigned char low = 0x80, high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  for (int i = 1; i < length; ++i) {
    if (at + static_cast<size_t>(i) >= text.size()) return -1;
    const unsigned char next = byte(at + static_cast<size_t>(i));
    if (next < low || next > high) return 0;
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

}  // namespace

size_t CompleteUtf8(std::string_view text) {
  // Only the last three bytes can begin a character that is not complete.
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const size_t at = text.size() - back;
    if ((static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80) continue;
    return Character(text, at) == -1 ? at : text.size();
  }
  return text.size();
}

std::string CleanUtf8(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const int length = Character(text, at);
    if (length > 0) {
      clean += text.substr(at, static_cast<size_t>(length));
      at += static_cast<size_t>(length);
    } else {
      clean += "\xEF\xBF\xBD";
      ++at;
      if (length < 0)
        while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80) ++at;
    }
  }
  return clean;
}

TextOut::TextOut(std::vector<std::string> stops, const std::vector<std::string>& turn_ends)
    : ends_(std::move(stops)), stop_count_(ends_.size()) {
  ends_.insert(ends_.end(), turn_ends.begin(), turn_ends.end());
}

std::string TextOut::Add(std::string_view bytes, bool may_end) {
  if (ended_ < ends_.size()) return "";
  const size_t old = held_.size();
  held_ += bytes;
  size_t first = std::string::npos;
  for (size_t i = 0; i < (may_end ? ends_.size() : stop_count_); ++i) {
    const size_t from = old >= ends_[i].size() ? old - ends_[i].size() + 1 : 0;
    const size_t found = held_.find(ends_[i], from);
    if (found < first) {
      first = found;
      ended_ = i;
    }
  }
  if (first != std::string::npos) {
    std::string out = CleanUtf8(std::string_view(held_).substr(0, first));
    held_.clear();
    return out;
  }
  // Hold back the longest end that begins a stop string.
  size_t keep = 0;
  for (const std::string& stop : ends_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) {
        keep = length;
        break;
      }
    }
  }
  const size_t shown = CompleteUtf8(std::string_view(held_).substr(0, held_.size() - keep));
  std::string out = CleanUtf8(std::string_view(held_).substr(0, shown));
  held_.erase(0, shown);
  return out;
}

std::string TextOut::AddPlain(std::string_view bytes) {
  held_ += bytes;
  const size_t shown = CompleteUtf8(held_);
  std::string out = CleanUtf8(std::string_view(held_).substr(0, shown));
  held_.erase(0, shown);
  return out;
}

std::string TextOut::Finish() {
  std::string out = CleanUtf8(held_);
  held_.clear();
  return out;
}

}  // namespace headrace::engine
