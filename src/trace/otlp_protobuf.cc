// The messages of opentelemetry/proto/collector/trace/v1, by their field numbers, which are frozen.
#include <cmath>
#include <optional>
#include <protozero/pbf_reader.hpp>
#include <utility>

#include "base/base64.h"
#include "base/digest.h"
#include "base/utf8.h"
#include "trace/otlp.h"

namespace headrace::trace {
namespace {

using nlohmann::json;
using protozero::data_view;
using protozero::pbf_reader;

struct TooDeep {};

// Functions with kAll = false walk through all that the others do, by the same calls, since what is wrong
// anywhere is to be found; but they make no values.

std::string_view WireView(data_view bytes) { return {bytes.data(), bytes.size()}; }
std::string WireId(pbf_reader* message) { return Hex(WireView(message->get_view())); }

template <bool kAll>
std::string WireText(pbf_reader* message) {
  const std::string_view bytes = WireView(message->get_view());
  return kAll ? CleanUtf8(bytes) : std::string();
}

template <bool kAll, typename Value>
json Kept(Value&& value) {
  if constexpr (kAll) return std::forward<Value>(value);
  return nullptr;
}

json JsonNumber(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

template <bool kAll>
json WireValue(pbf_reader message, int depth);

template <bool kAll>
void AddKeyValue(pbf_reader message, int depth, json* attributes) {
  std::string name;
  json value;
  while (message.next()) {
    if (message.tag_and_type() == protozero::tag_and_type(1, protozero::pbf_wire_type::length_delimited)) {
      name = WireText<kAll>(&message);
    } else if (message.tag_and_type() ==
               protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited)) {
      value = WireValue<kAll>(message.get_message(), depth);
    } else {
      message.skip();
    }
  }
  if constexpr (kAll) attributes->emplace(std::move(name), std::move(value));
}

// ArrayValue and KeyValueList: repeated field 1.
template <bool kAll>
json Nested(pbf_reader message, int depth, bool pairs) {
  if (depth == kMaxAttributeDepth) throw TooDeep();
  json all;
  if constexpr (kAll) all = pairs ? json::object() : json::array();
  while (message.next(1, protozero::pbf_wire_type::length_delimited)) {
    if (pairs) {
      AddKeyValue<kAll>(message.get_message(), depth + 1, &all);
    } else {
      json value = WireValue<kAll>(message.get_message(), depth + 1);
      if constexpr (kAll) all.push_back(std::move(value));
    }
  }
  return all;
}

template <bool kAll>
json WireValue(pbf_reader message, int depth) {
  json value;
  while (message.next()) switch (message.tag_and_type()) {
      case protozero::tag_and_type(1, protozero::pbf_wire_type::length_delimited):
        value = Kept<kAll>(WireText<kAll>(&message));
        break;
      case protozero::tag_and_type(2, protozero::pbf_wire_type::varint):
        value = message.get_bool();
        break;
      case protozero::tag_and_type(3, protozero::pbf_wire_type::varint):
        value = message.get_int64();
        break;
      case protozero::tag_and_type(4, protozero::pbf_wire_type::fixed64):
        value = Kept<kAll>(JsonNumber(message.get_double()));
        break;
      case protozero::tag_and_type(5, protozero::pbf_wire_type::length_delimited):
        value = Nested<kAll>(message.get_message(), depth, false);
        break;
      case protozero::tag_and_type(6, protozero::pbf_wire_type::length_delimited):
        value = Nested<kAll>(message.get_message(), depth, true);
        break;
      case protozero::tag_and_type(7, protozero::pbf_wire_type::length_delimited): {
        const std::string_view bytes = WireView(message.get_view());
        if constexpr (kAll) value = EncodeBase64(bytes);
        break;
      }
      default:
        message.skip();
    }
  return value;
}

template <bool kAll>
json Event(pbf_reader message) {
  std::optional<uint64_t> time;
  std::optional<std::string> name;
  json attributes = json::object();
  while (message.next()) switch (message.tag_and_type()) {
      case protozero::tag_and_type(1, protozero::pbf_wire_type::fixed64):
        time = message.get_fixed64() / 1000;
        break;
      case protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited):
        name = WireText<kAll>(&message);
        break;
      case protozero::tag_and_type(3, protozero::pbf_wire_type::length_delimited):
        AddKeyValue<kAll>(message.get_message(), 0, &attributes);
        break;
      default:
        message.skip();
    }
  if constexpr (!kAll) return nullptr;
  json event = {{"attributes", std::move(attributes)}};
  if (time) event["time"] = *time;
  if (name) event["name"] = std::move(*name);
  return event;
}

template <bool kAll>
json Link(pbf_reader message) {
  json link = {{"attributes", json::object()}};
  while (message.next()) switch (message.tag_and_type()) {
      case protozero::tag_and_type(1, protozero::pbf_wire_type::length_delimited):
        link["trace_id"] = WireId(&message);
        break;
      case protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited):
        link["span_id"] = WireId(&message);
        break;
      case protozero::tag_and_type(4, protozero::pbf_wire_type::length_delimited):
        AddKeyValue<kAll>(message.get_message(), 0, &link["attributes"]);
        break;
      default:
        message.skip();
    }
  return link;
}

template <bool kAll>
void ReadStatus(pbf_reader message, Span* span) {
  while (message.next()) switch (message.tag_and_type()) {
      case protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited):
        span->message = WireText<kAll>(&message);
        break;
      case protozero::tag_and_type(3, protozero::pbf_wire_type::varint):
        span->status = message.get_enum();
        break;
      default:
        message.skip();
    }
}

