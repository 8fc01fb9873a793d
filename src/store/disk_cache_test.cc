#include "store/disk_cache.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "base/clock.h"
#include "store/cached_store.h"
#include "store/faulty_store.h"
#include "store/memory_store.h"
#include "testing.h"

namespace headrace::store {
namespace {

namespace fs = std::filesystem;

std::string RandomText(int64_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string text(static_cast<size_t>(bytes), '\0');
  for (size_t at = 0; at + 8 <= text.size(); at += 8) {
    const uint64_t word = random();
    std::memcpy(text.data() + at, &word, 8);
  }
  return text;
}

class CacheOnDisk : public ::testing::Test {
 protected:
  // As another process would: all that they share is the folder.
  std::shared_ptr<ObjectStore> Open(DiskCacheOptions options = {}) {
    if (options.folder.empty()) options.folder = folder_.path() + "/cache";
    if (options.budget_bytes < 0) options.budget_bytes = int64_t{1} << 30;
    return NewCachedStore(distant_, std::make_shared<DiskCache>(options), "store",
                          [](std::string_view key) { return key.starts_with("i/"); });
  }
  int64_t Requests() const { return distant_->operations(); }
  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path() + "/cache"))
      if (entry.is_regular_file() && entry.path().filename() != "swept") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  }
  int64_t DiskBytes() const {
    int64_t bytes = 0;
    for (const auto& file : Files()) {
      struct stat info {};
      if (stat(file.c_str(), &info) == 0) bytes += info.st_blocks * 512;
    }
    return bytes;
  }
  // Some ranges of the object, of all sizes; at their edges too.
  void ReadAll(ObjectStore* store, const std::string& key, const std::string& text, uint64_t seed) {
    ASSERT_VALUE(const auto reader, store->Open(key));
    ASSERT_EQ(reader->size(), static_cast<int64_t>(text.size()));
    std::mt19937_64 random(seed);
    std::vector<ByteRange> ranges = {{0, reader->size()}, {0, 0}, {reader->size(), 0}, {0, 1}};
    ranges.push_back({reader->size() - 1, 1});
    for (int i = 0; i < 40; ++i) {
      const int64_t length = std::min<int64_t>(reader->size(), int64_t{1} << random() % 21);
      ranges.push_back(
          {static_cast<int64_t>(random() % static_cast<uint64_t>(reader->size() - length + 1)), length});
    }
    std::shuffle(ranges.begin(), ranges.end(), random);
    ASSERT_VALUE(const auto parts, reader->ReadMany(ranges));
    for (size_t i = 0; i < ranges.size(); ++i)
      ASSERT_EQ(parts[i].view(), std::string_view(text).substr(static_cast<size_t>(ranges[i].offset),
                                                               static_cast<size_t>(ranges[i].length)));
  }

  testing::TempFolder folder_;
  std::shared_ptr<FaultyStore> distant_ = NewFaultyStore(NewMemoryStore());
};

TEST_F(CacheOnDisk, EveryByteIsAskedForOnce) {
  for (const int64_t size : {int64_t{1}, int64_t{4095}, int64_t{4096}, int64_t{4097},
                             DiskCache::kSegmentBytes, 2 * DiskCache::kSegmentBytes + 5000}) {
    const std::string key = "i/" + std::to_string(size);
    const std::string text = RandomText(size, 1);
    ASSERT_OK(distant_->Put(key, text));
    ReadAll(Open().get(), key, text, 1);
    const int64_t before = Requests();
    ReadAll(Open().get(), key, text, 2);
    ASSERT_VALUE(const auto whole, Open()->Get(key));
    EXPECT_EQ(whole.view(), text);
    ASSERT_VALUE(const auto part, Open()->GetRange(key, {size / 2, size - size / 2}));
    EXPECT_EQ(part.view(), std::string_view(text).substr(static_cast<size_t>(size / 2)));
    EXPECT_EQ(Requests(), before) << size;
  }
}

