#include "media/region.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>

#include "media/colour.h"
#include "media/region_parts.h"
#include "testing.h"

namespace headrace::media {
namespace {

// Smooth shapes with edges and some noise: what photographs are made of.
std::vector<uint8_t> Picture(int width, int height, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> pixels(static_cast<size_t>(width) * height * 3);
  const double fx = 0.02 + static_cast<double>(random() % 100) / 1000;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        double v =
            128 + 90 * std::sin(fx * x * (c + 1)) * std::cos(fx * y) + static_cast<double>(random() % 16);
        if ((x / 37 + y / 29) % 5 == c) v = 255 - v;
        pixels[(static_cast<size_t>(y) * width + x) * 3 + c] =
            static_cast<uint8_t>(std::clamp(v, 0.0, 255.0));
      }
    }
  }
  return pixels;
}

std::string Jpeg(int width, int height, uint64_t seed, int sampling, bool progressive, int quality = 90,
                 bool optimize = false, bool restarts = false) {
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
  jpeg_set_quality(&info, quality, TRUE);
  info.optimize_coding = optimize ? TRUE : FALSE;
  if (restarts) info.restart_interval = 5;
  info.comp_info[0].h_samp_factor = sampling;
  info.comp_info[0].v_samp_factor = sampling;
  if (progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  auto pixels = Picture(width, height, seed);
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

Image TurnUpright(const Image& stored, int orientation) {
  Image image;
  const bool swaps = orientation >= 5;
  image.width = swaps ? stored.height : stored.width;
  image.height = swaps ? stored.width : stored.height;
  image.pixels.resize(stored.pixels.size());
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      int sx = swaps ? y : x;
      int sy = swaps ? x : y;
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8)
        sx = stored.width - 1 - sx;
      if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7)
        sy = stored.height - 1 - sy;
      std::memcpy(&image.pixels[(static_cast<size_t>(y) * image.width + x) * 3],
                  &stored.pixels[(static_cast<size_t>(sy) * stored.width + sx) * 3], 3);
    }
  }
  return image;
}

// The obvious way, in doubles: one output pixel at a time.
double Reference(const Image& image, const Region& region, int x, int y, int channel) {
  const auto weight = [&](double d) {
    const double a = std::fabs(d);
    switch (region.filter) {
      case Filter::kBilinear:
        return a < 1 ? 1 - a : 0.0;
      case Filter::kBicubic:
        return a < 1 ? (1.5 * a - 2.5) * a * a + 1 : a < 2 ? ((-0.5 * a + 2.5) * a - 4) * a + 2 : 0.0;
      default:
        return a <= 0.5 ? 1.0 : 0.0;
    }
  };
  const double reach = region.filter == Filter::kBicubic ? 2 : region.filter == Filter::kBilinear ? 1 : 0.5;
  const double scale_x = (region.right - region.left) / region.width;
  const double scale_y = (region.bottom - region.top) / region.height;
  const double cx = region.left + (x + 0.5) * scale_x;
  const double cy = region.top + (y + 0.5) * scale_y;
  const double sx = std::max(1.0, scale_x);
  const double sy = std::max(1.0, scale_y);
  double sum = 0;
  double total = 0;
  for (int iy = region.bounds_top; iy < region.bounds_bottom; ++iy) {
    if (std::fabs(iy + 0.5 - cy) > reach * sy) continue;
    const double wy = weight((iy + 0.5 - cy) / sy);
    if (wy == 0) continue;
    for (int ix = region.bounds_left; ix < region.bounds_right; ++ix) {
      if (std::fabs(ix + 0.5 - cx) > reach * sx) continue;
      const double w = wy * weight((ix + 0.5 - cx) / sx);
      sum += w * image.pixels[(static_cast<size_t>(iy) * image.width + ix) * 3 + channel];
      total += w;
    }
  }
  return sum / total;
}

double Psnr(const Image& image, const Region& region, const Canvas& canvas) {
  double squares = 0;
  for (int y = 0; y < canvas.height; ++y) {
    for (int x = 0; x < canvas.width; ++x) {
      const int from = region.mirror ? canvas.width - 1 - x : x;
      for (int c = 0; c < 3; ++c) {
        const double d = std::clamp(Reference(image, region, from, y, c), 0.0, 255.0) -
                         canvas.pixels[static_cast<size_t>(y * canvas.stride + x * 4 + c)];
        squares += d * d;
      }
    }
  }
  return 10 * std::log10(255.0 * 255 / std::max(1e-9, squares / (3.0 * canvas.width * canvas.height)));
}

