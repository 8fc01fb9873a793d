// Cells: every type that a stream gives for texts and messages, and what is said of broken ones.
#include "tune/samples_cells.h"

#include <arrow/api.h>

#include "tune/samples_testing.h"

namespace headrace::tune {
namespace {

using Cells = std::shared_ptr<arrow::Array>;

template <typename Builder>
Cells Texts(const std::vector<const char*>& texts) {
  Builder builder;
  for (const char* text : texts) {
    const auto added = text == nullptr ? builder.AppendNull() : builder.Append(text);
    EXPECT_TRUE(added.ok());
  }
  return *builder.Finish();
}
Cells Json(const char* text) { return Texts<arrow::StringBuilder>({text}); }

template <typename Array>
Cells ListOf(const Cells& items, std::vector<typename Array::offset_type> offsets) {
  typename arrow::CTypeTraits<typename Array::offset_type>::BuilderType builder;
  EXPECT_TRUE(builder.AppendValues(offsets).ok());
  return *Array::FromArrays(**builder.Finish(), *items);
}

Cells Struct(const std::vector<std::string>& names, const std::vector<Cells>& members) {
  return *arrow::StructArray::Make(members, names);
}

std::shared_ptr<arrow::RecordBatch> BatchOf(const std::vector<std::pair<std::string, Cells>>& columns,
                                            const std::vector<uint8_t>& valid) {
  arrow::FieldVector fields;
  arrow::ArrayVector arrays;
  const auto add = [&](const std::string& name, const Cells& cells) {
    fields.push_back(arrow::field(name, cells->type()));
    arrays.push_back(cells);
  };
  for (const auto& [name, cells] : columns) add(name, cells);
  arrow::UInt8Builder flags;
  arrow::Int64Builder ids;
  for (size_t i = 0; i < valid.size(); ++i)
    EXPECT_TRUE(flags.Append(valid[i]).ok() && ids.Append(100 + static_cast<int64_t>(i)).ok());
  add("valid", *flags.Finish());
  add("row_id", *ids.Finish());
  return arrow::RecordBatch::Make(arrow::schema(fields), static_cast<int64_t>(valid.size()), arrays);
}

TEST(SamplesCells, TextsOfEveryType) {
  const std::vector<const char*> texts = {"one", nullptr, "", "🦆"};
  std::vector<Cells> all = {Texts<arrow::StringBuilder>(texts), Texts<arrow::LargeStringBuilder>(texts),
                            Texts<arrow::StringViewBuilder>(texts),
                            Texts<arrow::StringDictionary32Builder>(texts)};
  all.push_back(*all[0]->View(arrow::utf8()));
  for (const Cells& cells : all) {
    EXPECT_EQ(**TextAt(*cells, 0), "one") << cells->type()->ToString();
    EXPECT_FALSE(TextAt(*cells, 1)->has_value());
    EXPECT_EQ(**TextAt(*cells, 2), "");
    EXPECT_EQ(**TextAt(*cells->Slice(2), 1), "🦆");
  }
  EXPECT_FALSE(TextAt(*arrow::NullArray(1).Slice(0), 0)->has_value());
  EXPECT_EQ(TextAt(**arrow::MakeArrayOfNull(arrow::int32(), 1), 0)->has_value(), false);
  arrow::Int32Builder numbers;
  ASSERT_TRUE(numbers.Append(1).ok());
  EXPECT_EQ(TextAt(**numbers.Finish(), 0).status().code(), Code::kUnsupported);
}

void ExpectTalk(const Cells& cells, int64_t row) {
  const auto read = ConversationAt(*cells, row);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  ASSERT_TRUE(read->has_value());
  const auto& messages = (*read)->messages;
  ASSERT_EQ(messages.size(), 3U);
  EXPECT_EQ(messages[0].role, "system");
  EXPECT_EQ(messages[1].content, "Hi \"you\" 🦆");
  EXPECT_EQ(messages[2].role, "assistant");
  EXPECT_EQ(messages[2].reasoning, "hm");
  EXPECT_EQ(messages[2].content, "");
  ASSERT_EQ(messages[2].tool_calls.size(), 1U);
  EXPECT_EQ(messages[2].tool_calls[0].name, "f");
  EXPECT_EQ(messages[2].tool_calls[0].arguments, R"({"b":1,"a":2})");
  EXPECT_EQ((*read)->weights, (std::vector<bool>{true, true, false}));
}

TEST(SamplesCells, ConversationsAsJsonAndAsLists) {
  const std::string array =
      R"([{"role": "developer", "content": "Be."}, {"role": "user", "content": [{"type": "text", "text": )"
      R"("Hi \"you\" "}, {"type": "text", "text": "🦆"}]}, {"role": "assistant", "content": null, )"
      R"("reasoning_content": "hm", "weight": 0, "tool_calls": [{"id": "1", "type": "function", )"
      R"("function": {"name": "f", "arguments": {"b": 1, "a": 2}}}]}])";
  ExpectTalk(Json(array.c_str()), 0);
  ExpectTalk(Json(("{\"messages\": " + array + ", \"other\": 1}").c_str()), 0);
  const auto with = ConversationAt(*Json(R"({"messages": [], "tools": [{"type": "function", "function": )"
                                         R"({"name": "f", "parameters": {"b": 1, "a": 2}}}]})"),
                                   0);
  ASSERT_TRUE(with.ok()) << with.status().ToString();
  ASSERT_EQ((*with)->tools.size(), 1U);
  EXPECT_EQ((*with)->tools[0].parameters, R"({"b":1,"a":2})");

  const char* calls = R"([{"function": {"name": "f", "arguments": "{\"b\":1,\"a\":2}"}}])";
  arrow::Int32Builder weights;
  ASSERT_TRUE(weights.AppendValues({1, 1, 0, 1}).ok());
  const Cells items =
      Struct({"role", "content", "reasoning", "weight", "tool_calls"},
             {Texts<arrow::StringDictionary32Builder>({"system", "user", "assistant", "user"}),
              Texts<arrow::LargeStringBuilder>({"Be.", "Hi \"you\" 🦆", nullptr, "x"}),
              Texts<arrow::StringBuilder>({nullptr, nullptr, "hm", nullptr}), *weights.Finish(),
              Texts<arrow::StringBuilder>({nullptr, nullptr, calls, nullptr})});
  ExpectTalk(ListOf<arrow::ListArray>(items, {0, 3, 4}), 0);
  ExpectTalk(ListOf<arrow::LargeListArray>(items, {0, 0, 3, 4})->Slice(1), 0);
  EXPECT_FALSE(ConversationAt(*Json(nullptr), 0)->has_value());
  EXPECT_FALSE(ConversationAt(*Json("null"), 0)->has_value());
}

