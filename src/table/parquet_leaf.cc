#include "table/parquet_leaf.h"

#include <arrow/array.h>
#include <arrow/buffer.h>
#include <arrow/type.h>
#include <arrow/util/bit_util.h>
#include <arrow/util/float16.h>

#include <cmath>
#include <cstring>

#include "table/arrow_bridge.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

Status Torn() { return Status::Corrupt("a damaged Parquet page: its values are cut off"); }

// Validity of what was appended so far; a bitmap only once a null shows up.
class Validity {
 public:
  explicit Validity(int64_t rows) : rows_(rows) {}
  Status Nulls(int64_t at) {
    if (!bits_) {
      HEADRACE_ARROW_ASSIGN(bits_, arrow::AllocateBitmap(rows_));
      std::memset(bits_->mutable_data(), 0xff, static_cast<size_t>(bits_->size()));
    }
    arrow::bit_util::ClearBit(bits_->mutable_data(), at);
    ++nulls_;
    return Status::Ok();
  }
  const std::shared_ptr<arrow::Buffer>& buffer() const { return bits_; }
  int64_t nulls() const { return nulls_; }

 private:
  int64_t rows_;
  std::shared_ptr<arrow::Buffer> bits_;
  int64_t nulls_ = 0;
};

// Calls value(index among the page's values) or null() for each wanted row of the page.
template <typename ForEachRow, typename OnValue, typename OnNull>
Status Visit(const PageView& page, int max_level, ForEachRow for_each, OnValue value, OnNull null) {
  if (page.all_defined) return for_each([&](int64_t row) { return value(row); });
  int64_t seen = 0;  // defined values before `at`
  int64_t at = 0;
  return for_each([&](int64_t row) -> Status {
    for (; at < row; ++at) seen += page.levels[static_cast<size_t>(at)] == static_cast<uint32_t>(max_level);
    return page.levels[static_cast<size_t>(row)] == static_cast<uint32_t>(max_level) ? value(seen) : null();
  });
}

template <typename Derived>
class BuilderBase : public LeafBuilder {
 public:
  Status AppendRange(const PageView& page, int max_level, const std::vector<std::string_view>* dictionary,
                     int64_t begin, int64_t end) override {
    return self()->Append(page, max_level, dictionary, begin, end, [&](auto visit) -> Status {
      for (int64_t row = begin; row < end; ++row) HEADRACE_TRY(visit(row));
      return Status::Ok();
    });
  }
  Status AppendPicks(const PageView& page, int max_level, const std::vector<std::string_view>* dictionary,
                     const std::vector<int64_t>& picks) override {
    return self()->Append(page, max_level, dictionary, -1, -1, [&](auto visit) -> Status {
      for (const int64_t row : picks) HEADRACE_TRY(visit(row));
      return Status::Ok();
    });
  }

 private:
  Derived* self() { return static_cast<Derived*>(this); }
};

// Numbers stored at `Stored` width and given at `Out` width (int8 … uint16 are INT32 in Parquet).
template <typename Stored, typename Out>
class NumberBuilder final : public BuilderBase<NumberBuilder<Stored, Out>> {
 public:
  NumberBuilder(std::shared_ptr<arrow::DataType> type, int64_t rows, std::shared_ptr<arrow::Buffer> values,
                int64_t scale)
      : type_(std::move(type)), rows_(rows), values_(std::move(values)), validity_(rows), scale_(scale) {}

  template <typename ForEachRow>
  Status Append(const PageView& page, int max_level, const std::vector<std::string_view>*, int64_t begin,
                int64_t end, ForEachRow for_each) {
    const auto stored = static_cast<int64_t>(page.values.size() / sizeof(Stored));
    const char* data = page.values.data();
    Out* out = reinterpret_cast<Out*>(values_->mutable_data());
    if (page.encoding != PageEncoding::kPlain)
      return Status::Corrupt("a page with an encoding that we do not write");
    if (page.all_defined && begin >= 0) {
      if (end > stored) return Torn();
      if constexpr (std::is_same_v<Stored, Out>) {
        if (scale_ == 1) {
          std::memcpy(out + at_, data + begin * static_cast<int64_t>(sizeof(Stored)),
                      static_cast<size_t>(end - begin) * sizeof(Stored));
          at_ += end - begin;
          return Status::Ok();
        }
      }
    }
    return Visit(
        page, max_level, for_each,
        [&](int64_t i) -> Status {
          if (i >= stored) return Torn();
          Stored value;
          std::memcpy(&value, data + i * static_cast<int64_t>(sizeof(Stored)), sizeof(Stored));
          if constexpr (std::is_integral_v<Stored>)
            value = static_cast<Stored>(value / static_cast<Stored>(scale_));
          out[at_++] = static_cast<Out>(value);
          return Status::Ok();
        },
        [&]() -> Status {
          out[at_] = Out{};
          return validity_.Nulls(at_++);
        });
  }

