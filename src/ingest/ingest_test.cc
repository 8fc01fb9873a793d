// Ingest under faults: whatever store operation fails, running the same command again ends with every file
// taken once.
#include "ingest/ingest.h"

#include <arrow/api.h>

#include <algorithm>
#include <fstream>

#include "store/faulty_store.h"
#include "store/memory_store.h"
#include "testing.h"

namespace headrace::ingest {
namespace {

using store::Fault;

// The smallest PNG that the prober takes: a header, no pixels, an end.
std::string TinyPng(uint32_t width) {
  const auto be32 = [](uint32_t v) {
    return std::string{static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
                       static_cast<char>(v)};
  };
  std::string out = "\x89PNG\r\n\x1a\n";
  const auto chunk = [&](const std::string& data) {
    uint32_t crc = 0xffffffff;
    for (const char c : data) {
      crc ^= static_cast<unsigned char>(c);
      for (int k = 0; k < 8; ++k) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
    }
    out += be32(static_cast<uint32_t>(data.size() - 4)) + data + be32(~crc);
  };
  chunk("IHDR" + be32(width) + be32(8) + std::string("\x08\x02\x00\x00\x00", 5));
  chunk("IDAT" + std::string(3000, 'x'));  // large enough for a pack
  chunk("IEND");
  return out;
}

Result<std::vector<std::string>> Column(table::Catalog* catalog, const std::string& name,
                                        const std::string& column) {
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable(name));
  HEADRACE_ASSIGN(const auto view, table->At());
  HEADRACE_ASSIGN(const auto reader, view.Scan({.columns = {column}}));
  std::vector<std::string> values;
  for (std::shared_ptr<arrow::RecordBatch> batch; reader->ReadNext(&batch).ok() && batch;) {
    for (int64_t i = 0; i < batch->num_rows(); ++i)
      values.push_back((*batch->column(0)->GetScalar(i))->ToString());
  }
  return values;
}

TEST(Ingest, EveryStoreOperationMayFail) {
  testing::TempFolder folder;
  std::filesystem::create_directories(folder.path() + "/photos");
  for (int i = 0; i < 3; ++i) {
    std::ofstream(folder.path() + "/photos/" + std::to_string(i) + ".png")
        << TinyPng(static_cast<uint32_t>(10 + i));
  }
  std::ofstream(folder.path() + "/photos/bad.png") << "not a picture";
  std::ofstream(folder.path() + "/rows.jsonl") << "{\"a\": 1}\n{\"a\": 2}\n";
  const auto run = [&](table::Catalog* catalog) -> Status {
    IngestOptions options;
    options.table = "photos";
    HEADRACE_TRY(Ingest(catalog, {folder.path() + "/photos"}, options).status());
    options.table = "rows";
    return Ingest(catalog, {folder.path() + "/rows.jsonl"}, options).status();
  };
  int injected = 0;
  for (const Fault fault :
       {Fault::kFail, Fault::kCrash, Fault::kHang, Fault::kAmbiguous, Fault::kDuplicate, Fault::kShortRead}) {
    for (int64_t n = 0; n < 400; ++n) {
      const auto inner = store::NewMemoryStore();
      ASSERT_OK(table::Catalog::InitOn(inner, {.threads = 1}).status());
      const auto faulty = store::NewFaultyStore(inner);
      ASSERT_VALUE(const auto catalog, table::Catalog::OpenOn(faulty, {.threads = 1}));
      faulty->Arm({.at = n, .fault = fault, .hang_ms = 0});
      const Status first = run(catalog.get());
      const bool fired = faulty->fired();
      faulty->Arm({});
      // The table opens whatever happened; running the command again ends with everything, once.
      ASSERT_VALUE(const auto again, table::Catalog::OpenOn(inner, {.threads = 1}));
      ASSERT_OK(again->TableNames().status());
      ASSERT_OK(run(again.get()));
      ASSERT_VALUE(const auto paths, Column(again.get(), "photos", "path"));
      EXPECT_EQ(paths, (std::vector<std::string>{"0.png", "1.png", "2.png"}))
          << first.ToString() << " at " << n;
      ASSERT_VALUE(const auto rows, Column(again.get(), "rows", "a"));
      EXPECT_EQ(rows, (std::vector<std::string>{"1", "2"})) << first.ToString() << " at " << n;
      if (!fired) break;
      ++injected;
    }
  }
  EXPECT_GT(injected, 100);
}

// Files per commit: one fewer than there are, as many, one more; with and without a column that takes turns.
TEST(Ingest, FilesOfOneCommit) {
  testing::TempFolder folder;
  std::filesystem::create_directories(folder.path() + "/d");
  for (int i = 0; i < 9; ++i) {
    std::ofstream(folder.path() + "/d/" + std::to_string(i) + ".csv") << "a" << (i % 2 ? ",b" : ",c") << "\n"
                                                                      << i << ",x\n";
  }
  for (const int64_t limit : {1, 2, 8, 9, 10}) {
    ASSERT_VALUE(const auto catalog, table::Catalog::InitOn(store::NewMemoryStore(), {.threads = 1}));
    IngestOptions options;
    options.table = "t";
    options.commit_files = limit;
    ASSERT_VALUE(const auto first, Ingest(catalog.get(), {folder.path() + "/d"}, options));
    EXPECT_EQ(first.rows, 9);
    ASSERT_VALUE(const auto again, Ingest(catalog.get(), {folder.path() + "/d"}, options));
    EXPECT_EQ(again.rows, 0);
    EXPECT_EQ(again.skipped, 9);
    ASSERT_VALUE(const auto table, catalog->OpenTable("t"));
    ASSERT_VALUE(const auto view, table->At());
    EXPECT_EQ(view.snapshot().rows, 9);
    EXPECT_LT(view.snapshot().taken.size(), 8u);
    EXPECT_TRUE(view.snapshot().writers.empty());
    ASSERT_VALUE(const auto history, table->History());
    const auto appends = std::count_if(history.begin(), history.end(), [](const auto& entry) {
      return entry.operation.kind == table::OperationKind::kAppend;
    });
    EXPECT_EQ(appends, 1 + (8 + limit - 1) / limit) << limit;  // the first has no column b
  }
}

// A file that is larger than what is kept in memory has a commit of its own, or leaves nothing.
TEST(Ingest, FilesLargerThanMemory) {
  testing::TempFolder folder;
  std::ofstream(folder.path() + "/0.csv") << "a\n1\n";
  std::ofstream large(folder.path() + "/1.csv");
  large << "a\n";
  for (int i = 0; i < 10'000; ++i) large << i << "\n";
  large.close();
  std::ofstream(folder.path() + "/2.csv") << "a\n2\n";
  ASSERT_VALUE(const auto catalog, table::Catalog::InitOn(store::NewMemoryStore(), {.threads = 1}));
  IngestOptions options;
  options.table = "t";
  options.commit_bytes = 1000;
  ASSERT_VALUE(const auto report, Ingest(catalog.get(), {folder.path()}, options));
  EXPECT_EQ(report.rows, 10'002);
  EXPECT_EQ(report.version, 4);  // created, and three appends
  ASSERT_VALUE(const auto again, Ingest(catalog.get(), {folder.path()}, options));
  EXPECT_EQ(again.skipped, 3);
}

}  // namespace
}  // namespace headrace::ingest
