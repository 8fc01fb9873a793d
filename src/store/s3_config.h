// Endpoint, region and credentials: environment and profile files, as the AWS command line reads them.
#pragma once

#include <string>

#include "base/status.h"
#include "store/s3_sign.h"

namespace headrace::store {

struct S3Config {
  std::string bucket;
  std::string prefix;    // "" or "a/b/"
  std::string endpoint;  // "https://host[:port]", no trailing slash
  std::string region;
  bool path_style = false;  // bucket in the path (custom endpoints) or in the host name (AWS)
  S3Credentials credentials;
  double deadline_seconds = 60;  // of one operation, its retries included
  double connect_seconds = 10;
};

// From AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE,
// AWS_CONFIG_FILE, AWS_REGION, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, and ~/.aws.
// HEADRACE_S3_DEADLINE sets the seconds of one operation.
Result<S3Config> S3ConfigFromEnvironment(const std::string& location);

}  // namespace headrace::store
