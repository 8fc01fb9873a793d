#include <arrow/api.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <stop_token>
#include <thread>

#include "store/faulty_store.h"
#include "store/memory_store.h"
#include "testing.h"
#include "trace/committer.h"

namespace headrace::trace {
namespace {

using nlohmann::json;
using testing::Scaled;
using testing::TempFolder;

std::string Start(const std::string& id) {
  return json{{"id", id}, {"started", 1}, {"endpoint", "/v1/completions"}, {"prompt", "p " + id}}.dump();
}
std::string End(const std::string& id) {
  return json{{"id", id}, {"ended", 2}, {"finish", "stop"}, {"answer", "a " + id}, {"answer_tokens", 3}}
      .dump();
}

struct Row {
  std::string prompt, answer, finish;
  bool operator==(const Row&) const = default;
};
using Rows = std::multimap<std::string, Row>;

void AddRows(const arrow::RecordBatch& batch, Rows* rows) {
  const auto text = [&](const char* name, int64_t i) {
    const auto& column = static_cast<const arrow::StringArray&>(*batch.GetColumnByName(name));
    return column.IsNull(i) ? std::string("-") : column.GetString(i);
  };
  for (int64_t i = 0; i < batch.num_rows(); ++i)
    rows->emplace(text("id", i), Row{text("prompt", i), text("answer", i), text("finish", i)});
}

// Rows of the table alone, or with what lies in the spools.
Rows Read(const std::shared_ptr<table::Catalog>& catalog, bool tail) {
  Rows rows;
  for (;;) {
    rows.clear();
    const auto table = OpenOrCreate(catalog.get(), kTraces, TraceColumns());
    EXPECT_TRUE(table.ok()) << table.status().ToString();
    const auto view = (*table)->At();
    EXPECT_TRUE(view.ok());
    const auto reader = view->Scan({});
    EXPECT_TRUE(reader.ok());
    std::shared_ptr<arrow::RecordBatch> batch;
    while ((*reader)->ReadNext(&batch).ok() && batch) AddRows(*batch, &rows);
    if (!tail) return rows;
    const auto rest = Tail(*catalog, kTraces, *view);
    if (!rest.ok() && rest.status().Is(Code::kConflict)) continue;
    EXPECT_TRUE(rest.ok()) << rest.status().ToString();
    AddRows(**rest, &rows);
    return rows;
  }
}

std::vector<std::pair<Kind, std::string>> ReadAll(const std::string& folder,
                                                  std::vector<std::string>* complaints = nullptr) {
  std::vector<std::pair<Kind, std::string>> records;
  const auto report = ReadSpool(folder, {}, [&](const Record& record) {
    records.emplace_back(record.kind, std::string(record.payload));
    return Status::Ok();
  });
  EXPECT_TRUE(report.ok()) << report.status().ToString();
  if (complaints != nullptr && report.ok()) *complaints = report->complaints;
  return records;
}

TEST(Spool, GivesBackWhatWasAppended) {
  const TempFolder folder;
  ASSERT_VALUE(const auto spool, Spool::Create(folder.path(), 4096));
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
  ASSERT_VALUE(const auto spool, Spool::Create(folder.path(), 200));
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

TEST(Committer, RowsAreStartAndEndTogether) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c"));
  ASSERT_VALUE(auto spool, Spool::Create(SpoolRoot(*catalog)));
  Committer committer(catalog, spool->folder());
  ASSERT_OK(spool->Append(Kind::kStart, Start("a")));
  ASSERT_OK(spool->Append(Kind::kStart, Start("b")));
  ASSERT_OK(spool->Append(Kind::kEnd, End("b")));
  const Row b{"p b", "a b", "stop"}, a{"p a", "a a", "stop"};
  EXPECT_EQ(Read(catalog, false), Rows());
  EXPECT_EQ(Read(catalog, true), (Rows{{"a", {"p a", "-", "-"}}, {"b", b}}));
  ASSERT_OK(committer.Commit().status());
  EXPECT_EQ(Read(catalog, false), (Rows{{"b", b}}));
  EXPECT_EQ(Read(catalog, true), (Rows{{"a", {"p a", "-", "-"}}, {"b", b}}));
  ASSERT_OK(committer.Commit().status());  // nothing new
  ASSERT_OK(spool->Append(Kind::kEnd, End("a")));
  ASSERT_OK(spool->Append(Kind::kStart, Start("c")));
  ASSERT_OK(committer.Commit().status());
  EXPECT_EQ(Read(catalog, false), (Rows{{"a", a}, {"b", b}}));
  ASSERT_OK(CommitDead(catalog).status());  // it lives: not touched
  EXPECT_EQ(SpoolFolders(SpoolRoot(*catalog)).size(), 1U);
  spool.reset();
  const Row c{"p c", "-", "interrupted"};
  EXPECT_EQ(Read(catalog, true), (Rows{{"a", a}, {"b", b}, {"c", c}}));
  ASSERT_OK(CommitDead(catalog).status());
  EXPECT_EQ(Read(catalog, false), (Rows{{"a", a}, {"b", b}, {"c", c}}));
  EXPECT_EQ(Read(catalog, true), (Rows{{"a", a}, {"b", b}, {"c", c}}));
  EXPECT_TRUE(SpoolFolders(SpoolRoot(*catalog)).empty());
}

TEST(Committer, SegmentsGoOnceNothingInThemIsOpen) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c"));
  ASSERT_VALUE(const auto spool, Spool::Create(SpoolRoot(*catalog), 300));
  Committer committer(catalog, spool->folder());
  ASSERT_OK(spool->Append(Kind::kStart, Start("long")));
  for (int i = 0; i < 10; ++i) ASSERT_OK(spool->Append(Kind::kEnd, End(std::to_string(i))));
  ASSERT_OK(committer.Commit().status());
  EXPECT_TRUE(std::filesystem::exists(spool->folder() + "/00000001.seg"));
  ASSERT_OK(spool->Append(Kind::kEnd, End("long")));
  ASSERT_OK(committer.Commit().status());
  EXPECT_FALSE(std::filesystem::exists(spool->folder() + "/00000001.seg"));
  const Rows rows = Read(catalog, true);
  EXPECT_EQ(rows.size(), 11U);
  EXPECT_EQ(rows.find("long")->second.prompt, "p long");
  // Somebody else who continues finds the same.
  ASSERT_OK(Committer(catalog, spool->folder()).Commit().status());
  EXPECT_EQ(Read(catalog, false), rows);
}

// A request that began and ended, in the spool and among the rows that the table is to have.
void AddEnded(Spool* spool, const std::string& id, Rows* wanted) {
  ASSERT_OK(spool->Append(Kind::kStart, Start(id)));
  ASSERT_OK(spool->Append(Kind::kEnd, End(id)));
  wanted->emplace(id, Row{"p " + id, "a " + id, "stop"});
}

// A store that fails, dies or answers late at its N-th operation, for every N: whoever tries again, in this
// process or after it, brings every row in exactly once.
TEST(Committer, EveryFaultAtEveryOperation) {
  using store::Fault;
  const int64_t stride = Scaled(10) < 10 ? 7 : 1;  // where sanitizers make each one slow
  for (const Fault fault : {Fault::kFail, Fault::kCrash, Fault::kAmbiguous, Fault::kHang}) {
    int64_t at = 0;
    for (bool fired = true; fired; at += stride) {
      const TempFolder folder;
      const auto inner = store::NewMemoryStore();
      ASSERT_OK(table::Catalog::InitOn(inner, {.threads = 1}).status());
      const auto faulty = store::NewFaultyStore(inner);
      ASSERT_VALUE(const auto catalog, table::Catalog::OpenOn(faulty, {.threads = 1}));
      ASSERT_VALUE(auto spool, Spool::Create(folder.path() + "/spool"));
      Rows wanted;
      Committer committer(catalog, spool->folder());
      const auto add = [&](const std::string& id) { AddEnded(spool.get(), id, &wanted); };
      add("before");
      ASSERT_OK(committer.Commit().status());
      add("first");
      faulty->Arm({.at = at, .fault = fault});
      (void)committer.Commit();
      add("second");
      (void)committer.Commit();
      fired = faulty->fired();
      faulty->Arm({});
      if (fault != Fault::kCrash) {
        ASSERT_OK(committer.Commit().status());
      }
      ASSERT_OK(spool->Append(Kind::kStart, Start("open")));
      wanted.emplace("open", Row{"p open", "-", "interrupted"});
      const std::string left = spool->folder();
      spool.reset();
      ASSERT_VALUE(const auto later, table::Catalog::OpenOn(inner, {.threads = 1}));
      ASSERT_OK(Committer(later, left).Commit(true).status());
      ASSERT_OK(Committer(later, left).Commit(true).status());  // died before it removed the folder
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
      const TempFolder folder;
      const auto inner = store::NewMemoryStore();
      ASSERT_OK(table::Catalog::InitOn(inner, {.threads = 1}).status());
      const auto faulty = store::NewFaultyStore(inner);
      ASSERT_VALUE(const auto catalog, table::Catalog::OpenOn(faulty, {.threads = 1}));
      ASSERT_VALUE(auto spool, Spool::Create(folder.path() + "/spool"));
      Committer committer(catalog, spool->folder());
      Rows wanted;
      const auto add = [&](const std::string& id) { AddEnded(spool.get(), id, &wanted); };
      add("before");
      ASSERT_OK(committer.Commit().status());
      ASSERT_EQ(DataFiles(inner.get()), 1);
      add("a");
      ASSERT_OK(spool->Append(Kind::kScore, json{{"trace", "a"}, {"name", "n"}, {"value", 1}}.dump()));
      const std::string what = "fault " + std::to_string(static_cast<int>(fault)) + " at ";
      for (int tries = 0; tries < 3; ++tries) {
        faulty->Arm({.at = tries == 0 ? at : std::min<int64_t>(at, 2), .fault = fault});
        const bool done = committer.Commit().ok();
        if (tries == 0) fired = faulty->fired();
        const int files = DataFiles(inner.get());
        ASSERT_LE(files, 3) << what << at << ", try " << tries;
        kept += !done && files > 1;
        add("later " + std::to_string(tries));
        if (done) break;
      }
      faulty->Arm({});
      for (int i = 0; i < 3; ++i) ASSERT_OK(committer.Commit().status());
      ASSERT_LE(DataFiles(inner.get()), 4) << what << at;  // before, a, its score, later
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
  Committer committer(*catalog, (*spool)->folder());
  Rows wanted;
  const auto add = [&](int i) {
    const std::string id = std::to_string(i);
    wanted.emplace(id, Row{"p " + id, "a " + id, "stop"});
    return (*spool)->Append(Kind::kStart, Start(id)).ok() && (*spool)->Append(Kind::kEnd, End(id)).ok();
  };
  if (!add(-1) || !committer.Commit().ok()) return 12;
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
      if (committer.Commit().ok()) break;
      const int64_t now = FreeBytes(disk);
      if (after_first >= 0 && now != after_first) return 14;
      after_first = now;
      failed_late = failed_late || now < start;
    }
    std::filesystem::remove(disk + "/filler");
    if (!committer.Commit().ok()) return 15;
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

// A writer that died before its lock was there, and somebody who died while removing a folder.
TEST(Committer, FoldersWithoutALockAreTakenOver) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  std::filesystem::create_directories(root + "/" + Uuid::Random().ToString());
  {
    ASSERT_VALUE(auto spool, Spool::Create(root));
    ASSERT_OK(spool->Append(Kind::kStart, Start("a")));
    ASSERT_OK(spool->Append(Kind::kEnd, End("a")));
    std::filesystem::remove(spool->folder() + "/lock");
  }
  ASSERT_VALUE(const CommitCounts counts, CommitDead(catalog));
  EXPECT_EQ(counts.traces, 1);
  EXPECT_TRUE(SpoolFolders(root).empty());
  EXPECT_EQ(Read(catalog, true), (Rows{{"a", {"p a", "a a", "stop"}}}));
}

// A dead writer's segment that cannot be read is kept, and told of; what can be read of the folder is
// committed, and the folders after it too.
TEST(Committer, WhatIsDamagedIsKeptAside) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  std::vector<std::string> folders;
  for (int w = 0; w < 3; ++w) {
    ASSERT_VALUE(const auto spool, Spool::Create(root, 200));
    for (int i = 0; i < 9; ++i)
      ASSERT_OK(spool->Append(Kind::kEnd, End(std::to_string(w) + "-" + std::to_string(i))));
    folders.push_back(spool->folder());
  }
  std::sort(folders.begin(), folders.end());
  const auto damage = [](const std::string& path) {
    std::fstream(path, std::ios::binary | std::ios::in | std::ios::out).seekp(40).put('!');
  };
  damage(folders[0] + "/00000002.seg");
  int64_t last = 1;
  while (std::filesystem::exists(folders[1] + "/0000000" + std::to_string(last + 1) + ".seg")) ++last;
  damage(folders[1] + "/0000000" + std::to_string(last) + ".seg");
  ASSERT_VALUE(const CommitCounts counts, CommitDead(catalog));
  EXPECT_TRUE(SpoolFolders(root).empty());
  EXPECT_GE(counts.traces, 9 + 6 + 6);
  EXPECT_LT(counts.traces, 27);
  size_t kept = 0;
  for (const std::string& complaint : counts.complaints)
    kept += complaint.find("kept in") != std::string::npos;
  EXPECT_EQ(kept, 2U);
  for (int w : {0, 1}) {
    const std::string aside = root + "/damaged-" + std::filesystem::path(folders[w]).filename().string();
    EXPECT_TRUE(
        std::filesystem::exists(aside + "/0000000" + std::to_string(w == 0 ? 2 : last) + ".seg.damaged"));
    EXPECT_FALSE(std::filesystem::exists(aside + "/00000001.seg"));
  }
  ASSERT_VALUE(const CommitCounts again, CommitDead(catalog));
  EXPECT_EQ(again.traces, 0);
  EXPECT_TRUE(again.complaints.empty());
}

// Writers that begin while others look for the dead: each has a folder of its own that stays.
TEST(Committer, BeginningBesideATakeover) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  std::jthread looker([&](const std::stop_token& done) {
    while (!done.stop_requested()) EXPECT_TRUE(CommitDead(catalog).ok());
  });
  std::vector<std::unique_ptr<Spool>> spools;
  for (int i = 0; i < Scaled(200); ++i) {
    ASSERT_VALUE(auto spool, Spool::Create(root));
    ASSERT_OK(spool->Append(Kind::kStart, Start(std::to_string(i))));
    EXPECT_TRUE(std::filesystem::exists(spool->folder() + "/lock"));
    spools.push_back(std::move(spool));
  }
  looker.request_stop();
  looker.join();
  EXPECT_EQ(Read(catalog, true).size(), spools.size());
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
      auto spool = Spool::Create(root, 2000);
      if (!mine.ok() || !spool.ok()) _exit(1);
      if (round % 3 == 0) (void)CommitDead(*mine);
      Committer committer(*mine, (*spool)->folder());
      for (int i = 0;; ++i) {
        const std::string id = std::to_string(round) + "-" + std::to_string(i);
        const auto tell = [&](char what) {
          const std::string line = what + id + "\n";
          return write(pipes[1], line.data(), line.size()) == static_cast<ssize_t>(line.size());
        };
        if (!(*spool)->Append(Kind::kStart, Start(id)).ok() || !tell('s')) _exit(1);
        if (i % 4 != 3 && (!(*spool)->Append(Kind::kEnd, End(id)).ok() || !tell('e'))) _exit(1);
        if (i % 50 == 49) (void)committer.Commit();
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
  ASSERT_OK(CommitDead(catalog).status());
  EXPECT_TRUE(SpoolFolders(root).empty());
  const Rows rows = Read(catalog, true);
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
