// Committers on stores that fail, on full disks, and killed.
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "store/faulty_store.h"
#include "store/memory_store.h"
#include "trace/trace_testing.h"

namespace headrace::trace {
namespace {

// A store that fails, dies or answers late at its N-th operation, for every N: whoever tries again, in this
// process or after it, brings every row in exactly once.
TEST(Committer, EveryFaultAtEveryOperation) {
  using store::Fault;
  const int64_t stride = Scaled(10) < 10 ? 7 : 1;  // where sanitizers make each one slow
  for (const Fault fault : {Fault::kFail, Fault::kCrash, Fault::kAmbiguous, Fault::kHang}) {
    int64_t at = 0;
    for (bool fired = true; fired; at += stride) {
      const MemoryFolder folder;
      const auto inner = store::NewMemoryStore();
      ASSERT_OK(table::Catalog::InitOn(inner, {.threads = 1}).status());
      const auto faulty = store::NewFaultyStore(inner);
      ASSERT_VALUE(const auto catalog, table::Catalog::OpenOn(faulty, {.threads = 1}));
      const std::string root = folder.path() + "/spool";
      ASSERT_VALUE(auto spool, Spool::Create(root));
      RowsById wanted;
      ASSERT_VALUE(auto committer, Committer::Try(catalog, {.root = root}));
      const auto add = [&](const std::string& id) { AddEnded(spool.get(), id, &wanted); };
      add("before");
      ASSERT_OK(committer->Commit().status());
      add("first");
      faulty->Arm({.at = at, .fault = fault});
      (void)committer->Commit();
      add("second");
      (void)committer->Commit();
      fired = faulty->fired();
      faulty->Arm({});
      if (fault != Fault::kCrash) {
        ASSERT_OK(committer->Commit().status());
      }
      ASSERT_OK(spool->Append(Kind::kStart, Start("open")));
      wanted.emplace("open", Row{"p open", "-", "interrupted"});
      spool.reset();
      committer.reset();
      ASSERT_VALUE(const auto later, table::Catalog::OpenOn(inner, {.threads = 1}));
      ASSERT_VALUE(const auto next, Committer::Try(later, {.root = root}));
      ASSERT_OK(next->Commit().status());
      ASSERT_TRUE(SpoolFolders(root).empty());
      ASSERT_EQ(Read(later, false), wanted) << "fault " << static_cast<int>(fault) << " at " << at;
    }
    EXPECT_GT(at, 5);
  }
}

int DataFiles(store::ObjectStore* store) {
  const auto all = store->List("tables/", "", 100'000);
  EXPECT_TRUE(all.ok());
  int files = 0;
  for (const auto& object : *all) files += object.key.find("/data/") != std::string::npos;
  return files;
}

// A store that takes nothing more from its N-th operation on, for every N, through several tries: what was
// written for them lies there once, while it lasts and after it.
TEST(Committer, TryingAgainWritesNothingTwice) {
  using store::Fault;
  const int64_t stride = Scaled(10) < 10 ? 5 : 1;
  for (const Fault fault : {Fault::kCrash, Fault::kAmbiguous}) {
    int64_t at = 0;
    int kept = 0;
    for (bool fired = true; fired; at += stride) {
      const MemoryFolder folder;
      const auto inner = store::NewMemoryStore();
      ASSERT_OK(table::Catalog::InitOn(inner, {.threads = 1}).status());
      const auto faulty = store::NewFaultyStore(inner);
      ASSERT_VALUE(const auto catalog, table::Catalog::OpenOn(faulty, {.threads = 1}));
      const std::string root = folder.path() + "/spool";
      ASSERT_VALUE(auto spool, Spool::Create(root));
      ASSERT_VALUE(auto committer, Committer::Try(catalog, {.root = root}));
      RowsById wanted;
      const auto add = [&](const std::string& id) { AddEnded(spool.get(), id, &wanted); };
      add("before");
      ASSERT_OK(committer->Commit().status());
      ASSERT_EQ(DataFiles(inner.get()), 1);
      add("a");
      ASSERT_OK(spool->Append(Kind::kScore, json{{"trace", "a"}, {"name", "n"}, {"value", 1}}.dump()));
      const std::string what = "fault " + std::to_string(static_cast<int>(fault)) + " at ";
      for (int tries = 0; tries < 3; ++tries) {
        faulty->Arm({.at = tries == 0 ? at : std::min<int64_t>(at, 2), .fault = fault});
        const bool done = committer->Commit().ok();
        if (tries == 0) fired = faulty->fired();
        const int files = DataFiles(inner.get());
        ASSERT_LE(files, 3 + tries) << what << at << ", try " << tries;  // each may note what came later
        kept += !done && files > 1;
        add("later " + std::to_string(tries));
        if (done) break;
      }
      faulty->Arm({});
      for (int i = 0; i < 3; ++i) ASSERT_OK(committer->Commit().status());
      size_t used = 0;  // every file that was written is in a table
      for (const char* name : {kTraces, kScores}) {
        ASSERT_VALUE(const auto table, catalog->OpenTable(name));
        ASSERT_VALUE(const auto newest, table->At());
        ASSERT_VALUE(const auto fragments, newest.Fragments());
        used += fragments->size();
      }
      ASSERT_EQ(DataFiles(inner.get()), static_cast<int>(used)) << what << at;
      ASSERT_EQ(Read(catalog, false), wanted) << what << at;
      ASSERT_VALUE(const auto scores, catalog->OpenTable(kScores));
      ASSERT_VALUE(const auto view, scores->At());
      ASSERT_VALUE(const int64_t count, view.Count("name = 'n'"));
      ASSERT_EQ(count, 1) << what << at;
    }
    EXPECT_GT(at, 5);
    EXPECT_GT(kept, 0) << "no commit failed after its files were whole";
  }
}

// Bytes that the file system of `path` can still take.
int64_t FreeBytes(const std::string& path) {
  struct statvfs info {};
  return statvfs(path.c_str(), &info) == 0 ? static_cast<int64_t>(info.f_bavail * info.f_bsize) : -1;
}

// In a process of its own, on a disk of its own: tries to commit with 0, 1, 2, ... pages left.
int OnAFullDisk(const std::string& disk, const std::string& spools) {
  const auto catalog = table::Catalog::Init(disk + "/c", {.threads = 1});
  if (!catalog.ok()) return 10;
  auto spool = Spool::Create(spools);
  if (!spool.ok()) return 11;
  auto tried = Committer::Try(*catalog, {.root = spools});
  if (!tried.ok() || !*tried) return 19;
  auto& committer = *tried;
  RowsById wanted;
  const auto add = [&](int i) {
    const std::string id = std::to_string(i);
    wanted.emplace(id, Row{"p " + id, "a " + id, "stop"});
    return (*spool)->Append(Kind::kStart, Start(id)).ok() && (*spool)->Append(Kind::kEnd, End(id)).ok();
  };
  if (!add(-1) || !committer->Commit().ok()) return 12;
  bool failed_late = false;
  for (int pages = 0; pages < 40; ++pages) {
    // The filler takes what is left but the pages.
    {
      const std::string chunk(4096, 'x');
      std::ofstream filler(disk + "/filler", std::ios::binary);
      for (int64_t left = FreeBytes(disk); left > 4096 * pages; left -= 4096) filler << chunk;
    }
    const int64_t start = FreeBytes(disk);
    if (!add(pages)) return 13;
    int64_t after_first = -1;
    for (int tries = 0; tries < 4; ++tries) {
      if (committer->Commit().ok()) break;
      const int64_t now = FreeBytes(disk);
      if (after_first >= 0 && now != after_first) return 14;
      after_first = now;
      failed_late = failed_late || now < start;
    }
    std::filesystem::remove(disk + "/filler");
    if (!committer->Commit().ok()) return 15;
    if (DataFiles((*catalog)->environment()->store.get()) != pages + 2) return 16;
  }
  if (!failed_late) return 17;  // no try failed after its files were written
  return Read(*catalog, false) == wanted ? 0 : 18;
}

// A disk that is really full: tries take no room after the first, and once there is room the rows are there,
// each once, and their files too.
TEST(Committer, AFullDiskGetsNoFuller) {
  const TempFolder folder;
  const std::string disk = folder.path() + "/disk";
  std::filesystem::create_directories(disk);
  constexpr int kNoMount = 77;
  const pid_t child = fork();
  if (child == 0) {
    // A mount of one's own: root may, and others where users may have namespaces.
    const std::string user = std::to_string(getuid()), group = std::to_string(getgid());
    bool apart = unshare(CLONE_NEWNS) == 0;
    if (!apart && unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) {
      apart = true;
      std::ofstream("/proc/self/setgroups") << "deny";
      std::ofstream("/proc/self/uid_map") << "0 " + user + " 1";
      std::ofstream("/proc/self/gid_map") << "0 " + group + " 1";
    }
    if (!apart || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=2m") != 0 || !std::ofstream(disk + "/probe"))
      _exit(kNoMount);
    _exit(OnAFullDisk(disk, folder.path() + "/spools"));
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == kNoMount)
    GTEST_SKIP() << "this process may not mount a file system of its own, so there is no full disk";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// A committer that is killed before each change that it makes, for every change, while spools of several
// writers lie there, one of them dead: whoever comes after it brings every row in exactly once.
TEST(Committer, KilledBeforeEveryStep) {
  const int64_t stride = Scaled(10) < 10 ? 3 : 1;
  int64_t at = 0;
  for (bool killed = true; killed; at += stride) {
    const TempFolder folder;
    ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
    const std::string root = SpoolRoot(*catalog);
    RowsById wanted;
    std::vector<std::unique_ptr<Spool>> living;
    for (int w = 0; w < 3; ++w) {
      ASSERT_VALUE(auto spool, Spool::Create(root, {.segment_bytes = 300}));
      for (int i = 0; i < 3; ++i) AddEnded(spool.get(), std::to_string(w) + "-" + std::to_string(i), &wanted);
      ASSERT_OK(spool->Append(Kind::kScore, json{{"request", std::to_string(w)}, {"name", "n"}}.dump()));
      ASSERT_OK(spool->Append(Kind::kStart, Start("open " + std::to_string(w))));
      wanted.emplace("open " + std::to_string(w), Row{"p open " + std::to_string(w), "-", "interrupted"});
      if (w > 0) living.push_back(std::move(spool));
    }
    int asked[2], told[2];  // the spools are the parent's to write to
    ASSERT_EQ(pipe(asked), 0);
    ASSERT_EQ(pipe(told), 0);
    const pid_t child = fork();
    if (child == 0) {
      close(told[1]);
      auto mine = table::Catalog::Open(folder.path() + "/c", {.threads = 1});
      int64_t steps = 0;
      auto committer = Committer::Try(*mine, {.root = "", .step = [&] {
                                                if (steps++ == at) kill(getpid(), SIGKILL);
                                              }});
      // Twice: what comes later is another note.
      bool well = committer.ok() && *committer && (*committer)->Commit().ok();
      char word = 0;
      well =
          well && write(asked[1], "x", 1) == 1 && read(told[0], &word, 1) == 1 && (*committer)->Commit().ok();
      _exit(well ? 0 : 1);
    }
    close(asked[1]);
    close(told[0]);
    char word = 0;
    if (read(asked[0], &word, 1) == 1) {
      ASSERT_OK(living[0]->Append(Kind::kEnd, End("open 1")));
      ASSERT_EQ(write(told[1], "x", 1), 1);
    }
    close(asked[0]);
    close(told[1]);
    int status = 0;
    waitpid(child, &status, 0);
    killed = WIFSIGNALED(status);
    ASSERT_TRUE(killed || WEXITSTATUS(status) == 0);
    // A reader sees each row once at any time.
    const auto ids = [](const RowsById& rows) {
      std::multiset<std::string> all;
      for (const auto& [id, row] : rows) all.insert(id);
      return all;
    };
    ASSERT_EQ(ids(Read(catalog, true)), ids(wanted)) << at;
    living.clear();
    ASSERT_OK(CommitSpools(catalog).status());
    EXPECT_TRUE(SpoolFolders(root).empty());
    const RowsById rows = Read(catalog, false);
    ASSERT_EQ(ids(rows), ids(wanted)) << at;
    for (const auto& [id, row] : rows) EXPECT_EQ(row.prompt, "p " + id);
    ASSERT_VALUE(const auto scores, catalog->OpenTable(kScores));
    ASSERT_VALUE(const auto view, scores->At());
    ASSERT_VALUE(const int64_t count, view.Count("name = 'n'"));
    ASSERT_EQ(count, 3) << at;
    // One writer in the table's history, however many spools there were.
    ASSERT_VALUE(const auto traces, catalog->OpenTable(kTraces));
    ASSERT_VALUE(const auto newest, traces->At());
    EXPECT_EQ(newest.snapshot().writers.size(), 1U);
  }
  EXPECT_GT(at, 8);
}

// Writers and committers are killed at random moments: every record that was acknowledged becomes one row.
TEST(Committer, KillStorm) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  std::set<std::string> started, ended;
  std::mt19937_64 random(7);
  for (int round = 0; round < Scaled(50); ++round) {
    int pipes[2];
    ASSERT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    if (child == 0) {
      close(pipes[0]);
      auto mine = table::Catalog::Open(folder.path() + "/c", {.threads = 1});
      auto spool = Spool::Create(root, {.segment_bytes = 2000});
      if (!mine.ok() || !spool.ok()) _exit(1);
      auto committer = Committer::Try(*mine);
      if (!committer.ok()) _exit(1);
      for (int i = 0;; ++i) {
        const std::string id = std::to_string(round) + "-" + std::to_string(i);
        const auto tell = [&](char what) {
          const std::string line = what + id + "\n";
          return write(pipes[1], line.data(), line.size()) == static_cast<ssize_t>(line.size());
        };
        if (!(*spool)->Append(Kind::kStart, Start(id)).ok() || !tell('s')) _exit(1);
        if (i % 4 != 3 && (!(*spool)->Append(Kind::kEnd, End(id)).ok() || !tell('e'))) _exit(1);
        if (i % 50 == 49 && *committer) (void)(*committer)->Commit();
      }
    }
    close(pipes[1]);
    std::thread killer([&, wait = 1000 + random() % 40000] {
      usleep(static_cast<useconds_t>(wait));
      kill(child, SIGKILL);
    });
    std::string text;
    char buffer[4096];
    for (ssize_t got; (got = read(pipes[0], buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<size_t>(got));
    killer.join();
    close(pipes[0]);
    waitpid(child, nullptr, 0);
    for (size_t at = 0, line; (line = text.find('\n', at)) != std::string::npos; at = line + 1)
      (text[at] == 's' ? started : ended).insert(text.substr(at + 1, line - at - 1));
  }
  ASSERT_OK(CommitSpools(catalog).status());
  EXPECT_TRUE(SpoolFolders(root).empty());
  const RowsById rows = Read(catalog, true);
  std::set<std::string> ids;
  for (const auto& [id, row] : rows) {
    EXPECT_TRUE(ids.insert(id).second) << id << " twice";
    if (ended.count(id) > 0) {
      EXPECT_EQ(row, (Row{"p " + id, "a " + id, "stop"}));
    }
  }
  for (const std::string& id : started) EXPECT_EQ(ids.count(id), 1U) << id;
  EXPECT_GT(started.size(), 50U);
}

}  // namespace
}  // namespace headrace::trace
