#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

#include "media/codecs.h"

namespace headrace::media {
namespace {

struct ErrorManager {
  jpeg_error_mgr base;
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = {};
};

void OnError(j_common_ptr info) {
  auto* errors = reinterpret_cast<ErrorManager*>(info->err);
  (*info->err->format_message)(info, errors->message);
  longjmp(errors->jump, 1);
}

// Warnings, of which "premature end of file" is the one that matters: a picture is whole or it is refused.
void OnMessage(j_common_ptr info, int level) {
  if (level >= 0) return;
  auto* errors = reinterpret_cast<ErrorManager*>(info->err);
  if (errors->message[0] == '\0') (*info->err->format_message)(info, errors->message);
  info->err->num_warnings++;
}

void Prepare(jpeg_decompress_struct* info, ErrorManager* errors, std::string_view bytes) {
  info->err = jpeg_std_error(&errors->base);
  errors->base.error_exit = OnError;
  errors->base.emit_message = OnMessage;
  jpeg_create_decompress(info);
  jpeg_mem_src(info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

// Where the first scan's data begins, and any EXIF block before it.
struct Segments {
  size_t scan = 0;
  std::string_view exif;
};

Result<Segments> Walk(std::string_view bytes) {
  Segments found;
  size_t at = 2;
  while (at + 4 <= bytes.size()) {
    if (static_cast<unsigned char>(bytes[at]) != 0xff) return Status::Corrupt("its segments are damaged");
    const auto marker = static_cast<unsigned char>(bytes[at + 1]);
    if (marker == 0xff) {  // fill
      ++at;
      continue;
    }
    if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2;
      continue;
    }
    const size_t length =
        static_cast<unsigned char>(bytes[at + 2]) * size_t{256} + static_cast<unsigned char>(bytes[at + 3]);
    if (length < 2 || at + 2 + length > bytes.size())
      return Status::Corrupt("it is truncated inside its header");
    const std::string_view body = bytes.substr(at + 4, length - 2);
    if (marker == 0xe1 && found.exif.empty() && body.starts_with(std::string_view("Exif\0\0", 6)))
      found.exif = body;
    at += 2 + length;
    if (marker == 0xda) {
      found.scan = at;
      return found;
    }
  }
  return Status::Corrupt("it is truncated before its pixels");
}

Result<ImageFacts> Header(std::string_view bytes) {
  jpeg_decompress_struct info;
  ErrorManager errors;
  Prepare(&info, &errors, bytes);
  if (setjmp(errors.jump)) {
    jpeg_destroy_decompress(&info);
    return Status::Corrupt(errors.message);
  }
  jpeg_read_header(&info, TRUE);
  ImageFacts facts;
  facts.width = static_cast<int32_t>(info.image_width);
  facts.height = static_cast<int32_t>(info.image_height);
  jpeg_destroy_decompress(&info);
  return facts;
}

// The decoding loop, free of objects that longjmp would leave behind.
bool ReadRows(jpeg_decompress_struct* info, ErrorManager* errors, uint8_t* pixels, uint8_t* row) {
  if (setjmp(errors->jump)) return false;
  const size_t width = info->output_width;
  while (info->output_scanline < info->output_height) {
    uint8_t* out = pixels + static_cast<size_t>(info->output_scanline) * width * 3;
    const bool cmyk = info->out_color_space == JCS_CMYK;
    JSAMPROW target = cmyk ? row : out;
    jpeg_read_scanlines(info, &target, 1);
    if (!cmyk) continue;
    for (size_t x = 0; x < width; ++x) {  // Adobe writes CMYK inverted
      const unsigned k = row[x * 4 + 3];
      for (size_t c = 0; c < 3; ++c) out[x * 3 + c] = static_cast<uint8_t>(row[x * 4 + c] * k / 255);
    }
  }
  jpeg_finish_decompress(info);
  return true;
}

bool Start(jpeg_decompress_struct* info, ErrorManager* errors) {
  if (setjmp(errors->jump)) return false;
  jpeg_read_header(info, TRUE);
  const bool cmyk = info->jpeg_color_space == JCS_CMYK || info->jpeg_color_space == JCS_YCCK;
  info->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  return true;
}

bool Begin(jpeg_decompress_struct* info, ErrorManager* errors) {
  if (setjmp(errors->jump)) return false;
  jpeg_start_decompress(info);
  return true;
}

}  // namespace

Result<ImageFacts> ProbeJpeg(std::string_view bytes) {
  HEADRACE_ASSIGN(const Segments segments, Walk(bytes));
  if (bytes.substr(segments.scan).rfind("\xff\xd9") == std::string_view::npos) {
    return Status::Corrupt("it is truncated: its data ends without an end marker");
  }
  HEADRACE_ASSIGN(ImageFacts facts, Header(bytes));
  if (!segments.exif.empty()) ReadExif(segments.exif, &facts);
  return facts;
}

Result<Image> DecodeJpeg(std::string_view bytes) {
  jpeg_decompress_struct info;
  ErrorManager errors;
  Prepare(&info, &errors, bytes);
  Image image;
  Status status;
  if (!Start(&info, &errors)) {
    status = Status::Corrupt(errors.message);
  } else {
    status = CheckPixels(info.image_width, info.image_height);
  }
  if (status.ok() && !Begin(&info, &errors)) status = Status::Corrupt(errors.message);
  if (status.ok()) {
    image.width = static_cast<int32_t>(info.output_width);
    image.height = static_cast<int32_t>(info.output_height);
    image.pixels.resize(size_t{info.output_width} * info.output_height * 3);
    std::vector<uint8_t> row(size_t{info.output_width} * 4);
    if (!ReadRows(&info, &errors, image.pixels.data(), row.data()) || errors.base.num_warnings > 0) {
      status = Status::Corrupt(errors.message);
    }
  }
  jpeg_destroy_decompress(&info);
  if (!status.ok()) return status;
  return image;
}

}  // namespace headrace::media