Region RandomRegion(std::mt19937_64* random, int width, int height) {
  const auto upto = [&](int n) {
    return static_cast<int>((*random)() % static_cast<uint64_t>(std::max(n, 1)));
  };
  Region region;
  const int w = 1 + upto(width);
  const int h = 1 + upto(height);
  region.bounds_left = upto(width - w + 1);
  region.bounds_top = upto(height - h + 1);
  region.bounds_right = region.bounds_left + w;
  region.bounds_bottom = region.bounds_top + h;
  const bool inner = upto(3) == 0 && w > 4 && h > 4;  // a fractional box inside its bounds
  region.left = region.bounds_left + (inner ? 0.3 : 0);
  region.top = region.bounds_top + (inner ? 0.7 : 0);
  region.right = region.bounds_right - (inner ? 1.1 : 0);
  region.bottom = region.bounds_bottom - (inner ? 0.6 : 0);
  region.width = 1 + upto(40);
  region.height = 1 + upto(40);
  constexpr Filter kFilters[] = {Filter::kBilinear, Filter::kBicubic};
  region.filter = kFilters[upto(2)];
  region.mirror = upto(2) == 0;
  return region;
}

TEST(Region, EqualsTheObviousWay) {
  std::mt19937_64 random(7);
  Scratch scratch;
  double worst = 1000;
  for (int i = 0; i < testing::Scaled(400); ++i) {
    const int width = 8 + static_cast<int>(random() % 200);
    const int height = 8 + static_cast<int>(random() % 160);
    const int sampling = 1 + static_cast<int>(random() % 2);
    const std::string bytes = Jpeg(width, height, random(), sampling, random() % 4 == 0);
    ImageFacts facts{"image/jpeg", width, height, static_cast<int8_t>(1 + random() % 8), {}};
    if (SwapsAxes(facts.orientation)) std::swap(facts.width, facts.height);
    ASSERT_VALUE(const Image stored, DecodeImage(bytes, false));
    const Image upright = TurnUpright(stored, facts.orientation);
    const Region region = RandomRegion(&random, upright.width, upright.height);
    Canvas canvas;
    ASSERT_OK(DecodeRegion(bytes, facts, region, &scratch, &canvas));
    ASSERT_EQ(canvas.width, region.width);
    ASSERT_EQ(canvas.height, region.height);
    const bool shrunk = std::min((region.right - region.left) / region.width,
                                 (region.bottom - region.top) / region.height) >= 4;
    const double psnr = Psnr(upright, region, canvas);
    if (!shrunk) worst = std::min(worst, psnr);
    // At 1/2 and below, libjpeg's smaller transform stands in for averaging: near, not equal.
    ASSERT_GT(psnr, shrunk ? 24.0 : 44.0)
        << i << ": " << width << "x" << height << " orientation " << int{facts.orientation} << " box "
        << region.left << "," << region.top << "," << region.right << "," << region.bottom << " to "
        << region.width << "x" << region.height << " sampling " << sampling;
  }
  std::printf("  worst PSNR against doubles: %.1f dB\n", worst);
}

TEST(Region, SimdGivesTheSameBits) {
  std::mt19937_64 random(11);
  Scratch scratch;
  for (int i = 0; i < testing::Scaled(200); ++i) {
    const int width = 8 + static_cast<int>(random() % 300);
    const int height = 8 + static_cast<int>(random() % 200);
    const std::string bytes = Jpeg(width, height, random(), 2, false);
    const ImageFacts facts{"image/jpeg", width, height, 1, {}};
    Region region = RandomRegion(&random, width, height);
    constexpr Filter kFilters[] = {Filter::kNearest, Filter::kBox, Filter::kBilinear, Filter::kBicubic,
                                   Filter::kLanczos};
    region.filter = kFilters[random() % 5];
    Canvas fast;
    Canvas plain;
    AllowSimd(true);
    ASSERT_OK(DecodeRegion(bytes, facts, region, &scratch, &fast));
    AllowSimd(false);
    ASSERT_OK(DecodeRegion(bytes, facts, region, &scratch, &plain));
    AllowSimd(true);
    for (int y = 0; y < fast.height; ++y) {
      ASSERT_EQ(std::memcmp(fast.pixels.data() + y * fast.stride, plain.pixels.data() + y * plain.stride,
                            static_cast<size_t>(fast.width) * 4),
                0)
          << i;
    }
  }
}

