#include "table/page.h"

#include <arrow/util/crc32.h>

#include <bit>
#include <cstring>

namespace headrace::table {
namespace {

Status Bad(const char* what) { return Status::Corrupt(std::string("a damaged Parquet page: ") + what); }

// The subset of Thrift's compact protocol that page headers use, and skipping of the rest.
class Thrift {
 public:
  explicit Thrift(std::string_view bytes) : bytes_(bytes) {}

  bool Varint(uint64_t* out) {
    *out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ >= bytes_.size()) return false;
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      *out |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0) return true;
    }
    return false;
  }
  bool I32(int32_t* out) {
    uint64_t raw = 0;
    if (!Varint(&raw)) return false;
    const auto value = static_cast<int64_t>(raw >> 1) ^ -static_cast<int64_t>(raw & 1);
    if (value < INT32_MIN || value > INT32_MAX) return false;
    *out = static_cast<int32_t>(value);
    return true;
  }
  // The next field of the current struct; false at its end (or at the end of the bytes: see ok()).
  bool Field(int16_t* id, int* type) {
    if (at_ >= bytes_.size()) return Fail();
    const auto byte = static_cast<uint8_t>(bytes_[at_++]);
    if (byte == 0) return false;
    *type = byte & 15;
    const int delta = byte >> 4;
    if (delta != 0) {
      *id = static_cast<int16_t>(*id + delta);
    } else {
      int32_t wide = 0;
      if (!I32(&wide)) return Fail();
      *id = static_cast<int16_t>(wide);
    }
    return true;
  }
  bool Skip(int type, int depth = 0) {
    if (depth > 16) return Fail();
    uint64_t n = 0;
    switch (type) {
      case 1:
      case 2:
        return true;  // booleans live in the field header
      case 3:
        return Advance(1);
      case 4:
      case 5:
      case 6:
        return Varint(&n) || Fail();
      case 7:
        return Advance(8);
      case 8:
        return (Varint(&n) && Advance(n)) || Fail();
      case 9:
      case 10: {
        if (at_ >= bytes_.size()) return Fail();
        const auto head = static_cast<uint8_t>(bytes_[at_++]);
        n = head >> 4;
        if (n == 15 && !Varint(&n)) return Fail();
        const int element = head & 15;
        if (n > bytes_.size()) return Fail();
        for (uint64_t i = 0; i < n; ++i) {
          if (element <= 2 ? !Advance(1) : !Skip(element, depth + 1)) return Fail();
        }
        return true;
      }
      case 12: {
        int16_t id = 0;
        int inner = 0;
        while (Field(&id, &inner)) {
          if (!Skip(inner, depth + 1)) return Fail();
        }
        return ok_;
      }
      default:
        return Fail();
    }
  }
  bool Fail() {
    ok_ = false;
    return false;
  }
  bool ok() const { return ok_; }
  size_t position() const { return at_; }

 private:
  bool Advance(uint64_t n) {
    if (n > bytes_.size() - at_) return Fail();
    at_ += n;
    return true;
  }
  std::string_view bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

PageEncoding ToEncoding(int32_t raw) {
  switch (raw) {
    case 0:
      return PageEncoding::kPlain;
    case 2:
      return PageEncoding::kPlainDictionary;
    case 3:
      return PageEncoding::kRle;
    case 8:
      return PageEncoding::kRleDictionary;
    default:
      return PageEncoding::kOther;
  }
}

// DataPageHeader and DictionaryPageHeader both begin with: 1 num_values, 2 encoding.
bool CountAndEncoding(Thrift* in, PageHeader* header) {
  int16_t id = 0;
  int type = 0;
  int32_t encoding = -1;
  while (in->Field(&id, &type)) {
    const bool read = id == 1 ? in->I32(&header->values) : id == 2 ? in->I32(&encoding) : in->Skip(type);
    if (!read) return in->Fail();
  }
  header->encoding = ToEncoding(encoding);
  return in->ok();
}

uint32_t LittleU32(std::string_view bytes) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data(), 4);
  return value;
}
static_assert(std::endian::native == std::endian::little,
              "Parquet and Arrow are little-endian; so must the host be");

// The levels at the front of `body`, which then begins after them.
Result<std::string_view> TakeLevels(std::string_view* body) {
  if (body->size() < 4) return Bad("its levels are cut off");
  const uint32_t level_bytes = LittleU32(*body);
  if (level_bytes > body->size() - 4) return Bad("its levels are cut off");
  const std::string_view levels = body->substr(4, level_bytes);
  *body = body->substr(4 + level_bytes);
  return levels;
}

int BitWidth(int max_level) { return std::bit_width(static_cast<unsigned>(max_level)); }

}  // namespace

Result<PageHeader> ParsePageHeader(std::string_view bytes) {
  Thrift in(bytes);
  PageHeader header;
  int16_t id = 0;
  int type = 0;
  int32_t raw = 0;
  while (in.Field(&id, &type)) {
    bool read = true;
    switch (id) {
      case 1:
        read = in.I32(&raw);
        header.type = static_cast<PageType>(raw);
        break;
      case 2:
        read = in.I32(&header.uncompressed_bytes);
        break;
      case 3:
        read = in.I32(&header.compressed_bytes);
        break;
      case 4:
        read = in.I32(&raw);
        header.has_crc = true;
        header.crc = static_cast<uint32_t>(raw);
        break;
      case 5:
      case 7:
        read = type == 12 && CountAndEncoding(&in, &header);
        break;
      default:
        read = in.Skip(type);
    }
    if (!read) return Bad("its header cannot be read");
  }
  if (!in.ok()) return Bad("its header is cut off");
  header.header_bytes = static_cast<int32_t>(in.position());
  if (header.values < 0 || header.compressed_bytes < 0 || header.uncompressed_bytes < 0)
    return Bad("negative sizes");
  return header;
}

