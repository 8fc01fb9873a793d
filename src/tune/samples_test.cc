// Samples: prompts are the server's, learned is the answer and nothing else.
#include "tune/samples.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tiny_model.h"

namespace headrace::tune {
namespace {

std::shared_ptr<const model::Model> Tiny() {
  static const std::shared_ptr<const model::Model> model = [] {
    const std::string path = ::testing::TempDir() + "/headrace_samples_" + std::to_string(getpid()) + ".gguf";
    headrace::testing::WriteTinyModel(path, {});
    auto loaded = model::Model::Load(path);
    EXPECT_TRUE(loaded.ok()) << loaded.status().ToString();
    std::filesystem::remove(path);
    return std::shared_ptr<const model::Model>(*loaded);
  }();
  return model;
}

TEST(Samples, ATextIsLearnedToItsEnd) {
  const auto maker = SampleMaker::Make(Tiny(), {.columns = {.text = "body"}});
  ASSERT_TRUE(maker.ok()) << maker.status().ToString();
  EXPECT_EQ((*maker)->columns(), std::vector<std::string>{"body"});
  const auto made = (*maker)->Text("a cab", 7);
  ASSERT_TRUE(made.ok());
  ASSERT_EQ(made->samples.size(), 1U);
  const Sample& sample = made->samples[0];
  EXPECT_EQ(sample.row_id, 7);
  EXPECT_EQ(sample.tokens.front(), Tiny()->bos());
  EXPECT_EQ(sample.tokens.back(), Tiny()->eos());
  EXPECT_EQ(sample.learn.front(), 0);
  EXPECT_EQ(sample.learned(), static_cast<int64_t>(sample.tokens.size()) - 1);
}

}  // namespace
}  // namespace headrace::tune
