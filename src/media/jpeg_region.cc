// Rows of a part of a JPEG. Entropy decoding must run from the first byte; everything after it (inverse
// transform, upsampling, colours) happens only where it is wanted (libjpeg-turbo's crop and skip calls).
#include <algorithm>
#include <atomic>
#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

#include "media/jpeg_huffman.h"
#include "media/region_parts.h"

namespace headrace::media {

struct JpegDecoder {
  HuffmanDecoder* in_use = nullptr;  // first: libjpeg's client_data points here
  HuffmanDecoder huffman;
  jpeg_error_mgr errors;
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = {};
  jpeg_decompress_struct info;
};

void JpegDecoderDeleter::operator()(JpegDecoder* decoder) const {
  jpeg_destroy_decompress(&decoder->info);
  delete decoder;
}

namespace {

void OnRegionError(j_common_ptr info) {
  auto* decoder = reinterpret_cast<JpegDecoder*>(info->client_data);
  (*info->err->format_message)(info, decoder->message);
  longjmp(decoder->jump, 1);
}

void OnRegionMessage(j_common_ptr info, int level) {
  if (level >= 0) return;
  auto* decoder = reinterpret_cast<JpegDecoder*>(info->client_data);
  if (decoder->message[0] == '\0') {
    if (info->err->msg_code == 0) {  // of our own entropy decoder
      std::snprintf(decoder->message, sizeof decoder->message, "its data is damaged, or ends too early");
    } else {
      (*info->err->format_message)(info, decoder->message);
    }
  }
  info->err->num_warnings++;
}

JpegDecoder* Ready(Scratch::Parts* parts) {
  if (!parts->jpeg) {
    auto* decoder = new JpegDecoder();
    decoder->info.err = jpeg_std_error(&decoder->errors);
    decoder->errors.error_exit = OnRegionError;
    decoder->errors.emit_message = OnRegionMessage;
    jpeg_create_decompress(&decoder->info);
    decoder->info.client_data = decoder;
    parts->jpeg.reset(decoder);
  }
  JpegDecoder* decoder = parts->jpeg.get();
  jpeg_abort_decompress(&decoder->info);
  decoder->errors.num_warnings = 0;
  decoder->message[0] = '\0';
  return decoder;
}

// Each library call stands in a function of its own, free of objects that longjmp would leave behind.
bool Header(JpegDecoder* decoder, std::string_view bytes) {
  if (setjmp(decoder->jump)) return false;
  jpeg_mem_src(&decoder->info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&decoder->info, TRUE);
  return true;
}

bool Start(JpegDecoder* decoder, int shrink) {
  if (setjmp(decoder->jump)) return false;
  decoder->info.out_color_space = JCS_EXT_RGBX;
  decoder->info.scale_num = 1;
  decoder->info.scale_denom = static_cast<unsigned>(shrink);
  jpeg_start_decompress(&decoder->info);
  return true;
}

// The left edge of what is decoded: whole blocks that hold [left, right).
bool Crop(JpegDecoder* decoder, JDIMENSION* left, JDIMENSION* columns) {
  if (setjmp(decoder->jump)) return false;
  jpeg_crop_scanline(&decoder->info, left, columns);
  return true;
}

bool Skip(JpegDecoder* decoder, int rows) {
  if (setjmp(decoder->jump)) return false;
  jpeg_skip_scanlines(&decoder->info, static_cast<JDIMENSION>(rows));
  return true;
}

bool Read(JpegDecoder* decoder, uint8_t* row) {
  if (setjmp(decoder->jump)) return false;
  JSAMPROW target = row;
  return jpeg_read_scanlines(&decoder->info, &target, 1) == 1;
}

std::atomic<bool> own_huffman{true};

// Rows and columns around the wanted ones that the chroma upsampling looks at.
constexpr int kMargin = 2;

Status Failure(const JpegDecoder& decoder) { return Status::Corrupt(decoder.message); }

}  // namespace

void AllowOwnHuffman(bool allow) { own_huffman.store(allow); }

int ShrunkSize(int size, int shrink) { return (size + shrink - 1) / shrink; }

Result<bool> DecodeJpegRows(std::string_view bytes, const ImageFacts& facts, int shrink,
                            const StoredRect& rect, Scratch::Parts* parts, RowSink* sink) {
  JpegDecoder* decoder = Ready(parts);
  jpeg_decompress_struct& info = decoder->info;
  if (!Header(decoder, bytes)) return Failure(*decoder);
  if (static_cast<int>(info.image_width) != facts.width ||
      static_cast<int>(info.image_height) != facts.height) {
    return Status::Corrupt("the image is " + std::to_string(info.image_width) + " × " +
                           std::to_string(info.image_height) + "; its row says " +
                           std::to_string(facts.width) + " × " + std::to_string(facts.height));
  }
  if (info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK) return false;
  if (!Start(decoder, shrink)) return Failure(*decoder);
  if (own_huffman.load(std::memory_order_relaxed)) decoder->huffman.TakeOver(&info, &decoder->in_use);
  const int first = std::max(0, rect.left - kMargin);
  JDIMENSION left = static_cast<JDIMENSION>(first);
  JDIMENSION columns = std::min(info.output_width, static_cast<JDIMENSION>(rect.right + kMargin)) - left;
  if (columns < info.output_width && !Crop(decoder, &left, &columns)) return Failure(*decoder);
  const size_t needed = size_t{columns} * 4 + 64;
  if (parts->row.size() < needed) parts->row.resize(needed);
  const int top = std::max(0, rect.top - kMargin);
  if (top > 0 && !Skip(decoder, top)) return Failure(*decoder);
  for (int y = top; y < rect.bottom; ++y) {
    if (!Read(decoder, parts->row.data())) return Failure(*decoder);
    if (y < rect.top) continue;
    sink->Row(y, parts->row.data() + (rect.left - static_cast<int>(left)) * 4, rect.left);
  }
  if (decoder->errors.num_warnings > 0) return Failure(*decoder);
  return true;
}

}  // namespace headrace::media
