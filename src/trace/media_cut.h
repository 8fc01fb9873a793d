// media_cut: pictures and sound that stand in texts as base64 are taken out of them, and named instead.
#pragma once

#include "base/json.h"

namespace headrace::trace {

// Base64 of so many characters, and a data URI with it, is cut out.
inline constexpr size_t kLongBase64 = 4096;

// In every text of `value`, which is changed: "data:image/png;base64,iVBOR…" becomes "media:sha256:…". What
// was cut is added to `media` (an object) by its sha256: {"type": "image/png", "bytes": its count, "base64":
// itself}; "type" is missing where no data URI told it. What does not decode stays.
void CutMedia(nlohmann::json* value, nlohmann::json* media);

}  // namespace headrace::trace
