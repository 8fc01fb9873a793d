// AWS Signature Version 4
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace headrace::store {

struct S3Credentials {
  std::string access_key;
  std::string secret_key;
  std::string session_token;  // empty for long-lived keys
};

struct SignInput {
  std::string method;                                      // "GET"
  std::string path;                                        // already encoded: "/bucket/a%20b"
  std::vector<std::pair<std::string, std::string>> query;  // not yet encoded
  std::map<std::string, std::string> headers;              // lower-case names; host among them
  std::string payload_hash;                                // hex SHA-256, or UNSIGNED-PAYLOAD
  std::string amz_date;                                    // "20150830T123600Z"
  std::string region;
  std::string service = "s3";
};

// "20150830T123600Z" of microseconds since 1970 UTC.
std::string AmzDate(int64_t micros);
// RFC 3986 encoding; '/' stays where `keep_slash`.
std::string UriEncode(std::string_view text, bool keep_slash);
std::string CanonicalQuery(std::vector<std::pair<std::string, std::string>> query);
// The canonical request, and the Authorization header that signs it.
std::string CanonicalRequest(const SignInput& input);
std::string Authorization(const SignInput& input, const S3Credentials& credentials);

}  // namespace headrace::store
