#include "table/retype.h"

#include <cstring>
#include <limits>

#include "base/json.h"
#include "table/parquet_leaf.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

// The least and the largest value of an integer type; 65 bits would hold them all.
struct Range {
  Kind kind;
  __int128 least, largest;
};

template <typename T>
Range RangeOf(Kind kind) {
  return {kind, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()};
}

TEST(Retype, AnIntegerBecomesOneThatHasAllItsValues) {
  const Range ranges[] = {
      RangeOf<int8_t>(Kind::kInt8),     RangeOf<int16_t>(Kind::kInt16),   RangeOf<int32_t>(Kind::kInt32),
      RangeOf<int64_t>(Kind::kInt64),   RangeOf<uint8_t>(Kind::kUInt8),   RangeOf<uint16_t>(Kind::kUInt16),
      RangeOf<uint32_t>(Kind::kUInt32), RangeOf<uint64_t>(Kind::kUInt64),
  };
  for (const Range& from : ranges) {
    for (const Range& to : ranges) {
      const bool fits = from.kind != to.kind && to.least <= from.least && to.largest >= from.largest;
      EXPECT_EQ(CanWiden({.kind = from.kind}, {.kind = to.kind}), fits)
          << KindName(from.kind) << " to " << KindName(to.kind);
    }
  }
}

TEST(Retype, ADecimalKeepsItsScale) {
  const auto decimal = [](int32_t precision, int32_t scale) {
    return Type{.kind = Kind::kDecimal, .precision = precision, .scale = scale};
  };
  EXPECT_TRUE(CanWiden(decimal(5, 2), decimal(6, 2)));
  EXPECT_TRUE(CanWiden(decimal(38, 2), decimal(kMaxPrecision, 2)));
  EXPECT_FALSE(CanWiden(decimal(5, 2), decimal(5, 2)));
  EXPECT_FALSE(CanWiden(decimal(5, 2), decimal(6, 3)));
  EXPECT_FALSE(CanWiden(decimal(6, 2), decimal(5, 2)));
}

template <typename T>
std::string Encoded(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// What prunes pages must be the values that rows have: 2^32 - 1 of a uint32 is not -1.
TEST(Retype, BoundsOfPagesAreThoseOfTheNarrowValues) {
  using P = parquet::Type;
  const StoredType narrow{P::INT32, false, 0}, narrow_unsigned{P::INT32, true, 0};
  const auto bound = [](Kind kind, const StoredType& stored, const std::string& encoded) {
    return DecodeBound({.kind = kind}, stored, encoded);
  };
  EXPECT_EQ(bound(Kind::kInt64, narrow, Encoded<int32_t>(-1)), Value(int64_t{-1}));
  EXPECT_EQ(bound(Kind::kInt64, narrow_unsigned, Encoded<uint32_t>(UINT32_MAX)), Value(int64_t{UINT32_MAX}));
  EXPECT_EQ(bound(Kind::kUInt64, narrow_unsigned, Encoded<uint32_t>(UINT32_MAX)), Value(int64_t{UINT32_MAX}));
  EXPECT_EQ(bound(Kind::kFloat64, {P::FLOAT, false, 0}, Encoded(0.1F)), Value(double{0.1F}));
  EXPECT_TRUE(
      IsNull(bound(Kind::kFloat64, {P::FLOAT, false, 0}, Encoded(std::numeric_limits<float>::quiet_NaN()))));
  // As before.
  EXPECT_EQ(bound(Kind::kInt64, {P::INT64, false, 0}, Encoded<int64_t>(-1)), Value(int64_t{-1}));
  EXPECT_TRUE(IsNull(bound(Kind::kUInt64, {P::INT64, true, 0}, Encoded<uint64_t>(UINT64_MAX))));
}

// A file that stores a signed integer is damaged where the column never had one.
TEST(Retype, NoSignedIntegerBecomesAnUnsignedOne) {
  EXPECT_TRUE(NewLeafBuilder({.kind = Kind::kUInt64}, {parquet::Type::INT32, false, 0}, 1)
                  .status()
                  .Is(Code::kCorrupt));
  EXPECT_TRUE(NewLeafBuilder({.kind = Kind::kInt32}, {parquet::Type::INT64, false, 0}, 1)
                  .status()
                  .Is(Code::kCorrupt));
  const Type decimal{.kind = Kind::kDecimal, .precision = 5, .scale = 2};
  for (const int32_t length : {0, 17}) {
    const StoredType stored{parquet::Type::FIXED_LEN_BYTE_ARRAY, false, length};
    EXPECT_TRUE(NewLeafBuilder(decimal, stored, 1).status().Is(Code::kCorrupt));
  }
}

TEST(Retype, AReaderWithoutItIsToldWhatItLacks) {
  Field field{.id = 1, .name = "a", .type = {.kind = Kind::kInt32}};
  ASSERT_VALUE(const Field wide, WidenedField(field, {.kind = Kind::kInt64}));
  EXPECT_TRUE(HasWidened(wide) && !HasWidened(field));
  ASSERT_VALUE(const Field again, FieldFromJson(FieldToJson(wide)));
  EXPECT_TRUE(again.widened);
  Field list{.id = 2, .name = "l", .type = {.kind = Kind::kList, .children = {wide}}};
  EXPECT_TRUE(HasWidened(list));
  std::vector<Field> fresh = {list};
  fresh[0].id = fresh[0].type.children[0].id = -1;
  int32_t next = 7;
  AssignIds(&fresh, &next);
  EXPECT_FALSE(HasWidened(fresh[0])) << "another table's files have the type from the start";
  Snapshot snapshot;
  snapshot.schema.fields = {wide};
  EXPECT_NE(EncodeSnapshot(snapshot).find(R"("requires":["widened"])"), std::string::npos)
      << EncodeSnapshot(snapshot);
}

}  // namespace
}  // namespace headrace::table
