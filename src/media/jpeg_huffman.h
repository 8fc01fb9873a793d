// Entropy decoding of baseline JPEG (ITU-T T.81, F.2.2), instead of libjpeg's.
//
// Two thirds of an image's decoding time was spent in libjpeg's Huffman decoder (docs/decisions/007). This
// one looks a code, its run and its coefficient up at once, and takes 8 bytes at a time where no marker can
// be among them. Everything else (headers, inverse transform, upsampling, colours) stays libjpeg's, and so
// does entropy decoding of any other kind of file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include <jpeglib.h>

namespace headrace::media {

class HuffmanDecoder {
 public:
  // Takes over from libjpeg if it can: a decoder that was started, of a file of one baseline scan without
  // restart intervals in memory. Must outlive the decompression.
  bool TakeOver(jpeg_decompress_struct* info, HuffmanDecoder** slot);

 private:
  static constexpr int kBits = 12;  // of a look-up: 16 KiB a table; 11 and 13 were slower

  // Of one Huffman table: what the next kBits bits begin with.
  struct Table {
    std::array<uint8_t, 17> counts{};
    std::array<uint8_t, 256> symbols{};
    bool made = false;
    // value << 16 | run << 5 | bits in all; 0 bits: not in here. An end of block is a run beyond it. AC only.
    std::array<int32_t, 1 << kBits> whole{};
    std::array<uint16_t, 1 << kBits> code{};  // symbol << 8 | bits of the code; 0: longer
    std::array<int32_t, 18> max_code{};       // by length, left-aligned to 16 bits; as in T.81 F.2.2.3
    std::array<int32_t, 17> offset{};
  };
  static bool Make(const JHUFF_TBL& from, bool ac, Table* table);
  static boolean DecodeMcu(j_decompress_ptr info, JBLOCKROW* blocks);
  template <bool kKeep>
  bool Mcu(j_decompress_ptr info, JBLOCKROW* blocks);
  // Where reading stands. A copy of it lives in registers while a block is decoded.
  struct Reader {
    const uint8_t* at = nullptr;
    const uint8_t* end = nullptr;
    uint64_t bits = 0;    // the next ones, from the top
    int count = 0;        // of them that are there
    int64_t padding = 0;  // zeros that were made up behind the end of the data
    void Refill();
    static Reader RefilledSlowly(Reader from);
    void Drop(int length);
    int Symbol(const Table& table);
    int Extend(int size);
  };
  bool Block(const Table& dc, const Table& ac, int component, JCOEF* out);

  std::array<Table, NUM_HUFF_TBLS> dc_;
  std::array<Table, NUM_HUFF_TBLS> ac_;
  Reader reader_;
  std::array<int64_t, MAX_COMPS_IN_SCAN> last_dc_{};
};

}  // namespace headrace::media