  Result<std::shared_ptr<arrow::Array>> Finish() override {
    HEADRACE_CHECK(at_ == rows_);
    return arrow::MakeArray(
        arrow::ArrayData::Make(type_, rows_, {validity_.buffer(), values_}, validity_.nulls()));
  }

 private:
  std::shared_ptr<arrow::DataType> type_;
  int64_t rows_;
  std::shared_ptr<arrow::Buffer> values_;
  Validity validity_;
  int64_t scale_;  // stored units in one given unit (seconds are stored as milliseconds)
  int64_t at_ = 0;
};

// Values of one width: fixed-size binary and UUIDs as they are, decimals from big-endian to Arrow's
// little-endian words.
class FixedBuilder final : public BuilderBase<FixedBuilder> {
 public:
  FixedBuilder(std::shared_ptr<arrow::DataType> type, int64_t rows, std::shared_ptr<arrow::Buffer> values,
               int64_t stored, bool decimal)
      : type_(std::move(type)),
        rows_(rows),
        values_(std::move(values)),
        validity_(rows),
        stored_(stored),
        given_(static_cast<const arrow::FixedSizeBinaryType&>(*type_).byte_width()),
        decimal_(decimal) {}

  template <typename ForEachRow>
  Status Append(const PageView& page, int max_level, const std::vector<std::string_view>*, int64_t, int64_t,
                ForEachRow for_each) {
    if (page.encoding != PageEncoding::kPlain)
      return Status::Corrupt("a page with an encoding that we do not write");
    const auto* data = reinterpret_cast<const uint8_t*>(page.values.data());
    const int64_t count = static_cast<int64_t>(page.values.size()) / stored_;
    return Visit(
        page, max_level, for_each,
        [&](int64_t i) -> Status {
          if (i >= count) return Torn();
          Put(data + i * stored_);
          return Status::Ok();
        },
        [&]() -> Status {
          std::memset(Next(), 0, static_cast<size_t>(given_));
          return validity_.Nulls(at_++);
        });
  }

  Result<std::shared_ptr<arrow::Array>> Finish() override {
    HEADRACE_CHECK(at_ == rows_);
    return arrow::MakeArray(
        arrow::ArrayData::Make(type_, rows_, {validity_.buffer(), values_}, validity_.nulls()));
  }

 private:
  uint8_t* Next() { return values_->mutable_data() + at_ * given_; }
  void Put(const uint8_t* value) {
    uint8_t* out = Next();
    if (decimal_) {
      constexpr uint8_t kSign = 0x80;
      std::memset(out, (value[0] & kSign) != 0 ? 0xff : 0, static_cast<size_t>(given_));
      for (int64_t i = 0; i < stored_; ++i) out[i] = value[stored_ - 1 - i];
    } else {
      std::memcpy(out, value, static_cast<size_t>(given_));
    }
    ++at_;
  }

  std::shared_ptr<arrow::DataType> type_;
  int64_t rows_;
  std::shared_ptr<arrow::Buffer> values_;
  Validity validity_;
  int64_t stored_;  // bytes of a value in the file
  int64_t given_;   // and in the array
  bool decimal_;
  int64_t at_ = 0;
};

class BoolBuilder final : public BuilderBase<BoolBuilder> {
 public:
  BoolBuilder(int64_t rows, std::shared_ptr<arrow::Buffer> values)
      : rows_(rows), values_(std::move(values)), validity_(rows) {}

