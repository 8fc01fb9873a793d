#include "store/store.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "base/digest.h"
#include "store/faulty_store.h"
#include "store/local_store.h"
#include "store/memory_store.h"
#include "store/read_ahead.h"
#include "store/s3_list.h"
#include "store/s3_sign.h"
#include "testing.h"

namespace headrace::store {
namespace {

// The same contract for every store.
class StoreContract : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "memory") store_ = NewMemoryStore();
    if (GetParam() == "local") store_ = *OpenLocalStore(folder_.path() + "/a/b", {.sync = true});
    if (GetParam() == "scratch") store_ = *OpenLocalStore(folder_.path(), {.sync = false});
    if (GetParam() == "faultless") store_ = NewFaultyStore(NewMemoryStore());
  }
  testing::TempFolder folder_;
  std::shared_ptr<ObjectStore> store_;
};

TEST_P(StoreContract, PutsGetsAndRanges) {
  ASSERT_OK(store_->Put("x/y", "hello world"));
  ASSERT_OK(store_->Put("x/y", "hello there"));
  ASSERT_VALUE(const Bytes all, store_->Get("x/y"));
  EXPECT_EQ(all.view(), "hello there");
  ASSERT_VALUE(const Bytes part, store_->GetRange("x/y", {6, 5}));
  EXPECT_EQ(part.view(), "there");
  EXPECT_TRUE(store_->Get("x/z").status().Is(Code::kNotFound));
  EXPECT_TRUE(store_->GetRange("x/y", {6, 6}).status().Is(Code::kCorrupt));
  ASSERT_VALUE(const auto reader, store_->Open("x/y"));
  ASSERT_VALUE(const auto parts, reader->ReadMany({{0, 5}, {6, 5}, {3, 0}}));
  EXPECT_EQ(parts[1].view(), "there");
  ASSERT_OK(store_->Delete("x/y"));
  ASSERT_OK(store_->Delete("x/y"));
  ASSERT_VALUE(const bool there, store_->Exists("x/y"));
  EXPECT_FALSE(there);
}

