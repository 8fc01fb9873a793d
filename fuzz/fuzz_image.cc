// Probing and decoding of images.
#include <cstdint>
#include <string_view>

#include "media/media.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto facts = headrace::media::ProbeImage(bytes);
  if (facts.ok() && int64_t{facts->width} * facts->height < 1'000'000)
    (void)headrace::media::DecodeImage(bytes);
  return 0;
}
