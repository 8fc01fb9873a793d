// OTLP/JSON: protobuf's JSON, but that ids are hex, and names are lowerCamelCase.
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "base/limits.h"
#include "base/ordered_json.h"
#include "trace/otlp.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

const json kMissing;

const json& Member(const json& object, const char* name) {
  if (!object.is_object()) return kMissing;
  const auto found = object.find(name);
  return found == object.end() ? kMissing : *found;
}

std::string MemberText(const json& object, const char* name) {
  const json& value = Member(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}

// 64-bit numbers are strings, and some senders write them as numbers. Nothing of one that has no place.
template <typename Integer>
std::optional<Integer> ReadInteger(const json& value) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    Integer number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return number;
  }
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    return std::in_range<Integer>(number) ? std::optional(static_cast<Integer>(number)) : std::nullopt;
  }
  if (value.is_number_integer()) {
    const auto number = value.get<int64_t>();
    return std::in_range<Integer>(number) ? std::optional(static_cast<Integer>(number)) : std::nullopt;
  }
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();  // 1.7e18, as JavaScript may write it
  constexpr double kMost = sizeof(Integer) < 8 ? 2147483647.0 : 9223372036854774784.0;
  if (!(number >= 0 && number <= kMost) || std::floor(number) != number) return std::nullopt;
  return static_cast<Integer>(number);
}

template <typename Integer>
Integer IntegerOr0(const json& object, const char* name) {
  return ReadInteger<Integer>(Member(object, name)).value_or(0);
}

// An enumeration's number, or its name with the prefix that its values have.
int Enum(const json& value, std::initializer_list<const char*> names) {
  if (!value.is_string()) return ReadInteger<int>(value).value_or(0);
  int number = 0;
  for (const char* name : names) {
    if (value.get_ref<const std::string&>() == name) return number;
    ++number;
  }
  return 0;
}

bool ValueOf(const json& told, int depth, json* value);

// False where something is nested too deep.
bool ReadAttributes(const json& list, int depth, json* attributes) {
  if (depth > kMaxAttributeDepth) return false;
  if (!list.is_array()) return true;
  for (const json& pair : list) {
    json value;
    if (!ValueOf(Member(pair, "value"), depth, &value)) return false;
    attributes->emplace(MemberText(pair, "key"), std::move(value));
  }
  return true;
}

bool ReadList(const json& list, int depth, json* values) {
  *values = json::array();
  if (depth > kMaxAttributeDepth) return false;
  if (!list.is_array()) return true;
  for (const json& entry : list) {
    json value;
    if (!ValueOf(entry, depth, &value)) return false;
    values->push_back(std::move(value));
  }
  return true;
}

bool ValueOf(const json& told, int depth, json* value) {
  if (const json& text = Member(told, "stringValue"); text.is_string()) {
    *value = text;
  } else if (const json& flag = Member(told, "boolValue"); flag.is_boolean()) {
    *value = flag;
  } else if (const json& integer = Member(told, "intValue"); !integer.is_null()) {
    const auto number = ReadInteger<int64_t>(integer);
    *value = number ? json(*number) : integer;
  } else if (const json& number = Member(told, "doubleValue"); !number.is_null()) {
    *value = number;
  } else if (const json& bytes = Member(told, "bytesValue"); bytes.is_string()) {
    *value = bytes;
  } else if (const json& array = Member(told, "arrayValue"); array.is_object()) {
    return ReadList(Member(array, "values"), depth + 1, value);
  } else if (const json& pairs = Member(told, "kvlistValue"); pairs.is_object()) {
    *value = json::object();
    return ReadAttributes(Member(pairs, "values"), depth + 1, value);
  }
  return true;
}

bool ReadEvents(const json& list, Span* span) {
  if (!list.is_array()) return true;
  for (const json& told : list) {
    json event = {{"name", MemberText(told, "name")}, {"attributes", json::object()}};
    if (const auto time = IntegerOr0<uint64_t>(told, "timeUnixNano"); time > 0) event["time"] = time / 1000;
    if (!ReadAttributes(Member(told, "attributes"), 0, &event["attributes"])) return false;
    span->events.push_back(std::move(event));
  }
  return true;
}

