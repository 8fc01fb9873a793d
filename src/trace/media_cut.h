// media_cut: pictures and sound that stand in texts as base64 are taken out of them, and named instead.
#pragma once

#include <map>
#include <string>

#include "base/json.h"

namespace headrace::trace {

// Base64 of so many characters, and a data URI with it, is cut out.
inline constexpr size_t kLongBase64 = 4096;

struct CutBytes {
  std::string type;  // "image/png"; "" where no data URI told it
  std::string bytes;
};
using CutOut = std::map<std::string, CutBytes>;  // by their sha256, in hex

// In every text of `value`, which is changed: "data:image/png;base64,iVBOR…" becomes "media:sha256:…". What
// was cut is added to `media`. What does not decode stays.
void CutMedia(nlohmann::json* value, CutOut* media);

}  // namespace headrace::trace
