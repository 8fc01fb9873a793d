#include "base/file.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <thread>

#include "base/clock.h"
#include "testing.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(File, APendingFileHasNoNameUntilItIsWhole) {
  for (const bool unnamed : {true, false}) {
    const testing::TempFolder folder;
    const std::string inside = folder.path() + "/a/b";
    const PendingOptions options{.sync = true, .unnamed = unnamed};
    {
      ASSERT_VALUE(const PendingFile dropped, PendingFile::Create(inside, options));
      ASSERT_OK(WriteAll(dropped.fd(), "half", "x"));
    }
    EXPECT_TRUE(NamesIn(inside).empty());
    ASSERT_VALUE(PendingFile file, PendingFile::Create(inside, options));
    ASSERT_OK(WriteAll(file.fd(), "whole", "x"));
    EXPECT_FALSE(fs::exists(inside + "/x"));
    ASSERT_OK(file.Publish(inside + "/x", false));
    EXPECT_TRUE(file.Publish(inside + "/x", false).Is(Code::kAlreadyExists));
    ASSERT_VALUE(const std::string text, ReadFile(inside + "/x"));
    EXPECT_EQ(text, "whole");
    {
      ASSERT_VALUE(PendingFile other, PendingFile::Create(inside, options));
      ASSERT_OK(WriteAll(other.fd(), "other", "x"));
      ASSERT_OK(other.Publish(inside + "/x", true));
    }
    { const PendingFile moved = std::move(file); }
    ASSERT_VALUE(const std::string replaced, ReadFile(inside + "/x"));
    EXPECT_EQ(replaced, "other");
    EXPECT_EQ(NamesIn(inside), std::vector<std::string>{"x"}) << "unnamed: " << unnamed;
  }
}

TEST(File, ANameThatTheDiskDidNotConfirmIsUnknown) {
  const testing::TempFolder folder;
  const PendingOptions options{.sync_folder = [](int) {
    errno = EIO;
    return -1;
  }};
  ASSERT_VALUE(PendingFile file, PendingFile::Create(folder.path(), options));
  const Status published = file.Publish(folder.path() + "/x", false);
  EXPECT_TRUE(published.Is(Code::kUnknown)) << published.ToString();
  EXPECT_TRUE(fs::exists(folder.path() + "/x"));
}

TEST(File, ReadsWholeFilesOfAnySize) {
  const testing::TempFolder folder;
  for (const size_t size : {0, 1, 65'535, 65'536, 300'000}) {
    const std::string wanted(size, 'x');
    ASSERT_OK(ReplaceFile(folder.path() + "/f", wanted, false));
    ASSERT_VALUE(const std::string text, ReadFile(folder.path() + "/f"));
    EXPECT_EQ(text, wanted);
  }
  EXPECT_TRUE(ReadFile(folder.path() + "/f", 299'999).status().Is(Code::kLimit));
  EXPECT_OK(ReadFile(folder.path() + "/f", 300'000).status());
  ASSERT_VALUE(const std::string proc, ReadFile("/proc/self/status"));  // says that it has no bytes
  EXPECT_NE(proc.find("Pid:"), std::string::npos);
  EXPECT_TRUE(ReadFile(folder.path() + "/none").status().Is(Code::kNotFound));
  EXPECT_EQ(NamesIn(folder.path()), std::vector<std::string>{"f"});
  EXPECT_EQ(ParentFolder("/a/b"), "/a");
  EXPECT_EQ(ParentFolder("/a"), "/");
  EXPECT_EQ(ParentFolder("a"), ".");
}

TEST(File, ATemporaryFileIsReadAndWrittenAndHasNoName) {
  const testing::TempFolder folder;
  const char* before = getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  setenv("TMPDIR", folder.path().c_str(), 1);
  ASSERT_VALUE(const Fd fd, OpenTemporaryFile());
  before == nullptr ? unsetenv("TMPDIR") : setenv("TMPDIR", kept.c_str(), 1);
  ASSERT_OK(WriteAll(fd.get(), "text", "it"));
  ASSERT_VALUE(const std::string text, ReadFile("/proc/self/fd/" + std::to_string(fd.get())));
  EXPECT_EQ(text, "text");
  EXPECT_TRUE(NamesIn(folder.path()).empty());
}

TEST(FileLock, NamesItsHolderWhenTimeIsUp) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/lock";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto held = FileLock::Take(path);
    const char word = held.ok() ? 'y' : 'n';
    if (write(ready[1], &word, 1) != 1) _exit(1);
    for (;;) pause();
  }
  char word = 0;
  ASSERT_EQ(read(ready[0], &word, 1), 1);
  ASSERT_EQ(word, 'y');
  const double start = MonotonicSeconds();
  const Status held = FileLock::Take(path, {.seconds = 0.2}).status();
  EXPECT_GE(MonotonicSeconds() - start, 0.2);
  ASSERT_TRUE(held.Is(Code::kTimeout)) << held.ToString();
  EXPECT_NE(held.message().find(path), std::string::npos) << held.ToString();
  // Containers may hide other processes' locks; where they are listed, the holder is named.
  const auto locks = ReadFile("/proc/locks");
  if (locks.ok() && locks->find(" " + std::to_string(child) + " ") != std::string::npos) {
    EXPECT_NE(held.message().find("process " + std::to_string(child)), std::string::npos) << held.ToString();
  }
  // A killed process holds nothing.
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  EXPECT_OK(FileLock::Take(path, {.seconds = 5}).status());
}

TEST(FileLock, HoldsBetweenThreadsAndByByte) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/lock";
  for (const int64_t byte : {int64_t{-1}, int64_t{7}}) {
    {
      ASSERT_VALUE(const FileLock held, FileLock::Take(path, {.byte = byte}));
      EXPECT_TRUE(FileLock::Take(path, {.byte = byte}).status().Is(Code::kTimeout));
      if (byte >= 0) EXPECT_OK(FileLock::Take(path, {.byte = byte + 1}).status());
    }
    EXPECT_OK(FileLock::Take(path, {.byte = byte}).status());
  }
  int inside = 0, most = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 20; ++k) {
        const auto held = FileLock::Take(path, {.seconds = 60});
        ASSERT_TRUE(held.ok()) << held.status().ToString();
        most = std::max(most, ++inside);
        std::this_thread::yield();
        --inside;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(most, 1);
}

// The folder went while somebody waited for its lock: that lock is none.
TEST(FileLock, ARemovedLockIsNotHeld) {
  const testing::TempFolder folder;
  const std::string inside = folder.path() + "/a", path = inside + "/lock";
  fs::create_directory(inside);
  std::thread remover;
  Status taken;
  {
    ASSERT_VALUE(const FileLock held, FileLock::Take(path));
    remover = std::thread([&] { taken = FileLock::Take(path, {.seconds = 30}).status(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    fs::remove_all(inside);
  }
  remover.join();
  EXPECT_TRUE(taken.Is(Code::kNotFound)) << taken.ToString();
}

}  // namespace
}  // namespace headrace
