// 10,000 random steps by several writers against an oracle in memory. A failing seed is one line to repeat:
//   HEADRACE_SEED=7 table_test --gtest_filter=Model.*
#include "table/model_testing.h"

namespace headrace::table {
namespace {

TEST(Model, RandomStepsAgreeWithTheOracle) {
  const char* given = getenv("HEADRACE_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 20261122;
  Model(seed, store::NewMemoryStore())
      .Run(testing::InCi() ? testing::Scaled(10'000) : testing::Scaled(1'500));
}

}  // namespace
}  // namespace headrace::table