bool ReadLinks(const json& list, Span* span) {
  if (!list.is_array()) return true;
  for (const json& told : list) {
    json link = {{"trace_id", MemberText(told, "traceId")},
                 {"span_id", MemberText(told, "spanId")},
                 {"attributes", json::object()}};
    if (!ReadAttributes(Member(told, "attributes"), 0, &link["attributes"])) return false;
    span->links.push_back(std::move(link));
  }
  return true;
}

void ReadSpan(const json& told, size_t origin, OtlpBatch* batch) {
  if (!told.is_object()) return RejectSpan(batch, "a span is no object");
  Span span;
  span.origin = origin;
  span.trace_id = MemberText(told, "traceId");
  span.span_id = MemberText(told, "spanId");
  span.parent = MemberText(told, "parentSpanId");
  span.state = MemberText(told, "traceState");
  span.name = MemberText(told, "name");
  span.kind = Enum(Member(told, "kind"), {"SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER",
                                          "SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER"});
  span.start_ns = IntegerOr0<uint64_t>(told, "startTimeUnixNano");
  span.end_ns = IntegerOr0<uint64_t>(told, "endTimeUnixNano");
  span.dropped = IntegerOr0<uint32_t>(told, "droppedAttributesCount");
  const json& status = Member(told, "status");
  span.status = Enum(Member(status, "code"), {"STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"});
  span.message = MemberText(status, "message");
  if (!ReadAttributes(Member(told, "attributes"), 0, &span.attributes) ||
      !ReadEvents(Member(told, "events"), &span) || !ReadLinks(Member(told, "links"), &span))
    return RejectSpan(batch, "an attribute is nested too deep");
  AddSpan(batch, std::move(span));
}

Status ReadGroup(const json& group, OtlpBatch* batch) {
  json shared = json::object();
  if (!ReadAttributes(Member(Member(group, "resource"), "attributes"), 0, &shared))
    return Status::Invalid("an attribute of a resource is nested too deep");
  const json& scopes = Member(group, "scopeSpans");
  if (!scopes.is_array()) return Status::Ok();
  const auto bytes = static_cast<int64_t>(shared.dump(-1, ' ', false, json::error_handler_t::replace).size());
  for (const json& part : scopes) {
    const json& spans = Member(part, "spans");
    if (!spans.is_array() || spans.empty()) continue;
    if (!TakeShared(batch, bytes)) {
      for (size_t i = 0; i < spans.size(); ++i) RejectSpan(batch, kTooMuchShared);
      continue;
    }
    json origin = shared;
    const json& scope = Member(part, "scope");
    if (!ReadAttributes(Member(scope, "attributes"), 0, &origin))
      return Status::Invalid("an attribute of a scope is nested too deep");
    if (const std::string name = MemberText(scope, "name"); !name.empty()) origin["otel.scope.name"] = name;
    if (const std::string version = MemberText(scope, "version"); !version.empty())
      origin["otel.scope.version"] = version;
    const auto each =
        static_cast<int64_t>(origin.dump(-1, ' ', false, json::error_handler_t::replace).size());
    batch->origins.push_back(std::move(origin));
    for (const json& span : spans) {
      if (TakeShared(batch, each)) {
        ReadSpan(span, batch->origins.size() - 1, batch);
      } else {
        RejectSpan(batch, kTooMuchShared);
      }
    }
  }
  return Status::Ok();
}

}  // namespace

Result<OtlpBatch> DecodeOtlpJson(std::string_view body) {
  OtlpBatch batch;
  if (JsonDepth(body) > limits::kMaxJsonDepth)
    return Status::Invalid("the body is nested deeper than " + std::to_string(limits::kMaxJsonDepth));
  const json told = ParseJson(body);
  if (!told.is_object()) return Status::Invalid("the body is no JSON object");
  const json& groups = Member(told, "resourceSpans");
  if (!groups.is_null() && !groups.is_array())
    return Status::Invalid("resourceSpans is no list: the body is no ExportTraceServiceRequest");
  if (groups.is_array())
    for (const json& group : groups) HEADRACE_TRY(ReadGroup(group, &batch));
  return batch;
}

}  // namespace headrace::trace