  template <typename ForEachRow>
  Status Append(const PageView& page, int max_level, const std::vector<std::string_view>*, int64_t, int64_t,
                ForEachRow for_each) {
    std::vector<uint32_t> decoded;
    const auto* bits = reinterpret_cast<const uint8_t*>(page.values.data());
    auto stored = static_cast<int64_t>(page.values.size()) * 8;
    if (page.encoding == PageEncoding::kRle) {
      // Data pages of newer writers: u32 length, then the hybrid.
      if (page.values.size() < 4) return Torn();
      int64_t defined = page.rows;
      for (const uint32_t level : page.levels) defined -= level != static_cast<uint32_t>(max_level);
      decoded.resize(static_cast<size_t>(defined));
      HEADRACE_TRY(DecodeHybrid(page.values.substr(4), 1, defined, decoded.data()));
      stored = defined;
    } else if (page.encoding != PageEncoding::kPlain) {
      return Status::Corrupt("a page with an encoding that we do not write");
    }
    return Visit(
        page, max_level, for_each,
        [&](int64_t i) -> Status {
          if (i >= stored) return Torn();
          const bool value =
              decoded.empty() ? arrow::bit_util::GetBit(bits, i) : decoded[static_cast<size_t>(i)] != 0;
          arrow::bit_util::SetBitTo(values_->mutable_data(), at_++, value);
          return Status::Ok();
        },
        [&]() -> Status {
          arrow::bit_util::ClearBit(values_->mutable_data(), at_);
          return validity_.Nulls(at_++);
        });
  }

  Result<std::shared_ptr<arrow::Array>> Finish() override {
    HEADRACE_CHECK(at_ == rows_);
    return arrow::MakeArray(
        arrow::ArrayData::Make(arrow::boolean(), rows_, {validity_.buffer(), values_}, validity_.nulls()));
  }

 private:
  int64_t rows_;
  std::shared_ptr<arrow::Buffer> values_;
  Validity validity_;
  int64_t at_ = 0;
};

class StringBuilder final : public BuilderBase<StringBuilder> {
 public:
  StringBuilder(std::shared_ptr<arrow::DataType> type, int64_t rows, std::shared_ptr<arrow::Buffer> offsets)
      : type_(std::move(type)), rows_(rows), offsets_(std::move(offsets)), validity_(rows) {
    offset(0) = 0;
  }

  template <typename ForEachRow>
  Status Append(const PageView& page, int max_level, const std::vector<std::string_view>* dictionary, int64_t,
                int64_t, ForEachRow for_each) {
    int64_t defined = page.rows;
    if (!page.all_defined) {
      for (const uint32_t level : page.levels) defined -= level != static_cast<uint32_t>(max_level);
    }
    if (dictionary != nullptr) {
      if (page.values.empty()) return defined == 0 ? Skip(page, max_level, for_each) : Torn();
      indices_.resize(static_cast<size_t>(defined));
      HEADRACE_TRY(DecodeHybrid(page.values.substr(1), static_cast<uint8_t>(page.values[0]), defined,
                                indices_.data()));
      return Visit(
          page, max_level, for_each,
          [&](int64_t i) -> Status {
            const uint32_t index = indices_[static_cast<size_t>(i)];
            if (index >= dictionary->size())
              return Status::Corrupt("a damaged Parquet page: an index past its dictionary");
            return Add((*dictionary)[index]);
          },
          [&] { return AddNull(); });
    }
    if (page.encoding != PageEncoding::kPlain)
      return Status::Corrupt("a page with an encoding that we do not write");
    HEADRACE_TRY(DecodeByteArrays(page.values, defined, &views_));
    return Visit(
        page, max_level, for_each, [&](int64_t i) { return Add(views_[static_cast<size_t>(i)]); },
        [&] { return AddNull(); });
  }

  Result<std::shared_ptr<arrow::Array>> Finish() override {
    HEADRACE_CHECK(at_ == rows_);
    auto data = arrow::Buffer::FromString(std::move(data_));
    return arrow::MakeArray(arrow::ArrayData::Make(
        type_, rows_, {validity_.buffer(), offsets_, std::move(data)}, validity_.nulls()));
  }

 private:
  int32_t& offset(int64_t i) { return reinterpret_cast<int32_t*>(offsets_->mutable_data())[i]; }
  Status Add(std::string_view text) {
    if (data_.size() + text.size() > INT32_MAX) {
      return Status::Limit("one batch would hold more than 2 GiB of text; read fewer rows at a time");
    }
    data_.append(text);
    offset(++at_) = static_cast<int32_t>(data_.size());
    return Status::Ok();
  }
  Status AddNull() {
    HEADRACE_TRY(validity_.Nulls(at_));
    offset(++at_) = static_cast<int32_t>(data_.size());
    return Status::Ok();
  }
  template <typename ForEachRow>
  Status Skip(const PageView& page, int max_level, ForEachRow for_each) {
    return Visit(
        page, max_level, for_each, [](int64_t) { return Torn(); }, [&] { return AddNull(); });
  }

  std::shared_ptr<arrow::DataType> type_;
  int64_t rows_;
  std::shared_ptr<arrow::Buffer> offsets_;
  Validity validity_;
  std::string data_;
  std::vector<uint32_t> indices_;
  std::vector<std::string_view> views_;
  int64_t at_ = 0;
};

