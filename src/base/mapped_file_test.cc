#include "base/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <thread>
#include <vector>

#include "base/file.h"
#include "testing.h"

namespace headrace {
namespace {

using testing::TempFolder;

const int64_t kPage = sysconf(_SC_PAGESIZE);

std::string MakeFile(const TempFolder& folder, int64_t bytes, const std::string& name = "f") {
  const std::string path = folder.path() + "/" + name;
  EXPECT_TRUE(ReplaceFile(path, std::string(static_cast<size_t>(bytes), 'x'), false).ok());
  return path;
}

Result<std::shared_ptr<const MappedFile>> MapFile(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return MappedFile::Map(fd.get(), static_cast<int64_t>(std::filesystem::file_size(path)), path);
}

char At(const MappedFile& file, int64_t offset) {
  return static_cast<char>(*static_cast<const volatile uint8_t*>(file.data() + offset));
}

TEST(MappedFile, PagesThatAreGoneAreZeros) {
  const TempFolder folder;
  const std::string path = MakeFile(folder, 3 * kPage);
  ASSERT_VALUE(const auto file, MapFile(path));
  ASSERT_VALUE(const auto other, MapFile(MakeFile(folder, kPage, "other")));
  EXPECT_EQ(At(*file, 3 * kPage - 1), 'x');
  EXPECT_OK(file->CheckWhole());
  ASSERT_EQ(truncate(path.c_str(), kPage), 0);
  EXPECT_EQ(At(*file, kPage), 0);
  EXPECT_EQ(At(*file, 3 * kPage - 1), 0);
  EXPECT_EQ(At(*file, 0), 'x');
  EXPECT_TRUE(file->is_torn());
  const Status status = file->CheckWhole();
  EXPECT_TRUE(status.Is(Code::kCorrupt)) << status.ToString();
  EXPECT_NE(status.ToString().find(path + " was cut off"), std::string::npos) << status.ToString();
  // For good: what was read was wrong.
  ASSERT_EQ(truncate(path.c_str(), 3 * kPage), 0);
  EXPECT_TRUE(file->CheckWhole().Is(Code::kCorrupt));
  EXPECT_FALSE(other->is_torn());
  EXPECT_OK(other->CheckWhole());
  // Mapped anew it is what it is.
  ASSERT_VALUE(const auto again, MapFile(path));
  EXPECT_OK(again->CheckWhole());
}

TEST(MappedFile, WhoHoldsViewsOfUnknownFilesAsks) {
  const TempFolder folder;
  const int64_t before = MappedFile::tears();
  {
    const std::string path = MakeFile(folder, 2 * kPage, "one");
    ASSERT_VALUE(const auto file, MapFile(path));
    EXPECT_OK(MappedFile::CheckSince(before, ""));
    ASSERT_EQ(truncate(path.c_str(), 0), 0);
    EXPECT_EQ(At(*file, kPage) + At(*file, 0), 0);  // two pages, one tear
    EXPECT_EQ(MappedFile::tears(), before + 1);
  }
  const Status status = MappedFile::CheckSince(before, folder.path() + "/o");
  EXPECT_TRUE(status.Is(Code::kCorrupt));
  EXPECT_NE(status.ToString().find(folder.path() + "/one was cut off"), std::string::npos)
      << status.ToString();
  EXPECT_OK(MappedFile::CheckSince(before, "/two"));
  EXPECT_OK(MappedFile::CheckSince(MappedFile::tears(), ""));
  // So many are remembered by name.
  for (const int more : {15, 1}) {
    EXPECT_OK(MappedFile::CheckSince(before, "/two"));
    for (int i = 0; i < more; ++i) {
      const std::string path = MakeFile(folder, kPage, "other");
      ASSERT_VALUE(const auto file, MapFile(path));
      ASSERT_EQ(truncate(path.c_str(), 0), 0);
      EXPECT_EQ(At(*file, 0), 0);
    }
  }
  EXPECT_TRUE(MappedFile::CheckSince(before, "/two").Is(Code::kCorrupt));
}

// Nothing signals that: the rest of a file's last page reads as zeros.
TEST(MappedFile, AlsoWithinItsLastPage) {
  const TempFolder folder;
  for (const int64_t cut : {int64_t{1}, int64_t{100}, kPage - 1}) {
    const std::string path = MakeFile(folder, 2 * kPage);
    ASSERT_VALUE(const auto file, MapFile(path));
    ASSERT_EQ(truncate(path.c_str(), 2 * kPage - cut), 0);
    EXPECT_EQ(At(*file, 2 * kPage - 1), 0);
    EXPECT_FALSE(file->is_torn());
    EXPECT_TRUE(file->CheckWhole().Is(Code::kCorrupt)) << cut;
  }
  // One that ends in zeros, and a short one.
  for (const int64_t size : {2 * kPage, int64_t{3}}) {
    for (const bool zeros : {true, false}) {
      const std::string path = MakeFile(folder, size, "end");
      if (zeros) {
        ASSERT_EQ(truncate(path.c_str(), size - std::min<int64_t>(size, 9)), 0);
        ASSERT_EQ(truncate(path.c_str(), size), 0);
      }
      ASSERT_VALUE(const auto file, MapFile(path));
      EXPECT_OK(file->CheckWhole());
      ASSERT_EQ(truncate(path.c_str(), size - 1), 0);
      EXPECT_TRUE(file->CheckWhole().Is(Code::kCorrupt)) << size << zeros;
    }
  }
}

TEST(MappedFile, GoesOnWhenItsNameIsGone) {
  const TempFolder folder;
  const std::string path = MakeFile(folder, 2 * kPage);
  ASSERT_VALUE(const auto file, MapFile(path));
  std::filesystem::remove(path);
  EXPECT_OK(file->CheckWhole());
  MakeFile(folder, 1);  // another of that name
  EXPECT_OK(file->CheckWhole());
  EXPECT_EQ(At(*file, 2 * kPage - 1), 'x');
}

TEST(MappedFile, ManyAtOnce) {
  const TempFolder folder;
  const std::string path = MakeFile(folder, 64 * kPage);
  std::vector<std::shared_ptr<const MappedFile>> files;
  for (int i = 0; i < 2'000; ++i) {
    ASSERT_VALUE(auto file, MapFile(path));
    files.push_back(std::move(file));
    if (i % 3 == 0) files[static_cast<size_t>(i) / 2].reset();
  }
  ASSERT_EQ(truncate(path.c_str(), kPage), 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t % 2; i < files.size(); i += 2) {
        if (!files[i]) continue;
        for (int64_t page = 63; page > 0; --page) EXPECT_EQ(At(*files[i], page * kPage), 0);
        EXPECT_TRUE(files[i]->is_torn());
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

// In a child: its exit code, or the signal that ended it plus 1000.
int EndOf(const std::function<void()>& run) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    signal(SIGBUS, SIG_DFL);  // a sanitizer has a handler of its own
    run();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1'000 + WTERMSIG(status);
}

void TouchForeign(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR);
  const auto* bytes = static_cast<const volatile char*>(
      mmap(nullptr, static_cast<size_t>(kPage), PROT_READ, MAP_SHARED, fd, 0));
  if (ftruncate(fd, 0) != 0) _exit(99);
  (void)bytes[0];
}

void TakeSignal(void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}
void Leave(int, siginfo_t*, void*) { _exit(7); }
void Again(int signal, siginfo_t*, void*) { raise(signal); }

TEST(MappedFile, OtherFaultsAreOthers) {
  const TempFolder folder;
  const std::string path = MakeFile(folder, kPage);
  const std::string mine = MakeFile(folder, 2 * kPage, "mine");
  const auto read_mine = [&] {
    const auto file = MapFile(mine).value();
    if (truncate(mine.c_str(), 0) != 0 || At(*file, kPage) != 0 || !file->is_torn()) _exit(98);
    if (truncate(mine.c_str(), 2 * kPage) != 0) _exit(97);
  };
  EXPECT_EQ(EndOf([&] { read_mine(), TouchForeign(path); }), 1'000 + SIGBUS);
  MakeFile(folder, kPage);
  EXPECT_EQ(EndOf([&] { TakeSignal(Leave), read_mine(), TouchForeign(path); }), 7);
  // One that came later is asked as well, and ours goes on.
  MakeFile(folder, kPage);
  EXPECT_EQ(EndOf([&] { read_mine(), TakeSignal(Leave), read_mine(), TouchForeign(path); }), 7);
  MakeFile(folder, kPage);
  EXPECT_EQ(EndOf([&] { TakeSignal(Again), read_mine(), TouchForeign(path); }), 1'000 + SIGBUS);
  EXPECT_EQ(EndOf([&] { read_mine(), kill(getpid(), SIGBUS), usleep(1'000'000); }), 1'000 + SIGBUS);
  EXPECT_EQ(EndOf([&] { read_mine(), read_mine(); }), 0);
}

}  // namespace
}  // namespace headrace
