#include "media/media.h"

#include <cstdio>
#include <cstring>

#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>

#include "testing.h"

namespace headrace::media {
namespace {

std::vector<uint8_t> Gradient(int width, int height) {
  std::vector<uint8_t> pixels;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      pixels.push_back(static_cast<uint8_t>(x * 255 / width));
      pixels.push_back(static_cast<uint8_t>(y * 255 / height));
      pixels.push_back(64);
    }
  }
  return pixels;
}

std::string Jpeg(int width, int height, const std::string& app1 = "") {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &out, &size);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 95, TRUE);
  jpeg_start_compress(&info, TRUE);
  if (!app1.empty())
    jpeg_write_marker(&info, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(app1.data()),
                      static_cast<unsigned>(app1.size()));
  auto pixels = Gradient(width, height);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = &pixels[static_cast<size_t>(info.next_scanline) * static_cast<size_t>(width) * 3];
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  std::string bytes(reinterpret_cast<char*>(out), size);
  jpeg_destroy_compress(&info);
  free(out);
  return bytes;
}

// An EXIF block with an orientation and a date, big-endian TIFF by hand.
std::string Exif(int orientation) {
  const auto be16 = [](int v) { return std::string{static_cast<char>(v >> 8), static_cast<char>(v)}; };
  const auto be32 = [&](int v) { return be16(v >> 16) + be16(v & 0xffff); };
  std::string tiff = std::string("MM") + be16(42) + be32(8);
  tiff += be16(2);
  tiff += be16(0x0112) + be16(3) + be32(1) + be16(orientation) + be16(0);
  tiff += be16(0x0132) + be16(2) + be32(20) + be32(8 + 2 + 24 + 4);
  tiff += be32(0);
  tiff += std::string("2026:11:22 08:15:30") + '\0';
  return std::string("Exif\0\0", 6) + tiff;
}

void PngChunk(std::string* out, const char* type, const std::string& body) {
  const auto be32 = [](uint32_t v) {
    return std::string{static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
                       static_cast<char>(v)};
  };
  *out += be32(static_cast<uint32_t>(body.size()));
  const std::string data = type + body;
  uint32_t crc = 0xffffffff;
  for (const char c : data) {
    crc ^= static_cast<unsigned char>(c);
    for (int k = 0; k < 8; ++k) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
  }
  *out += data + be32(~crc);
}

std::string PngHeader(uint32_t width, uint32_t height) {
  std::string out = "\x89PNG\r\n\x1a\n";
  const auto be32 = [](uint32_t v) {
    return std::string{static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
                       static_cast<char>(v)};
  };
  PngChunk(&out, "IHDR", be32(width) + be32(height) + std::string("\x08\x02\x00\x00\x00", 5));
  return out;
}

TEST(Probe, ReadsFactsWithoutPixels) {
  ASSERT_VALUE(const ImageFacts facts, ProbeImage(Jpeg(40, 30, Exif(6))));
  EXPECT_EQ(facts.media_type, "image/jpeg");
  EXPECT_EQ(facts.width, 30);  // as displayed: orientation 6 turns it
  EXPECT_EQ(facts.height, 40);
  EXPECT_EQ(facts.orientation, 6);
  EXPECT_EQ(*facts.taken_us, 1795335330000000);
  ASSERT_VALUE(const Image upright, DecodeImage(Jpeg(40, 30, Exif(6))));
  EXPECT_EQ(upright.width, 30);
  EXPECT_EQ(upright.height, 40);
  ASSERT_VALUE(const Image stored, DecodeImage(Jpeg(40, 30, Exif(6)), false));
  EXPECT_EQ(stored.width, 40);
}

TEST(Decode, GivesBackThePixels) {
  const auto pixels = Gradient(64, 48);
  ASSERT_VALUE(const Image jpeg, DecodeImage(Jpeg(64, 48)));
  double error = 0;
  for (size_t i = 0; i < pixels.size(); ++i) error += std::abs(int{pixels[i]} - int{jpeg.pixels[i]});
  EXPECT_LT(error / static_cast<double>(pixels.size()), 3);
  uint8_t* out = nullptr;
  const size_t size = WebPEncodeLosslessRGB(pixels.data(), 64, 48, 64 * 3, &out);
  const std::string webp(reinterpret_cast<char*>(out), size);
  WebPFree(out);
  ASSERT_VALUE(const Image lossless, DecodeImage(webp));
  EXPECT_EQ(lossless.pixels, pixels);
  EXPECT_NE(ProbeImage(webp.substr(0, size - 1)).status().ToString().find("truncated"), std::string::npos);
}

TEST(Hostile, EachHasItsClearError) {
  const std::string jpeg = Jpeg(200, 200);
  const auto why = [](const std::string& bytes) { return ProbeImage(bytes).status().ToString(); };
  EXPECT_NE(why(jpeg.substr(0, jpeg.size() / 2)).find("truncated"), std::string::npos);
  EXPECT_NE(why(jpeg.substr(0, 10)).find("truncated"), std::string::npos);
  EXPECT_NE(why("").find("empty"), std::string::npos);
  EXPECT_NE(why("GIF89a").find("not JPEG, PNG or WebP"), std::string::npos);
  std::string huge = PngHeader(100000, 100000);
  EXPECT_NE(why(huge).find("100000 × 100000"), std::string::npos);
  EXPECT_TRUE(ProbeImage(huge).status().Is(Code::kLimit));
  EXPECT_TRUE(DecodeImage(huge).status().Is(Code::kLimit));
  // A small file that claims to inflate to much: the claim is judged before memory is asked for.
  std::string bomb = PngHeader(30000, 30000);
  PngChunk(&bomb, "IDAT", std::string(1000, 'x'));
  PngChunk(&bomb, "IEND", "");
  EXPECT_TRUE(DecodeImage(bomb).status().Is(Code::kLimit));
  std::string broken = PngHeader(100, 100);
  PngChunk(&broken, "IDAT", std::string(1000, 'x'));
  PngChunk(&broken, "IEND", "");
  EXPECT_TRUE(DecodeImage(broken).status().Is(Code::kCorrupt));
  EXPECT_TRUE(DecodeImage(jpeg.substr(0, jpeg.size() * 3 / 4)).status().Is(Code::kCorrupt));
}

TEST(Hostile, AnyDamageIsSurvived) {
  std::mt19937 random(1);
  const std::string whole = Jpeg(64, 64, Exif(3));
  for (int i = 0; i < testing::Scaled(2000); ++i) {
    std::string bad = whole;
    for (int k = 0; k < 3; ++k) bad[random() % bad.size()] = static_cast<char>(random());
    const auto probed = ProbeImage(bad);
    const auto decoded = DecodeImage(bad);
    if (decoded.ok()) {
      EXPECT_EQ(decoded->pixels.size(),
                static_cast<size_t>(decoded->width) * static_cast<size_t>(decoded->height) * 3);
    }
    (void)probed;
  }
}

}  // namespace
}  // namespace headrace::media
