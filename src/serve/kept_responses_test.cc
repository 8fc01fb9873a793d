#include "serve/kept_responses.h"

#include "base/ids.h"
#include "testing.h"

#include <nlohmann/json.hpp>

namespace headrace::serve {
namespace {

using nlohmann::json;

std::shared_ptr<table::Catalog> MakeCatalog(const testing::TempFolder& folder) {
  auto made = table::Catalog::Init(folder.path() + "/catalog", {.sync = false});
  EXPECT_OK(made.status());
  return made.ok() ? *made : nullptr;
}

// As a request to /v1/responses is written down.
std::string Ask(Recorder* recorder, const std::string& key, bool store) {
  const std::string id = Uuid::Random().ToString();
  recorder->Write(trace::Kind::kStart, {{"id", id}, {"key", key}, {"input", R"({"input":"Hi"})"}});
  json end = {{"id", id}, {"finish", "stop"}};
  if (store) end["response"] = R"({"output":[]})";
  recorder->Write(trace::Kind::kEnd, end);
  return id;
}

TEST(KeptResponses, AreFoundWhereverTheyLie) {
  const testing::TempFolder folder;
  const auto catalog = MakeCatalog(folder);
  ASSERT_NE(catalog, nullptr);
  std::string committed, deleted, waiting;
  {
    ASSERT_VALUE(const auto recorder, Recorder::Start(catalog, RecordMode::kFull, 3600));
    KeptResponses kept(catalog, recorder.get());
    committed = Ask(recorder.get(), "key_a", true);
    deleted = Ask(recorder.get(), "key_a", true);
    ASSERT_VALUE(const bool gone, kept.Delete(deleted, "key_a"));
    EXPECT_TRUE(gone);
  }
  ASSERT_VALUE(const auto recorder, Recorder::Start(catalog, RecordMode::kFull, 3600));
  KeptResponses kept(catalog, recorder.get());
  waiting = Ask(recorder.get(), "key_a", true);
  for (const std::string& id : {committed, waiting}) {
    ASSERT_VALUE(const auto found, kept.Find(id, "key_a"));
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->response, R"({"output":[]})");
    EXPECT_EQ(found->input, R"({"input":"Hi"})");
    for (const char* other : {"key_b", ""}) {
      ASSERT_VALUE(const auto none, kept.Find(id, other));
      EXPECT_FALSE(none.has_value()) << other;
      ASSERT_VALUE(const bool gone, kept.Delete(id, other));
      EXPECT_FALSE(gone);
    }
  }
  const std::string unwanted = Ask(recorder.get(), "key_a", false);
  for (const std::string& id : {deleted, unwanted, Uuid::Random().ToString(), std::string("' or 1=1")}) {
    ASSERT_VALUE(const auto none, kept.Find(id, "key_a"));
    EXPECT_FALSE(none.has_value()) << id;
  }
  kept.Put(waiting, {"key_a", "{}", "{}"});
  ASSERT_VALUE(const auto newest, kept.Find(waiting, "key_a"));
  EXPECT_EQ(newest->response, "{}");
  ASSERT_VALUE(const auto none, kept.Find(waiting, "key_b"));
  EXPECT_FALSE(none.has_value());
  ASSERT_VALUE(const bool gone, kept.Delete(waiting, "key_a"));
  ASSERT_VALUE(const auto after, kept.Find(waiting, "key_a"));
  EXPECT_TRUE(gone && !after.has_value());
}

TEST(KeptResponses, NoneWithoutTexts) {
  const testing::TempFolder folder;
  const auto catalog = MakeCatalog(folder);
  ASSERT_VALUE(const auto recorder, Recorder::Start(catalog, RecordMode::kHash, 3600));
  KeptResponses kept(catalog, recorder.get());
  EXPECT_FALSE(kept.on());
  ASSERT_VALUE(const auto none, kept.Find(Ask(recorder.get(), "", true), ""));
  EXPECT_FALSE(none.has_value());
  ASSERT_VALUE(const auto bare, Recorder::Start(nullptr, RecordMode::kFull, 3600));
  EXPECT_FALSE(KeptResponses(nullptr, bare.get()).on());
}

}  // namespace
}  // namespace headrace::serve
