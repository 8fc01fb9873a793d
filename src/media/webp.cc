#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "media/codecs.h"

namespace headrace::media {
namespace {

const uint8_t* Data(std::string_view bytes) { return reinterpret_cast<const uint8_t*>(bytes.data()); }

Result<WebPBitstreamFeatures> Features(std::string_view bytes) {
  WebPBitstreamFeatures features;
  const VP8StatusCode code = WebPGetFeatures(Data(bytes), bytes.size(), &features);
  if (code == VP8_STATUS_NOT_ENOUGH_DATA) return Status::Corrupt("it is truncated inside its header");
  if (code != VP8_STATUS_OK) return Status::Corrupt("its header is damaged");
  return features;
}

Image OnBlack(const uint8_t* rgba, int32_t width, int32_t height) {
  Image image;
  image.width = width;
  image.height = height;
  const size_t pixels = static_cast<size_t>(width) * static_cast<size_t>(height);
  image.pixels.resize(pixels * 3);
  for (size_t i = 0; i < pixels; ++i) {
    const unsigned alpha = rgba[i * 4 + 3];
    for (size_t c = 0; c < 3; ++c)
      image.pixels[i * 3 + c] = static_cast<uint8_t>(rgba[i * 4 + c] * alpha / 255);
  }
  return image;
}

// Of an animation the first frame, on its canvas.
Result<Image> DecodeFirstFrame(std::string_view bytes, const WebPBitstreamFeatures& features) {
  WebPAnimDecoderOptions options;
  if (!WebPAnimDecoderOptionsInit(&options)) return Status::Unsupported("this libwebp decodes no animations");
  options.color_mode = MODE_RGBA;
  const WebPData data{Data(bytes), bytes.size()};
  const std::unique_ptr<WebPAnimDecoder, void (*)(WebPAnimDecoder*)> decoder(
      WebPAnimDecoderNew(&data, &options), WebPAnimDecoderDelete);
  uint8_t* frame = nullptr;
  int shown_until_ms = 0;
  WebPAnimInfo info;
  if (!decoder || !WebPAnimDecoderGetInfo(decoder.get(), &info) ||
      info.canvas_width != static_cast<uint32_t>(features.width) ||
      info.canvas_height != static_cast<uint32_t>(features.height) ||
      !WebPAnimDecoderGetNext(decoder.get(), &frame, &shown_until_ms)) {
    return Status::Corrupt("its first frame cannot be read");
  }
  return OnBlack(frame, features.width, features.height);
}

}  // namespace

Result<ImageFacts> ProbeWebp(std::string_view bytes) {
  HEADRACE_ASSIGN(const WebPBitstreamFeatures features, Features(bytes));
  const uint64_t riff = uint64_t{Data(bytes)[4]} | uint64_t{Data(bytes)[5]} << 8 |
                        uint64_t{Data(bytes)[6]} << 16 | uint64_t{Data(bytes)[7]} << 24;
  if (riff + 8 > bytes.size()) {
    return Status::Corrupt("it is truncated: " + std::to_string(bytes.size()) + " of " +
                           std::to_string(riff + 8) + " bytes");
  }
  ImageFacts facts;
  facts.width = features.width;
  facts.height = features.height;
  const WebPData data{Data(bytes), bytes.size()};
  if (WebPDemuxer* demuxer = WebPDemux(&data)) {
    WebPChunkIterator chunk;
    if (WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk)) {
      ReadExif({reinterpret_cast<const char*>(chunk.chunk.bytes), chunk.chunk.size}, &facts);
      WebPDemuxReleaseChunkIterator(&chunk);
    }
    WebPDemuxDelete(demuxer);
  }
  return facts;
}

Result<Image> DecodeWebp(std::string_view bytes) {
  HEADRACE_ASSIGN(const WebPBitstreamFeatures features, Features(bytes));
  HEADRACE_TRY(CheckPixels(features.width, features.height));
  if (features.has_animation) return DecodeFirstFrame(bytes, features);
  Image image;
  image.width = features.width;
  image.height = features.height;
  const size_t pixels = static_cast<size_t>(features.width) * static_cast<size_t>(features.height);
  if (!features.has_alpha) {
    image.pixels.resize(pixels * 3);
    if (WebPDecodeRGBInto(Data(bytes), bytes.size(), image.pixels.data(), image.pixels.size(),
                          features.width * 3) == nullptr) {
      return Status::Corrupt("its pixels cannot be read");
    }
    return image;
  }
  std::vector<uint8_t> raw(pixels * 4);
  if (WebPDecodeRGBAInto(Data(bytes), bytes.size(), raw.data(), raw.size(), features.width * 4) == nullptr) {
    return Status::Corrupt("its pixels cannot be read");
  }
  return OnBlack(raw.data(), features.width, features.height);
}

}  // namespace headrace::media
