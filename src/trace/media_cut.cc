#include "trace/media_cut.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "base/base64.h"
#include "base/digest.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

constexpr size_t kLongestHead = 128;  // "data:image/png;base64,"

struct Cut {
  size_t begin, end;      // of the text
  std::string type, sum;  // what it was
};

// Where a data URI begins whose base64 begins at `at`; `at` where it is none.
size_t UriBegin(std::string_view text, size_t at, std::string* type) {
  constexpr std::string_view kMark = ";base64,", kData = "data:";
  if (at < kMark.size() + kData.size() || text.substr(at - kMark.size(), kMark.size()) != kMark) return at;
  const size_t begin = text.rfind(kData, at);
  if (begin == std::string_view::npos || at - begin > kLongestHead) return at;
  const std::string_view head = text.substr(begin + kData.size(), at - kMark.size() - begin - kData.size());
  if (head.find_first_of(" \"'<>,") != std::string_view::npos) return at;
  *type = head.substr(0, head.find(';'));
  std::erase(*type, '\\');  // JSON in a text may write "image\/png"
  return begin;
}

// A text of letters alone, or of hex digits, is no picture.
bool LooksEncoded(std::string_view text) {
  const auto any = [&](char low, char high) {
    return std::any_of(text.begin(), text.end(), [&](char c) { return c >= low && c <= high; });
  };
  return any('0', '9') && any('G', 'Z') && any('g', 'z');
}

bool CutAt(std::string_view text, size_t begin, size_t end, CutOut* media, Cut* cut) {
  std::string type;
  const size_t uri = UriBegin(text, begin, &type);
  const std::string_view letters = text.substr(begin, end - begin);
  if (uri == begin && !LooksEncoded(letters)) return false;
  for (int i = 0; i < 2 && end < text.size() && text[end] == '='; ++i) ++end;
  const std::string_view encoded = text.substr(begin, end - begin);
  auto bytes = DecodeBase64(encoded);
  if (!bytes) return false;
  *cut = {uri, end, type, Sha256Hex(*bytes)};
  CutBytes& entry = (*media)[cut->sum];
  entry.bytes = std::move(*bytes);
  if (!type.empty()) entry.type = type;
  return true;
}

// A run that is long enough holds every kLongBase64-th character of the text, or one of them: only these are
// looked at.
void CutText(std::string* text, CutOut* media) {
  std::string out;
  size_t done = 0;
  for (size_t look = kLongBase64 - 1; look < text->size(); look += kLongBase64) {
    if (look < done || !IsBase64Letter((*text)[look])) continue;
    size_t begin = look, end = look;
    while (begin > done && IsBase64Letter((*text)[begin - 1])) --begin;
    while (end < text->size() && IsBase64Letter((*text)[end])) ++end;
    Cut cut;
    if (end - begin < kLongBase64 || !CutAt(*text, begin, end, media, &cut)) {
      if (end > look + kLongBase64) look = end / kLongBase64 * kLongBase64 - 1;  // not again through this run
      continue;
    }
    cut.begin = std::max(cut.begin, done);
    out.append(*text, done, cut.begin - done);
    out += "media:sha256:" + cut.sum;
    done = cut.end;
  }
  if (done == 0) return;
  out.append(*text, done, std::string::npos);
  *text = std::move(out);
}

}  // namespace

void CutMedia(json* value, CutOut* media) {
  if (value->is_string()) {
    if (auto& text = value->get_ref<std::string&>(); text.size() >= kLongBase64) CutText(&text, media);
  } else if (value->is_structured()) {
    for (json& entry : *value) CutMedia(&entry, media);
  }
}

}  // namespace headrace::trace