TEST_F(CacheOnDisk, ARangeBringsNoMoreThanItsBlocks) {
  ASSERT_OK(distant_->Put("i/x", RandomText(8 << 20, 1)));
  const auto store = Open();
  ASSERT_VALUE(const auto reader, store->Open("i/x"));
  ASSERT_OK(reader->Read(5000, 100).status());
  ASSERT_OK(reader->Read(4096, 4096).status());
  EXPECT_EQ(Requests(), 3) << "put, open, read";
  ASSERT_OK(reader->Read(4096, 4097).status());
  EXPECT_EQ(Requests(), 4);
  EXPECT_LT(DiskBytes(), 100'000);
}

TEST_F(CacheOnDisk, WhatMayChangeIsNeverKept) {
  const auto store = Open();
  ASSERT_OK(store->Put("m/x", "one"));
  for (const char* text : {"one", "two", "six"}) {
    ASSERT_OK(distant_->Put("m/x", text));
    ASSERT_VALUE(const auto got, store->Get("m/x"));
    EXPECT_EQ(got.view(), text);
    ASSERT_VALUE(const auto reader, store->Open("m/x"));
    ASSERT_VALUE(const auto read, reader->Read(0, 3));
    EXPECT_EQ(read.view(), text);
  }
  EXPECT_FALSE(fs::exists(folder_.path() + "/cache"));
}

TEST_F(CacheOnDisk, WhatIsDamagedIsReadAnew) {
  const std::string a = RandomText(DiskCache::kSegmentBytes + 100'000, 1);
  const std::string b = RandomText(DiskCache::kSegmentBytes + 100'000, 2);
  ASSERT_OK(distant_->Put("i/a", a));
  ASSERT_OK(distant_->Put("i/b", b));
  const auto check = [&](const std::string& what) {
    SCOPED_TRACE(what);
    ReadAll(Open().get(), "i/a", a, 3);
    ReadAll(Open().get(), "i/b", b, 4);
  };
  check("as it is");
  ASSERT_EQ(Files().size(), 4U);
  std::mt19937_64 random(5);
  const auto all = Files();
  for (const auto& file : {all.front(), all.back()}) {  // a first segment and a last one
    for (int64_t at : {0, 8, 40, 48, 56, 64, 4096, 4100, 36864, 40960}) {
      std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
      stream.seekg(at);
      const int byte = stream.get();
      stream.seekp(at);
      stream.put(static_cast<char>(byte ^ 0x55));
      stream.close();
      check(file + " byte " + std::to_string(at));
    }
    for (const int64_t size : {0, 50, 5000, 36864, 50'000}) {
      fs::resize_file(file, static_cast<uintmax_t>(size));
      check(file + " cut to " + std::to_string(size));
    }
  }
  const auto files = Files();
  fs::rename(files[0], folder_.path() + "/kept");
  fs::rename(files[2], files[0]);
  fs::rename(folder_.path() + "/kept", files[2]);
  check("two swapped");
}

TEST_F(CacheOnDisk, TheBudgetHoldsAndTheLastUsedStay) {
  constexpr int64_t kBudget = 64 << 20;
  const auto store = Open({.budget_bytes = kBudget});
  ASSERT_OK(distant_->Put("i/hot", RandomText(1 << 20, 7)));
  for (int i = 0; i < 60; ++i) {
    const std::string key = "i/" + std::to_string(i);
    ASSERT_OK(distant_->Put(key, RandomText(4 << 20, static_cast<uint64_t>(i))));
    ASSERT_VALUE(const auto reader, store->Open(key));
    ASSERT_OK(reader->Read(0, reader->size()).status());
    const int64_t before = Requests();
    ASSERT_OK(store->Get("i/hot").status());
    EXPECT_EQ(Requests(), before + (i == 0)) << i;
    for (const auto& file : Files()) {  // a minute goes by
      struct stat info {};
      ASSERT_EQ(stat(file.c_str(), &info), 0);
      const timespec times[2] = {{info.st_atim.tv_sec - 61, 0}, {0, UTIME_OMIT}};
      ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
    }
    ASSERT_LE(DiskBytes(), kBudget);
  }
  EXPECT_GT(DiskBytes(), kBudget / 2);
}

TEST_F(CacheOnDisk, WhatIsDeletedOrOldIsForgotten) {
  ASSERT_OK(distant_->Put("i/a", RandomText(100'000, 1)));
  ASSERT_OK(distant_->Put("i/b", RandomText(100'000, 2)));
  ASSERT_OK(Open()->Get("i/a").status());
  ASSERT_OK(Open()->Get("i/b").status());
  ASSERT_EQ(Files().size(), 2U);
  ASSERT_OK(Open()->Delete("i/a"));
  ASSERT_EQ(Files().size(), 1U);
  EXPECT_TRUE(Open()->Get("i/a").status().Is(Code::kNotFound));
  // Used again and again, and gone all the same: unread ones with the next sweep, and none is ever given.
  const auto store = Open({.age_us = 400'000});
  const double until = MonotonicSeconds() + 0.5;
  while (MonotonicSeconds() < until) ASSERT_OK(Open()->Get("i/b").status());
  const int64_t before = Requests();
  ASSERT_OK(store->Get("i/b").status());
  EXPECT_EQ(Requests(), before + 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  fs::remove(folder_.path() + "/cache/swept");
  ASSERT_OK(distant_->Put("i/c", RandomText(10'000, 2)));
  const auto sweeper = Open({.age_us = 400'000});
  ASSERT_OK(sweeper->Get("i/c").status());
  EXPECT_EQ(Files().size(), 1U) << "the new one alone";
}

TEST_F(CacheOnDisk, ADiskThatTakesNothingIsNoError) {
  const std::string text = RandomText(1 << 20, 1);
  ASSERT_OK(distant_->Put("i/x", text));
  std::ofstream(folder_.path() + "/file") << "no folder";
  ReadAll(Open({.folder = folder_.path() + "/file/cache"}).get(), "i/x", text, 1);
  // A disk that is full in the middle of a segment.
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 500'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  ReadAll(Open().get(), "i/x", text, 2);
  ReadAll(Open().get(), "i/x", text, 3);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  ReadAll(Open().get(), "i/x", text, 4);
}

// Processes that fill the same segments at once, some of them killed in the middle.
TEST_F(CacheOnDisk, ProcessesShareItWithoutALock) {
  const std::string text = RandomText(DiskCache::kSegmentBytes + 5000, 1);
  ASSERT_OK(distant_->Put("i/x", text));
  for (int round = 0; round < testing::Scaled(5); ++round) {
    fs::remove_all(folder_.path() + "/cache");
    std::vector<pid_t> children;
    for (uint64_t child = 0; child < 4; ++child) {
      const pid_t pid = fork();
      if (pid == 0) {
        for (uint64_t i = 0; i < 2; ++i) {
          ReadAll(Open().get(), "i/x", text, child * 10 + i);
          if (HasFatalFailure()) _exit(1);
        }
        _exit(0);
      }
      children.push_back(pid);
    }
    usleep(static_cast<useconds_t>(4000 * round));
    kill(children[0], SIGKILL);
    for (size_t i = 0; i < children.size(); ++i) {
      int status = 0;
      ASSERT_EQ(waitpid(children[i], &status, 0), children[i]);
      if (i > 0) {
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
      }
    }
    ReadAll(Open().get(), "i/x", text, 99);
  }
}

}  // namespace
}  // namespace headrace::store
