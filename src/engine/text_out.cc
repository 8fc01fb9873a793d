#include "engine/text_out.h"

#include <algorithm>

#include "base/utf8.h"

namespace headrace::engine {

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
