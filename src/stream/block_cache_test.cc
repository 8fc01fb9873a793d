#include "stream/block_cache.h"

#include <gtest/gtest.h>
#include <utime.h>

#include <filesystem>
#include <fstream>

#include "testing.h"

namespace headrace::stream {
namespace {

namespace fs = std::filesystem;

std::string BlockBytes(int64_t block) { return std::string(1'000, static_cast<char>('a' + block)); }

std::vector<std::string> NamesBelow(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(BlockCache, KeepsBlocksWithAndWithoutUnnamedFiles) {
  constexpr int64_t kBlocks = 4;
  for (const bool unnamed : {true, false}) {
    testing::TempFolder folder;
    int fetched = 0;
    for (int round = 0; round < 2; ++round) {
      ASSERT_VALUE(const auto cache,
                   BlockCache::Open(folder.path(), 1 << 20, 7, kBlocks, 1'000.0 * kBlocks, unnamed));
      for (int64_t block = 0; block < kBlocks; ++block) {
        ASSERT_VALUE(const auto bytes, cache->Get(block, [&]() -> Result<std::string> {
          ++fetched;
          return BlockBytes(block);
        }));
        EXPECT_EQ(bytes.view(), BlockBytes(block));
      }
    }
    EXPECT_EQ(fetched, kBlocks) << "unnamed files: " << unnamed;
    EXPECT_EQ(NamesBelow(folder.path()),
              (std::vector<std::string>{"0.blk", "1.blk", "2.blk", "3.blk", "blocks", "lock"}));
  }
}

TEST(BlockCache, WhatAKilledWriterLeftIsWrittenOverOrRemoved) {
  testing::TempFolder folder;
  ASSERT_VALUE(auto cache, BlockCache::Open(folder.path(), 1 << 20, 7, 2, 2'000.0, /*unnamed=*/false));
  const std::string folder_of_blocks = folder.path() + "/0000000000000007";
  for (const char* name : {"/0.part", "/1.part"}) std::ofstream(folder_of_blocks + name) << "half a block";
  ASSERT_VALUE(const auto bytes, cache->Get(0, []() -> Result<std::string> { return BlockBytes(0); }));
  EXPECT_EQ(bytes.view(), BlockBytes(0));
  EXPECT_FALSE(fs::exists(folder_of_blocks + "/0.part"));
  EXPECT_TRUE(fs::exists(folder_of_blocks + "/1.part"));  // perhaps somebody writes it now
  const utimbuf past{0, 0};
  utime((folder_of_blocks + "/1.part").c_str(), &past);
  ASSERT_VALUE(cache, BlockCache::Open(folder.path(), 1 << 20, 7, 2, 2'000.0, /*unnamed=*/false));
  EXPECT_FALSE(fs::exists(folder_of_blocks + "/1.part"));
}

}  // namespace
}  // namespace headrace::stream
