// Internal to region.h: the interface between codecs and the resampler.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "media/region.h"

namespace headrace::media {

struct JpegDecoder;
struct JpegDecoderDeleter {
  void operator()(JpegDecoder* decoder) const;
};

struct Scratch::Parts {
  std::unique_ptr<JpegDecoder, JpegDecoderDeleter> jpeg;
  std::vector<uint8_t> row;      // one decoded row, RGBX
  std::vector<uint8_t> columns;  // rows after the horizontal pass, RGBX
  Canvas turned;                 // before an EXIF orientation is undone
  Taps across;
  Taps down;
};

// Stored pixels [left, right) × [top, bottom) of an image, at `shrink` (1, 2, 4 or 8) times less.
struct StoredRect {
  int left = 0, top = 0, right = 0, bottom = 0;
};

// Takes rows of RGBX as they are decoded.
class RowSink {
 public:
  virtual ~RowSink() = default;
  // `row` holds the rectangle's columns and 16 readable bytes more. Must not throw.
  virtual void Row(int y, const uint8_t* row, int first_column) = 0;
};

// False: entropy decoding is libjpeg's (tests hold both against each other).
void AllowOwnHuffman(bool allow);

// The size of what a JPEG decodes to at 1/shrink.
int ShrunkSize(int size, int shrink);

// Rows rect.top … rect.bottom of the shrunk image (rect in shrunk pixels). Nothing if this JPEG needs the
// whole-image way (CMYK).
Result<bool> DecodeJpegRows(std::string_view bytes, const ImageFacts& facts, int shrink,
                            const StoredRect& rect, Scratch::Parts* scratch, RowSink* sink);

}  // namespace headrace::media
