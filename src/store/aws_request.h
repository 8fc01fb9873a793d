// One request to an AWS service that hands out credentials, and what such answers have in common.
#pragma once

#include <string>

#include "base/json.h"
#include "store/http_client.h"
#include "store/s3_credentials.h"

namespace headrace::store {

struct AwsPatience {
  double seconds = 5;  // of one attempt
  int attempts = 3;
};

// Sends until there is an answer other than 429 or 5xx. Errors name the service and the address, and never
// hold a header or a body.
Result<HttpResponse> AskAws(const std::string& service, HttpRequest request, AwsPatience patience);

// {"AccessKeyId", "SecretAccessKey", `token`, "Expiration"}, as metadata services and processes write them.
Result<ExpiringCredentials> CredentialsFromJson(const std::string& json, const std::string& token_name,
                                                const std::string& service);

// "" and 0 where `object` has no such member of that type.
std::string JsonText(const nlohmann::json& object, const char* name);
int64_t JsonNumber(const nlohmann::json& object, const char* name);

}  // namespace headrace::store