template <typename Stored, typename Out>
Result<std::unique_ptr<LeafBuilder>> Number(const Type& type, int64_t rows, int64_t scale = 1) {
  HEADRACE_ARROW_ASSIGN(std::shared_ptr<arrow::Buffer> values,
                        arrow::AllocateBuffer(rows * static_cast<int64_t>(sizeof(Out))));
  return std::unique_ptr<LeafBuilder>(
      std::make_unique<NumberBuilder<Stored, Out>>(table::ToArrow(type), rows, std::move(values), scale));
}

Result<std::unique_ptr<LeafBuilder>> Fixed(const Type& type, const StoredType& stored, int64_t rows) {
  auto given = table::ToArrow(type);
  const bool decimal = type.kind == Kind::kDecimal;
  const int64_t width = static_cast<const arrow::FixedSizeBinaryType&>(*given).byte_width();
  if (decimal ? stored.length < 1 || stored.length > width : stored.length != width) {
    return Status::Corrupt("a file stores " + type.ToString() + " in " + std::to_string(stored.length) +
                           " bytes");
  }
  HEADRACE_ARROW_ASSIGN(std::shared_ptr<arrow::Buffer> values, arrow::AllocateBuffer(rows * width));
  return std::unique_ptr<LeafBuilder>(
      std::make_unique<FixedBuilder>(std::move(given), rows, std::move(values), stored.length, decimal));
}

// An IEEE half on its way to a wider float.
struct Half {
  uint16_t bits;
  explicit operator float() const { return arrow::util::Float16::FromBits(bits).ToFloat(); }
  explicit operator double() const { return arrow::util::Float16::FromBits(bits).ToDouble(); }
};

// 64-bit integers, of which a file may hold the lower 32 bits.
template <typename Out>
Result<std::unique_ptr<LeafBuilder>> Wide(const Type& type, const StoredType& stored, int64_t rows) {
  if (stored.physical == parquet::Type::INT64) return Number<Out, Out>(type, rows);
  return stored.is_unsigned ? Number<uint32_t, Out>(type, rows) : Number<int32_t, Out>(type, rows);
}

template <typename T>
bool Load(std::string_view encoded, T* value) {
  if (encoded.size() != sizeof(T)) return false;
  std::memcpy(value, encoded.data(), sizeof(T));
  return true;
}

}  // namespace

Result<std::unique_ptr<LeafBuilder>> NewLeafBuilder(const Type& type, const StoredType& stored,
                                                    int64_t rows) {
  using P = parquet::Type;
  const auto mismatch = [&]() -> Status {
    return Status::Corrupt("a file stores " + type.ToString() + " as " +
                           parquet::TypeToString(stored.physical));
  };
  const auto expect = [&](P::type wanted) { return stored.physical == wanted; };
  // Where the column was widened: a signed integer is not given as an unsigned one.
  const bool narrow = expect(P::INT32) && (stored.is_unsigned || type.kind == Kind::kInt64);
  const bool half = expect(P::FIXED_LEN_BYTE_ARRAY) && stored.length == 2;
  switch (type.kind) {
    case Kind::kBool: {
      if (!expect(P::BOOLEAN)) return mismatch();
      HEADRACE_ARROW_ASSIGN(std::shared_ptr<arrow::Buffer> values, arrow::AllocateBitmap(rows));
      return std::unique_ptr<LeafBuilder>(std::make_unique<BoolBuilder>(rows, std::move(values)));
    }
    case Kind::kInt8:
      return expect(P::INT32) ? Number<int32_t, int8_t>(type, rows) : mismatch();
    case Kind::kInt16:
      return expect(P::INT32) ? Number<int32_t, int16_t>(type, rows) : mismatch();
    case Kind::kUInt8:
      return expect(P::INT32) ? Number<int32_t, uint8_t>(type, rows) : mismatch();
    case Kind::kUInt16:
      return expect(P::INT32) ? Number<int32_t, uint16_t>(type, rows) : mismatch();
    case Kind::kInt32:
    case Kind::kDate:
      return expect(P::INT32) ? Number<int32_t, int32_t>(type, rows) : mismatch();
    case Kind::kUInt32:
      return expect(P::INT32) ? Number<uint32_t, uint32_t>(type, rows) : mismatch();
    case Kind::kInt64:
      return expect(P::INT64) || narrow ? Wide<int64_t>(type, stored, rows) : mismatch();
    case Kind::kUInt64:
      return expect(P::INT64) || narrow ? Wide<uint64_t>(type, stored, rows) : mismatch();
    case Kind::kTimestamp: {
      if (!expect(P::INT64)) return mismatch();
      return Number<int64_t, int64_t>(type, rows, type.unit == TimeUnit::kSecond ? 1000 : 1);
    }
    case Kind::kTime:
      if (type.unit == TimeUnit::kMicro || type.unit == TimeUnit::kNano)
        return expect(P::INT64) ? Number<int64_t, int64_t>(type, rows) : mismatch();
      if (!expect(P::INT32)) return mismatch();
      return Number<int32_t, int32_t>(type, rows, type.unit == TimeUnit::kSecond ? 1000 : 1);
    case Kind::kDuration:
      return expect(P::INT64) ? Number<int64_t, int64_t>(type, rows) : mismatch();
    case Kind::kDecimal:
    case Kind::kFixedBinary:
    case Kind::kUuid:
      return expect(P::FIXED_LEN_BYTE_ARRAY) ? Fixed(type, stored, rows) : mismatch();
    case Kind::kFloat16:
      return half ? Number<uint16_t, uint16_t>(type, rows) : mismatch();
    case Kind::kFloat32:
      if (half) return Number<Half, float>(type, rows);
      return expect(P::FLOAT) ? Number<float, float>(type, rows) : mismatch();
    case Kind::kFloat64:
      if (half) return Number<Half, double>(type, rows);
      if (expect(P::FLOAT)) return Number<float, double>(type, rows);
      return expect(P::DOUBLE) ? Number<double, double>(type, rows) : mismatch();
    case Kind::kString:
    case Kind::kJson:
    case Kind::kBinary: {
      if (!expect(P::BYTE_ARRAY)) return mismatch();
      HEADRACE_ARROW_ASSIGN(std::shared_ptr<arrow::Buffer> offsets, arrow::AllocateBuffer((rows + 1) * 4));
      return std::unique_ptr<LeafBuilder>(
          std::make_unique<StringBuilder>(table::ToArrow(type), rows, std::move(offsets)));
    }
    default:
      return mismatch();
  }
}

