// OTLP/gRPC against a server with a catalog: what is kept, what is refused and how that is told.
#include "serve/grpc.h"

#include <protozero/pbf_writer.hpp>

#include "api/grpc.h"
#include "base/base64.h"
#include "http2_client.h"
#include "serve/keys.h"
#include "serve/server.h"
#include "serve/services.h"
#include "testing.h"

namespace headrace::serve {
namespace {

using namespace testing::http2;
using protozero::pbf_writer;

constexpr char kExport[] = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

std::string Inside(uint32_t field, const std::string& bytes) {
  std::string out;
  pbf_writer(out).add_bytes(field, bytes);
  return out;
}

// An ExportTraceServiceRequest of one span.
std::string SpanOf(const std::string& name, const std::string& id = "12345678") {
  return Inside(1, Inside(2, Inside(2, Inside(1, "0123456789abcdef") + Inside(2, id) + Inside(5, name))));
}

class Grpc : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_VALUE(catalog_, table::Catalog::Init(folder_.path() + "/c", {.sync = false}));
    for (const char* scope : {"record", "inference"}) {
      KeyFacts facts;
      facts.name = scope;
      facts.scopes = {scope};
      ASSERT_OK(CreateKey(catalog_.get(), facts, std::string("hr-") + scope).status());
    }
    ServeOptions options;
    options.http.port = 0;
    options.http.max_body = 100'000;
    options.http.http2 = http::Http2Options{0};
    ASSERT_VALUE(server_, Server::Start(catalog_, options));
    client_ = std::make_unique<Client>(Port());
  }
  void TearDown() override {
    client_.reset();
    server_.reset();
  }
  uint16_t Port() const {
    const std::string at = server_->otlp_grpc();
    return static_cast<uint16_t>(std::stoi(at.substr(at.rfind(':') + 1)));
  }
  Told Call(const std::string& path, std::string body, Pairs more = {},
            const std::string& key = "hr-record") {
    Pairs headers = {{"te", "trailers"}, {"authorization", "Bearer " + key}};
    const bool typed =
        std::any_of(more.begin(), more.end(), [](const auto& one) { return one.first == "content-type"; });
    if (!typed) headers.emplace_back("content-type", "application/grpc");
    headers.insert(headers.end(), more.begin(), more.end());
    return client_->Ask(path, std::move(body), headers);
  }
  std::string Status(const std::string& path, std::string body, Pairs more = {},
                     const std::string& key = "hr-record") {
    Told told = Call(path, std::move(body), std::move(more), key);
    EXPECT_EQ(told.fields[":status"], "200");
    return told.fields["grpc-status"];
  }

  void ExpectSpans(int64_t wanted) {
    ASSERT_OK(server_->services().recorder->Commit());
    ASSERT_VALUE(const auto table, catalog_->OpenTable("traces"));
    ASSERT_VALUE(const auto view, table->At());
    ASSERT_VALUE(const int64_t count, view.Count("span_id is not null and endpoint is null"));
    EXPECT_EQ(count, wanted);
  }

