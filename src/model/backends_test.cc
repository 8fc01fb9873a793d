#include "model/backends.h"

#include <gtest/gtest.h>

namespace headrace::model {
namespace {

std::vector<CpuVariant> Variants() {
  return {{"sapphirerapids", 8000, ""},
          {"zen4", 4000, ""},
          {"haswell", 70, ""},
          {"x64", 1, ""},
          {"later", 0, ""}};
}

TEST(ChooseCpu, TakesTheBest) {
  const auto best = ChooseCpu(Variants(), "");
  ASSERT_TRUE(best.ok()) << best.status().message();
  EXPECT_EQ(best->name, "sapphirerapids");
}

TEST(ChooseCpu, TakesTheOneThatIsNamed) {
  for (const char* name : {"x64", "haswell", "sapphirerapids"}) {
    const auto named = ChooseCpu(Variants(), name);
    ASSERT_TRUE(named.ok()) << named.status().message();
    EXPECT_EQ(named->name, name);
  }
}

TEST(ChooseCpu, NamesWhatThisMachineCanRun) {
  const auto cannot = ChooseCpu(Variants(), "later");
  ASSERT_FALSE(cannot.ok());
  EXPECT_EQ(
      cannot.status().message(),
      "HEADRACE_CPU: this machine's CPU cannot run 'later'; it can run: sapphirerapids, zen4, haswell, x64");
  const auto unknown = ChooseCpu(Variants(), "zen");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("there is no variant 'zen'"), std::string::npos);
}

TEST(ChooseCpu, SaysWhereTheyComeFromIfThereAreNone) {
  const auto none = ChooseCpu({}, "");
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.status().message().find("./dev setup engine"), std::string::npos);
  EXPECT_FALSE(ChooseCpu({{"later", 0, ""}}, "").ok());
}

TEST(Backends, TheCpuIsThereAndIsNamed) {
  const auto loaded = LoadBackends();
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  ASSERT_FALSE(loaded->devices.empty());
  EXPECT_EQ(loaded->devices.back().kind, "cpu");
  EXPECT_GT(loaded->devices.back().memory_total, 0);
  EXPECT_FALSE(loaded->cpu.empty());
  if (const char* wanted = std::getenv("HEADRACE_CPU"); wanted != nullptr && *wanted != '\0') {
    EXPECT_EQ(loaded->cpu, wanted);
  }
}

}  // namespace
}  // namespace headrace::model