Value DecodeBound(const Type& type, const StoredType& stored, std::string_view encoded) {
  int32_t narrow = 0;
  int64_t wide = 0;
  float single = 0;
  double number = 0;
  switch (type.kind) {
    case Kind::kBool:
      return encoded.size() == 1 ? Value(int64_t{encoded[0] != 0}) : Value();
    case Kind::kUInt32:
      return Load(encoded, &narrow) ? Value(int64_t{static_cast<uint32_t>(narrow)}) : Value();
    case Kind::kInt64:
    case Kind::kUInt64:
      if (stored.physical == parquet::Type::INT32) {
        if (!Load(encoded, &narrow)) return {};
        return Value(stored.is_unsigned ? int64_t{static_cast<uint32_t>(narrow)} : int64_t{narrow});
      }
      return Load(encoded, &wide) && (wide >= 0 || type.kind == Kind::kInt64) ? Value(wide) : Value();
    case Kind::kInt8:
    case Kind::kInt16:
    case Kind::kUInt8:
    case Kind::kUInt16:
    case Kind::kInt32:
    case Kind::kDate:
      return Load(encoded, &narrow) ? Value(int64_t{narrow}) : Value();
    case Kind::kDuration:
      return Load(encoded, &wide) ? Value(wide) : Value();
    case Kind::kTime:
      if (stored.physical == parquet::Type::INT64) return Load(encoded, &wide) ? Value(wide) : Value();
      if (!Load(encoded, &narrow)) return {};
      return Value(int64_t{type.unit == TimeUnit::kSecond ? narrow / 1000 : narrow});
    case Kind::kTimestamp:
      return Load(encoded, &wide) ? Value(type.unit == TimeUnit::kSecond ? wide / 1000 : wide) : Value();
    case Kind::kFloat32:
      return Load(encoded, &single) && !std::isnan(single) ? Value(static_cast<double>(single)) : Value();
    case Kind::kFloat64:
      if (stored.physical == parquet::Type::FLOAT)
        return Load(encoded, &single) && !std::isnan(single) ? Value(static_cast<double>(single)) : Value();
      return Load(encoded, &number) && !std::isnan(number) ? Value(number) : Value();
    case Kind::kString:
    case Kind::kJson:
    case Kind::kBinary:
      return stored.physical == parquet::Type::BYTE_ARRAY ? Value(std::string(encoded)) : Value();
    default:
      return {};
  }
}

}  // namespace headrace::table
