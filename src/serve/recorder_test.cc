#include "serve/recorder.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "base/ids.h"
#include "testing.h"

namespace headrace::serve {
namespace {

using nlohmann::json;
using testing::TempFolder;

size_t Segments(const std::string& folder) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    count += entry.path().extension() == ".seg";
  return count;
}

// A disk that is full when a request ends (here, by a limit on the size of files): its row gets a short end
// once there is room, and the spool's segments go as ever.
TEST(Recorder, ALostEndIsMadeUpFor) {
  const TempFolder folder;
  const auto catalog = table::Catalog::Init(folder.path() + "/c", {.sync = false});
  ASSERT_OK(catalog.status());
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    auto mine = table::Catalog::Open(folder.path() + "/c", {.threads = 1});
    auto recorder = Recorder::Start(*mine, RecordMode::kFull, 600);
    if (!recorder.ok()) _exit(2);
    const auto write = [&](trace::Kind kind, const char* id, size_t bytes) {
      json row = {{"id", id}, {kind == trace::Kind::kEnd ? "answer" : "prompt", std::string(bytes, 'x')}};
      if (kind == trace::Kind::kEnd) row.update({{"finish", "stop"}, {"status", 200}, {"ended", 5}});
      (*recorder)->Write(kind, row);
    };
    write(trace::Kind::kStart, "lost", 10);
    const rlimit small{100, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &small);
    write(trace::Kind::kEnd, "lost", 2000);
    if ((*recorder)->stats().dropped != 1) _exit(3);
    const rlimit any{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &any);
    // More than a segment, whose first holds the start of the lost one.
    for (int i = 0; i < 20; ++i) write(trace::Kind::kEnd, std::to_string(i).c_str(), 1 << 20);
    if (!(*recorder)->Commit().ok()) _exit(4);
    const auto folders = trace::SpoolFolders(trace::SpoolRoot(**mine));
    _exit(folders.size() == 1 && Segments(folders[0]) == 1 ? 0 : 5);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  ASSERT_OK(trace::CommitSpools(*catalog).status());
  ASSERT_VALUE(const auto table, (*catalog)->OpenTable("traces"));
  ASSERT_VALUE(const auto view, table->At());
  ASSERT_VALUE(const int64_t ended, view.Count("id = 'lost' and finish = 'stop' and answer is null"));
  EXPECT_EQ(ended, 1);
  ASSERT_VALUE(const int64_t all, view.Count("id is not null"));
  EXPECT_EQ(all, 21);
}

}  // namespace
}  // namespace headrace::serve