TEST(SamplesCells, BrokenConversationsSayWhatIsWrong) {
  const std::pair<const char*, const char*> broken[] = {
      {"[{\"role\": \"user\"", "messages is no JSON"},
      {"", "messages is no JSON"},
      {"3", "messages must be an array"},
      {"{}", "messages is missing"},
      {R"({"messages": [], "tools": [3]})", "tools[0].function must be an object"},
      {"[3]", "messages[0] must be an object"},
      {R"([{"content": "a"}])", "messages[0].role is missing"},
      {R"([{"role": "bot", "content": "a"}])", "messages[0].role is 'bot'"},
      {R"([{"role": 3, "content": "a"}])", "messages[0].role must be a text"},
      {R"([{"role": "user"}])", "messages[0].content is missing"},
      {R"([{"role": "user", "content": 3}])", "messages[0].content must be a text"},
      {R"([{"role": "user", "content": [{"type": "image_url"}]}])",
       "messages[0].content[0].type is 'image_url'"},
      {R"([{"role": "user", "content": "a", "content": "b"}])", "appears twice"},
      {R"([{"role": "assistant", "tool_calls": 3}])", "messages[0].tool_calls must be an array"},
      {R"([{"role": "assistant", "tool_calls": [{"function": {}}]}])",
       "messages[0].tool_calls[0].function.name"},
      {R"([{"role": "assistant", "content": "a", "weight": 2}])", "messages[0].weight must be 0 or 1"},
      {"[{\"role\": \"user\", \"content\": \"\xff\"}]", "is not UTF-8"},
  };
  for (const auto& [text, says] : broken) {
    const auto read = ConversationAt(*Json(text), 0);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_EQ(read.status().code(), Code::kInvalid);
    EXPECT_NE(read.status().ToString().find(says), std::string::npos) << read.status().ToString();
  }
  const std::string deep(100'000, '[');
  EXPECT_NE(ConversationAt(*Json(deep.c_str()), 0).status().ToString().find("nested"), std::string::npos);
}

TEST(SamplesCells, RowsOfABatch) {
  const Cells prompts = Texts<arrow::StringBuilder>({"a", nullptr, "b", "c", "d\xff", "e"});
  const Cells answers = Texts<arrow::LargeStringBuilder>({"x", "y", nullptr, " ", "z", "w"});
  SampleOptions options{.columns = {.prompt = "valid", .answer = "answer"}, .broken = OnBroken::kDrop};
  const auto batch = BatchOf({{"valid", prompts}, {"answer", answers}}, {1, 1, 1, 1, 1, 0});
  const auto rows = MakerOf(Tiny(), options)->Rows(*batch);
  ASSERT_TRUE(rows.ok()) << rows.status().ToString();
  SampleCounts counts;
  std::vector<Dropped> dropped;
  for (const RowSamples& row : *rows) {
    counts.Add(row);
    dropped.push_back(row.dropped);
  }
  EXPECT_EQ(dropped, (std::vector<Dropped>{Dropped::kNot, Dropped::kNull, Dropped::kNull, Dropped::kEmpty,
                                           Dropped::kBroken, Dropped::kAbsent}));
  EXPECT_EQ((*rows)[0].samples.at(0).row_id, 100);
  EXPECT_EQ(counts.rows, 5);
  EXPECT_EQ(counts.dropped[static_cast<size_t>(Dropped::kNull)].row_ids, (std::vector<int64_t>{101, 102}));
  EXPECT_NE(counts.ToString().find("broken (row 104); the first: the prompt is broken"), std::string::npos)
      << counts.ToString();

  options.broken = OnBroken::kFail;
  const auto failed = MakerOf(Tiny(), options)->Rows(*batch);
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.status().ToString().find("row 104"), std::string::npos) << failed.status().ToString();

  options.columns = {.prompt = "question", .answer = "answer"};
  EXPECT_EQ(MakerOf(Tiny(), options)->Rows(*batch).status().code(), Code::kNotFound);
  options.columns = {.prompt = "row_id", .answer = "answer"};
  const auto numbers = MakerOf(Tiny(), options)->Rows(*batch);
  EXPECT_NE(numbers.status().ToString().find("column 'row_id' is of type int64"), std::string::npos);

  SampleOptions talks{.columns = {.messages = "talk"}, .chat_template = "chatml"};
  const auto talk = BatchOf({{"talk", Texts<arrow::StringBuilder>({R"([{"role":"user","content":"a"},
      {"role":"assistant","content":"b"}])",
                                                                   "[", nullptr})}},
                            {1, 1, 1});
  EXPECT_NE(
      MakerOf(Tiny(), talks)->Rows(*talk).status().ToString().find("row 101 cannot be learned: messages"),
      std::string::npos);
  talks.broken = OnBroken::kDrop;
  const auto read = MakerOf(Tiny(), talks)->Rows(*talk);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ((*read)[0].samples.size(), 1U);
  EXPECT_EQ((*read)[1].dropped, Dropped::kBroken);
  EXPECT_EQ((*read)[2].dropped, Dropped::kNull);
}

}  // namespace
}  // namespace headrace::tune
