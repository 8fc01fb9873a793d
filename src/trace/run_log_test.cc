#include "trace/run_log.h"

#include <arrow/api.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cmath>
#include <fstream>
#include <random>
#include <set>
#include <thread>
#include <tuple>

#include "store/faulty_store.h"
#include "store/memory_store.h"
#include "table/blob_cells.h"
#include "trace/points.h"
#include "trace/trace_testing.h"

namespace headrace::trace {
namespace {

using Point = std::tuple<std::string, int64_t, double>;  // key, step, value; NaN as 1e300
using Points = std::multiset<Point>;

double Comparable(double value) { return std::isnan(value) ? 1e300 : value; }

template <typename Array>
const Array& ArrayOf(const arrow::RecordBatch& batch, const char* name) {
  return static_cast<const Array&>(*batch.GetColumnByName(name));
}

// The points of a batch of `metrics`, and whether what the other columns say of them is so.
void AddPoints(const arrow::RecordBatch& batch, Points* points) {
  const auto& keys = ArrayOf<arrow::StringArray>(batch, "key");
  const auto& from = ArrayOf<arrow::Int64Array>(batch, "from_step");
  const auto& to = ArrayOf<arrow::Int64Array>(batch, "to_step");
  const auto& n = ArrayOf<arrow::Int64Array>(batch, "n");
  const auto& nans = ArrayOf<arrow::Int64Array>(batch, "nans");
  const auto& min = ArrayOf<arrow::DoubleArray>(batch, "min");
  const auto& max = ArrayOf<arrow::DoubleArray>(batch, "max");
  const auto& steps = ArrayOf<arrow::ListArray>(batch, "steps");
  const auto& values = ArrayOf<arrow::ListArray>(batch, "values");
  const auto& seconds = ArrayOf<arrow::ListArray>(batch, "seconds");
  for (int64_t i = 0; i < batch.num_rows(); ++i) {
    ASSERT_LE(n.Value(i), static_cast<int64_t>(kMostChunkPoints));
    const auto list = std::static_pointer_cast<arrow::DoubleArray>(values.value_slice(i));
    ASSERT_EQ(list->length(), n.Value(i));
    ASSERT_EQ(seconds.value_length(i), n.Value(i));
    int64_t not_numbers = 0;
    double least = INFINITY, most = -INFINITY;
    for (int64_t p = 0; p < list->length(); ++p) {
      int64_t step = n.Value(i) == 1 ? from.Value(i)
                                     : from.Value(i) + p * ((to.Value(i) - from.Value(i)) / (n.Value(i) - 1));
      if (!steps.IsNull(i))
        step = std::static_pointer_cast<arrow::Int64Array>(steps.value_slice(i))->Value(p);
      const double value = list->Value(p);
      points->emplace(keys.GetString(i), step, Comparable(value));
      not_numbers += std::isnan(value);
      if (!std::isnan(value)) {
        least = std::min(least, value);
        most = std::max(most, value);
      }
    }
    EXPECT_EQ(nans.Value(i), not_numbers);
    EXPECT_EQ(min.IsNull(i), not_numbers == n.Value(i));
    if (!min.IsNull(i)) {
      EXPECT_EQ(min.Value(i), least);
      EXPECT_EQ(max.Value(i), most);
    }
  }
}

Points ReadPoints(const std::shared_ptr<table::Catalog>& catalog, bool tail) {
  for (;;) {
    Points points;
    const auto table = OpenOrCreate(catalog.get(), kMetrics);
    EXPECT_OK(table.status());
    const auto view = (*table)->At();
    const auto reader = view->Scan({});
    EXPECT_OK(reader.status());
    std::shared_ptr<arrow::RecordBatch> batch;
    while ((*reader)->ReadNext(&batch).ok() && batch) AddPoints(*batch, &points);
    if (!tail) return points;
    const auto rest = Tail(*catalog, kMetrics, *view);
    if (rest.status().Is(Code::kConflict)) continue;
    EXPECT_OK(rest.status());
    AddPoints(**rest, &points);
    return points;
  }
}

std::vector<std::string> States(const std::shared_ptr<table::Catalog>& catalog, bool tail) {
  std::vector<std::string> states;
  const auto add = [&](const arrow::RecordBatch& batch) {
    const auto& state = ArrayOf<arrow::StringArray>(batch, "state");
    for (int64_t i = 0; i < batch.num_rows(); ++i)
      if (state.IsValid(i)) states.push_back(state.GetString(i));
  };
  const auto table = OpenOrCreate(catalog.get(), kRuns);
  EXPECT_OK(table.status());
  const auto view = (*table)->At();
  const auto reader = view->Scan({});
  std::shared_ptr<arrow::RecordBatch> batch;
  while ((*reader)->ReadNext(&batch).ok() && batch) add(*batch);
  if (!tail) return states;
  const auto rest = Tail(*catalog, kRuns, *view);
  EXPECT_OK(rest.status());
  add(**rest);
  return states;
}

const RunLog::Series kSeries{.run = "0123456789abcdef0123456789abcdef", .rank = 3, .life = 7};

// Random keys and values, with steps that repeat, go back, and stand far apart; committed now and then.
void LogAtRandom(uint64_t seed, int steps, const SpoolOptions& options) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  ASSERT_VALUE(auto log, RunLog::Open(SpoolRoot(*catalog), kSeries, options));
  ASSERT_VALUE(const auto committer, Committer::Try(catalog));
  std::mt19937_64 random(seed);
  std::vector<std::string> keys = {"loss", "a/b.c", "\xc3\xa9t\xc3\xa9", std::string(10'000, 'k')};
  Points wanted;
  int64_t step = 0;
  for (int i = 0; i < steps; ++i) {
    if (random() % 50 == 0) keys.push_back("key " + std::to_string(random() % 1000));
    step += random() % 9 == 0 ? static_cast<int64_t>(random() % 1000) - 500 : 1;
    std::vector<std::pair<std::string_view, double>> values;
    for (const std::string& key : keys) {
      if (random() % 4 == 0) continue;
      const double special[] = {NAN, INFINITY, -INFINITY, 0.0, 1e-320};
      values.emplace_back(key, random() % 20 == 0
                                   ? special[random() % 5]
                                   : static_cast<double>(static_cast<int64_t>(random())) / 1e9);
    }
    ASSERT_OK(log->Log(step, 1'000'000 + i, values));
    for (const auto& [key, value] : values) wanted.emplace(key, step, Comparable(value));
    if (random() % 200 == 0) {
      ASSERT_OK(committer->Commit().status());
    }
    if (random() % 300 == 0) {
      ASSERT_EQ(ReadPoints(catalog, true), wanted) << seed << " at " << i;
    }
  }
  log.reset();
  ASSERT_EQ(ReadPoints(catalog, true), wanted) << seed;
  ASSERT_OK(committer->Commit().status());
  ASSERT_EQ(ReadPoints(catalog, false), wanted) << seed;
  EXPECT_TRUE(SpoolFolders(SpoolRoot(*catalog)).empty());
}

TEST(RunLog, PointsComeOutAsTheyWentIn) {
  LogAtRandom(1, 1000, {.mapped_bytes = kMappedBytes});
  LogAtRandom(2, 1000, {.mapped_bytes = 64 << 10});                          // a new segment every few steps
  LogAtRandom(3, 1000, {.segment_bytes = 64 << 10});                         // by write()
  LogAtRandom(4, 100, {.segment_bytes = 1 << 10, .mapped_bytes = 1 << 10});  // smaller than a record
}

TEST(RunLog, RegularStepsTakeNoRoomAndFarOnesDoNotOverflow) {
  PointChunks chunks;
  chunks.Begin({"r", 0, 0, "w"});
  std::vector<nlohmann::json> rows;
  int64_t last = 0;
  ASSERT_TRUE(chunks.AddKey(EncodeKey(0, "x")));
  for (int64_t i = 0; i < 10; ++i)
    ASSERT_TRUE(chunks.Add(EncodePoints(100 + 7 * i, i, {{{0, 1.0}}}), 1, &rows, &last));
  chunks.Flush(&rows);
  EXPECT_FALSE(rows.at(0).contains("steps"));
  for (const int64_t step : {INT64_MIN, int64_t{0}, INT64_MAX})
    ASSERT_TRUE(chunks.Add(EncodePoints(step, 5, {{{0, 1.0}}}), 2, &rows, &last));
  chunks.Flush(&rows);
  EXPECT_TRUE(rows.at(1).contains("steps"));
  EXPECT_EQ(rows[1]["from_step"], INT64_MIN);
  EXPECT_EQ(rows[1]["to_step"], INT64_MAX);
  // What is not ours.
  EXPECT_FALSE(chunks.Add("short", 1, &rows, &last));
  EXPECT_FALSE(chunks.Add(EncodePoints(1, 1, {{{9, 1.0}}}), 1, &rows, &last));
  EXPECT_FALSE(chunks.AddKey("ab"));
  EXPECT_FALSE(chunks.AddKey(EncodeKey(UINT32_MAX, "x")));
}

TEST(RunLog, AKeyMustHaveAName) {
  const TempFolder folder;
  ASSERT_VALUE(const auto log, RunLog::Open(folder.path(), kSeries));
  const std::string longest(kMostKeyBytes, 'k'), longer(kMostKeyBytes + 1, 'k');
  const auto with = [&](std::string_view key) { return log->Log(0, 0, {{{key, 1.0}}}); };
  EXPECT_EQ(with("").code(), Code::kInvalid);
  EXPECT_EQ(with(longer).code(), Code::kLimit);
  EXPECT_OK(with(longest));
}

// A run is `killed` when its process is gone and has not said how it ended; its values are there.
TEST(RunLog, AKilledRunIsCommittedByWhoeverComes) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  ASSERT_VALUE(auto log, RunLog::Open(SpoolRoot(*catalog), kSeries, {.mapped_bytes = 4096}));
  ASSERT_OK(log->Record({{"id", kSeries.run}, {"state", "running"}, {"time", 5}}));
  for (int i = 0; i < 1000; ++i) ASSERT_OK(log->Log(i, 10 + i, {{{"loss", 1.0 * i}}}));
  EXPECT_EQ(States(catalog, true), std::vector<std::string>{"running"});
  ASSERT_OK(CommitSpools(catalog).status());
  log.reset();
  EXPECT_EQ(States(catalog, true), (std::vector<std::string>{"running", "killed"}));
  ASSERT_OK(CommitSpools(catalog).status());
  EXPECT_EQ(States(catalog, false), (std::vector<std::string>{"running", "killed"}));
  ASSERT_OK(CommitSpools(catalog).status());
  EXPECT_EQ(States(catalog, true), (std::vector<std::string>{"running", "killed"}));
  EXPECT_EQ(ReadPoints(catalog, false).size(), 1000U);
  // One that said so is not.
  ASSERT_VALUE(log, RunLog::Open(SpoolRoot(*catalog), kSeries));
  ASSERT_OK(log->Record({{"id", kSeries.run}, {"state", "finished"}, {"time", 6}}));
  log.reset();
  // Nor one that only takes part.
  RunLog::Series other = kSeries;
  other.owner = false;
  ASSERT_VALUE(log, RunLog::Open(SpoolRoot(*catalog), other));
  log.reset();
  ASSERT_OK(CommitSpools(catalog).status());
  EXPECT_EQ(States(catalog, false), (std::vector<std::string>{"running", "killed", "finished"}));
}

// Points, and rows of the run, in two parts; a commit between and after them.
struct TwoParts {
  std::unique_ptr<RunLog> log;
  Points wanted;

