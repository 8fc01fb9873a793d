// A model's weights on this machine, where the catalog is a bucket.
#include "registry/registry.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/digest.h"
#include "base/file.h"
#include "store/memory_store.h"
#include "table/keys.h"
#include "testing.h"

namespace headrace::registry {
namespace {

class LocalFileTest : public ::testing::Test {
 protected:
  LocalFileTest() {
    setenv("HEADRACE_CACHE", folder_.path().c_str(), 1);
    entry_.name = "m";
    entry_.bytes = static_cast<int64_t>(weights_.size());
    entry_.sha256 = Sha256Hex(weights_);
    const auto made = table::Catalog::InitOn(store_, {.threads = 1});
    EXPECT_OK(made.status());
    catalog_ = *made;
    EXPECT_OK(store_->Put(table::WeightsKey(entry_.sha256), weights_));
  }
  ~LocalFileTest() override { unsetenv("HEADRACE_CACHE"); }

  Result<std::string> LocalFile(const ProgressFn& progress = {}, const StopToken& stop = {}) {
    return Registry(catalog_).LocalFile(entry_, progress, stop);
  }
  // Files in the cache, complete or not.
  std::vector<std::string> Cached() const {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path() + "/model-files", error))
      names.push_back(entry.path().filename());
    return names;
  }

  testing::TempFolder folder_;
  std::shared_ptr<store::ObjectStore> store_ = store::NewMemoryStore();
  std::shared_ptr<table::Catalog> catalog_;
  const std::string weights_ = std::string(5 << 20, 'w') + "the end";  // two pieces
  Entry entry_;
};

TEST_F(LocalFileTest, IsFetchedOnce) {
  ASSERT_VALUE(const std::string path, LocalFile());
  ASSERT_VALUE(const std::string bytes, ReadFile(path));
  EXPECT_TRUE(bytes == weights_);
  ASSERT_OK(store_->Delete(table::WeightsKey(entry_.sha256)));
  ASSERT_VALUE(const std::string again, LocalFile());
  EXPECT_EQ(again, path);
}

// Two threads of a process that need the same model, one while the other is in the middle of it.
TEST_F(LocalFileTest, IsFetchedByTwoAtOnce) {
  bool other = false;
  const auto outer = LocalFile([&](const Progress&) {
    if (std::exchange(other, true)) return;
    const auto inner = LocalFile();
    EXPECT_OK(inner.status());
  });
  ASSERT_OK(outer.status());
  ASSERT_VALUE(const std::string bytes, ReadFile(*outer));
  EXPECT_TRUE(bytes == weights_);
  EXPECT_EQ(Cached().size(), 1U);
}

TEST_F(LocalFileTest, LeavesNothingWhereItFails) {
  StopSource stop;
  const auto stopped = LocalFile([&](const Progress&) { stop.Stop(); }, stop.token());
  EXPECT_TRUE(stopped.status().Is(Code::kCancelled)) << stopped.status().ToString();
  ASSERT_OK(store_->Put(table::WeightsKey(entry_.sha256), std::string(weights_.size(), 'x')));
  const auto other = LocalFile();
  EXPECT_TRUE(other.status().Is(Code::kCorrupt)) << other.status().ToString();
  EXPECT_TRUE(Cached().empty());
}

}  // namespace
}  // namespace headrace::registry
