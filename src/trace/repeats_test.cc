// Spans that are sent again, and committers that crash on the way: each span is in the table once.
#include "trace/repeats.h"

#include "trace/span_rows.h"
#include "trace/trace_testing.h"

namespace headrace::trace {
namespace {

constexpr int64_t kBegan = 1'700'000'000'000'000;

std::string SpanId(int number) {
  char text[17];
  std::snprintf(text, sizeof text, "%016x", number + 1);
  return text;
}

// A record with spans of these numbers.
std::string Told(std::initializer_list<int> numbers, int64_t received = kBegan, int end = 2) {
  json spans = json::array();
  for (const int number : numbers)
    spans.push_back({{"traceId", "0123456789abcdef0123456789abcdef"},
                     {"spanId", SpanId(number)},
                     {"startTimeUnixNano", "1000"},
                     {"endTimeUnixNano", std::to_string(1000 * end)}});
  const json scope = {{"spans", spans}}, group = {{"scopeSpans", json::array({scope})}};
  const json body = {{"resourceSpans", json::array({group})}};
  return SpansRecord({OtlpFormat::kJson, received, "", "", ""}, body.dump());
}

// How often each span is there: of the table alone, or with what lies in the spools.
std::map<std::string, int> Spans(const std::shared_ptr<table::Catalog>& catalog, bool tail) {
  std::map<std::string, int> counts;
  for (const auto& [id, row] : Read(catalog, tail)) ++counts[id.substr(32)];
  return counts;
}

std::map<std::string, int> Once(int from, int to) {
  std::map<std::string, int> counts;
  for (int i = from; i < to; ++i) counts[SpanId(i)] = 1;
  return counts;
}

TEST(Repeats, AreDroppedWithinTenMinutes) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  ASSERT_VALUE(auto spool, Spool::Create(SpoolRoot(*catalog)));
  ASSERT_VALUE(auto committer, Committer::Try(catalog));
  ASSERT_OK(spool->Append(Kind::kOtlp, Told({0, 1, 1})));
  EXPECT_EQ(Spans(catalog, true), Once(0, 2));
  ASSERT_OK(committer->Commit().status());
  EXPECT_EQ(Spans(catalog, false), Once(0, 2));
  ASSERT_OK(spool->Append(Kind::kOtlp, Told({1, 2}, kBegan + kRepeatMicros)));
  EXPECT_EQ(Spans(catalog, true), Once(0, 3));
  ASSERT_OK(committer->Commit().status());
  EXPECT_EQ(Spans(catalog, true), Once(0, 3));
  // Another committer has only the table to know it from.
  committer.reset();
  ASSERT_OK(spool->Append(Kind::kOtlp, Told({2, 3}, kBegan + kRepeatMicros + 5)));
  ASSERT_OK(CommitSpools(catalog).status());
  EXPECT_EQ(Spans(catalog, false), Once(0, 4));
  // Repeats alone: nothing is committed, and the record is not read again.
  ASSERT_OK(spool->Append(Kind::kOtlp, Told({3}, kBegan + kRepeatMicros + 6)));
  ASSERT_VALUE(const auto none, CommitSpools(catalog));
  EXPECT_EQ(none.total(), 0);
  // Another end, and much later: another row.
  ASSERT_OK(spool->Append(Kind::kOtlp, Told({3}, kBegan + kRepeatMicros + 7, 9)));
  ASSERT_OK(spool->Append(Kind::kOtlp, Told({0}, kBegan + kRepeatMicros + 8)));
  ASSERT_OK(CommitSpools(catalog).status());
  auto wanted = Once(0, 4);
  wanted[SpanId(0)] = wanted[SpanId(3)] = 2;
  EXPECT_EQ(Spans(catalog, true), wanted);
}

// A crash before each change on the disk or in the store, for every one of them; then all goes on, with a
// sender that sends its last batch again.
TEST(Repeats, EachSpanOnceWhereverTheCommitterCrashes) {
  struct Crash {};
  for (int at = 0;; ++at) {
    const TempFolder folder;
    ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
    ASSERT_VALUE(auto spool, Spool::Create(SpoolRoot(*catalog)));
    ASSERT_OK(spool->Append(Kind::kOtlp, Told({0, 1})));
    int left = at;
    bool crashed = false;
    try {
      ASSERT_VALUE(auto committer, Committer::Try(catalog, {.step = [&] {
                                                    if (left-- == 0) throw Crash();
                                                  }}));
      ASSERT_OK(committer->Commit().status());
      ASSERT_OK(spool->Append(Kind::kOtlp, Told({1, 2}, kBegan + 1)));
      ASSERT_OK(committer->Commit().status());
    } catch (const Crash&) {
      crashed = true;
    }
    ASSERT_OK(spool->Append(Kind::kOtlp, Told({0, 1, 2, 3}, kBegan + 2)));
    EXPECT_EQ(Spans(catalog, true), Once(0, 4)) << at;
    ASSERT_OK(CommitSpools(catalog).status());
    EXPECT_EQ(Spans(catalog, false), Once(0, 4)) << at;
    EXPECT_EQ(Spans(catalog, true), Once(0, 4)) << at;
    if (!crashed) break;
  }
}

TEST(Repeats, TheOldestAreForgottenFirst) {
  constexpr int kMost = 1000, kRows = kMost + 10;
  Repeats repeats(kMost);
  std::vector<json> rows;
  for (int i = 0; i < kRows; ++i)
    rows.push_back(
        json{{"trace_id", "t"}, {"span_id", std::to_string(i)}, {"resource", "{}"}, {"time", kBegan + i}});
  ASSERT_OK(repeats.Drop(std::nullopt, &rows));
  EXPECT_EQ(rows.size(), static_cast<size_t>(kRows));
  repeats.Keep();
  EXPECT_LE(repeats.known(), size_t{kMost});
  std::vector<json> again = {rows.front(), rows.back()};
  for (json& row : again) row["time"] = kBegan + kRows;
  ASSERT_OK(repeats.Drop(std::nullopt, &again));
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0]["span_id"], "0");
}

}  // namespace
}  // namespace headrace::trace
