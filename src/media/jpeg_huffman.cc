#include "media/jpeg_huffman.h"

#include <cstring>

namespace headrace::media {
namespace {

// The head of libjpeg's entropy decoder, the same in every version with this library ABI (jpegint.h): the
// decoder of an MCU is a pointer, called with null for MCUs that are skipped.
struct EntropyDecoder {
  void (*start_pass)(j_decompress_ptr info);
  boolean (*decode_mcu)(j_decompress_ptr info, JBLOCKROW* blocks);
  boolean insufficient_data;
};

// Zigzag to row-major, with 64 more entries for runs that go past the end of the block, which end-of-block
// codes and damaged files have. They map to the last coefficient: an end of block writes a zero there, a
// damaged file an undefined value.
constexpr uint8_t kNatural[128] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45,
    38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63};

constexpr int32_t kEnds = 63;  // as a run

int Signed(int extra, int size) { return extra < 1 << (size - 1) ? extra - (1 << size) + 1 : extra; }

uint64_t LoadBigEndian(const uint8_t* p) {
  uint64_t value = 0;
  std::memcpy(&value, p, 8);
  return __builtin_bswap64(value);
}

// Whether one of eight bytes is 0xff: a stuffed byte, or a marker.
bool HasFf(uint64_t v) {
  const uint64_t inverted = ~v;
  return ((inverted - 0x0101010101010101ULL) & v & 0x8080808080808080ULL) != 0;
}

}  // namespace

bool HuffmanDecoder::Make(const JHUFF_TBL& from, bool ac, Table* table) {
  if (table->made && std::memcmp(table->counts.data(), from.bits, 17) == 0 &&
      std::memcmp(table->symbols.data(), from.huffval, 256) == 0) {
    return true;
  }
  table->made = false;
  std::memcpy(table->counts.data(), from.bits, 17);
  std::memcpy(table->symbols.data(), from.huffval, 256);
  table->whole.fill(0);
  table->code.fill(0);
  int32_t code = 0;
  int index = 0;
  for (int length = 1; length <= 16; ++length) {
    const int count = from.bits[length];
    table->offset[static_cast<size_t>(length)] = index - code;
    if (index + count > 256 || code + count > 1 << length) return false;
    for (int i = 0; i < count; ++i, ++index, ++code) {
      if (length > kBits) continue;
      const int symbol = from.huffval[index];
      const int size = symbol & 15;
      const int run = symbol >> 4;
      if (!ac && symbol > 15) return false;
      const int free_bits = kBits - length;
      for (int rest = 0; rest < 1 << free_bits; ++rest) {
        const auto at = static_cast<size_t>(code << free_bits | rest);
        table->code[at] = static_cast<uint16_t>(symbol << 8 | length);
        if (!ac) continue;
        if (size == 0) {  // end of block, or a run of 16 zeros
          table->whole[at] = length | (run == 15 ? 15 : kEnds) << 5;
        } else if (length + size <= kBits) {
          const int extra = rest >> (free_bits - size) & ((1 << size) - 1);
          const auto value = static_cast<uint32_t>(Signed(extra, size));
          table->whole[at] =
              static_cast<int32_t>(value << 16 | static_cast<uint32_t>(run << 5 | (length + size)));
        }
      }
    }
    table->max_code[static_cast<size_t>(length)] = count > 0 ? code << (16 - length) : 0;
    code <<= 1;
  }
  table->max_code[17] = 1 << 30;
  table->made = true;
  return true;
}

bool HuffmanDecoder::TakeOver(jpeg_decompress_struct* info, HuffmanDecoder** slot) {
#if JPEG_LIB_VERSION != 62 || !defined(LIBJPEG_TURBO_VERSION)
  return false;
#endif
  if (info->progressive_mode || info->arith_code || info->restart_interval != 0 ||
      info->data_precision != 8 || info->comps_in_scan != info->num_components ||
      jpeg_has_multiple_scans(info)) {
    return false;
  }
  for (int c = 0; c < info->comps_in_scan; ++c) {
    const jpeg_component_info& component = *info->cur_comp_info[c];
    const JHUFF_TBL* dc = info->dc_huff_tbl_ptrs[component.dc_tbl_no];
    const JHUFF_TBL* ac = info->ac_huff_tbl_ptrs[component.ac_tbl_no];
    if (dc == nullptr || ac == nullptr || !Make(*dc, false, &dc_[static_cast<size_t>(component.dc_tbl_no)]) ||
        !Make(*ac, true, &ac_[static_cast<size_t>(component.ac_tbl_no)])) {
      return false;
    }
  }
  reader_ = {};
  reader_.at = info->src->next_input_byte;
  reader_.end = reader_.at + info->src->bytes_in_buffer;
  last_dc_.fill(0);
  *slot = this;
  reinterpret_cast<EntropyDecoder*>(info->entropy)->decode_mcu = &DecodeMcu;
  return true;
}