  Status Begin(const std::string& root) {
    HEADRACE_ASSIGN(log, RunLog::Open(root, kSeries, {.mapped_bytes = 8 << 10}));
    HEADRACE_TRY(log->Record({{"id", kSeries.run}, {"state", "running"}, {"time", 1}}));
    return Add(0);
  }
  Status Add(int64_t first) {
    for (int64_t step = first; step < first + 200; ++step) {
      const double values[2] = {static_cast<double>(step) / 3, static_cast<double>(-step)};
      HEADRACE_TRY(log->Log(step, step, {{{"a", values[0]}, {"b", values[1]}}}));
      wanted.emplace("a", step, values[0]);
      wanted.emplace("b", step, values[1]);
    }
    return log->LogMedia({{"key", "text"}, {"step", first}, {"kind", "text"}, {"text", "x"}}, "");
  }
};

// What is there afterwards: each point once, the run killed once, two texts.
void ExpectAll(const std::shared_ptr<table::Catalog>& catalog, const std::string& root, const Points& wanted,
               const std::string& what) {
  ASSERT_VALUE(const auto next, Committer::Try(catalog, {.root = root}));
  ASSERT_OK(next->Commit().status());
  ASSERT_TRUE(SpoolFolders(root).empty()) << what;
  ASSERT_EQ(ReadPoints(catalog, false), wanted) << what;
  ASSERT_EQ(States(catalog, false), (std::vector<std::string>{"running", "killed"})) << what;
  ASSERT_VALUE(const auto media, OpenOrCreate(catalog.get(), kMedia));
  ASSERT_VALUE(const auto view, media->At());
  ASSERT_VALUE(const int64_t texts, view.Count(""));
  ASSERT_EQ(texts, 2) << what;
}

TEST(RunLog, EachPointOnceWhateverTheStoreDoes) {
  using store::Fault;
  const int64_t stride = Scaled(10) < 10 ? 11 : testing::InCi() ? 1 : 7;
  for (const Fault fault : {Fault::kFail, Fault::kCrash, Fault::kAmbiguous}) {
    for (int64_t at = 0, fired = 1; fired != 0; at += stride) {
      const MemoryFolder folder;
      const auto inner = store::NewMemoryStore();
      ASSERT_OK(table::Catalog::InitOn(inner, {.threads = 1}).status());
      const auto faulty = store::NewFaultyStore(inner);
      ASSERT_VALUE(const auto catalog, table::Catalog::OpenOn(faulty, {.threads = 1}));
      const std::string root = folder.path() + "/spool";
      TwoParts run;
      ASSERT_OK(run.Begin(root));
      ASSERT_VALUE(auto committer, Committer::Try(catalog, {.root = root}));
      faulty->Arm({.at = at, .fault = fault});
      (void)committer->Commit();
      ASSERT_OK(run.Add(200));
      (void)committer->Commit();
      fired = faulty->fired();
      run.log.reset();
      committer.reset();
      ASSERT_VALUE(const auto later, table::Catalog::OpenOn(inner, {.threads = 1}));
      ExpectAll(later, root, run.wanted,
                "fault " + std::to_string(static_cast<int>(fault)) + " at " + std::to_string(at));
      if (HasFatalFailure()) return;
    }
  }
}

TEST(RunLog, EachPointOnceWhereverTheCommitterIsKilled) {
  for (int at = 0, last = INT_MAX; at < last; at += Scaled(10) < 10 ? 3 : 1) {
    const MemoryFolder folder;
    const std::string root = folder.path() + "/c/spool";
    ASSERT_OK(table::Catalog::Init(folder.path() + "/c", {.sync = false}).status());
    const pid_t child = fork();
    if (child == 0) {
      int steps = 0;
      const auto step = [&] {
        if (steps++ == at) _exit(9);
      };
      const auto catalog = table::Catalog::Open(folder.path() + "/c");
      TwoParts run;
      if (!catalog.ok() || !run.Begin(root).ok()) _exit(1);
      const auto committer = Committer::Try(*catalog, {.root = root, .step = step});
      if (!committer.ok() || !(*committer)->Commit().ok() || !run.Add(200).ok()) _exit(1);
      if (!(*committer)->Commit().ok()) _exit(1);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_TRUE(WEXITSTATUS(status) == 9 || WEXITSTATUS(status) == 0);
    if (WEXITSTATUS(status) == 0) last = at;
    ASSERT_VALUE(const auto catalog, table::Catalog::Open(folder.path() + "/c"));
    ASSERT_VALUE(const auto next, Committer::Try(catalog, {.root = root}));
    ASSERT_OK(next->Commit().status());
    const size_t points = ReadPoints(catalog, false).size();
    ASSERT_TRUE(points == 400U || points == 800U) << at << ": " << points;
    ASSERT_EQ(States(catalog, false), (std::vector<std::string>{"running", "killed"})) << at;
  }
}

TEST(RunLog, MediaKeepTheirBytes) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  ASSERT_VALUE(auto log, RunLog::Open(SpoolRoot(*catalog), kSeries, {.mapped_bytes = 4096}));
  std::string bytes(100'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i);
  ASSERT_OK(log->LogMedia({{"key", "sample"}, {"step", 3}, {"kind", "image"}}, bytes));
  ASSERT_OK(log->LogMedia({{"key", "note"}, {"step", 4}, {"kind", "text"}, {"text", "hello"}}, ""));
  const auto check = [&](const arrow::RecordBatch& batch) {
    ASSERT_EQ(batch.num_rows(), 2);
    EXPECT_EQ(ArrayOf<arrow::StringArray>(batch, "run").GetString(0), kSeries.run);
    EXPECT_EQ(ArrayOf<arrow::Int64Array>(batch, "rank").Value(0), kSeries.rank);
    ASSERT_VALUE(const auto cells, table::BlobCells::Of(batch.GetColumnByName("data")));
    const int64_t image = ArrayOf<arrow::StringArray>(batch, "key").GetString(0) == "sample" ? 0 : 1;
    EXPECT_TRUE(cells.IsNull(1 - image));
    if (cells.IsInline(image)) {
      EXPECT_EQ(cells.InlineBytes(image), bytes);
    }
  };
  ASSERT_VALUE(const auto table, OpenOrCreate(catalog.get(), kMedia));
  ASSERT_VALUE(const auto before, table->At());
  ASSERT_VALUE(const auto tail, Tail(*catalog, kMedia, before));
  check(*tail);
  log.reset();
  ASSERT_OK(CommitSpools(catalog).status());
  ASSERT_VALUE(const auto view, table->At());
  ASSERT_VALUE(const auto reader, view.Scan({}));
  std::shared_ptr<arrow::RecordBatch> batch;
  ASSERT_TRUE(reader->ReadNext(&batch).ok());
  check(*batch);
  const std::string longest(kMaxRecordBytes, 'x');
  ASSERT_VALUE(log, RunLog::Open(folder.path() + "/s", kSeries));
  EXPECT_EQ(log->LogMedia({{"key", "x"}}, longest).code(), Code::kLimit);
}

// What Log had returned from is there, whenever the process is killed.
TEST(RunLog, KillsLoseNothingThatWasLogged) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  const std::string root = SpoolRoot(*catalog);
  std::mt19937_64 random(11);
  int64_t all = 0;
  std::set<std::string> seen;
  const int kills = Scaled(200);
  for (int kill_number = 0; kill_number < kills; ++kill_number) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto log = RunLog::Open(root, kSeries, {.mapped_bytes = 32 << 10});
      if (!log.ok()) _exit(1);
      for (int64_t i = 0;; ++i) {
        if (!(*log)->Log(i, i, {{{"a", 1.0}, {"b", 2.0}}}).ok()) _exit(1);
        if (write(pipe_ends[1], &i, sizeof i) != sizeof i) _exit(1);
      }
    }
    close(pipe_ends[1]);
    const auto wanted = static_cast<int64_t>(1 + random() % 2000);
    int64_t acknowledged = 0, i = 0;
    while (acknowledged < wanted && read(pipe_ends[0], &i, sizeof i) == sizeof i) acknowledged = i + 1;
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    while (read(pipe_ends[0], &i, sizeof i) == sizeof i) acknowledged = i + 1;
    close(pipe_ends[0]);
    ASSERT_TRUE(WIFSIGNALED(status));
    int64_t points = 0;
    for (const std::string& spool : SpoolFolders(root)) {
      if (!seen.insert(spool).second) continue;
      ASSERT_OK(ReadSpool(spool, {}, [&](const Record& record) {
                  points += record.kind == Kind::kPoints ? 2 : 0;
                  return Status::Ok();
                }).status());
    }
    // One more may have been logged whose word did not come through.
    ASSERT_GE(points, 2 * acknowledged);
    ASSERT_LE(points, 2 * acknowledged + 2);
    all += points;
    if (random() % 20 == 0) {
      ASSERT_OK(CommitSpools(catalog).status());
    }
  }
  EXPECT_EQ(static_cast<int64_t>(ReadPoints(catalog, true).size()), all);
  ASSERT_OK(CommitSpools(catalog).status());
  EXPECT_EQ(static_cast<int64_t>(ReadPoints(catalog, false).size()), all);
}

