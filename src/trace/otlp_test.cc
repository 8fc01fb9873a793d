#include "trace/otlp.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <protozero/pbf_writer.hpp>
#include <random>
#include <string>
#include <vector>

#include "testing.h"

namespace headrace::trace {
namespace {

using nlohmann::json;
using protozero::pbf_writer;

const std::string kTrace = "0123456789abcdef0123456789abcdef", kSpan = "00f067aa0ba902b7";

std::string Bytes(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

// The messages, from the published .proto files by hand: field numbers, not our decoder's.
std::string Message(const std::function<void(pbf_writer&)>& fill) {
  std::string bytes;
  pbf_writer writer(bytes);
  fill(writer);
  return bytes;
}

std::string TextPair(const std::string& key, const std::string& text) {
  return Message([&](pbf_writer& pair) {
    pair.add_string(1, key);
    pair.add_message(2, Message([&](pbf_writer& value) { value.add_string(1, text); }));
  });
}

std::string Pair(const std::string& key, const std::string& value) {
  return Message([&](pbf_writer& pair) {
    pair.add_string(1, key);
    pair.add_message(2, value);
  });
}

std::string SpanBytes(
    const std::function<void(pbf_writer&)>& more = [](pbf_writer&) {}, const std::string& trace = kTrace) {
  return Message([&](pbf_writer& span) {
    span.add_bytes(1, Bytes(trace));
    span.add_bytes(2, Bytes(kSpan));
    span.add_string(5, "a name");
    more(span);
  });
}

std::string Request(const std::vector<std::string>& spans) {
  const std::string scope = Message([&](pbf_writer& group) {
    for (const std::string& span : spans) group.add_message(2, span);
    group.add_message(1, Message([](pbf_writer& library) {
                        library.add_string(1, "lib");
                        library.add_string(2, "1.2");
                      }));
  });
  return Message([&](pbf_writer& request) {
    request.add_message(1, Message([&](pbf_writer& group) {
                          group.add_message(2, scope);  // before the resource that it is of
                          group.add_message(1, Message([](pbf_writer& resource) {
                                              resource.add_message(1, TextPair("service.name", "app"));
                                            }));
                        }));
  });
}

std::string NestedValue(int depth) {
  std::string value = Message([](pbf_writer& v) { v.add_string(1, "inner"); });
  for (int i = 0; i < depth; ++i)
    value = Message([&](pbf_writer& v) {
      v.add_message(5, Message([&](pbf_writer& list) { list.add_message(1, value); }));
    });
  return value;
}

// One span with every field.
std::string WholeRequest() {
  return Request({SpanBytes([](pbf_writer& span) {
    span.add_string(3, "a=b");
    span.add_bytes(4, Bytes("1111111111111111"));
    span.add_enum(6, 3);
    span.add_fixed64(7, 1'700'000'000'123'456'789);
    span.add_fixed64(8, 1'700'000'001'123'456'789);
    span.add_message(9, TextPair("text", "gr\xc3\xbc\xc3\x9f \xff"));
    span.add_message(9, TextPair("text", "a second one"));
    span.add_message(9, Pair("int", Message([](pbf_writer& v) { v.add_int64(3, -5); })));
    span.add_message(9, Pair("yes", Message([](pbf_writer& v) { v.add_bool(2, true); })));
    span.add_message(9, Pair("real", Message([](pbf_writer& v) { v.add_double(4, 0.25); })));
    span.add_message(9, Pair("nan", Message([](pbf_writer& v) { v.add_double(4, NAN); })));
    span.add_message(
        9, Pair("bytes", Message([](pbf_writer& v) { v.add_bytes(7, std::string("\x00\xff", 2)); })));
    span.add_message(9, Pair("none", ""));
    span.add_message(9, Pair("list", NestedValue(2)));
    span.add_message(9, Pair("map", Message([](pbf_writer& v) {
                               v.add_message(
                                   6, Message([](pbf_writer& m) { m.add_message(1, TextPair("k", "v")); }));
                             })));
    span.add_uint32(10, 7);
    span.add_message(11, Message([](pbf_writer& event) {
                       event.add_fixed64(1, 1'700'000'000'500'000'000);
                       event.add_string(2, "exception");
                       event.add_message(3, TextPair("exception.message", "no"));
                     }));
    span.add_message(13, Message([](pbf_writer& link) {
                       link.add_bytes(1, Bytes(kTrace));
                       link.add_bytes(2, Bytes(kSpan));
                     }));
    span.add_message(15, Message([](pbf_writer& status) {
                       status.add_string(2, "failed");
                       status.add_enum(3, 2);
                     }));
    span.add_fixed32(16, 1);
    span.add_string(99, "of a newer protocol");
  })});
}

TEST(Otlp, ProtobufIsReadToItsLastField) {
  ASSERT_VALUE(const OtlpBatch batch, DecodeOtlp(OtlpFormat::kProtobuf, WholeRequest()));
  ASSERT_EQ(batch.spans.size(), 1U);
  EXPECT_EQ(batch.rejected, 0);
  const Span& span = batch.spans[0];
  EXPECT_EQ(span.trace_id, kTrace);
  EXPECT_EQ(span.span_id, kSpan);
  EXPECT_EQ(span.parent, "1111111111111111");
  EXPECT_EQ(span.state, "a=b");
  EXPECT_EQ(span.name, "a name");
  EXPECT_EQ(span.kind, 3);
  EXPECT_EQ(span.start_ns, 1'700'000'000'123'456'789U);
  EXPECT_EQ(span.end_ns, 1'700'000'001'123'456'789U);
  EXPECT_EQ(span.dropped, 7U);
  EXPECT_EQ(span.status, 2);
  EXPECT_EQ(span.message, "failed");
  EXPECT_EQ(span.attributes,
            json::parse(R"({"text": "grüß \ufffd", "int": -5, "yes": true, "real": 0.25, "nan": "NaN",
      "bytes": "AP8=", "none": null, "list": [["inner"]], "map": {"k": "v"}})"));
  EXPECT_EQ(span.events, json::parse(R"([{"time": 1700000000500000, "name": "exception",
      "attributes": {"exception.message": "no"}}])"));
  EXPECT_EQ(span.links[0]["trace_id"], kTrace);
  EXPECT_EQ(batch.origins[span.origin], json::parse(R"({"service.name": "app", "otel.scope.name": "lib",
      "otel.scope.version": "1.2"})"));
}

TEST(Otlp, JsonIsTheSame) {
  const std::string body = R"({"resourceSpans": [{"resource": {"attributes": [
      {"key": "service.name", "value": {"stringValue": "app"}}], "droppedAttributesCount": 0}, "scopeSpans": [
      {"scope": {"name": "lib", "version": "1.2"}, "spans": [{"traceId": "0123456789ABCDEF0123456789abcdef",
        "spanId": "00f067aa0ba902b7", "parentSpanId": "", "name": "a name", "kind": 3, "flags": 257, "newer": {"x": [1]},
        "startTimeUnixNano": "1700000000123456789", "endTimeUnixNano": 1700000001123456789,
        "attributes": [{"key": "int", "value": {"intValue": "-5"}}, {"key": "int2", "value": {"intValue": 6}},
          {"key": "yes", "value": {"boolValue": false}}, {"key": "real", "value": {"doubleValue": 0.25}},
          {"key": "bytes", "value": {"bytesValue": "AP8="}}, {"key": "none"},
          {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {}]}}},
          {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}}}],
        "events": [{"timeUnixNano": "1700000000500000000", "name": "e", "attributes": []}],
        "links": [{"traceId": "a", "spanId": "b"}], "status": {"code": "STATUS_CODE_ERROR", "message": "failed"}}]}]}]})";
  ASSERT_VALUE(const OtlpBatch batch, DecodeOtlp(OtlpFormat::kJson, body));
  ASSERT_EQ(batch.spans.size(), 1U);
  const Span& span = batch.spans[0];
  EXPECT_EQ(span.trace_id, kTrace);
  EXPECT_EQ(span.parent, "");
  EXPECT_EQ(span.start_ns, 1'700'000'000'123'456'789U);
  EXPECT_EQ(span.end_ns, 1'700'000'001'123'456'789U);
  EXPECT_EQ(span.status, 2);
  EXPECT_EQ(span.attributes,
            json::parse(R"({"int": -5, "int2": 6, "yes": false, "real": 0.25, "bytes": "AP8=",
      "none": null, "list": ["x", null], "map": {"k": "v"}})"));
  EXPECT_EQ(span.events[0]["time"], 1'700'000'000'500'000);
  EXPECT_EQ(batch.origins[0]["otel.scope.name"], "lib");
}