TEST_P(StoreContract, OneWinnerOfManyConditionalPuts) {
  for (int round = 0; round < 20; ++round) {
    const std::string key = "race/" + std::to_string(round);
    std::atomic<int> winners{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        const Status put = store_->PutIfAbsent(key, std::to_string(i));
        if (put.ok()) ++winners;
        EXPECT_TRUE(put.ok() || put.Is(Code::kAlreadyExists)) << put.ToString();
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(winners, 1);
  }
  ASSERT_OK(ProbeConditionalPut(store_.get()));
}

TEST_P(StoreContract, UploadsAppearWholeOrNotAtAll) {
  {
    ASSERT_VALUE(const auto dropped, store_->StartUpload("up/a"));
    ASSERT_OK(dropped->Append("half"));
  }
  ASSERT_VALUE(const auto listed, store_->List("", "", 100));
  EXPECT_TRUE(listed.empty());
  ASSERT_VALUE(const auto upload, store_->StartUpload("up/a"));
  ASSERT_OK(upload->Append("wh"));
  ASSERT_OK(upload->Append("ole"));
  ASSERT_VALUE(const bool early, store_->Exists("up/a"));
  EXPECT_FALSE(early);
  ASSERT_OK(upload->Commit());
  ASSERT_VALUE(const Bytes bytes, store_->Get("up/a"));
  EXPECT_EQ(bytes.view(), "whole");
}

TEST_P(StoreContract, ListsInOrder) {
  for (const char* key : {"b/2", "b/1", "a", "b/10", "c/d/e"}) ASSERT_OK(store_->Put(key, key));
  const auto keys = [&](const char* prefix, const char* after, int64_t limit) {
    std::string text;
    const auto found = store_->List(prefix, after, limit);
    for (const auto& info : *found) text += info.key + " ";
    return text;
  };
  EXPECT_EQ(keys("", "", 100), "a b/1 b/10 b/2 c/d/e ");
  EXPECT_EQ(keys("b/", "", 2), "b/1 b/10 ");
  EXPECT_EQ(keys("b/", "b/10", 9), "b/2 ");
  EXPECT_EQ(keys("b/1", "", 9), "b/1 b/10 ");
  EXPECT_EQ(keys("", "b/2", 9), "c/d/e ");
  EXPECT_EQ(keys("nothing/", "", 9), "");
}

TEST_P(StoreContract, ListsWhenEachObjectWasPut) {
  // A file system may stamp files by a clock that ticks every 10 ms.
  const int64_t before = NowMicros() - 20'000;
  ASSERT_OK(store_->Put("a", "x"));
  ASSERT_OK(store_->PutIfAbsent("b", "x"));
  ASSERT_VALUE(const auto upload, store_->StartUpload("c"));
  ASSERT_OK(upload->Append("x"));
  ASSERT_OK(upload->Commit());
  ASSERT_VALUE(const auto listed, store_->List("", "", 10));
  ASSERT_EQ(listed.size(), 3U);
  for (const auto& object : listed) {
    EXPECT_GE(object.modified_us, before) << object.key;
    EXPECT_LE(object.modified_us, NowMicros() + 20'000) << object.key;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  ASSERT_OK(store_->Put("a", "y"));  // put again: its time is the new one's
  ASSERT_VALUE(const auto again, store_->List("", "", 10));
  EXPECT_GT(again[0].modified_us, listed[0].modified_us);
  EXPECT_EQ(again[1].modified_us, listed[1].modified_us);
}

TEST(S3, ListingsAreTakenApart) {
  const std::string xml =
      R"(<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
    <IsTruncated>true</IsTruncated><NextContinuationToken>next/1</NextContinuationToken>
    <Contents><Key>own/a&amp;b</Key><LastModified>2026-11-22T08:15:30.250Z</LastModified><Size>7</Size></Contents>
    <Contents><Key>own/c</Key><LastModified>1970-01-01T00:00:01Z</LastModified><Size>0</Size></Contents>
    </ListBucketResult>)";
  ASSERT_VALUE(const S3Listing page, ParseS3Listing(xml, "own/"));
  ASSERT_EQ(page.objects.size(), 2U);
  EXPECT_EQ(page.objects[0].key, "a&b");
  EXPECT_EQ(page.objects[0].size, 7);
  EXPECT_EQ(FormatMicros(page.objects[0].modified_us), "2026-11-22T08:15:30.250000Z");
  EXPECT_EQ(page.objects[1].modified_us, 1'000'000);
  EXPECT_EQ(page.next_token, "next/1");
  const std::string timeless = "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>";
  ASSERT_VALUE(const S3Listing without, ParseS3Listing(timeless, ""));
  EXPECT_EQ(without.objects.at(0).modified_us, 0);
  EXPECT_EQ(without.next_token, "");
  EXPECT_FALSE(ParseS3Listing("no xml <", "").ok());
}

TEST_P(StoreContract, RefusesKeysThatLeaveTheFolder) {
  for (const char* key : {"", "/a", "a//b", "../a", "a/../b", ".", "a/"}) {
    EXPECT_TRUE(store_->Put(key, "x").Is(Code::kInvalid) || GetParam() == "faultless") << key;
    EXPECT_FALSE(store_->Get(key).ok()) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreContract, ::testing::Values("memory", "local", "scratch", "faultless"),
                         [](const auto& info) { return info.param; });

TEST(LocalStore, KilledUploadsLeaveNothing) {
  testing::TempFolder folder;
  ASSERT_VALUE(const auto store, OpenLocalStore(folder.path()));
  const pid_t child = fork();
  if (child == 0) {
    auto upload = store->StartUpload("data/x");
    if (upload.ok()) (void)(*upload)->Append(std::string(100000, 'x'));
    _exit(0);  // as a kill would: no destructor runs
  }
  waitpid(child, nullptr, 0);
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path()))
    files += entry.is_regular_file();
  EXPECT_EQ(files, 0);
}

TEST(FaultyStore, InjectsAtTheNthOperation) {
  auto inner = NewMemoryStore();
  auto store = NewFaultyStore(inner);
  store->Arm({.at = 1, .fault = Fault::kAmbiguous});
  ASSERT_OK(store->Put("a", "1"));
  EXPECT_TRUE(store->Put("b", "2").Is(Code::kTimeout));
  ASSERT_VALUE(const bool there, inner->Exists("b"));
  EXPECT_TRUE(there);  // it took effect all the same
  store->Arm({.at = 0, .fault = Fault::kCrash});
  EXPECT_FALSE(store->Put("c", "3").ok());
  EXPECT_FALSE(store->Get("a").ok());
  store->Arm({.at = 1, .fault = Fault::kShortRead});
  ASSERT_VALUE(const auto reader, store->Open("a"));
  EXPECT_TRUE(reader->Read(0, 1).status().Is(Code::kUnavailable));
}

TEST(Coalesce, CoversEveryRangeOnce) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<ByteRange> ranges;
    for (int i = 0; i < 30; ++i)
      ranges.push_back({static_cast<int64_t>(random() % 10000), static_cast<int64_t>(random() % 300)});
    const auto merged = CoalesceRanges(ranges, 100, 2000);
    std::vector<int> seen(ranges.size());
    for (const auto& part : merged) {
      for (const size_t member : part.members) {
        ++seen[member];
        EXPECT_GE(ranges[member].offset, part.range.offset);
        EXPECT_LE(ranges[member].offset + ranges[member].length, part.range.offset + part.range.length);
      }
    }
    for (const int count : seen) EXPECT_EQ(count, 1);
  }
}