TEST(RunLog, AFullDiskIsAnErrorAndLosesNothing) {
  const TempFolder folder;
  ASSERT_VALUE(const auto log, RunLog::Open(folder.path(), kSeries, {.mapped_bytes = 16 << 10}));
  const auto count = [&] {
    int64_t points = 0;
    EXPECT_OK(ReadSpool(log->spool().folder(), {}, [&](const Record& record) {
                points += record.kind == Kind::kPoints;
                return Status::Ok();
              }).status());
    return points;
  };
  int64_t logged = 0;
  for (; logged < 100; ++logged) ASSERT_OK(log->Log(logged, 0, {{{"a", 1.0}}}));
  // No file of this process may grow: not by room that is reserved, nor by write().
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  rlimit none = before;
  none.rlim_cur = 1000;
  setrlimit(RLIMIT_FSIZE, &none);
  Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) {
    status = log->Log(logged, 0, {{{"a", 1.0}}});
    logged += status.ok();
  }
  EXPECT_FALSE(status.ok());
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(log->Log(logged, 0, {{{"a", 1.0}}}).ok());
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(count(), logged);
  for (int i = 0; i < 1000; ++i, ++logged) ASSERT_OK(log->Log(logged, 0, {{{"a", 1.0}}}));
  EXPECT_EQ(count(), logged);
}

TEST(RunLog, ManyThreadsLogAndSync) {
  const TempFolder folder;
  ASSERT_VALUE(const auto log, RunLog::Open(folder.path(), kSeries, {.mapped_bytes = 8 << 10}));
  std::atomic<bool> done = false;
  std::thread syncing([&] {
    while (!done) EXPECT_OK(log->Sync());
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      const std::string key = "key " + std::to_string(t);
      for (int i = 0; i < 2000; ++i) EXPECT_OK(log->Log(i, 0, {{{key, 1.0 * i}}}));
    });
  for (auto& thread : threads) thread.join();
  done = true;
  syncing.join();
  std::string writer = "w";
  Replay replay(writer);
  Rows rows = NoRows();
  ASSERT_OK(ReadSpool(log->spool().folder(), {}, [&](const Record& record) {
              replay.Take(record, &rows);
              return Status::Ok();
            }).status());
  replay.Flush(&rows);
  EXPECT_EQ(replay.unreadable(), 0);
  int64_t points = 0;
  for (const auto& row : rows[FindTable(kMetrics)]) points += row["n"].get<int64_t>();
  EXPECT_EQ(points, 8000);
}

}  // namespace
}  // namespace headrace::trace
