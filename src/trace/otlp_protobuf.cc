// The messages of opentelemetry/proto/collector/trace/v1, by their field numbers, which are frozen.
#include <cmath>
#include <protozero/pbf_reader.hpp>

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

std::string_view WireView(data_view bytes) { return {bytes.data(), bytes.size()}; }
std::string WireText(pbf_reader* message) { return CleanUtf8(WireView(message->get_view())); }
std::string WireId(pbf_reader* message) { return Hex(WireView(message->get_view())); }

json JsonNumber(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

json WireValue(pbf_reader message, int depth);

void AddKeyValue(pbf_reader message, int depth, json* attributes) {
  std::string name;
  json value;
  while (message.next()) {
    if (message.tag_and_type() == protozero::tag_and_type(1, protozero::pbf_wire_type::length_delimited)) {
      name = WireText(&message);
    } else if (message.tag_and_type() ==
               protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited)) {
      value = WireValue(message.get_message(), depth);
    } else {
      message.skip();
    }
  }
  attributes->emplace(std::move(name), std::move(value));
}

// ArrayValue and KeyValueList: repeated field 1.
json Nested(pbf_reader message, int depth, bool pairs) {
  if (depth == kMaxAttributeDepth) throw TooDeep();
  json all = pairs ? json::object() : json::array();
  while (message.next(1, protozero::pbf_wire_type::length_delimited)) {
    if (pairs) {
      AddKeyValue(message.get_message(), depth + 1, &all);
    } else {
      all.push_back(WireValue(message.get_message(), depth + 1));
    }
  }
  return all;
}

json WireValue(pbf_reader message, int depth) {
  json value;
  while (message.next()) switch (message.tag_and_type()) {
      case protozero::tag_and_type(1, protozero::pbf_wire_type::length_delimited):
        value = WireText(&message);
        break;
      case protozero::tag_and_type(2, protozero::pbf_wire_type::varint):
        value = message.get_bool();
        break;
      case protozero::tag_and_type(3, protozero::pbf_wire_type::varint):
        value = message.get_int64();
        break;
      case protozero::tag_and_type(4, protozero::pbf_wire_type::fixed64):
        value = JsonNumber(message.get_double());
        break;
      case protozero::tag_and_type(5, protozero::pbf_wire_type::length_delimited):
        value = Nested(message.get_message(), depth, false);
        break;
      case protozero::tag_and_type(6, protozero::pbf_wire_type::length_delimited):
        value = Nested(message.get_message(), depth, true);
        break;
      case protozero::tag_and_type(7, protozero::pbf_wire_type::length_delimited):
        value = EncodeBase64(WireView(message.get_view()));
        break;
      default:
        message.skip();
    }
  return value;
}

json Event(pbf_reader message) {
  json event = {{"attributes", json::object()}};
  while (message.next()) switch (message.tag_and_type()) {
      case protozero::tag_and_type(1, protozero::pbf_wire_type::fixed64):
        event["time"] = message.get_fixed64() / 1000;
        break;
      case protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited):
        event["name"] = WireText(&message);
        break;
      case protozero::tag_and_type(3, protozero::pbf_wire_type::length_delimited):
        AddKeyValue(message.get_message(), 0, &event["attributes"]);
        break;
      default:
        message.skip();
    }
  return event;
}

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
        AddKeyValue(message.get_message(), 0, &link["attributes"]);
        break;
      default:
        message.skip();
    }
  return link;
}

void ReadStatus(pbf_reader message, Span* span) {
  while (message.next()) switch (message.tag_and_type()) {
      case protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited):
        span->message = WireText(&message);
        break;
      case protozero::tag_and_type(3, protozero::pbf_wire_type::varint):
        span->status = message.get_enum();
        break;
      default:
        message.skip();
    }
}

// What a span says of itself with texts, lists and messages; false where the field is another.
bool ReadLong(pbf_reader* message, Span* span) {
  switch (message->tag()) {
    case 1:
      span->trace_id = WireId(message);
      return true;
    case 2:
      span->span_id = WireId(message);
      return true;
    case 3:
      span->state = WireText(message);
      return true;
    case 4:
      span->parent = WireId(message);
      return true;
    case 5:
      span->name = WireText(message);
      return true;
    case 9:
      AddKeyValue(message->get_message(), 0, &span->attributes);
      return true;
    case 11:
      span->events.push_back(Event(message->get_message()));
      return true;
    case 13:
      span->links.push_back(Link(message->get_message()));
      return true;
    case 15:
      ReadStatus(message->get_message(), span);
      return true;
    default:
      return false;
  }
}

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
        if (message.wire_type() != protozero::pbf_wire_type::length_delimited || !ReadLong(&message, &span))
          message.skip();
    }
  return span;
}

void ReadScope(pbf_reader message, json* origin) {
  while (message.next()) switch (message.tag_and_type()) {
      case protozero::tag_and_type(1, protozero::pbf_wire_type::length_delimited):
        (*origin)["otel.scope.name"] = WireText(&message);
        break;
      case protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited):
        (*origin)["otel.scope.version"] = WireText(&message);
        break;
      case protozero::tag_and_type(3, protozero::pbf_wire_type::length_delimited):
        AddKeyValue(message.get_message(), 0, origin);
        break;
      default:
        message.skip();
    }
}

// The fields of a message may come in any order: what all its spans share is read first.
void ReadScopeSpans(pbf_reader message, json origin, OtlpBatch* batch) {
  for (pbf_reader scope = message; scope.next(1, protozero::pbf_wire_type::length_delimited);)
    ReadScope(scope.get_message(), &origin);
  batch->origins.push_back(std::move(origin));
  while (message.next(2, protozero::pbf_wire_type::length_delimited)) {
    try {
      Span span = ReadSpan(message.get_message());
      span.origin = batch->origins.size() - 1;
      AddSpan(batch, std::move(span));
    } catch (const TooDeep&) {
      RejectSpan(batch, "an attribute is nested too deep");
    }
  }
}

void ReadResourceSpans(pbf_reader message, OtlpBatch* batch) {
  json origin = json::object();
  for (pbf_reader resources = message; resources.next(1, protozero::pbf_wire_type::length_delimited);) {
    pbf_reader resource = resources.get_message();
    while (resource.next(1, protozero::pbf_wire_type::length_delimited))
      AddKeyValue(resource.get_message(), 0, &origin);
  }
  while (message.next(2, protozero::pbf_wire_type::length_delimited))
    ReadScopeSpans(message.get_message(), origin, batch);
}

}  // namespace

Result<OtlpBatch> DecodeOtlpProtobuf(std::string_view body) {
  OtlpBatch batch;
  try {
    pbf_reader message(body.data(), body.size());
    while (message.next(1, protozero::pbf_wire_type::length_delimited))
      ReadResourceSpans(message.get_message(), &batch);
  } catch (const TooDeep&) {
    return Status::Invalid("an attribute of a resource is nested too deep");
  } catch (const protozero::exception& error) {
    return Status::Invalid(std::string("the body is no ExportTraceServiceRequest: ") + error.what());
  }
  return batch;
}

}  // namespace headrace::trace
