// Values replaced and left out, against arrow's own Take.
#include "table/replace_rows.h"

#include <arrow/api.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>

#include <random>

#include "testing.h"

namespace headrace::table {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;

// Values of a type, some of them null: numbers, booleans, text, lists of two.
ArrayPtr Values(int kind, int64_t count, bool nulls, std::mt19937* random) {
  arrow::Int64Builder numbers;
  for (int64_t i = 0; i < count; ++i) {
    const bool null = nulls && (*random)() % 4 == 0;
    EXPECT_TRUE((null ? numbers.AppendNull() : numbers.Append(static_cast<int64_t>((*random)() % 100))).ok());
  }
  const ArrayPtr base = numbers.Finish().ValueOrDie();
  const std::shared_ptr<arrow::DataType> types[] = {arrow::int64(), arrow::int16(), arrow::boolean(),
                                                    arrow::utf8()};
  if (kind < 4) return arrow::compute::Cast(*base, types[kind]).ValueOrDie();
  const ArrayPtr twice = arrow::Concatenate({base, base}).ValueOrDie();
  return arrow::FixedSizeListArray::FromArrays(arrow::compute::Cast(*twice, arrow::float32()).ValueOrDie(), 2)
      .ValueOrDie();
}

ArrayPtr Taken(const ArrayPtr& base, const std::vector<int64_t>& places) {
  const arrow::Int64Array indices(static_cast<int64_t>(places.size()),
                                  arrow::Buffer::Wrap(places.data(), places.size()));
  return arrow::compute::Take(*base, indices).ValueOrDie();
}

TEST(ReplaceRows, AgreesWithTake) {
  ASSERT_TRUE(arrow::compute::Initialize().ok());
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    const int kind = round % 5;
    const bool nulls = round % 3 == 0;
    const auto count = static_cast<int64_t>(1 + random() % 50);
    const auto begin = static_cast<int64_t>(random() % 5);
    // A slice, what others hold too, and what nobody else holds: the last may be taken for the result.
    ArrayPtr whole = Values(kind, count + 7, nulls, &random);
    const ArrayPtr base = round % 2 == 0 ? whole->Slice(3, count) : Values(kind, count, nulls, &random);
    std::vector<int64_t> picks, places, gaps;
    for (int64_t i = 0; i < count; ++i) {
      for (uint32_t times = random() % 3; times > 0; --times) picks.push_back(begin + i);
      (random() % 4 == 0 ? gaps : places).push_back(i);
    }
    const auto alone = [&] { return arrow::Concatenate({base}).ValueOrDie(); };
    if (!picks.empty()) {
      // All rows from the first pick to the last.
      const ArrayPtr span = base->Slice(picks.front() - begin, picks.back() - picks.front() + 1);
      std::vector<int64_t> relative;
      for (const int64_t pick : picks) relative.push_back(pick - picks.front());
      const ArrayPtr expected = Taken(span, relative);
      for (const ArrayPtr& given : {span, arrow::Concatenate({span}).ValueOrDie()}) {
        ASSERT_VALUE(const auto picked, Picked(given, Rows::Picks(picks)));
        ASSERT_TRUE(picked->Equals(expected)) << round << picked->ToString() << expected->ToString();
      }
      ASSERT_VALUE(const auto in_place, Picked(arrow::Concatenate({span}).ValueOrDie(), Rows::Picks(picks)));
      ASSERT_TRUE(in_place->Equals(expected)) << round;
    }
    const ArrayPtr kept = Taken(base, places);
    ASSERT_VALUE(const auto shared, Without(base, gaps));
    ASSERT_TRUE(shared->Equals(kept)) << round;
    ASSERT_VALUE(const auto own, Without(alone(), gaps));
    ASSERT_TRUE(own->Equals(kept)) << round;
    ASSERT_TRUE(base->ValidateFull().ok());

    const ArrayPtr fresh = Values(kind, static_cast<int64_t>(gaps.size()), nulls, &random);
    ASSERT_VALUE(const auto replaced, Replaced(base, gaps, fresh));
    std::vector<int64_t> from;
    size_t next = 0;
    for (int64_t i = 0; i < count; ++i) {
      const bool gap = next < gaps.size() && gaps[next] == i;
      from.push_back(gap ? count + static_cast<int64_t>(next++) : i);
    }
    ASSERT_TRUE(replaced->Equals(Taken(arrow::Concatenate({base, fresh}).ValueOrDie(), from))) << round;
  }
}

}  // namespace
}  // namespace headrace::table