TEST(Otlp, SpansThatAreNoneAreCounted) {
  const std::string zeros(32, '0');
  const std::string body =
      Request({SpanBytes(), SpanBytes([](pbf_writer&) {}, zeros), SpanBytes([](pbf_writer&) {}, "0123"),
               SpanBytes([](pbf_writer& span) { span.add_bytes(4, "short"); }),
               SpanBytes([](pbf_writer& span) { span.add_message(9, Pair("deep", NestedValue(1000))); }),
               SpanBytes([](pbf_writer& span) { span.add_bytes(4, std::string(8, '\0')); })});
  ASSERT_VALUE(const OtlpBatch batch, DecodeOtlpProtobuf(body));
  EXPECT_EQ(batch.spans.size(), 2U);
  EXPECT_EQ(batch.spans.back().parent, "");
  EXPECT_EQ(batch.rejected, 4);
  EXPECT_NE(batch.why.find("trace_id"), std::string::npos);
  ASSERT_VALUE(
      const OtlpBatch other,
      DecodeOtlpJson(R"({"resourceSpans": [{"scopeSpans": [{"spans": [{}, 5, {"traceId": "xyz"}]}]}]})"));
  EXPECT_EQ(other.rejected, 3);
  ASSERT_VALUE(const OtlpBatch empty, DecodeOtlpJson("{}"));
  EXPECT_EQ(empty.spans.size(), 0U);
  ASSERT_OK(DecodeOtlpProtobuf("").status());
}

