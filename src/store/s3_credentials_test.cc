#include "store/s3_credentials.h"

#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <future>
#include <latch>
#include <thread>

#include "store/aws_credentials.h"
#include "store/aws_process.h"
#include "store/s3_config.h"
#include "testing.h"

namespace headrace::store {
namespace {

constexpr int64_t kSecond = 1'000'000;

// A source whose credentials live for an hour, and the clock by which they do.
class Credentials : public ::testing::Test {
 protected:
  Result<ExpiringCredentials> Fetch() {
    const int fetch = ++fetches_;
    if (waiting_ != nullptr) {
      entered_.count_down();
      waiting_->wait();
    }
    if (away_) return Status::Unavailable("the source is away");
    return ExpiringCredentials{{"key " + std::to_string(fetch), "secret", "token"}, now_ + 3600 * kSecond};
  }
  std::string Key() {
    const auto got = provider_.Get();
    return got.ok() ? got->access_key : got.status().message();
  }

  std::atomic<int64_t> now_ = 1'000'000 * kSecond;
  std::atomic<int> fetches_ = 0;
  std::atomic<bool> away_ = false;
  std::latch entered_{1};
  std::unique_ptr<std::latch> waiting_;  // the source answers once this is down
  S3CredentialProvider provider_{[this] { return Fetch(); }, [this] { return now_.load(); }};
};

TEST_F(Credentials, AreAskedForOnceAndRenewedBeforeTheyExpire) {
  EXPECT_EQ(Key(), "key 1");
  now_ += 3299 * kSecond;
  EXPECT_EQ(Key(), "key 1");
  now_ += 1 * kSecond;
  EXPECT_EQ(Key(), "key 2");
  EXPECT_EQ(Key(), "key 2");
  EXPECT_EQ(fetches_, 2);
}

TEST_F(Credentials, OneThreadRenewsWhileTheOthersGoOn) {
  EXPECT_EQ(Key(), "key 1");
  now_ += 3400 * kSecond;
  waiting_ = std::make_unique<std::latch>(1);
  auto slow = std::async(std::launch::async, [&] { return Key(); });
  entered_.wait();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Key(), "key 1");  // would hang if it waited for the source
  waiting_->count_down();
  EXPECT_EQ(slow.get(), "key 2");
  EXPECT_EQ(Key(), "key 2");
  EXPECT_EQ(fetches_, 2);
}

TEST_F(Credentials, WhoHasNoneWaitsForTheOneWhoAsks) {
  waiting_ = std::make_unique<std::latch>(1);
  std::vector<std::future<std::string>> all;
  for (int i = 0; i < 8; ++i) all.push_back(std::async(std::launch::async, [&] { return Key(); }));
  entered_.wait();
  waiting_->count_down();
  for (auto& one : all) EXPECT_EQ(one.get(), "key 1");
  EXPECT_EQ(fetches_, 1);
}

TEST_F(Credentials, ASourceThatIsAwayIsOnlyAnErrorOnceTheyHaveExpired) {
  EXPECT_EQ(Key(), "key 1");
  away_ = true;
  now_ += 3400 * kSecond;
  EXPECT_EQ(Key(), "key 1");
  EXPECT_EQ(Key(), "key 1");
  EXPECT_EQ(fetches_, 2) << "it is left alone for some seconds";
  now_ += 300 * kSecond;
  EXPECT_EQ(Key(), "the source is away");
  EXPECT_EQ(Key(), "the source is away");
  EXPECT_EQ(fetches_, 3);
  away_ = false;
  now_ += 5 * kSecond;
  EXPECT_EQ(Key(), "key 4");
}

TEST_F(Credentials, RefusedOnesAreReplacedOnceForAllWhoWereRefused) {
  ASSERT_VALUE(const auto first, provider_.Get());
  now_ += 10 * kSecond;
  std::vector<std::future<Status>> all;
  for (int i = 0; i < 8; ++i)
    all.push_back(std::async(std::launch::async, [&] { return provider_.Renew(first); }));
  for (auto& one : all) EXPECT_OK(one.get());
  EXPECT_EQ(Key(), "key 2");
  EXPECT_EQ(fetches_, 2);
  now_ += 10 * kSecond;
  ASSERT_VALUE(const auto second, provider_.Get());
  away_ = true;
  EXPECT_TRUE(provider_.Renew(second).Is(Code::kUnavailable)) << "the reason, not the store's refusal";
}

// The store's clock decides, and not ours, what has expired.
TEST(CredentialProvider, UsesWhatJustCameThoughOurClockCallsItExpired) {
  int fetches = 0;
  int64_t now = 10'000 * kSecond;
  S3CredentialProvider provider(
      [&]() -> Result<ExpiringCredentials> {
        ++fetches;
        return ExpiringCredentials{{"k", "s", "t"}, 5'000 * kSecond};
      },
      [&] { return now; });
  for (int i = 0; i < 3; ++i) ASSERT_OK(provider.Get().status());
  EXPECT_EQ(fetches, 1);
  now += 6 * kSecond;
  ASSERT_OK(provider.Get().status());
  EXPECT_EQ(fetches, 2);
}

class AwsFiles : public ::testing::Test {
 protected:
  AwsSettings Read(const std::string& config, const std::string& credentials, AwsSettings::Values more = {}) {
    mkdir((folder_.path() + "/.aws").c_str(), 0777);
    std::ofstream(folder_.path() + "/.aws/config") << config;
    std::ofstream(folder_.path() + "/.aws/credentials") << credentials;
    more["HOME"] = folder_.path();
    return AwsSettings(more);
  }
  testing::TempFolder folder_;
};

TEST_F(AwsFiles, ProfilesSessionsAndNestedValues) {
  const auto settings = Read(
      "[default]\nregion = eu-north-1\n# a comment\n[profile \"two words\"]\nREGION=us-west-2\ns3 =\n  "
      "addressing_style = path\n"
      "  max = 3\noutput = json\n; another\n[sso-session corp]\nsso_region = eu-west-1\nregion = none\n",
      "[default]\naws_access_key_id = A=B\n[two words]\nregion = af-south-1\n",
      {{"AWS_PROFILE", "two words"}});
  EXPECT_EQ(settings.Region(), "af-south-1") << "the credentials file wins";
  EXPECT_EQ(settings.Get("s3.addressing_style"), "path");
  EXPECT_EQ(settings.Get("output"), "json");
  EXPECT_EQ(AwsSettings::Find(settings.Profile("default"), "aws_access_key_id"), "A=B");
  EXPECT_EQ(AwsSettings::Find(settings.Profile("default"), "region"), "eu-north-1");
  EXPECT_TRUE(settings.SharedProfile("two words").contains("region"));
  EXPECT_EQ(AwsSettings::Find(settings.SsoSession("corp"), "sso_region"), "eu-west-1");
  EXPECT_TRUE(settings.Profile("nobody").empty());
}

TEST_F(AwsFiles, EndpointsOfAServiceAndOfAll) {
  const std::string config =
      "[default]\nservices = mine\nendpoint_url = http://all-in-file/\n[services mine]\ns3 =\n  endpoint_url "
      "= http://s3-in-file\n";
  const auto endpoint = [&](AwsSettings::Values environment) {
    return Read(config, "", std::move(environment)).Endpoint("s3");
  };
  EXPECT_EQ(endpoint({}), "http://s3-in-file");
  EXPECT_EQ(Read(config, "").Endpoint("sts"), "http://all-in-file");
  EXPECT_EQ(endpoint({{"AWS_ENDPOINT_URL", "http://all//"}}), "http://all");
  EXPECT_EQ(endpoint({{"AWS_ENDPOINT_URL", "http://all"}, {"AWS_ENDPOINT_URL_S3", "http://s3"}}),
            "http://s3");
  EXPECT_EQ(endpoint({{"AWS_ENDPOINT_URL", "http://all"}, {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"}}),
            "");
}

TEST(S3Address, IsAHostNameOrAPath) {
  const auto url = [](S3Config config, const std::string& region = "eu-west-3") {
    const auto address = AddressOf(config, region);
    EXPECT_EQ(address.origin.substr(address.origin.find("://") + 3), address.host);
    return address.origin + address.path;
  };
  EXPECT_EQ(url({.bucket = "b"}), "https://b.s3.eu-west-3.amazonaws.com");
  EXPECT_EQ(url({.bucket = "b.c"}), "https://s3.eu-west-3.amazonaws.com/b.c");
  EXPECT_EQ(url({.bucket = "b"}, "cn-north-1"), "https://b.s3.cn-north-1.amazonaws.com.cn");
  EXPECT_EQ(url({.bucket = "b", .addressing = S3Addressing::kPath}), "https://s3.eu-west-3.amazonaws.com/b");
  EXPECT_EQ(url({.bucket = "b", .dual_stack = true}), "https://b.s3.dualstack.eu-west-3.amazonaws.com");
  EXPECT_EQ(url({.bucket = "b", .fips = true}), "https://b.s3-fips.eu-west-3.amazonaws.com");
  EXPECT_EQ(url({.bucket = "b", .endpoint = "http://h:9000"}), "http://h:9000/b");
  EXPECT_EQ(url({.bucket = "b", .endpoint = "http://h:9000/base"}), "http://h:9000/base/b");
  EXPECT_EQ(url({.bucket = "b", .endpoint = "http://h:9", .addressing = S3Addressing::kVirtual}),
            "http://b.h:9");
}

TEST(CredentialProcess, WordsAreSplitAsAShellDoes) {
  const auto split = [](const std::string& line) {
    const auto words = SplitWords(line);
    std::string joined;
    if (!words.ok()) return std::string("error");
    for (const auto& word : *words) joined += "<" + word + ">";
    return joined;
  };
  EXPECT_EQ(split("  a\tb  c "), "<a><b><c>");
  EXPECT_EQ(split("'a b' \"c d\"e \"\""), "<a b><c de><>");
  EXPECT_EQ(split("a\\ b '\\' \"\\\"\\x\""), "<a b><\\><\"\\x>");
  EXPECT_EQ(split("a 'b"), "error");
  EXPECT_EQ(split(""), "");
}

}  // namespace
}  // namespace headrace::store
