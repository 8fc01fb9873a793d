// The three codecs behind media.h, and EXIF.
#pragma once

#include "media/media.h"

namespace headrace::media {

Result<ImageFacts> ProbeJpeg(std::string_view bytes);
Result<ImageFacts> ProbePng(std::string_view bytes);
Result<ImageFacts> ProbeWebp(std::string_view bytes);
Result<Image> DecodeJpeg(std::string_view bytes);
Result<Image> DecodePng(std::string_view bytes);
Result<Image> DecodeWebp(std::string_view bytes);

// Takes orientation and date from an EXIF block (with or without its "Exif\0\0" head). A damaged block leaves
// the facts unchanged.
void ReadExif(std::string_view block, ImageFacts* facts);

// Limit if width × height is beyond what may be decoded.
Status CheckPixels(int64_t width, int64_t height);

}  // namespace headrace::media