// Our entropy decoder against libjpeg's: the same pixels for every kind of file, whole or damaged alike told.
TEST(Region, EntropyDecodingIsLibjpegs) {
  std::mt19937_64 random(19);
  Scratch scratch;
  for (int i = 0; i < testing::Scaled(400); ++i) {
    const int width = 1 + static_cast<int>(random() % 300);
    const int height = 1 + static_cast<int>(random() % 200);
    std::string bytes = Jpeg(width, height, random(), 1 + static_cast<int>(random() % 2), random() % 5 == 0,
                             1 + static_cast<int>(random() % 100), random() % 3 == 0, random() % 7 == 0);
    const ImageFacts facts{"image/jpeg", width, height, 1, {}};
    const Region region = RandomRegion(&random, width, height);
    const bool damage = i % 4 == 3;
    if (damage) {
      for (int k = 0; k < 3; ++k)
        bytes[bytes.size() / 3 + random() % (bytes.size() / 2)] = static_cast<char>(random());
    }
    Canvas ours;
    Canvas theirs;
    AllowOwnHuffman(true);
    const Status mine = DecodeRegion(bytes, facts, region, &scratch, &ours);
    AllowOwnHuffman(false);
    const Status stock = DecodeRegion(bytes, facts, region, &scratch, &theirs);
    AllowOwnHuffman(true);
    if (damage) continue;  // both survive; what a damaged file shows is nobody's promise
    ASSERT_OK(mine);
    ASSERT_OK(stock);
    for (int y = 0; y < ours.height; ++y) {
      ASSERT_EQ(std::memcmp(ours.pixels.data() + y * ours.stride, theirs.pixels.data() + y * theirs.stride,
                            static_cast<size_t>(ours.width) * 4),
                0)
          << i << ": " << width << "x" << height;
    }
  }
}

TEST(Region, FlatStaysFlatAndWholeIsIdentity) {
  for (const auto filter :
       {Filter::kNearest, Filter::kBox, Filter::kBilinear, Filter::kBicubic, Filter::kLanczos}) {
    for (const int size : {1, 7, 64, 200}) {
      Taps taps;
      MakeTaps(3.25, 60.5, 2, 64, size, filter, &taps);
      std::vector<uint8_t> row(static_cast<size_t>(64 + 16) * 4, 201);
      std::vector<uint8_t> out(static_cast<size_t>(size) * 4 + 64);
      ResampleRow(taps, row.data(), 0, out.data());
      for (int i = 0; i < size * 4; ++i) ASSERT_EQ(out[static_cast<size_t>(i)], 201);
    }
  }
  const std::string bytes = Jpeg(31, 17, 3, 1, false);
  ASSERT_VALUE(const Image image, DecodeImage(bytes, false));
  Scratch scratch;
  Canvas canvas;
  const Region region{0, 0, 31, 17, 0, 0, 31, 17, 31, 17, Filter::kBilinear, false};
  ASSERT_OK(DecodeRegion(bytes, {"image/jpeg", 31, 17, 1, {}}, region, &scratch, &canvas));
  for (int y = 0; y < 17; ++y) {
    for (int x = 0; x < 31; ++x) {
      for (int c = 0; c < 3; ++c) {
        ASSERT_EQ(canvas.pixels[static_cast<size_t>(y * canvas.stride + x * 4 + c)],
                  image.pixels[(static_cast<size_t>(y) * 31 + x) * 3 + c]);
      }
    }
  }
}

