#include "trace/committer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stop_token>
#include <thread>

#include "base/limits.h"
#include "trace/trace_testing.h"

namespace headrace::trace {
namespace {

TEST(Committer, RowsAreStartAndEndTogether) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c"));
  ASSERT_VALUE(auto spool, Spool::Create(SpoolRoot(*catalog)));
  ASSERT_VALUE(auto committer, Committer::Try(catalog));
  ASSERT_OK(spool->Append(Kind::kStart, Start("a")));
  ASSERT_OK(spool->Append(Kind::kStart, Start("b")));
  ASSERT_OK(spool->Append(Kind::kEnd, End("b")));
  const Row b{"p b", "a b", "stop"}, a{"p a", "a a", "stop"};
  EXPECT_EQ(Read(catalog, false), RowsById());
  EXPECT_EQ(Read(catalog, true), (RowsById{{"a", {"p a", "-", "-"}}, {"b", b}}));
  ASSERT_OK(committer->Commit().status());
  EXPECT_EQ(Read(catalog, false), (RowsById{{"b", b}}));
  EXPECT_EQ(Read(catalog, true), (RowsById{{"a", {"p a", "-", "-"}}, {"b", b}}));
  ASSERT_OK(committer->Commit().status());  // nothing new
  ASSERT_OK(spool->Append(Kind::kEnd, End("a")));
  ASSERT_OK(spool->Append(Kind::kStart, Start("c")));
  ASSERT_OK(committer->Commit().status());
  EXPECT_EQ(Read(catalog, false), (RowsById{{"a", a}, {"b", b}}));
  ASSERT_OK(CommitSpools(catalog).status());  // another commits: nothing happens
  committer.reset();
  ASSERT_OK(CommitSpools(catalog).status());  // its writer lives: it stays
  EXPECT_EQ(SpoolFolders(SpoolRoot(*catalog)).size(), 1U);
  spool.reset();
  const Row c{"p c", "-", "interrupted"};
  EXPECT_EQ(Read(catalog, true), (RowsById{{"a", a}, {"b", b}, {"c", c}}));
  ASSERT_OK(CommitSpools(catalog).status());
  EXPECT_EQ(Read(catalog, false), (RowsById{{"a", a}, {"b", b}, {"c", c}}));
  EXPECT_EQ(Read(catalog, true), (RowsById{{"a", a}, {"b", b}, {"c", c}}));
  EXPECT_TRUE(SpoolFolders(SpoolRoot(*catalog)).empty());
}

TEST(Committer, ManySmallCommitsLeaveFewFragments) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog,
               table::Catalog::Init(folder.path() + "/c", {.sync = false, .upkeep = true}));
  ASSERT_VALUE(auto spool, Spool::Create(SpoolRoot(*catalog)));
  ASSERT_VALUE(auto committer, Committer::Try(catalog));
  constexpr int kCommits = 150;
  for (int i = 0; i < kCommits; ++i) {
    const std::string id = "r" + std::to_string(i);
    ASSERT_OK(spool->Append(Kind::kStart, Start(id)));
    ASSERT_OK(spool->Append(Kind::kEnd, End(id)));
    ASSERT_VALUE(const auto counts, committer->Commit());
    ASSERT_TRUE(counts.complaints.empty()) << counts.complaints[0];
  }
  catalog->environment()->upkeep->Settle();
  EXPECT_EQ(Read(catalog, false).size(), static_cast<size_t>(kCommits));
  ASSERT_VALUE(const auto traces, catalog->OpenTable("traces"));
  ASSERT_VALUE(const table::View view, traces->At());
  ASSERT_VALUE(const auto fragments, view.Fragments());
  EXPECT_LT(static_cast<int64_t>(fragments->size()), 2 * limits::kMaxSmallFragments);
}

TEST(Committer, SegmentsGoOnceNothingInThemIsOpen) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c"));
  ASSERT_VALUE(const auto spool, Spool::Create(SpoolRoot(*catalog), {.segment_bytes = 300}));
  ASSERT_VALUE(auto committer, Committer::Try(catalog));
  ASSERT_OK(spool->Append(Kind::kStart, Start("long")));
  for (int i = 0; i < 10; ++i) ASSERT_OK(spool->Append(Kind::kEnd, End(std::to_string(i))));
  ASSERT_OK(committer->Commit().status());
  EXPECT_TRUE(std::filesystem::exists(spool->folder() + "/00000001.seg"));
  ASSERT_OK(spool->Append(Kind::kEnd, End("long")));
  ASSERT_OK(committer->Commit().status());
  EXPECT_FALSE(std::filesystem::exists(spool->folder() + "/00000001.seg"));
  const RowsById rows = Read(catalog, true);
  EXPECT_EQ(rows.size(), 11U);
  EXPECT_EQ(rows.find("long")->second.prompt, "p long");
  // Somebody else who continues finds the same.
  committer.reset();
  ASSERT_OK(CommitSpools(catalog).status());
  EXPECT_EQ(Read(catalog, false), rows);
}

