// What is asked of a distant store: each request waits for a round trip.
#include <fstream>

#include "store/slow_store.h"
#include "table/keys.h"
#include "table/refs.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

class Distant : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_VALUE(store_, store::OpenSlowStore("slow:latency=0ms,log=" + log() + ":" + folder_.path(), false));
    ASSERT_VALUE(catalog_, Catalog::InitOn(store_));
  }
  std::string log() const { return logs_.path() + "/log"; }

  struct Asked {
    std::string key;
    int64_t offset = 0, bytes = 0;
  };
  // What was read of keys that hold `part` since the last call.
  std::vector<Asked> Reads(const std::string& part) {
    std::ifstream in(log());
    in.seekg(at_);
    std::vector<Asked> reads;
    for (Asked one; in >> one.key >> one.offset >> one.bytes;)
      if (one.key.find(part) != std::string::npos) reads.push_back(one);
    at_ = static_cast<std::streamoff>(std::filesystem::file_size(log()));
    return reads;
  }

  const testing::TempFolder folder_, logs_;
  std::shared_ptr<store::ObjectStore> store_;
  std::shared_ptr<Catalog> catalog_;
  std::streamoff at_ = 0;
};

// Rows of every page: the file comes at once, its footer among the rest. Of one page: the footer tells which
// bytes are worth a request.
TEST_F(Distant, ATakeOfMostPagesFetchesTheFileAtOnce) {
  const auto schema = arrow::schema({arrow::field("k", arrow::int64())});
  ASSERT_VALUE(const auto table, testing::MakeTable(catalog_.get(), "t", schema));
  constexpr int64_t kRows = 200 * limits::kPageRows;
  arrow::Int64Builder builder;
  std::mt19937_64 random(5);  // does not shrink
  for (int64_t i = 0; i < kRows; ++i) ASSERT_TRUE(builder.Append(static_cast<int64_t>(random())).ok());
  const auto values = std::static_pointer_cast<arrow::Int64Array>(builder.Finish().ValueOrDie());
  ASSERT_OK(table->Append(testing::ReaderOf({arrow::RecordBatch::Make(schema, kRows, {values})}).get(), {})
                .status());
  for (const bool most : {true, false}) {
    std::vector<int64_t> picks;
    for (int64_t i = 0; i < 200; ++i) picks.push_back(most ? i * limits::kPageRows + i : i);
    ASSERT_VALUE(const auto cold, Catalog::OpenOn(store_));
    ASSERT_VALUE(const auto opened, cold->OpenTable("t"));
    ASSERT_VALUE(const View view, opened->At());
    ASSERT_VALUE(const auto fragments, view.Fragments());
    const int64_t size = fragments->at(0).files.at(0).bytes;
    ASSERT_GT(size, 3 << 20);
    Reads("");
    ASSERT_VALUE(const auto taken, view.Take(picks, {"k"}));
    const auto& got = static_cast<const arrow::Int64Array&>(*taken->column(0));
    for (int64_t i = 0; i < 200; ++i) ASSERT_EQ(got.Value(i), values->Value(picks[static_cast<size_t>(i)]));
    const auto reads = Reads("/data/");
    int64_t bytes = 0;
    for (const auto& read : reads) bytes += read.bytes;
    ASSERT_FALSE(reads.empty());
    if (most) {
      EXPECT_EQ(reads[0].offset, 0);
      EXPECT_EQ(bytes, size) << "each byte once";
    } else {
      EXPECT_GT(reads[0].offset, 0) << "the footer first";
      EXPECT_LE(bytes, 2 * (1 << 20)) << "a block of pages, and one of the end";
    }
  }
}

TEST_F(Distant, ANameHasItsNewestValueHoweverOftenItWasSet) {
  const Refs refs(store_);
  ASSERT_VALUE(const RefValue never, refs.Get("prod"));
  EXPECT_EQ(never.revision, 0);
  for (int64_t revision = 1; revision <= 3; ++revision) {
    const std::string target = "m" + std::to_string(revision);
    ASSERT_OK(refs.Move("prod", revision - 1, RefKind::kModel, target, "me", "").status());
    ASSERT_VALUE(const RefValue newest, refs.Get("prod"));
    EXPECT_EQ(newest.revision, revision);
    EXPECT_EQ(newest.target, target);
  }
  // The first value is damaged: nobody needs it any more.
  ASSERT_OK(store_->Put(RefKey("prod", 1), "{}"));
  ASSERT_VALUE(const RefValue newest, refs.Get("prod"));
  EXPECT_EQ(newest.target, "m3");
}

}  // namespace
}  // namespace headrace::table