TEST(Region, OtherFormatsAndLies) {
  const auto pixels = Picture(60, 40, 5);
  uint8_t* out = nullptr;
  const size_t size = WebPEncodeLosslessRGB(pixels.data(), 60, 40, 180, &out);
  const std::string webp(reinterpret_cast<char*>(out), size);
  WebPFree(out);
  ASSERT_VALUE(const Image image, DecodeImage(webp, false));
  const Region region{10, 5, 50, 35, 10, 5, 50, 35, 20, 20, Filter::kBicubic, true};
  Scratch scratch;
  Canvas canvas;
  ASSERT_OK(DecodeRegion(webp, {"image/webp", 60, 40, 1, {}}, region, &scratch, &canvas));
  EXPECT_GT(Psnr(image, region, canvas), 44);
  // A row that says another size than the file.
  EXPECT_TRUE(
      DecodeRegion(webp, {"image/webp", 61, 40, 1, {}}, region, &scratch, &canvas).Is(Code::kCorrupt));
  const std::string jpeg = Jpeg(60, 40, 5, 2, false);
  const Status lie = DecodeRegion(jpeg, {"image/jpeg", 90, 40, 1, {}}, region, &scratch, &canvas);
  EXPECT_TRUE(lie.Is(Code::kCorrupt));
  EXPECT_NE(lie.ToString().find("60 × 40"), std::string::npos) << lie.ToString();
  // Cut anywhere before the region's last row: told; the decoder is fit for the next image either way.
  for (size_t cut = 0; cut < jpeg.size(); cut += 7) {
    const Status status =
        DecodeRegion(jpeg.substr(0, cut), {"image/jpeg", 60, 40, 1, {}}, region, &scratch, &canvas);
    EXPECT_TRUE(cut >= jpeg.size() / 2 || !status.ok()) << cut;
    ASSERT_OK(DecodeRegion(jpeg, {"image/jpeg", 60, 40, 1, {}}, region, &scratch, &canvas));
  }
}

TEST(Colour, OrdersTypesAndJitter) {
  const std::string bytes = Jpeg(33, 21, 9, 1, false);
  Scratch scratch;
  Canvas canvas;
  const Region region{0, 0, 33, 21, 0, 0, 33, 21, 33, 21, Filter::kBilinear, false};
  ASSERT_OK(DecodeRegion(bytes, {"image/jpeg", 33, 21, 1, {}}, region, &scratch, &canvas));
  std::vector<uint8_t> planes(33 * 21 * 3);
  std::vector<uint8_t> rows(33 * 21 * 3);
  const ElementTable bytes_table(Element::kUInt8, {}, {1, 1, 1});
  bytes_table.Write(canvas, true, planes.data());
  bytes_table.Write(canvas, false, rows.data());
  std::vector<float> floats(33 * 21 * 3);
  const ElementTable float_table(Element::kFloat32, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225});
  float_table.Write(canvas, true, floats.data());
  std::vector<uint16_t> brains(33 * 21 * 3);
  ElementTable(Element::kBFloat16, {0, 0, 0}, {1, 1, 1}).Write(canvas, true, brains.data());
  for (int i = 0; i < 33 * 21; ++i) {
    for (int c = 0; c < 3; ++c) {
      const uint8_t value = canvas.pixels[static_cast<size_t>(i / 33 * canvas.stride + i % 33 * 4 + c)];
      ASSERT_EQ(planes[static_cast<size_t>(c * 33 * 21 + i)], value);
      ASSERT_EQ(rows[static_cast<size_t>(i * 3 + c)], value);
      const double mean[] = {0.485, 0.456, 0.406};
      const double deviation[] = {0.229, 0.224, 0.225};
      ASSERT_NEAR(floats[static_cast<size_t>(c * 33 * 21 + i)], (value / 255.0 - mean[c]) / deviation[c],
                  1e-6);
      const uint32_t widened = uint32_t{brains[static_cast<size_t>(c * 33 * 21 + i)]} << 16;
      float back = 0;
      std::memcpy(&back, &widened, 4);
      ASSERT_NEAR(back, value / 255.0, 1.0 / 256 * (value / 255.0));
    }
  }
  Canvas same = canvas;
  ApplyJitter({}, &same);
  EXPECT_EQ(same.pixels, canvas.pixels);
  Canvas grey = canvas;
  ApplyJitter({1, 1, 0, 0}, &grey);
  for (int i = 0; i < 33; ++i)
    ASSERT_EQ(grey.pixels[static_cast<size_t>(i * 4)], grey.pixels[static_cast<size_t>(i * 4 + 2)]);
  Canvas turned = grey;
  ApplyJitter({1, 1, 1, 0.3}, &turned);
  EXPECT_EQ(turned.pixels, grey.pixels);  // hue leaves greys alone
  Canvas dark = canvas;
  ApplyJitter({0, 1, 1, 0}, &dark);
  EXPECT_EQ(dark.pixels[0], 0);
}

}  // namespace
}  // namespace headrace::media