// What a span says of itself with texts, lists and messages; false where the field is another.
template <bool kAll>
bool ReadLong(pbf_reader* message, Span* span) {
  switch (message->tag()) {
    case 1:
      span->trace_id = WireId(message);
      return true;
    case 2:
      span->span_id = WireId(message);
      return true;
    case 3:
      span->state = WireText<kAll>(message);
      return true;
    case 4:
      span->parent = WireId(message);
      return true;
    case 5:
      span->name = WireText<kAll>(message);
      return true;
    case 9:
      AddKeyValue<kAll>(message->get_message(), 0, &span->attributes);
      return true;
    case 11:
      if (json event = Event<kAll>(message->get_message()); kAll) span->events.push_back(std::move(event));
      return true;
    case 13:
      if (json link = Link<kAll>(message->get_message()); kAll) span->links.push_back(std::move(link));
      return true;
    case 15:
      ReadStatus<kAll>(message->get_message(), span);
      return true;
    default:
      return false;
  }
}

template <bool kAll>
Span ReadSpan(pbf_reader message) {
  Span span;
  while (message.next()) switch (message.tag_and_type()) {
      case protozero::tag_and_type(6, protozero::pbf_wire_type::varint):
        span.kind = message.get_enum();
        break;
      case protozero::tag_and_type(7, protozero::pbf_wire_type::fixed64):
        span.start_ns = message.get_fixed64();
        break;
      case protozero::tag_and_type(8, protozero::pbf_wire_type::fixed64):
        span.end_ns = message.get_fixed64();
        break;
      case protozero::tag_and_type(10, protozero::pbf_wire_type::varint):
        span.dropped = message.get_uint32();
        break;
      default:
        if (message.wire_type() != protozero::pbf_wire_type::length_delimited ||
            !ReadLong<kAll>(&message, &span))
          message.skip();
    }
  return span;
}

void ReadScope(pbf_reader message, json* origin) {
  while (message.next()) switch (message.tag_and_type()) {
      case protozero::tag_and_type(1, protozero::pbf_wire_type::length_delimited):
        (*origin)["otel.scope.name"] = WireText<true>(&message);
        break;
      case protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited):
        (*origin)["otel.scope.version"] = WireText<true>(&message);
        break;
      case protozero::tag_and_type(3, protozero::pbf_wire_type::length_delimited):
        AddKeyValue<true>(message.get_message(), 0, origin);
        break;
      default:
        message.skip();
    }
}

// What spans share: of attributes with one name the resource's counts.
json OriginOf(const json& resource, const json& scope) {
  json origin = resource;
  for (const auto& [name, value] : scope.items()) {
    if (name == "otel.scope.name" || name == "otel.scope.version")
      origin[name] = value;
    else
      origin.emplace(name, value);
  }
  return origin;
}

// The fields of a message may come in any order: what all its spans share is read first.
template <bool kAll>
void ReadScopeSpans(pbf_reader message, const json& shared, int64_t bytes, OtlpBatch* batch) {
  json scopes = json::object();
  for (pbf_reader scope = message; scope.next(1, protozero::pbf_wire_type::length_delimited);) {
    const protozero::data_view view = scope.get_view();
    bytes += static_cast<int64_t>(view.size());
    ReadScope(pbf_reader(view), &scopes);
  }
  bool known = false;  // the origin is among those of the batch
  while (message.next(2, protozero::pbf_wire_type::length_delimited)) {
    if ((!known && !TakeShared(batch, bytes)) || !TakeShared(batch, bytes)) {
      message.skip();
      RejectSpan(batch, kTooMuchShared);
      continue;
    }
    if (!known) {
      batch->origins.push_back(kAll ? OriginOf(shared, scopes) : json::object());
      known = true;
    }
    try {
      Span span = ReadSpan<kAll>(message.get_message());
      span.origin = batch->origins.size() - 1;
      AddSpan(batch, std::move(span));
    } catch (const TooDeep&) {
      RejectSpan(batch, "an attribute is nested too deep");
    }
  }
}

template <bool kAll>
void ReadResourceSpans(pbf_reader message, OtlpBatch* batch) {
  json origin = json::object();
  int64_t bytes = 0;
  for (pbf_reader resources = message; resources.next(1, protozero::pbf_wire_type::length_delimited);) {
    const protozero::data_view view = resources.get_view();
    bytes += static_cast<int64_t>(view.size());
    pbf_reader resource(view);
    while (resource.next(1, protozero::pbf_wire_type::length_delimited))
      AddKeyValue<true>(resource.get_message(), 0, &origin);
  }
  while (message.next(2, protozero::pbf_wire_type::length_delimited))
    ReadScopeSpans<kAll>(message.get_message(), origin, bytes, batch);
}

}  // namespace

Result<OtlpBatch> DecodeOtlpProtobuf(std::string_view body, OtlpParts parts) {
  OtlpBatch batch;
  try {
    pbf_reader message(body.data(), body.size());
    while (message.next(1, protozero::pbf_wire_type::length_delimited)) {
      if (parts == OtlpParts::kAll)
        ReadResourceSpans<true>(message.get_message(), &batch);
      else
        ReadResourceSpans<false>(message.get_message(), &batch);
    }
  } catch (const TooDeep&) {
    return Status::Invalid("an attribute of a resource is nested too deep");
  } catch (const protozero::exception& error) {
    return Status::Invalid(std::string("the body is no ExportTraceServiceRequest: ") + error.what());
  }
  return batch;
}

}  // namespace headrace::trace