// A machine that was away until the tables forgot its committer: what a note took whose end it knows is not
// taken again, and of one that it does not know nothing is.
TEST(Committer, ForgottenByTheTables) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  RowsById wanted;
  ASSERT_VALUE(auto spool, Spool::Create(root));
  ASSERT_OK(spool->Append(Kind::kStart, Start("open")));  // its segment stays
  AddEnded(spool.get(), "first", &wanted);
  ASSERT_OK(CommitSpools(catalog).status());
  ASSERT_VALUE(const Note note, ReadNote(root));
  EXPECT_TRUE(note.finished);
  ASSERT_VALUE(const auto table, catalog->OpenTable(kTraces));
  ASSERT_OK(table->ChangeWriter({table::WriterChange::Kind::kForget, note.committer}, {}).status());
  RowsById seen = wanted;
  seen.emplace("open", Row{"p open", "-", "-"});
  EXPECT_EQ(Read(catalog, true), seen);
  AddEnded(spool.get(), "second", &wanted);
  ASSERT_OK(CommitSpools(catalog).status());
  EXPECT_EQ(Read(catalog, false), wanted);

  // As a crash between the commit and the end of its note leaves it.
  ASSERT_VALUE(Note unfinished, ReadNote(root));
  unfinished.finished = false;
  ASSERT_OK(WriteNote(root, unfinished));
  ASSERT_OK(CommitSpools(catalog).status());  // the table knows it
  EXPECT_EQ(Read(catalog, false), wanted);
  ASSERT_OK(WriteNote(root, unfinished));
  ASSERT_OK(table->ChangeWriter({table::WriterChange::Kind::kForget, note.committer}, {}).status());
  const Status refused = CommitSpools(catalog).status();
  EXPECT_TRUE(refused.Is(Code::kUnknown)) << refused.ToString();
  EXPECT_EQ(Read(catalog, false), wanted);
}

// One committer for all spools, those of other processes too; the next takes over when it ends.
TEST(Committer, OneAtATime) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  ASSERT_VALUE(auto first, Committer::Try(catalog));
  ASSERT_VALUE(const auto second, Committer::Try(catalog));
  EXPECT_EQ(second, nullptr);
  RowsById wanted;
  std::vector<std::unique_ptr<Spool>> spools;
  for (int w = 0; w < 5; ++w) {
    ASSERT_VALUE(auto spool, Spool::Create(root));
    AddEnded(spool.get(), std::to_string(w), &wanted);
    spools.push_back(std::move(spool));
  }
  EXPECT_GT(first->waiting(), 5 * 100);
  ASSERT_VALUE(const CommitCounts counts, first->Commit());
  EXPECT_EQ(counts.rows.at(kTraces), 5);
  EXPECT_EQ(first->waiting(), 0);
  ASSERT_VALUE(const auto table, catalog->OpenTable(kTraces));
  ASSERT_VALUE(const auto view, table->At());
  EXPECT_EQ(view.snapshot().writers.size(), 1U);  // one commit of all
  first.reset();
  AddEnded(spools[3].get(), "later", &wanted);
  ASSERT_VALUE(const auto third, Committer::Try(catalog));
  ASSERT_VALUE(const CommitCounts more, third->Commit());
  EXPECT_EQ(more.total(), 1);
  EXPECT_EQ(Read(catalog, false), wanted);
}