TEST(Otlp, WhatIsNoRequestIsRefused) {
  for (const char* body : {"", "[]", "x", "{\"resourceSpans\": 5}", "{\"resourceSpans\": [}"})
    EXPECT_TRUE(DecodeOtlpJson(body).status().Is(Code::kInvalid)) << body;
  EXPECT_TRUE(DecodeOtlpJson(std::string(100'000, '[')).status().Is(Code::kInvalid));
  const std::string whole = Request({SpanBytes()});
  EXPECT_TRUE(DecodeOtlpProtobuf(whole.substr(0, whole.size() - 1)).status().Is(Code::kInvalid));
  EXPECT_TRUE(DecodeOtlpProtobuf("{\"resourceSpans\": []}").status().Is(Code::kInvalid));
}

// Any byte of a request changed, or its end missing: an answer, whichever, and no more.
TEST(Otlp, DamagedBytesDoNoHarm) {
  const std::string body =
      Request({SpanBytes([](pbf_writer& span) { span.add_message(9, Pair("list", NestedValue(3))); })});
  std::mt19937 random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = body.substr(0, 1 + random() % body.size());
    bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto batch = DecodeOtlpProtobuf(bytes);
    EXPECT_TRUE(batch.ok() || batch.status().Is(Code::kInvalid));
  }
}

// A sender is told by the ids what the committer makes of everything: where they differed, spans that were
// acknowledged would be lost.
TEST(Otlp, IdsAloneAreReadFromWhatIsReadWhole) {
  const std::string body = WholeRequest();
  std::mt19937 random(8);
  int refused = 0, rejected = 0, taken = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string bytes = random() % 2 == 0 ? body : body.substr(0, 1 + random() % body.size());
    for (uint32_t n = random() % 3; n > 0; --n) bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto all = DecodeOtlpProtobuf(bytes), ids = DecodeOtlpProtobuf(bytes, OtlpParts::kIds);
    ASSERT_EQ(all.ok(), ids.ok());
    if (!all.ok()) {
      ASSERT_EQ(all.status().ToString(), ids.status().ToString());
      ++refused;
      continue;
    }
    ASSERT_EQ(all->spans.size(), ids->spans.size());
    ASSERT_EQ(all->rejected, ids->rejected);
    ASSERT_EQ(all->why, ids->why);
    for (size_t s = 0; s < all->spans.size(); ++s) {
      ASSERT_EQ(all->spans[s].trace_id, ids->spans[s].trace_id);
      ASSERT_EQ(all->spans[s].span_id, ids->spans[s].span_id);
      ASSERT_TRUE(ids->spans[s].attributes.empty() && ids->spans[s].events.empty());
    }
    ++(all->rejected > 0 ? rejected : taken);
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(rejected, 100);
  EXPECT_GT(taken, 1000);
}

// A resource of `bytes`, and scopes of so many spans each.
std::string LargeResource(size_t bytes, int scopes, int spans) {
  const std::string scope = Message([&](pbf_writer& group) {
    for (int i = 0; i < spans; ++i) group.add_message(2, SpanBytes());
  });
  return Message([&](pbf_writer& request) {
    request.add_message(1, Message([&](pbf_writer& group) {
                          group.add_message(1, Message([&](pbf_writer& resource) {
                                              resource.add_message(1, TextPair("k", std::string(bytes, 'a')));
                                            }));
                          for (int i = 0; i < scopes; ++i) group.add_message(2, scope);
                        }));
  });
}

TEST(Otlp, WhatSpansShareIsKeptAsOftenAsThereIsRoom) {
  constexpr size_t kLarge = (size_t{16} << 20) - 100;
  for (const OtlpParts parts : {OtlpParts::kAll, OtlpParts::kIds}) {
    auto batch = DecodeOtlpProtobuf(LargeResource(kLarge, 10'000, 0), parts);
    ASSERT_TRUE(batch.ok());
    EXPECT_EQ(batch->origins.size(), 0U);  // no copy of it for scopes without spans
    EXPECT_EQ(batch->rejected, 0);
    batch = DecodeOtlpProtobuf(LargeResource(kLarge, 1, 40), parts);
    ASSERT_TRUE(batch.ok());
    EXPECT_EQ(batch->spans.size(), 15U);  // and one more for the origin itself
    EXPECT_EQ(batch->rejected, 25);
    EXPECT_NE(batch->why.find("share"), std::string::npos);
    batch = DecodeOtlpProtobuf(LargeResource(kLarge, 40, 1), parts);
    ASSERT_TRUE(batch.ok());
    EXPECT_EQ(batch->spans.size(), 8U);
    EXPECT_EQ(batch->origins.size(), 8U);
  }
  const auto batch = DecodeOtlpJson(
      R"({"resourceSpans": [{"resource": {"attributes": [{"key": "k", "value": {"stringValue": ")" +
      std::string(kLarge, 'a') + R"("}}]}, "scopeSpans": [{}, {"spans": []}, {"spans": [)" +
      [] {
        std::string spans;
        for (int i = 0; i < 40; ++i)
          spans += std::string(i == 0 ? "" : ",") + R"({"traceId": ")" + kTrace + R"(", "spanId": ")" +
                   kSpan + R"("})";
        return spans;
      }() +
      "]}]}]}");
  ASSERT_TRUE(batch.ok());
  EXPECT_EQ(batch->origins.size(), 1U);
  EXPECT_EQ(batch->spans.size(), 15U);
  EXPECT_EQ(batch->rejected, 25);
}

TEST(Otlp, AnswersAreInTheFormatOfTheRequest) {
  EXPECT_EQ(OtlpAnswer(OtlpFormat::kProtobuf, 0, ""), "");
  EXPECT_EQ(OtlpAnswer(OtlpFormat::kJson, 0, ""), "{}");
  EXPECT_EQ(json::parse(OtlpAnswer(OtlpFormat::kJson, 2, "why")),
            json::parse(R"({"partialSuccess": {"rejectedSpans": "2", "errorMessage": "why"}})"));
  EXPECT_EQ(OtlpAnswer(OtlpFormat::kProtobuf, 2, "why"), std::string("\x0a\x07\x08\x02\x12\x03why"));
  EXPECT_EQ(OtlpError(OtlpFormat::kProtobuf, 3, "no"), std::string("\x08\x03\x12\x02no"));
  EXPECT_EQ(json::parse(OtlpError(OtlpFormat::kJson, 14, "no")),
            json::parse(R"({"code": 14, "message": "no"})"));
}

}  // namespace
}  // namespace headrace::trace
