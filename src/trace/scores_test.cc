#include "trace/scores.h"

#include "trace/tables.h"
#include "trace/trace_testing.h"

namespace headrace::trace {
namespace {

TEST(Scores, TargetsAreTold) {
  const auto is = [](const std::string& told, const std::string& kind, const std::string& id) {
    const auto target = ParseTarget(told);
    ASSERT_TRUE(target.ok()) << target.status().ToString();
    EXPECT_EQ(*target, (Target{kind, id}));
  };
  is("chatcmpl-0193", "request", "0193");
  is("0193", "request", "0193");
  is("request:resp_0193", "request", "0193");
  is("run:a:b", "run", "a:b");
  is("urn:x", "request", "urn:x");  // no kind of ours
  is("row:photos@v7:42", "row", "photos@v7:42");
  is("row:hr.traces@2026-11-22:0", "row", "hr.traces@2026-11-22:0");
  ASSERT_VALUE(const Target apart, ParseTarget("span", "span:12"));
  EXPECT_EQ(apart.id, "12");
  for (const char* wrong : {"", "run:", "row:photos", "row:photos:1", "row:photos@v7", "row:photos@v7:x",
                            "row:photos@v7:-1", "row:@v7:1", "row:photos@:1"})
    EXPECT_TRUE(ParseTarget(wrong).status().Is(Code::kInvalid)) << wrong;
  EXPECT_TRUE(ParseTarget("table", "x").status().Is(Code::kInvalid));
  ASSERT_VALUE(const RowTarget row, ParseRowTarget("hr.traces@golden:7"));
  EXPECT_EQ(row.table + "|" + row.version, "hr.traces|golden");
  EXPECT_EQ(row.row, 7);
}

TEST(Scores, AnIdIsWhatIsJudgedAndByWhom) {
  const json row = {{"target_kind", "row"}, {"target", "photos@v7:42"}, {"name", "quality"}, {"who", "ada"}};
  const std::string id = ScoreId(row);
  // printf '3:row12:photos@v7:420:7:quality3:ada0:1:0' | sha256sum
  EXPECT_EQ(id, "e25cb7d5f0f6f924c98ecbf4ad8e7f3c");
  for (const auto& [name, value] : {std::pair<const char*, json>{"target_kind", "run"},
                                    {"target", "photos@v7:43"},
                                    {"against", "x"},
                                    {"name", "blur"},
                                    {"who", "bob"},
                                    {"judge", "m"},
                                    {"repeat", 1}}) {
    json other = row;
    other[name] = value;
    EXPECT_NE(ScoreId(other), id) << name;
  }
  // What was said of it makes no other score, and no text runs into the next.
  json again = row;
  again["label"] = "good";
  again["repeat"] = 0;
  EXPECT_EQ(ScoreId(again), id);
  EXPECT_NE(ScoreId({{"name", "ab"}, {"who", "c"}}), ScoreId({{"name", "a"}, {"who", "bc"}}));
}

TEST(Scores, TimesAscend) {
  json first = {{"target_kind", "request"}, {"target", "r"}}, second = first;
  FinishScore(&first);
  FinishScore(&second);
  EXPECT_LT(first["time"], second["time"]);
  EXPECT_LT(first["seq"], second["seq"]);
  EXPECT_EQ(first["id"], second["id"]);
  EXPECT_EQ(first["request"], "r");
}

}  // namespace
}  // namespace headrace::trace