  testing::TempFolder folder_;
  std::shared_ptr<table::Catalog> catalog_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(Grpc, SpansAreKept) {
  Told told = Call(kExport, api::GrpcFrame(SpanOf("one")));
  EXPECT_EQ(told.fields[":status"], "200");
  EXPECT_EQ(told.fields["content-type"], "application/grpc");
  EXPECT_EQ(told.fields["grpc-status"], "0");
  EXPECT_EQ(told.body, api::GrpcFrame(""));
  EXPECT_EQ(told.error, kNoError);
  // One of two is none: the other is kept.
  told = Call(
      kExport, api::GrpcFrame(SpanOf("two", "abcdefgh") + SpanOf("bad", "short")),
      {{"content-type", "application/grpc+proto"}, {"grpc-timeout", "10S"}, {"grpc-encoding", "identity"}});
  EXPECT_EQ(told.fields["grpc-status"], "0");
  EXPECT_NE(told.body.find("span_id"), std::string::npos);
  EXPECT_EQ(told.body.substr(5, 1), "\x0a");
  EXPECT_EQ(told.body.substr(7, 2), "\x08\x01");
  ExpectSpans(2);
  // The same again is no row more, nor is what holds no span.
  EXPECT_EQ(Status(kExport, api::GrpcFrame(SpanOf("one"))), "0");
  EXPECT_EQ(Status(kExport, api::GrpcFrame("")), "0");
  ExpectSpans(2);
}

TEST_F(Grpc, WhatIsRefused) {
  const std::string good = api::GrpcFrame(SpanOf("one"));
  EXPECT_EQ(Status(kExport, good, {}, "hr-unknown"), "16");
  EXPECT_EQ(Status(kExport, good, {}, "hr-inference"), "7");
  for (const char* other : {"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
                            "/opentelemetry.proto.collector.logs.v1.LogsService/Export", "/v1/traces", "/"})
    EXPECT_EQ(Status(other, good), "12") << other;
  EXPECT_EQ(Status(kExport, api::GrpcFrame("\xff\xff")), "3");
  EXPECT_EQ(Status(kExport, good.substr(0, good.size() - 1)), "3");
  EXPECT_EQ(Status(kExport, ""), "12");
  EXPECT_EQ(Status(kExport, good + good), "12");
  EXPECT_EQ(Status(kExport, api::GrpcFrame(std::string(200'000, 'x'))), "8");
  EXPECT_EQ(Status(kExport, good, {{"grpc-timeout", "soon"}}), "13");
  EXPECT_EQ(Status(kExport, good, {{"grpc-timeout", "0n"}}), "4");
  std::string packed = good;
  packed[0] = 1;
  EXPECT_EQ(Status(kExport, packed), "13");
  EXPECT_EQ(Status(kExport, packed, {{"grpc-encoding", "gzip"}}), "13");  // it is not
  Told told = Call(kExport, packed, {{"grpc-encoding", "deflate"}});
  EXPECT_EQ(told.fields["grpc-status"], "12");
  EXPECT_EQ(told.fields["grpc-accept-encoding"], "identity,gzip");
  EXPECT_NE(told.fields["grpc-message"].find("deflate"), std::string::npos);
  for (const char* type :
       {"application/json", "application/grpc+json", "application/grpc-web", "text/plain"}) {
    told = Call(kExport, good, {{"content-type", type}});
    EXPECT_EQ(told.fields[":status"], "415") << type;
  }
  EXPECT_EQ(Call(kExport, good, {{"content-type", "application/grpc; x"}}).fields["grpc-status"], "0");
  // HTTP's own endpoints are not here, and gRPC's not there.
  Wire http(server_->port());
  http.Say("POST " + std::string(kExport) + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(http.All().starts_with("HTTP/1.1 404"));
  // Nothing of all that ended the connection.
  EXPECT_EQ(Status(kExport, good), "0");
  EXPECT_EQ(server_->services().http->stats().connections, 1);
}

TEST_F(Grpc, ADiskThatIsFullIsToldWithATime) {
  Told told = Call(kExport, api::GrpcFrame(SpanOf("one")));
  EXPECT_EQ(told.fields["grpc-status"], "0");
  const http::HttpResponse answer = CallFault({503, "", "", "full \xff", 4.2}, {});
  std::map<std::string, std::string> headers(answer.headers.begin(), answer.headers.end());
  EXPECT_EQ(headers["grpc-status"], "14");
  EXPECT_EQ(headers["grpc-message"], "full %FF");
  EXPECT_EQ(DecodeBase64(headers["grpc-status-details-bin"]),
            api::GrpcStatus(api::GrpcCode::kUnavailable, "full \xff", 5));
  EXPECT_EQ(DecodeBase64(headers["google.rpc.retryinfo-bin"]), api::GrpcRetryInfo(5));
}

}  // namespace
}  // namespace headrace::serve
