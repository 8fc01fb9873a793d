#include "tune/samples_cells.h"

#include <arrow/array.h>
#include <arrow/extension_type.h>
#include <arrow/type.h>

#include "base/limits.h"
#include "base/ordered_json.h"
#include "base/utf8.h"

namespace headrace::tune {
namespace {

using Json = nlohmann::ordered_json;

std::string At(const std::string& path, size_t i) { return path + "[" + std::to_string(i) + "]"; }

Status Wrong(const std::string& path, const std::string& what) { return Status::Invalid(path + " " + what); }

// A value as JSON: of lists, structs, texts and numbers, as columns of messages have them.
Result<Json> JsonOf(const arrow::Array& values, int64_t row);

Result<Json> JsonOfList(const arrow::Array& items, int64_t begin, int64_t end) {
  Json list = Json::array();
  for (int64_t i = begin; i < end; ++i) {
    HEADRACE_ASSIGN(Json item, JsonOf(items, i));
    list.push_back(std::move(item));
  }
  return list;
}

Result<Json> JsonOfStruct(const arrow::StructArray& values, int64_t row) {
  Json object = Json::object();
  const auto& type = static_cast<const arrow::StructType&>(*values.type());
  for (int i = 0; i < type.num_fields(); ++i) {
    HEADRACE_ASSIGN(Json member, JsonOf(*values.field(i), row));
    if (!member.is_null())
      object.get_ref<Json::object_t&>().emplace_back(type.field(i)->name(), std::move(member));
  }
  return object;
}

template <typename Array>
Result<Json> JsonOfItems(const arrow::Array& values, int64_t row) {
  const auto& lists = static_cast<const Array&>(values);
  return JsonOfList(*lists.values(), lists.value_offset(row),
                    lists.value_offset(row) + lists.value_length(row));
}

Result<Json> JsonOf(const arrow::Array& values, int64_t row) {
  using A = arrow::Type;
  if (values.IsNull(row)) return Json(nullptr);
  switch (values.type_id()) {
    case A::BOOL:
      return Json(static_cast<const arrow::BooleanArray&>(values).Value(row));
    case A::INT32:
      return Json(static_cast<const arrow::Int32Array&>(values).Value(row));
    case A::INT64:
      return Json(static_cast<const arrow::Int64Array&>(values).Value(row));
    case A::FLOAT:
      return Json(static_cast<const arrow::FloatArray&>(values).Value(row));
    case A::DOUBLE:
      return Json(static_cast<const arrow::DoubleArray&>(values).Value(row));
    case A::LIST:
      return JsonOfItems<arrow::ListArray>(values, row);
    case A::LARGE_LIST:
      return JsonOfItems<arrow::LargeListArray>(values, row);
    case A::FIXED_SIZE_LIST:
      return JsonOfItems<arrow::FixedSizeListArray>(values, row);
    case A::STRUCT:
      return JsonOfStruct(static_cast<const arrow::StructArray&>(values), row);
    case A::EXTENSION:
      return JsonOf(*static_cast<const arrow::ExtensionArray&>(values).storage(), row);
    case A::NA:
      return Json(nullptr);
    default: {
      const auto text = TextAt(values, row);
      return text.ok() && *text ? Json(std::string(**text))
                                : Json(nullptr);  // a time, say: nobody asks for it
    }
  }
}

// A member that is not null; null where there is none.
const Json* Find(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Status ReadText(const Json& value, const std::string& path, std::string* to) {
  if (!value.is_string()) return Wrong(path, "must be a text");
  *to = value.get_ref<const std::string&>();
  if (!CheckUtf8(*to).ok()) return Wrong(path, "is not UTF-8");
  return Status::Ok();
}

// The first of `names` that is there.
Status ReadMember(const Json& object, std::initializer_list<const char*> names, const std::string& path,
                  std::string* to) {
  for (const char* name : names)
    if (const Json* value = Find(object, name)) return ReadText(*value, path + "." + name, to);
  return Status::Ok();
}

Status ReadContent(const Json& content, const std::string& path, std::string* to) {
  if (!content.is_array()) return ReadText(content, path, to);
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string place = At(path, i);
    std::string type, text;
    if (!part.is_object()) return Wrong(place, "must be an object");
    HEADRACE_TRY(ReadMember(part, {"type"}, place, &type));
    if (type != "text" && type != "input_text" && type != "output_text")
      return Wrong(place + ".type", "is '" + type + "'; only parts of type text are learned from");
    HEADRACE_TRY(ReadMember(part, {"text"}, place, &text));
    *to += text;
  }
  return Status::Ok();
}

Result<Json> ParseText(const std::string& text, const std::string& path) {
  if (!CheckUtf8(text).ok()) return Wrong(path, "is not UTF-8");
  if (JsonDepth(text) > static_cast<int>(limits::kMaxJsonDepth)) return Wrong(path, "is nested too deeply");
  auto parsed = ParseOrderedJson(text);
  if (!parsed.ok()) return Wrong(path, "is no JSON: " + CleanUtf8(parsed.status().message()));
  return parsed;
}

Status ReadCall(const Json& call, const std::string& path, model::ToolCall* to) {
  if (!call.is_object()) return Wrong(path, "must be an object");
  HEADRACE_TRY(ReadMember(call, {"id"}, path, &to->id));
  const Json* function = Find(call, "function");
  if (function == nullptr || !function->is_object()) return Wrong(path + ".function", "must be an object");
  HEADRACE_TRY(ReadMember(*function, {"name"}, path + ".function", &to->name));
  if (to->name.empty()) return Wrong(path + ".function.name", "is missing");
  const Json* arguments = Find(*function, "arguments");
  if (arguments == nullptr) {
    to->arguments = "{}";
  } else if (arguments->is_string()) {
    HEADRACE_TRY(ReadText(*arguments, path + ".function.arguments", &to->arguments));
  } else {
    to->arguments = arguments->dump(-1, ' ', false, nlohmann::detail::error_handler_t::replace);
  }
  return Status::Ok();
}

Status ReadCalls(const Json& value, const std::string& path, std::vector<model::ToolCall>* to) {
  Json parsed;
  const Json* calls = &value;
  if (value.is_string()) {  // as columns have them whose structs hold no lists
    HEADRACE_ASSIGN(parsed, ParseText(value.get<std::string>(), path));
    calls = &parsed;
  }
  if (!calls->is_array()) return Wrong(path, "must be an array");
  for (size_t i = 0; i < calls->size(); ++i) {
    model::ToolCall call;
    HEADRACE_TRY(ReadCall((*calls)[i], At(path, i), &call));
    to->push_back(std::move(call));
  }
  return Status::Ok();
}

Status ReadWeight(const Json& message, const std::string& path, bool* learned) {
  const Json* weight = Find(message, "weight");
  if (weight == nullptr) return Status::Ok();
  if (!weight->is_number() || (weight->get<double>() != 0 && weight->get<double>() != 1))
    return Wrong(path + ".weight", "must be 0 or 1");
  *learned = weight->get<double>() == 1;
  return Status::Ok();
}

// As the server reads them (api/parse_parts.cc).
Status ReadMessage(const Json& from, const std::string& path, model::Message* to, bool* learned) {
  if (!from.is_object()) return Wrong(path, "must be an object");
  HEADRACE_TRY(ReadMember(from, {"role"}, path, &to->role));
  if (to->role == "developer") to->role = "system";
  if (to->role == "function") to->role = "tool";
  if (to->role.empty()) return Wrong(path + ".role", "is missing");
  if (to->role != "system" && to->role != "user" && to->role != "assistant" && to->role != "tool")
    return Wrong(path + ".role",
                 "is '" + to->role + "'; there are system, developer, user, assistant and tool");
  const Json* content = Find(from, "content");
  const Json* calls = Find(from, "tool_calls");
  if (content == nullptr && calls == nullptr && to->role != "assistant")
    return Wrong(path + ".content", "is missing");
  if (content != nullptr) HEADRACE_TRY(ReadContent(*content, path + ".content", &to->content));
  if (calls != nullptr) HEADRACE_TRY(ReadCalls(*calls, path + ".tool_calls", &to->tool_calls));
  HEADRACE_TRY(ReadMember(from, {"reasoning_content", "reasoning"}, path, &to->reasoning));
  HEADRACE_TRY(ReadMember(from, {"name"}, path, &to->name));
  HEADRACE_TRY(ReadMember(from, {"tool_call_id"}, path, &to->tool_call_id));
  return ReadWeight(from, path, learned);
}

// As the server reads them (api/parse_parts.cc).
Status ReadTools(const Json& tools, std::vector<model::Tool>* to) {
  if (!tools.is_array()) return Wrong("tools", "must be an array");
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string path = At("tools", i) + ".function";
    const Json* function = tools[i].is_object() ? Find(tools[i], "function") : nullptr;
    if (function == nullptr || !function->is_object()) return Wrong(path, "must be an object");
    model::Tool& tool = to->emplace_back();
    HEADRACE_TRY(ReadMember(*function, {"name"}, path, &tool.name));
    HEADRACE_TRY(ReadMember(*function, {"description"}, path, &tool.description));
    if (tool.name.empty()) return Wrong(path + ".name", "is missing");
    const Json* schema = Find(*function, "parameters");
    if (schema != nullptr && !schema->is_object()) return Wrong(path + ".parameters", "must be an object");
    tool.parameters = schema == nullptr ? R"({"type": "object", "properties": {}})" : schema->dump();
  }
  return Status::Ok();
}

Result<Conversation> ReadConversation(const Json& value) {
  const Json* list = &value;
  Conversation conversation;
  if (value.is_object()) {
    if (const Json* tools = Find(value, "tools")) HEADRACE_TRY(ReadTools(*tools, &conversation.tools));
    list = Find(value, "messages");
    if (list == nullptr) return Wrong("messages", "is missing in the object");
  }
  if (!list->is_array()) return Wrong("messages", "must be an array");
  for (size_t i = 0; i < list->size(); ++i) {
    bool learned = true;
    HEADRACE_TRY(ReadMessage((*list)[i], At("messages", i), &conversation.messages.emplace_back(), &learned));
    conversation.weights.push_back(learned);
  }
  return conversation;
}

}  // namespace