uint32_t PageCrc(std::string_view body) { return arrow::internal::crc32(0, body.data(), body.size()); }

Status DecodeHybrid(std::string_view bytes, int bit_width, int64_t count, uint32_t* out) {
  if (bit_width < 0 || bit_width > 32) return Bad("an impossible bit width");
  if (bit_width == 0) {
    std::fill_n(out, count, 0u);
    return Status::Ok();
  }
  const uint64_t mask = bit_width == 32 ? 0xffffffffull : (uint64_t{1} << bit_width) - 1;
  const auto value_bytes = static_cast<size_t>((bit_width + 7) / 8);
  Thrift in(bytes);
  int64_t done = 0;
  size_t at = 0;
  while (done < count) {
    uint64_t head = 0;
    Thrift run(bytes.substr(at));
    if (!run.Varint(&head)) return Bad("its levels or indices are cut off");
    at += run.position();
    if ((head & 1) == 0) {
      const uint64_t repeat = head >> 1;
      if (bytes.size() - at < value_bytes || repeat == 0) return Bad("a run is cut off");
      uint32_t value = 0;
      std::memcpy(&value, bytes.data() + at, value_bytes);
      at += value_bytes;
      const int64_t n =
          std::min<int64_t>(count - done, static_cast<int64_t>(std::min<uint64_t>(repeat, INT64_MAX)));
      std::fill_n(out + done, n, value & static_cast<uint32_t>(mask));
      done += n;
    } else {
      const uint64_t groups = head >> 1;
      if (groups == 0 || groups > bytes.size()) return Bad("a bit-packed run is cut off");
      const int64_t n = std::min<int64_t>(count - done, static_cast<int64_t>(groups) * 8);
      const size_t needed = (static_cast<size_t>(n) * static_cast<size_t>(bit_width) + 7) / 8;
      if (bytes.size() - at < needed) return Bad("a bit-packed run is cut off");
      const char* data = bytes.data() + at;
      const size_t available = bytes.size() - at;
      for (int64_t i = 0; i < n; ++i) {
        const size_t bit = static_cast<size_t>(i) * static_cast<size_t>(bit_width);
        uint64_t word = 0;
        std::memcpy(&word, data + bit / 8, std::min<size_t>(8, available - bit / 8));
        out[done + i] = static_cast<uint32_t>((word >> (bit % 8)) & mask);
      }
      done += n;
      at += std::min(available, static_cast<size_t>(groups) * static_cast<size_t>(bit_width));
    }
  }
  return Status::Ok();
}

Result<PageView> OpenPage(const PageHeader& header, std::string_view body, int max_level,
                          int max_repetition) {
  PageView page;
  page.rows = header.values;
  page.encoding = header.encoding;
  page.values = body;
  if (max_repetition > 0) {
    HEADRACE_ASSIGN(const std::string_view levels, TakeLevels(&page.values));
    page.repetition.resize(static_cast<size_t>(page.rows));
    HEADRACE_TRY(DecodeHybrid(levels, BitWidth(max_repetition), page.rows, page.repetition.data()));
    for (const uint32_t level : page.repetition) {
      if (level > static_cast<uint32_t>(max_repetition)) return Bad("an impossible level");
    }
  }
  if (max_level == 0) return page;
  HEADRACE_ASSIGN(const std::string_view levels, TakeLevels(&page.values));
  // The common case: one run says that all are defined.
  Thrift in(levels);
  uint64_t head = 0;
  if (in.Varint(&head) && (head & 1) == 0 && static_cast<int64_t>(head >> 1) >= page.rows &&
      levels.size() > in.position() && static_cast<uint8_t>(levels[in.position()]) == max_level) {
    return page;
  }
  page.levels.resize(static_cast<size_t>(page.rows));
  HEADRACE_TRY(DecodeHybrid(levels, BitWidth(max_level), page.rows, page.levels.data()));
  page.all_defined = true;
  for (const uint32_t level : page.levels) {
    if (level > static_cast<uint32_t>(max_level)) return Bad("an impossible level");
    page.all_defined &= level == static_cast<uint32_t>(max_level);
  }
  if (page.all_defined) page.levels.clear();
  return page;
}

Status DecodeByteArrays(std::string_view bytes, int64_t count, std::vector<std::string_view>* out) {
  if (count > static_cast<int64_t>(bytes.size() / 4)) return Bad("its strings are cut off");
  out->resize(static_cast<size_t>(count));
  size_t at = 0;
  for (auto& text : *out) {
    if (bytes.size() - at < 4) return Bad("its strings are cut off");
    const uint32_t length = LittleU32(bytes.substr(at));
    at += 4;
    if (length > bytes.size() - at) return Bad("its strings are cut off");
    text = bytes.substr(at, length);
    at += length;
  }
  return Status::Ok();
}

}  // namespace headrace::table
