#include "trace/span_rows.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "trace/media_cut.h"
#include "trace/span_messages.h"
#include "trace/span_names.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

constexpr const char* kSpanKinds[] = {"", "internal", "server", "client", "producer", "consumer"};
constexpr int kErrorStatus = 2;
constexpr int kMostNested = 12;  // dots in a name that are levels: hostile ones have millions

std::string Compact(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

// All attributes below `prefix`, nested by the dots in their names; null where there are none.
json Below(const json& attributes, std::string_view prefix) {
  json nested;
  const auto& all = attributes.get_ref<const json::object_t&>();
  for (auto at = all.lower_bound(std::string(prefix)); at != all.end() && at->first.starts_with(prefix);
       ++at) {
    std::string_view rest = std::string_view(at->first).substr(prefix.size());
    json* place = &nested;
    for (int depth = 0;; ++depth) {
      if (!place->is_object()) *place = json::object();
      const size_t dot = depth < kMostNested ? rest.find('.') : std::string_view::npos;
      place = &(*place)[std::string(rest.substr(0, dot))];
      if (dot == std::string_view::npos) break;
      rest.remove_prefix(dot + 1);
    }
    if (place->is_null()) *place = at->second;
  }
  return nested;
}

std::optional<json> NumberIn(const json& value) {
  if (value.is_number()) return std::optional<json>(value);
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(number)) return std::nullopt;
  return std::optional<json>(number);
}

std::optional<json> IntegerOf(const json& value) {
  const auto number = NumberIn(value);
  if (!number || number->is_number_integer()) return number;
  const double real = number->get<double>();
  if (!(std::abs(real) < 9e15) || std::floor(real) != real) return std::nullopt;
  return std::optional<json>(static_cast<int64_t>(real));
}

std::optional<json> PlainText(const json& value) {
  if (value.is_null()) return std::nullopt;
  return std::optional<json>(value.is_string() ? value : json(Compact(value)));
}

std::optional<json> WordOf(const json& value) {
  if (!value.is_string()) return std::nullopt;
  for (const SpanWord& word : SpanWords())
    if (value.get_ref<const std::string&>() == word.from) return std::optional<json>(word.to);
  return std::optional<json>(value);
}

std::optional<json> FinishOf(const json& value) {
  const json told = Unpacked(value);
  if (!told.is_array()) return WordOf(told);
  return told.empty() ? std::nullopt : WordOf(told[0]);
}

std::optional<json> Converted(const json& value, As as) {
  switch (as) {
    case As::kText:
      return PlainText(value);
    case As::kWord:
      return WordOf(value);
    case As::kFinish:
      return FinishOf(value);
    case As::kInteger:
      return IntegerOf(value);
    case As::kNumber:
      return NumberIn(value);
    case As::kMillis: {
      const auto millis = NumberIn(value);
      return millis ? std::optional<json>(millis->get<double>() / 1000) : std::nullopt;
    }
    case As::kJson:
      return std::optional<json>(Unpacked(value));
    case As::kMessages:
      return ReadMessages(value, "user");
    case As::kInput:
      return ReadMessages(value, "");
    case As::kTools:
      return std::optional<json>(ReadTools(value));
    case As::kCalls:
      return std::optional<json>(ReadCalls(value));
  }
  return std::nullopt;
}

// What attributes say, by SpanNames(); parts that are told already stay.
void ReadNames(const json& attributes, json* parts) {
  for (const SpanName& name : SpanNames()) {
    if (parts->contains(name.to)) continue;
    json below;
    const json* value = nullptr;
    if (name.from.ends_with('.')) {
      below = Below(attributes, name.from);
      value = below.is_null() ? nullptr : &below;
    } else if (const auto found = attributes.find(name.from); found != attributes.end()) {
      value = &*found;
    }
    if (value == nullptr) continue;
    if (auto converted = Converted(*value, name.as)) (*parts)[std::string(name.to)] = std::move(*converted);
  }
}