Status CheckUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const int length = static_cast<unsigned char>(text[at]) < 0x80 ? 1 : Utf8Length(text, at);
    if (length <= 0) return Status::Invalid("byte " + std::to_string(at) + " is not UTF-8");
    at += static_cast<size_t>(length);
  }
  return Status::Ok();
}

Result<std::optional<std::string_view>> TextAt(const arrow::Array& values, int64_t row) {
  using A = arrow::Type;
  using Text = std::optional<std::string_view>;
  if (values.IsNull(row)) return Text();
  switch (values.type_id()) {
    case A::STRING:
      return Text(static_cast<const arrow::StringArray&>(values).GetView(row));
    case A::LARGE_STRING:
      return Text(static_cast<const arrow::LargeStringArray&>(values).GetView(row));
    case A::STRING_VIEW:
      return Text(static_cast<const arrow::StringViewArray&>(values).GetView(row));
    case A::EXTENSION:
      return TextAt(*static_cast<const arrow::ExtensionArray&>(values).storage(), row);
    case A::DICTIONARY: {
      const auto& encoded = static_cast<const arrow::DictionaryArray&>(values);
      return TextAt(*encoded.dictionary(), encoded.GetValueIndex(row));
    }
    case A::NA:
      return Text();
    default:
      return Status::Unsupported("is of type " + values.type()->ToString() + ", which is no text");
  }
}

Result<std::optional<Conversation>> ConversationAt(const arrow::Array& values, int64_t row) {
  using A = arrow::Type;
  if (values.IsNull(row)) return std::optional<Conversation>();
  const bool lists = values.type_id() == A::LIST || values.type_id() == A::LARGE_LIST ||
                     values.type_id() == A::FIXED_SIZE_LIST || values.type_id() == A::STRUCT;
  Json value;
  if (lists) {
    HEADRACE_ASSIGN(value, JsonOf(values, row));
  } else {
    HEADRACE_ASSIGN(const auto text, TextAt(values, row));
    if (!text) return std::optional<Conversation>();
    HEADRACE_ASSIGN(value, ParseText(std::string(*text), "messages"));
    if (value.is_null()) return std::optional<Conversation>();
  }
  HEADRACE_ASSIGN(Conversation conversation, ReadConversation(value));
  return std::optional<Conversation>(std::move(conversation));
}

}  // namespace headrace::tune
