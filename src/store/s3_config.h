// Where a bucket is and who asks: environment and profile files, as the AWS command line reads them.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "store/s3_credentials.h"

namespace headrace::store {

enum class S3Addressing {
  kAuto,  // in the host name at AWS, in the path of a custom endpoint
  kPath,
  kVirtual,
};

struct S3Config {
  std::string bucket;
  std::string prefix;    // "" or "a/b/"
  std::string endpoint;  // "https://host[:port][/base]", no trailing slash; empty: AWS's
  std::string region;
  S3Addressing addressing = S3Addressing::kAuto;
  bool dual_stack = false;  // AWS's endpoints that have IPv6 addresses too
  bool fips = false;        // AWS's endpoints with validated cryptography
  std::shared_ptr<S3CredentialProvider> credentials;
  double deadline_seconds = 60;  // of one operation, its retries included
  double connect_seconds = 10;
};

// From the environment and ~/.aws: store/aws_settings.h; credentials are first looked for by the first
// request (store/aws_credentials.h). HEADRACE_S3_DEADLINE sets the seconds of one operation.
Result<S3Config> S3ConfigFromEnvironment(const std::string& location);

// What a request to the bucket is made of.
struct S3Address {
  std::string origin;  // "https://host:port"
  std::string host;    // "host:port", as it is signed
  std::string path;    // before "/key": "", "/bucket", "/base/bucket"
};

// `region`: of the bucket.
S3Address AddressOf(const S3Config& config, const std::string& region);

}  // namespace headrace::store