// Events that each are a message.
void ReadMessageEvents(const json& events, json* parts) {
  json messages = json::array(), choices = json::array();
  for (const json& event : events) {
    for (const SpanEventName& name : SpanEventNames()) {
      if (event.value("name", "") != name.from) continue;
      const json& attributes = event["attributes"];
      const auto content = attributes.find("gen_ai.event.content");
      json body = content == attributes.end() ? attributes : Unpacked(*content);
      if (body.is_object() && body.contains("message")) {
        json message = Unpacked(body["message"]);
        if (!message.is_object()) message = {{"content", std::move(message)}};
        if (body.contains("finish_reason")) message["finish_reason"] = body["finish_reason"];
        body = std::move(message);
      }
      if (auto read = ReadMessages(json::array({std::move(body)}), name.role))
        for (json& message : *read) (name.is_choice ? choices : messages).push_back(std::move(message));
    }
  }
  if (!messages.empty() && !parts->contains("messages")) (*parts)["messages"] = std::move(messages);
  if (!choices.empty() && !parts->contains("choices")) (*parts)["choices"] = std::move(choices);
}

json Taken(json* parts, const char* name) {
  const auto found = parts->find(name);
  if (found == parts->end()) return nullptr;
  json value = std::move(*found);
  parts->erase(found);
  return value;
}

// `input`: {"messages", "tools"}, or what else went in.
void ComposeInput(json* parts) {
  json system = Taken(parts, "system"), messages = Taken(parts, "messages"), tools = Taken(parts, "tools");
  if (!messages.is_null() || !system.is_null() || !tools.is_null()) {
    json input = {{"messages", json::array()}};
    if (system.is_array())
      for (json& message : system) {
        message["role"] = "system";
        input["messages"].push_back(std::move(message));
      }
    if (messages.is_array())
      for (json& message : messages) input["messages"].push_back(std::move(message));
    if (!tools.is_null()) input["tools"] = std::move(tools);
    (*parts)["input"] = Compact(input);
  } else if (parts->contains("input")) {
    (*parts)["input"] = Compact((*parts)["input"]);
  }
}

// As a row's tool_calls are: {"id", "name", "arguments"}.
std::string CallsText(const json& calls) {
  json told = json::array();
  for (const json& call : calls)
    told.push_back({{"id", call["id"]},
                    {"name", call["function"]["name"]},
                    {"arguments", call["function"]["arguments"]}});
  return Compact(told);
}

// `answer`, `reasoning`, `tool_calls`, `finish` and, of several choices, `answers`.
void ComposeAnswer(json* parts) {
  const json choices = Taken(parts, "choices"), said = Taken(parts, "said"), calls = Taken(parts, "calls");
  if (calls.is_array() && !calls.empty()) (*parts)["tool_calls"] = CallsText(calls);
  if (!choices.is_array() || choices.empty()) {
    if (!said.is_null()) (*parts)["answer"] = said;
    return;
  }
  const json& first = choices[0];
  (*parts)["answer"] = TextOf(first);
  if (first.contains("tool_calls")) (*parts)["tool_calls"] = CallsText(first["tool_calls"]);
  if (first.contains("reasoning")) (*parts)["reasoning"] = first["reasoning"];
  if (first.contains("finish_reason") && !parts->contains("finish"))
    if (auto finish = FinishOf(first["finish_reason"])) (*parts)["finish"] = std::move(*finish);
  if (choices.size() == 1) return;
  json all = json::array();
  for (const json& choice : choices) all.push_back(TextOf(choice));
  (*parts)["answers"] = Compact(all);
}

// `sampling`: the members one by one where they are told so, else as a whole.
void ComposeSampling(json* parts) {
  constexpr std::string_view kPrefix = "sampling.";
  json whole = Taken(parts, "sampling"), single = json::object();
  for (auto at = parts->begin(); at != parts->end();) {
    if (!at.key().starts_with(kPrefix)) {
      ++at;
      continue;
    }
    single[at.key().substr(kPrefix.size())] = *at;
    at = parts->erase(at);
  }
  if (!single.empty()) whole = std::move(single);
  if (whole.is_object() && !parts->contains("max_tokens"))
    for (const char* name : {"max_completion_tokens", "max_tokens"})
      if (whole.contains(name) && whole[name].is_number_integer()) (*parts)["max_tokens"] = whole[name];
  if (!whole.is_null()) (*parts)["sampling"] = Compact(whole);
}

std::string MediaKind(std::string_view type) {
  for (const char* kind : {"image", "audio", "video", "text"})
    if (type.starts_with(std::string(kind) + "/")) return kind;
  return "file";
}

