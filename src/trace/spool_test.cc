#include "trace/spool.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "trace/trace_testing.h"

namespace headrace::trace {
namespace {

TEST(Spool, GivesBackWhatWasAppended) {
  const TempFolder folder;
  ASSERT_VALUE(const auto spool, Spool::Create(folder.path(), {.segment_bytes = 4096}));
  std::mt19937_64 random(1);
  std::vector<std::pair<Kind, std::string>> wanted;
  for (int i = 0; i < 500; ++i) {
    std::string payload(random() % 300, static_cast<char>(random()));
    wanted.emplace_back(static_cast<Kind>(1 + random() % 3), payload);
    ASSERT_OK(spool->Append(wanted.back().first, payload));
  }
  EXPECT_EQ(ReadAll(spool->folder()), wanted);
  EXPECT_GT(spool->end().segment, 10);
  // From any place between two records on.
  size_t seen = 0;
  Position middle;
  ASSERT_OK(ReadSpool(spool->folder(), {}, [&](const Record& record) {
              if (++seen == 200) middle = record.end;
              return Status::Ok();
            }).status());
  size_t after = 0;
  ASSERT_OK(
      ReadSpool(spool->folder(), middle, [&](const Record&) { return ++after, Status::Ok(); }).status());
  EXPECT_EQ(after, 300U);
  EXPECT_EQ(Position::Of(middle.sequence()), middle);
}

TEST(Spool, EachTruncationLeavesTheWholeRecordsBeforeIt) {
  const TempFolder folder;
  ASSERT_VALUE(const auto spool, Spool::Create(folder.path()));
  for (int i = 0; i < 5; ++i) ASSERT_OK(spool->Append(Kind::kStart, Start("r" + std::to_string(i))));
  const std::string path = spool->folder() + "/00000001.seg";
  std::ifstream in(path, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  const auto all = ReadAll(spool->folder());
  ASSERT_EQ(all.size(), 5U);
  for (size_t length = 0; length <= whole.size(); ++length) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << whole.substr(0, length);
    const auto some = ReadAll(spool->folder());
    ASSERT_LE(some.size(), 5U);
    for (size_t i = 0; i < some.size(); ++i) ASSERT_EQ(some[i], all[i]);
    ASSERT_EQ(some.size() == 5, length == whole.size()) << length;
  }
  // Any flipped byte is found.
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bad;
    const auto some = ReadAll(spool->folder());
    ASSERT_LT(some.size(), 5U) << at;
    for (size_t i = 0; i < some.size(); ++i) ASSERT_EQ(some[i], all[i]);
  }
}

TEST(Spool, ADamagedSegmentCostsOnlyItself) {
  const TempFolder folder;
  ASSERT_VALUE(const auto spool, Spool::Create(folder.path(), {.segment_bytes = 200}));
  for (int i = 0; i < 9; ++i) ASSERT_OK(spool->Append(Kind::kEnd, End(std::to_string(i))));
  const size_t all = ReadAll(spool->folder()).size();
  const std::string path = spool->folder() + "/00000002.seg";
  std::fstream(path, std::ios::binary | std::ios::in | std::ios::out).seekp(40).put('!');
  std::vector<std::string> complaints;
  const size_t rest = ReadAll(spool->folder(), &complaints).size();
  EXPECT_LT(rest, all);
  EXPECT_GE(rest, all - 3);  // what a segment holds
  ASSERT_EQ(complaints.size(), 1U);
  EXPECT_NE(complaints[0].find("00000002.seg: the record at byte 16 does not match its checksum"),
            std::string::npos)
      << complaints[0];
}

// A full disk, by a limit on the size of files: what does not fit is refused whole, and later ones go on.
TEST(Spool, AFullDiskTakesNothingHalf) {
  const TempFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    auto spool = Spool::Create(folder.path());
    int kept = 0, refused = 0;
    for (int i = 0; i < 20; ++i)
      (*spool)->Append(Kind::kEnd, std::string(i % 2 == 0 ? 90 : 900, 'x')).ok() ? ++kept : ++refused;
    _exit(kept > 0 && refused > 0 && static_cast<int>(ReadAll((*spool)->folder()).size()) == kept ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace headrace::trace
