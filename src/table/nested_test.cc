// Levels that no writer writes: rows that are whole, or Corrupt. (Those that writers write:
// roundtrip_test.cc, tests/e2e/test_nested.py.)
#include "table/nested.h"

#include <arrow/array.h>
#include <arrow/builder.h>

#include <algorithm>
#include <random>

#include "table/table_testing.h"

namespace headrace::table {
namespace {

using parquet::Repetition;
using Path = std::vector<Repetition::type>;

constexpr auto kOptional = Repetition::OPTIONAL;
constexpr auto kRepeated = Repetition::REPEATED;

// Every leaf of the field, with its path.
void Paths(const Field& field, Path above, std::map<int32_t, Path>* paths) {
  above.push_back(kOptional);
  const Kind kind = field.type.kind;
  if (kind == Kind::kList || kind == Kind::kMap) above.push_back(kRepeated);
  if (field.type.children.empty()) (*paths)[field.id] = above;
  for (size_t i = 0; i < field.type.children.size(); ++i) {
    const Field& child = field.type.children[i];
    Path inner = above;
    if (kind == Kind::kMap && i == 0) {
      inner.push_back(Repetition::REQUIRED);
      (*paths)[child.id] = inner;
    } else {
      Paths(child, inner, paths);
    }
  }
}

NestedLeaf RandomLeaf(const Path& path, size_t entries, std::mt19937_64* random) {
  NestedLeaf leaf;
  leaf.path = path;
  const auto defined = static_cast<uint8_t>(
      std::count_if(path.begin(), path.end(), [](auto node) { return node != Repetition::REQUIRED; }));
  const auto deep = static_cast<uint8_t>(std::count(path.begin(), path.end(), kRepeated));
  arrow::Int32Builder values;
  for (size_t i = 0; i < entries; ++i) {
    leaf.definition.push_back(static_cast<uint8_t>((*random)() % (defined + 1)));
    leaf.repetition.push_back(i == 0 ? 0 : static_cast<uint8_t>((*random)() % (deep + 1)));
    if (leaf.definition[i] < ListedLevel(path)) continue;
    EXPECT_TRUE(
        (leaf.definition[i] == defined ? values.Append(static_cast<int>(i)) : values.AppendNull()).ok());
  }
  leaf.values = values.Finish().ValueOrDie();
  return leaf;
}

TEST(Nested, LevelsAtRandom) {
  std::mt19937_64 random(7);
  int64_t whole = 0;
  for (const char* text : {"list<int32>", "list<list<int32>>", "struct<a: int32, l: list<int32>>",
                           "map<int32, int32>", "list<struct<a: int32, b: list<int32>, c: int32>>"}) {
    Field field;
    field.name = "f";
    ASSERT_VALUE(field.type, ParseType(text));
    std::vector<Field> fields = {field};
    int32_t next = 1;
    AssignIds(&fields, &next);
    std::map<int32_t, Path> paths;
    Paths(fields[0], {}, &paths);
    for (int i = 0; i < testing::Scaled(4'000); ++i) {
      std::map<int32_t, NestedLeaf> leaves;
      const size_t entries = random() % 6;
      for (const auto& [id, path] : paths) leaves[id] = RandomLeaf(path, entries, &random);
      if (random() % 20 == 0) leaves.begin()->second.path.pop_back();
      const auto made = AssembleNested(fields[0], leaves);
      if (!made.ok()) {
        ASSERT_TRUE(made.status().Is(Code::kCorrupt)) << made.status().ToString();
        continue;
      }
      ++whole;
      const arrow::Status valid = (*made)->ValidateFull();
      ASSERT_TRUE(valid.ok()) << text << ": " << valid.ToString();
    }
  }
  EXPECT_GT(whole, 1'000);
}

}  // namespace
}  // namespace headrace::table