// Pictures leave the texts: the column media names them, and each is a row of `media`, under the span's id.
void CutSpanMedia(Span* span, json* row, std::vector<json>* media) {
  CutOut cut;
  CutMedia(&span->attributes, &cut);
  CutMedia(&span->events, &cut);
  if (cut.empty()) return;
  json list = json::array();
  for (auto& [sum, what] : cut) {
    list.push_back({{"sha256", sum}, {"bytes", what.bytes.size()}, {"type", what.type}});
    json bytes = json::binary(std::vector<uint8_t>(what.bytes.begin(), what.bytes.end()));
    media->push_back({{"key", (*row)["id"]},
                      {"time", (*row)["time"]},
                      {"kind", MediaKind(what.type)},
                      {"format", what.type},
                      {"sha256", sum},
                      {"data", std::move(bytes)}});
  }
  (*row)["media"] = Compact(list);
}

}  // namespace

json SpanRow(Span span, const json& origin, const SpansTold& told, std::vector<json>* media) {
  json row = {{"id", span.trace_id + span.span_id},
              {"time", told.received},
              {"trace_id", span.trace_id},
              {"span_id", span.span_id},
              {"name", span.name},
              {"key", told.key},
              {"key_name", told.key_name},
              {"client", told.client}};
  CutSpanMedia(&span, &row, media);
  if (!span.parent.empty()) row["parent"] = span.parent;
  if (span.kind > 0 && span.kind < static_cast<int>(std::size(kSpanKinds)))
    row["kind"] = kSpanKinds[span.kind];
  if (span.start_ns > 0) row["started"] = span.start_ns / 1000;
  if (span.end_ns > 0) row["ended"] = span.end_ns / 1000;
  if (span.start_ns > 0 && span.end_ns >= span.start_ns)
    row["total_seconds"] = static_cast<double>(span.end_ns - span.start_ns) / 1e9;
  if (const auto service = origin.find("service.name"); service != origin.end())
    if (auto text = PlainText(*service)) row["service"] = std::move(*text);

  json parts = json::object();
  if (!span.message.empty()) parts["error"] = span.message;
  for (const json& event : span.events) ReadNames(event["attributes"], &parts);
  ReadNames(span.attributes, &parts);
  ReadMessageEvents(span.events, &parts);
  ComposeInput(&parts);
  ComposeAnswer(&parts);
  ComposeSampling(&parts);
  if (span.status == kErrorStatus) {
    if (!parts.contains("finish")) parts["finish"] = "error";
    if (!parts.contains("error")) parts["error"] = "error";
  } else {
    parts.erase("error");  // it was dealt with
  }
  row.update(parts);

  if (!span.state.empty()) span.attributes.emplace("w3c.tracestate", span.state);
  if (span.dropped > 0) span.attributes.emplace("otel.dropped_attributes_count", span.dropped);
  row["attributes"] = Compact(span.attributes);
  if (!span.events.empty()) row["events"] = Compact(span.events);
  if (!span.links.empty()) row["links"] = Compact(span.links);
  row["resource"] = Compact(origin);
  return row;
}

std::string SpansRecord(const SpansTold& told, std::string_view body) {
  std::string record = Compact({{"format", told.format == OtlpFormat::kJson ? "json" : "protobuf"},
                                {"received", told.received},
                                {"key", told.key},
                                {"key_name", told.key_name},
                                {"client", told.client}});
  record += '\n';
  record += body;
  return record;
}

bool AddSpans(std::string_view record, std::vector<json>* rows, std::vector<json>* media) {
  const size_t line = record.find('\n');
  if (line == std::string_view::npos) return false;
  const json head = ParseJson(record.substr(0, line));
  if (!head.is_object()) return false;
  SpansTold told;
  const auto text = [&](const char* name) {
    const auto found = head.find(name);
    return found != head.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  told.format = text("format") == "json" ? OtlpFormat::kJson : OtlpFormat::kProtobuf;
  told.key = text("key");
  told.key_name = text("key_name");
  told.client = text("client");
  if (const auto time = head.find("received"); time != head.end() && time->is_number_integer())
    told.received = time->get<int64_t>();
  auto batch = DecodeOtlp(told.format, record.substr(line + 1));
  if (!batch.ok()) return false;
  for (Span& span : batch->spans) {
    const json& origin = batch->origins[span.origin];
    rows->push_back(SpanRow(std::move(span), origin, told, media));
  }
  return true;
}

}  // namespace headrace::trace
