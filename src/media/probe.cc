#include <libexif/exif-data.h>

#include "base/clock.h"
#include "base/limits.h"
#include "media/codecs.h"
#include "media/turn.h"

namespace headrace::media {
namespace {

Image Upright(const Image& stored, int orientation) {
  Image image;
  image.width = SwapsAxes(orientation) ? stored.height : stored.width;
  image.height = SwapsAxes(orientation) ? stored.width : stored.height;
  image.pixels.resize(stored.pixels.size());
  Turn<3>({stored.pixels.data(), int64_t{3} * stored.width, stored.width, stored.height}, orientation,
          /*mirror=*/false, {image.pixels.data(), int64_t{3} * image.width, image.width, image.height});
  return image;
}

}  // namespace

std::string SniffMediaType(std::string_view bytes) {
  const auto starts = [&](std::string_view magic) { return bytes.substr(0, magic.size()) == magic; };
  if (starts("\xff\xd8\xff")) return "image/jpeg";
  if (starts("\x89PNG\r\n\x1a\n")) return "image/png";
  if (starts("RIFF") && bytes.size() >= 12 && bytes.substr(8, 4) == "WEBP") return "image/webp";
  return "";
}

Status CheckPixels(int64_t width, int64_t height) {
  if (width <= 0 || height <= 0)
    return Status::Corrupt("its header claims " + std::to_string(width) + " × " + std::to_string(height) +
                           " pixels");
  if (width > limits::kMaxPixels / height) {
    return Status::Limit("its header claims " + std::to_string(width) + " × " + std::to_string(height) +
                         " pixels; at most " + std::to_string(limits::kMaxPixels) + " are read");
  }
  return Status::Ok();
}

void ReadExif(std::string_view block, ImageFacts* facts) {
  // libexif wants the head and cannot take more than an unsigned int.
  std::string data;
  if (!block.starts_with(std::string_view("Exif\0\0", 6))) data.assign("Exif\0\0", 6);
  if (block.size() > (1 << 20)) return;
  data.append(block);
  ExifData* exif = exif_data_new();
  if (exif == nullptr) return;
  exif_data_unset_option(exif, EXIF_DATA_OPTION_FOLLOW_SPECIFICATION);
  exif_data_load_data(exif, reinterpret_cast<const unsigned char*>(data.data()),
                      static_cast<unsigned>(data.size()));
  const ExifByteOrder order = exif_data_get_byte_order(exif);
  if (const ExifEntry* entry = exif_content_get_entry(exif->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION)) {
    if (entry->format == EXIF_FORMAT_SHORT && entry->size >= 2) {
      const int value = exif_get_short(entry->data, order);
      if (value >= 1 && value <= 8) facts->orientation = static_cast<int8_t>(value);
    }
  }
  for (const auto& [ifd, tag] :
       {std::pair{EXIF_IFD_EXIF, EXIF_TAG_DATE_TIME_ORIGINAL}, std::pair{EXIF_IFD_0, EXIF_TAG_DATE_TIME}}) {
    const ExifEntry* entry = exif_content_get_entry(exif->ifd[ifd], tag);
    if (entry == nullptr || entry->format != EXIF_FORMAT_ASCII || entry->size < 19 || facts->taken_us)
      continue;
    std::string text(reinterpret_cast<const char*>(entry->data), 19);  // "2026:11:22 08:15:30"
    text[4] = text[7] = '-';
    const auto micros = ParseMicros(text);
    if (micros.ok()) facts->taken_us = *micros;
  }
  exif_data_unref(exif);
}

Result<ImageFacts> ProbeImage(std::string_view bytes) {
  if (bytes.empty()) return Status::Corrupt("the file is empty");
  const std::string type = SniffMediaType(bytes);
  if (type.empty()) return Status::Unsupported("its content is not JPEG, PNG or WebP");
  auto facts = type == "image/jpeg"  ? ProbeJpeg(bytes)
               : type == "image/png" ? ProbePng(bytes)
                                     : ProbeWebp(bytes);
  if (!facts.ok()) return facts.status().Wrap("not a usable " + type);
  HEADRACE_TRY(CheckPixels(facts->width, facts->height).Wrap("not a usable " + type));
  facts->media_type = type;
  if (SwapsAxes(facts->orientation)) std::swap(facts->width, facts->height);
  return facts;
}

Result<Image> DecodeImage(std::string_view bytes, bool upright) {
  const std::string type = SniffMediaType(bytes);
  if (type.empty()) return Status::Unsupported("cannot decode: the content is not JPEG, PNG or WebP");
  auto image = type == "image/jpeg"  ? DecodeJpeg(bytes)
               : type == "image/png" ? DecodePng(bytes)
                                     : DecodeWebp(bytes);
  if (!image.ok()) return image.status().Wrap("cannot decode the " + type);
  if (!upright) return image;
  const auto facts = ProbeImage(bytes);
  if (!facts.ok() || facts->orientation == 1) return image;
  return Upright(*image, facts->orientation);
}

}  // namespace headrace::media
