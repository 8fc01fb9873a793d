#include <png.h>

#include <cstring>

#include "base/limits.h"
#include "media/codecs.h"

namespace headrace::media {
namespace {

struct Source {
  std::string_view bytes;
  size_t at = 0;
  char message[256] = {};
};

void OnRead(png_structp png, png_bytep out, png_size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->bytes.size() - source->at) png_error(png, "it is truncated");
  std::memcpy(out, source->bytes.data() + source->at, count);
  source->at += count;
}

void OnError(png_structp png, png_const_charp message) {
  auto* source = static_cast<Source*>(png_get_error_ptr(png));
  std::snprintf(source->message, sizeof source->message, "%s", message);
  longjmp(png_jmpbuf(png), 1);
}

void OnWarning(png_structp, png_const_charp) {}

class Reader {
 public:
  explicit Reader(std::string_view bytes) {
    source_.bytes = bytes;
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source_, OnError, OnWarning);
    info_ = png_ != nullptr ? png_create_info_struct(png_) : nullptr;
    if (info_ == nullptr) return;
    png_set_read_fn(png_, &source_, OnRead);
    png_set_user_limits(png_, 0x7fffffff, 0x7fffffff);
    // Compressed text and profiles are not needed, and may expand without bound.
    png_set_chunk_malloc_max(png_, 8 << 20);
    png_set_chunk_cache_max(png_, 128);
  }
  ~Reader() {
    if (png_ != nullptr) png_destroy_read_struct(&png_, info_ != nullptr ? &info_ : nullptr, nullptr);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  bool Header() {
    if (info_ == nullptr || setjmp(png_jmpbuf(png_))) return false;
    png_read_info(png_, info_);
    return true;
  }
  // To 8-bit RGBA or RGB rows.
  bool Transform() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_expand(png_);
    png_set_strip_16(png_);
    png_set_gray_to_rgb(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }
  bool Rows(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }
  Status Failure() const {
    return Status::Corrupt(source_.message[0] != '\0' ? source_.message : "it cannot be read");
  }
  png_structp png() const { return png_; }
  png_infop info() const { return info_; }

 private:
  Source source_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

namespace {

// Checks the size in the first chunk before the library allocates.
Status CheckClaim(std::string_view bytes) {
  if (bytes.size() < 24 || bytes.substr(12, 4) != "IHDR")
    return Status::Corrupt("it is truncated inside its header");
  const auto be32 = [&](size_t at) {
    int64_t value = 0;
    for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
  };
  return CheckPixels(be32(16), be32(20));
}

}  // namespace

Result<ImageFacts> ProbePng(std::string_view bytes) {
  HEADRACE_TRY(CheckClaim(bytes));
  Reader reader(bytes);
  if (!reader.Header()) return reader.Failure();
  ImageFacts facts;
  const uint32_t width = png_get_image_width(reader.png(), reader.info());
  const uint32_t height = png_get_image_height(reader.png(), reader.info());
  HEADRACE_TRY(CheckPixels(width, height));
  facts.width = static_cast<int32_t>(width);
  facts.height = static_cast<int32_t>(height);
  if (bytes.substr(bytes.size() > 64 ? bytes.size() - 64 : 0).find("IEND") == std::string_view::npos &&
      bytes.rfind("IEND") == std::string_view::npos) {
    return Status::Corrupt("it is truncated: its end chunk is missing");
  }
  png_bytep exif = nullptr;
  png_uint_32 exif_bytes = 0;
  if (png_get_eXIf_1(reader.png(), reader.info(), &exif_bytes, &exif) != 0 && exif != nullptr) {
    ReadExif({reinterpret_cast<const char*>(exif), exif_bytes}, &facts);
  }
  return facts;
}

Result<Image> DecodePng(std::string_view bytes) {
  HEADRACE_TRY(CheckClaim(bytes));
  Reader reader(bytes);
  if (!reader.Header()) return reader.Failure();
  const uint32_t width = png_get_image_width(reader.png(), reader.info());
  const uint32_t height = png_get_image_height(reader.png(), reader.info());
  HEADRACE_TRY(CheckPixels(width, height));
  if (!reader.Transform()) return reader.Failure();
  const size_t row_bytes = png_get_rowbytes(reader.png(), reader.info());
  const size_t channels = png_get_channels(reader.png(), reader.info());
  if ((channels != 3 && channels != 4) || row_bytes != channels * width)
    return Status::Corrupt("it has an unknown layout");
  std::vector<uint8_t> raw(row_bytes * height);
  std::vector<png_bytep> rows(height);
  for (size_t y = 0; y < height; ++y) rows[y] = raw.data() + y * row_bytes;
  if (!reader.Rows(rows.data())) return reader.Failure();
  Image image;
  image.width = static_cast<int32_t>(width);
  image.height = static_cast<int32_t>(height);
  if (channels == 3) {
    image.pixels = std::move(raw);
    return image;
  }
  image.pixels.resize(size_t{width} * height * 3);
  for (size_t i = 0; i < size_t{width} * height; ++i) {
    const unsigned alpha = raw[i * 4 + 3];
    for (size_t c = 0; c < 3; ++c)
      image.pixels[i * 3 + c] = static_cast<uint8_t>(raw[i * 4 + c] * alpha / 255);
  }
  return image;
}

}  // namespace headrace::media
