// What is asked of a distant store: each request waits for a round trip.
#include <atomic>
#include <fstream>
#include <future>

#include "store/faulty_store.h"
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

// Whichever request fails, or is cut short, of all that are under way: the rows asked for, or an error.
TEST_F(Distant, ATakeOfWhichARequestFails) {
  const auto faulty = store::NewFaultyStore(store_);
  const auto schema = arrow::schema({arrow::field("k", arrow::int64()), arrow::field("s", arrow::utf8()),
                                     arrow::field("vec", arrow::fixed_size_list(arrow::float32(), 2)),
                                     arrow::field("many", arrow::list(arrow::int32()))});
  ASSERT_VALUE(const auto table, testing::MakeTable(catalog_.get(), "t", schema));
  std::vector<int64_t> picks;
  for (int part = 0; part < 3; ++part) {
    std::string json;
    for (int i = 0; i < 200; ++i) {
      const std::string k = std::to_string((i * 7 + part) % 100);
      json += (i ? ",{\"k\":" : "[{\"k\":") + k + ",\"s\":\"s" + k + "\",\"vec\":[" + k + ",1],\"many\":[" +
              k + "]}";
      picks.push_back(part * 200 + i);
    }
    ASSERT_OK(
        table->Append(testing::ReaderOf({testing::BatchFromJson(schema, json + "]")}).get(), {}).status());
    if (part != 1) continue;
    ASSERT_OK(table->SortBy({"k"}, {}).status());
    ASSERT_OK(table->Compact({}, {}).status());
  }
  const auto take = [&]() -> Result<std::shared_ptr<arrow::RecordBatch>> {
    HEADRACE_ASSIGN(const auto cold, Catalog::OpenOn(faulty));
    HEADRACE_ASSIGN(const auto opened, cold->OpenTable("t"));
    HEADRACE_ASSIGN(const View view, opened->At());
    return view.Take(picks, {"k", "s", "vec", "many", "_row_id"});
  };
  ASSERT_VALUE(const auto right, take());
  for (const auto fault : {store::Fault::kFail, store::Fault::kShortRead}) {
    int64_t told = 0;
    for (int64_t at = 0;; ++at) {
      faulty->Arm({.at = at, .fault = fault});
      const auto got = take();
      told += !got.ok();
      if (got.ok()) {
        EXPECT_TRUE((*got)->Equals(*right)) << at;
      }
      if (!faulty->fired()) break;
    }
    EXPECT_GT(told, 0);
  }
}

// Where a name is set for the first time between the two answers, neither may be taken for the other.
class SetBetween final : public store::ObjectStore {
 public:
  explicit SetBetween(std::shared_ptr<store::ObjectStore> inner) : inner_(std::move(inner)) {}
  std::string Describe() const override { return inner_->Describe(); }
  bool is_local() const override { return false; }
  Result<store::Bytes> Get(std::string_view key) override {
    auto bytes = inner_->Get(key);
    if (!asked_.exchange(true)) first_.set_value();
    return bytes;
  }
  Result<store::Bytes> GetRange(std::string_view key, store::ByteRange range) override {
    return inner_->GetRange(key, range);
  }
  Result<std::shared_ptr<store::ObjectReader>> Open(std::string_view key) override {
    return inner_->Open(key);
  }
  Result<std::unique_ptr<store::Upload>> StartUpload(std::string_view key) override {
    return inner_->StartUpload(key);
  }
  Status Put(std::string_view key, std::string_view bytes) override { return inner_->Put(key, bytes); }
  Status PutIfAbsent(std::string_view key, std::string_view bytes) override {
    return inner_->PutIfAbsent(key, bytes);
  }
  Result<bool> Exists(std::string_view key) override { return inner_->Exists(key); }
  Status Delete(std::string_view key) override { return inner_->Delete(key); }
  Result<std::vector<store::ObjectInfo>> List(std::string_view prefix, std::string_view after,
                                              int64_t limit) override {
    first_.get_future().wait();
    HEADRACE_TRY(Refs(inner_).Move("new", 0, RefKind::kModel, "m", "me", "").status());
    return inner_->List(prefix, after, limit);
  }

 private:
  std::shared_ptr<store::ObjectStore> inner_;
  std::atomic<bool> asked_ = false;
  std::promise<void> first_;
};

TEST(DistantRefs, ANameThatIsSetMeanwhileIsReadOrWasNever) {
  const Refs refs(std::make_shared<SetBetween>(store::NewMemoryStore()));
  ASSERT_VALUE(const RefValue value, refs.Get("new"));
  EXPECT_EQ(value.revision, 1);
  EXPECT_EQ(value.target, "m");
}

}  // namespace
}  // namespace headrace::table