// The examples that AWS publishes for Signature Version 4 and S3 (GET with a range; list with a query).
TEST(SigV4, MatchesPublishedExamples) {
  const S3Credentials credentials{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
  const std::string empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  EXPECT_EQ(Sha256Hex(""), empty);
  SignInput get{"GET",
                "/test.txt",
                {},
                {{"host", "examplebucket.s3.amazonaws.com"},
                 {"range", "bytes=0-9"},
                 {"x-amz-content-sha256", empty},
                 {"x-amz-date", "20130524T000000Z"}},
                empty,
                "20130524T000000Z",
                "us-east-1",
                "s3"};
  EXPECT_NE(Authorization(get, credentials)
                .find("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            std::string::npos);
  SignInput put{"PUT",
                "/test%24file.text",
                {},
                {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                 {"host", "examplebucket.s3.amazonaws.com"},
                 {"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
                 {"x-amz-date", "20130524T000000Z"},
                 {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                Sha256Hex("Welcome to Amazon S3."),
                "20130524T000000Z",
                "us-east-1",
                "s3"};
  EXPECT_NE(Authorization(put, credentials)
                .find("Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
            std::string::npos);
  SignInput list{"GET",
                 "/",
                 {{"max-keys", "2"}, {"prefix", "J"}},
                 {{"host", "examplebucket.s3.amazonaws.com"},
                  {"x-amz-content-sha256", empty},
                  {"x-amz-date", "20130524T000000Z"}},
                 empty,
                 "20130524T000000Z",
                 "us-east-1",
                 "s3"};
  EXPECT_NE(Authorization(list, credentials)
                .find("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
            std::string::npos);
  SignInput lifecycle = list;
  lifecycle.query = {{"lifecycle", ""}};
  EXPECT_NE(Authorization(lifecycle, credentials)
                .find("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            std::string::npos);
}

// A name that the disk did not confirm is there all the same: neither done nor failed.
// As many folders as there were leases must not stay; whoever writes where one is removed makes it again.
TEST(LocalStore, FoldersGoWithTheirLastObject) {
  testing::TempFolder folder;
  ASSERT_VALUE(const auto store, OpenLocalStore(folder.path(), {.sync = false}));
  ASSERT_OK(store->PutIfAbsent("a/b/1", "one"));
  ASSERT_OK(store->PutIfAbsent("a/b/2", "two"));
  ASSERT_OK(store->Delete("a/b/1"));
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/a/b"));
  ASSERT_OK(store->Delete("a/b/2"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/a/b"));
  ASSERT_OK(store->Delete("a/b/2"));
  EXPECT_TRUE(std::filesystem::exists(folder.path()));

  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 3'000; ++i) {
        const std::string key = "a/b/" + std::to_string(t) + "-" + std::to_string(i);
        EXPECT_OK(store->PutIfAbsent(key, "x"));
        EXPECT_OK(store->Get(key).status());
        EXPECT_OK(store->Delete(key));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(LocalStore, AFolderThatCannotBeSyncedIsUnknown) {
  const testing::TempFolder folder;
  bool fail = false;
  ASSERT_VALUE(const auto store, OpenLocalStore(folder.path(), {.sync = true, .sync_folder = [&](int) {
                                                                  errno = EIO;
                                                                  return fail ? -1 : 0;
                                                                }}));
  ASSERT_OK(store->PutIfAbsent("a", "1"));
  fail = true;
  EXPECT_TRUE(store->PutIfAbsent("b", "2").Is(Code::kUnknown));
  EXPECT_TRUE(store->Put("c", "3").Is(Code::kUnknown));
  ASSERT_VALUE(const auto bytes, store->Get("b"));
  EXPECT_EQ(bytes.view(), "2");
  EXPECT_TRUE(store->PutIfAbsent("b", "4").Is(Code::kAlreadyExists));
}

// Blocks of all readers share one budget: one block below, at and above it.
TEST(ReadAhead, KeepsNoMoreThanItsBudget) {
  const int64_t block = BlockPool::kBlockBytes;
  class Counted final : public ObjectReader {
   public:
    Counted(int64_t size, int* reads) : ObjectReader("object", size), reads_(reads) {}

   protected:
    Result<Bytes> DoRead(int64_t offset, int64_t length) override {
      ++*reads_;
      return Bytes::FromString(
          std::string(static_cast<size_t>(length), static_cast<char>(offset / (1 << 20))));
    }

   private:
    int* reads_;
  };
  for (const int64_t budget : {2, 3, 4}) {
    const auto pool = std::make_shared<BlockPool>(budget * block);
    int reads = 0;
    {
      const auto a = ReadAhead(std::make_shared<Counted>(2 * block, &reads), pool);
      const auto b = ReadAhead(std::make_shared<Counted>(block + 1, &reads), pool);
      for (const auto& [reader, at] : {std::pair{a, int64_t{0}}, {a, block}, {b, int64_t{0}}}) {
        ASSERT_VALUE(const auto bytes, reader->Read(at + 5, 10));
        EXPECT_EQ(bytes.view(), std::string(10, static_cast<char>(at / block)));
        EXPECT_LE(pool->bytes(), budget * block);
      }
      EXPECT_EQ(reads, 3);
      ASSERT_OK(a->Read(7, 1).status());  // the oldest: still there where three fit
      EXPECT_EQ(reads, budget >= 3 ? 3 : 4);
      ASSERT_OK(b->Read(block, 1).status());  // a block of one byte
    }
    EXPECT_EQ(pool->bytes(), 0) << "readers that are gone hold nothing";
  }
}

}  // namespace
}  // namespace headrace::store