inline void HuffmanDecoder::Reader::Drop(int length) {
  bits <<= length;
  count -= length;
}

inline void HuffmanDecoder::Reader::Refill() {
  if (count >= 32) return;
  if (end - at >= 8) {
    const uint64_t next = LoadBigEndian(at);
    if (!HasFf(next)) {
      bits |= next >> count;
      const int bytes = (63 - count) >> 3;
      at += bytes;
      count += bytes * 8;
      return;
    }
  }
  *this = RefilledSlowly(*this);
}

// By value: a reader whose address is taken would not stay in registers.
HuffmanDecoder::Reader HuffmanDecoder::Reader::RefilledSlowly(Reader r) {
  // Bits beyond `count` may be there already, of a byte that was not counted: they come again.
  r.bits = r.count == 0 ? 0 : r.bits >> (64 - r.count) << (64 - r.count);
  while (r.count <= 56) {
    uint64_t byte = 0;
    if (r.at < r.end && *r.at != 0xff) {
      byte = *r.at++;
    } else if (r.end - r.at >= 2 && r.at[1] == 0) {
      byte = 0xff;
      r.at += 2;
    } else {
      r.padding += 8;  // a marker, or the end: zeros, and whoever uses them is told
    }
    r.bits |= byte << (56 - r.count);
    r.count += 8;
  }
  return r;
}

inline int HuffmanDecoder::Reader::Symbol(const Table& table) {
  const uint16_t found = table.code[bits >> (64 - kBits)];
  if (found != 0) {
    Drop(found & 255);
    return found >> 8;
  }
  const auto top = static_cast<int32_t>(bits >> 48);
  int length = kBits + 1;
  while (length <= 16 && top >= table.max_code[static_cast<size_t>(length)]) ++length;
  if (length > 16) return -1;
  const int index = (top >> (16 - length)) + table.offset[static_cast<size_t>(length)];
  Drop(length);
  return table.symbols[static_cast<size_t>(index) & 255];
}

inline int HuffmanDecoder::Reader::Extend(int size) {
  if (size == 0) return 0;
  const auto extra = static_cast<int>(bits >> (64 - size));
  Drop(size);
  return Signed(extra, size);
}

inline bool HuffmanDecoder::Block(const Table& dc, const Table& ac, int component, JCOEF* out) {
  Reader reader = reader_;
  reader.Refill();
  const int size = reader.Symbol(dc);
  if (size < 0 || size > 15) return false;
  int64_t& last = last_dc_[static_cast<size_t>(component)];
  last += reader.Extend(size);
  out[0] = static_cast<JCOEF>(last);
  const int32_t* lookup = ac.whole.data();
  for (int k = 1; k < 64; ++k) {
    reader.Refill();
    const int32_t whole = lookup[reader.bits >> (64 - kBits)];
    if (const int length = whole & 31; length != 0) {
      reader.Drop(length);
      k += whole >> 5 & 63;
      out[kNatural[k]] =
          static_cast<JCOEF>(whole >> 16);  // a run of 16 zeros stores one of them, which is as good
      continue;
    }
    const int symbol = reader.Symbol(ac);
    if (symbol < 0) return false;
    const int run = symbol >> 4;
    if ((symbol & 15) == 0) {
      if (run != 15) break;
      k += 15;
      continue;
    }
    k += run;
    out[kNatural[k]] = static_cast<JCOEF>(reader.Extend(symbol & 15));
  }
  reader_ = reader;
  return true;
}

template <bool kKeep>
bool HuffmanDecoder::Mcu(j_decompress_ptr info, JBLOCKROW* blocks) {
  JCOEF skipped[64];
  for (int b = 0; b < info->blocks_in_MCU; ++b) {
    const int component = info->MCU_membership[b];
    const jpeg_component_info& facts = *info->cur_comp_info[component];
    JCOEF* out = kKeep ? blocks[b][0] : skipped;
    if (!Block(dc_[static_cast<size_t>(facts.dc_tbl_no)], ac_[static_cast<size_t>(facts.ac_tbl_no)],
               component, out))
      return false;
  }
  return reader_.count >= reader_.padding;
}

boolean HuffmanDecoder::DecodeMcu(j_decompress_ptr info, JBLOCKROW* blocks) {
  auto* self = *static_cast<HuffmanDecoder**>(info->client_data);
  auto* entropy = reinterpret_cast<EntropyDecoder*>(info->entropy);
  if (entropy->insufficient_data)
    return TRUE;  // the rest stays grey, as libjpeg leaves it; the warning was given
  const bool whole = blocks != nullptr ? self->Mcu<true>(info, blocks) : self->Mcu<false>(info, nullptr);
  if (!whole) {
    entropy->insufficient_data = TRUE;
    info->err->msg_code = 0;
    (*info->err->emit_message)(reinterpret_cast<j_common_ptr>(info), -1);
  }
  return TRUE;
}

}  // namespace headrace::media
