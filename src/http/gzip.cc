#include "http/gzip.h"

#include <algorithm>
#include <boost/beast/zlib/inflate_stream.hpp>
#include <boost/crc.hpp>
#include <utility>

namespace headrace::http {
namespace {

namespace zlib = boost::beast::zlib;

constexpr size_t kPiece = 64 << 10;
constexpr size_t kHead = 10, kTail = 8;  // bytes of a member before its optional fields, and after its data
enum : uint8_t { kHeaderSum = 2, kExtra = 4, kName = 8, kComment = 16, kReserved = 0xe0 };

Status Damaged() { return Status::Invalid("the body is not whole gzip, as its content-encoding says"); }

uint32_t Little(std::string_view text, size_t at, size_t bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < bytes; ++i)
    value |= static_cast<uint32_t>(static_cast<unsigned char>(text[at + i])) << (8 * i);
  return value;
}

// Bytes of a member's header; npos where it is none.
size_t HeadBytes(std::string_view text) {
  constexpr size_t kNone = std::string_view::npos;
  if (text.size() < kHead || text.substr(0, 3) != std::string_view("\x1f\x8b\x08", 3)) return kNone;
  const auto flags = static_cast<uint8_t>(text[3]);
  if ((flags & kReserved) != 0) return kNone;
  size_t at = kHead;
  if ((flags & kExtra) != 0) {
    if (text.size() < at + 2) return kNone;
    at += 2 + Little(text, at, 2);
  }
  for (const uint8_t field : {kName, kComment}) {
    if ((flags & field) == 0) continue;
    const size_t end = text.find('\0', at);
    if (end == kNone) return kNone;
    at = end + 1;
  }
  if ((flags & kHeaderSum) != 0) at += 2;
  return at <= text.size() ? at : kNone;
}

}  // namespace

Result<std::string> Gunzip(std::string_view packed, int64_t most) {
  std::string out;
  if (packed.empty()) return Damaged();
  while (!packed.empty()) {
    const size_t head = HeadBytes(packed);
    if (head == std::string_view::npos) return Damaged();
    packed.remove_prefix(head);
    const size_t before = out.size();
    zlib::inflate_stream stream;
    zlib::z_params step{};
    step.next_in = packed.data();
    step.avail_in = packed.size();
    boost::system::error_code error;
    while (error != zlib::error::end_of_stream) {
      const size_t had = out.size(), left = step.avail_in;
      out.resize(had + kPiece);
      step.next_out = out.data() + had;
      step.avail_out = kPiece;
      error = {};
      stream.write(step, zlib::Flush::none, error);
      out.resize(had + kPiece - step.avail_out);
      if (static_cast<int64_t>(out.size()) > most)
        return Status::Limit("the body is larger than " + std::to_string(most) + " bytes, inflated");
      if (error && error != zlib::error::end_of_stream && error != zlib::error::need_buffers)
        return Damaged();
      if (error != zlib::error::end_of_stream && out.size() == had && step.avail_in == left) return Damaged();
    }
    packed.remove_prefix(packed.size() - step.avail_in);
    if (packed.size() < kTail) return Damaged();
    boost::crc_32_type sum;
    sum.process_bytes(out.data() + before, out.size() - before);
    if (Little(packed, 0, 4) != sum.checksum() ||
        Little(packed, 4, 4) != static_cast<uint32_t>(out.size() - before))
      return Damaged();
    packed.remove_prefix(kTail);
  }
  return out;
}

}  // namespace headrace::http