// A spool that its own writer committed in part, as programs did before version 2, and then died.
TEST(Committer, SpoolsOfVersion1GoOnWhereTheirWriterWas) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  RowsById wanted;
  ASSERT_VALUE(auto spool, Spool::Create(root));
  const std::string writer = spool->writer().substr(2);
  AddEnded(spool.get(), "before", &wanted);
  ASSERT_OK(spool->Append(Kind::kStart, Start("across")));
  const Position committed = spool->end();
  ASSERT_OK(spool->Append(Kind::kEnd, End("across")));
  wanted.emplace("across", Row{"p across", "a across", "stop"});
  AddEnded(spool.get(), "after", &wanted);
  ASSERT_OK(spool->Append(Kind::kStart, Start("open")));
  wanted.emplace("open", Row{"p open", "-", "interrupted"});
  std::filesystem::rename(spool->folder(), root + "/" + writer);
  ASSERT_VALUE(const auto table, OpenOrCreate(catalog.get(), kTraces));
  ASSERT_VALUE(
      const auto batch,
      ToBatch(TraceColumns(),
              {json{{"id", "before"}, {"prompt", "p before"}, {"answer", "a before"}, {"finish", "stop"}}}));
  table::CommitOptions options;
  options.writer = writer;
  options.sequence = committed.sequence();
  ASSERT_VALUE(const auto appender, table->StartAppend(batch->schema()->field_names(), options));
  ASSERT_OK(appender->Write(*batch));
  ASSERT_OK(appender->Commit().status());
  ASSERT_OK(CommitSpools(catalog).status());  // its writer lives: it commits it
  EXPECT_EQ(Read(catalog, false).size(), 1U);
  EXPECT_EQ(Read(catalog, true).size(), 4U);
  spool.reset();
  EXPECT_EQ(Read(catalog, true), wanted);
  ASSERT_OK(CommitSpools(catalog).status());
  EXPECT_EQ(Read(catalog, false), wanted);
  EXPECT_TRUE(SpoolFolders(root).empty());
}

// A note that cannot be read: nothing is committed, and nothing dropped.
TEST(Committer, ADamagedNoteIsTold) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  RowsById wanted;
  ASSERT_VALUE(auto spool, Spool::Create(root));
  AddEnded(spool.get(), "a", &wanted);
  ASSERT_OK(CommitSpools(catalog).status());
  AddEnded(spool.get(), "b", &wanted);
  const std::string note = root + "/committer.note";
  std::fstream(note, std::ios::binary | std::ios::in | std::ios::out).seekp(30).put('!');
  EXPECT_TRUE(CommitSpools(catalog).status().Is(Code::kCorrupt));
  EXPECT_TRUE(std::filesystem::exists(spool->folder() + "/00000001.seg"));
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
  ASSERT_VALUE(const CommitCounts counts, CommitSpools(catalog));
  EXPECT_EQ(counts.total(), 1);
  EXPECT_TRUE(SpoolFolders(root).empty());
  EXPECT_EQ(Read(catalog, true), (RowsById{{"a", {"p a", "a a", "stop"}}}));
}

// A dead writer's segment that cannot be read is kept, and told of; what can be read of the folder is
// committed, and the folders after it too.
TEST(Committer, WhatIsDamagedIsKeptAside) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  std::vector<std::string> folders;
  for (int w = 0; w < 3; ++w) {
    ASSERT_VALUE(const auto spool, Spool::Create(root, {.segment_bytes = 200}));
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
  ASSERT_VALUE(const CommitCounts counts, CommitSpools(catalog));
  EXPECT_TRUE(SpoolFolders(root).empty());
  EXPECT_GE(counts.total(), 9 + 6 + 6);
  EXPECT_LT(counts.total(), 27);
  size_t kept = 0;
  for (const std::string& complaint : counts.complaints)
    kept += complaint.find("kept in") != std::string::npos;
  EXPECT_EQ(kept, 2U);
  EXPECT_EQ(DamagedSpools(root).size(), 2U);
  for (int w : {0, 1}) {
    const std::string aside = root + "/damaged-" + std::filesystem::path(folders[w]).filename().string();
    EXPECT_TRUE(
        std::filesystem::exists(aside + "/0000000" + std::to_string(w == 0 ? 2 : last) + ".seg.damaged"));
    EXPECT_FALSE(std::filesystem::exists(aside + "/00000001.seg"));
  }
  ASSERT_VALUE(const CommitCounts again, CommitSpools(catalog));
  EXPECT_EQ(again.total(), 0);
  EXPECT_TRUE(again.complaints.empty());
}

// Writers that begin while others look for the dead: each has a folder of its own that stays.
TEST(Committer, BeginningBesideATakeover) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  std::jthread looker([&](const std::stop_token& done) {
    while (!done.stop_requested()) EXPECT_TRUE(CommitSpools(catalog).ok());
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

}  // namespace
}  // namespace headrace::trace
