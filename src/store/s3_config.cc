#include "store/s3_config.h"

#include <algorithm>
#include <cstdlib>

#include "store/aws_credentials.h"

namespace headrace::store {
namespace {

Result<S3Addressing> ParseAddressing(const std::string& style) {
  if (style.empty() || style == "auto") return S3Addressing::kAuto;
  if (style == "path") return S3Addressing::kPath;
  if (style == "virtual") return S3Addressing::kVirtual;
  return Status::Invalid("s3 addressing_style is '" + style + "'; it is auto, path or virtual");
}

bool IsTrue(const AwsSettings& settings, const std::string& variable, const std::string& name) {
  std::string value = settings.Env(variable);
  if (value.empty()) value = settings.Get(name);
  return value == "true" || value == "True" || value == "TRUE";
}

// Whether the bucket can be one label of a host name, with a certificate that holds for it.
bool IsLabel(const std::string& bucket) {
  return std::all_of(bucket.begin(), bucket.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

}  // namespace

Result<S3Config> S3ConfigFromEnvironment(const std::string& location) {
  S3Config config;
  std::string rest = location.substr(5);  // after s3://
  const size_t slash = rest.find('/');
  config.bucket = rest.substr(0, slash);
  if (config.bucket.empty())
    return Status::Invalid("'" + location + "' names no bucket; write s3://bucket/prefix");
  if (slash != std::string::npos) config.prefix = rest.substr(slash + 1);
  while (!config.prefix.empty() && config.prefix.back() == '/') config.prefix.pop_back();
  if (!config.prefix.empty()) config.prefix += '/';

  const AwsSettings settings = AwsSettings::FromEnvironment();
  config.credentials =
      std::make_shared<S3CredentialProvider>([settings] { return FindAwsCredentials(settings.Reload()); });
  config.region = settings.Region();
  if (config.region.empty()) config.region = "us-east-1";
  config.endpoint = settings.Endpoint("s3");
  if (!config.endpoint.empty() && !config.endpoint.starts_with("http://") &&
      !config.endpoint.starts_with("https://")) {
    return Status::Invalid("the S3 endpoint '" + config.endpoint + "' is not an http:// or https:// address");
  }
  HEADRACE_ASSIGN(config.addressing, ParseAddressing(settings.Get("s3.addressing_style")));
  config.dual_stack = IsTrue(settings, "AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint");
  config.fips = IsTrue(settings, "AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint");
  if (const char* deadline = getenv("HEADRACE_S3_DEADLINE"); deadline != nullptr && *deadline != '\0') {
    char* end = nullptr;
    config.deadline_seconds = std::strtod(deadline, &end);
    if (end == deadline || config.deadline_seconds <= 0)
      return Status::Invalid("HEADRACE_S3_DEADLINE is '" + std::string(deadline) + "'; give seconds");
  }
  return config;
}

S3Address AddressOf(const S3Config& config, const std::string& region) {
  std::string scheme = "https://";
  std::string host;
  std::string base;
  if (config.endpoint.empty()) {
    host = std::string(config.fips ? "s3-fips." : "s3.") + (config.dual_stack ? "dualstack." : "") + region +
           ".amazonaws.com" + (region.starts_with("cn-") ? ".cn" : "");
  } else {
    scheme = config.endpoint.substr(0, config.endpoint.find("://") + 3);
    host = config.endpoint.substr(scheme.size());
    const size_t slash = host.find('/');
    if (slash != std::string::npos) base = host.substr(slash);
    host = host.substr(0, slash);
  }
  const bool in_host = config.addressing == S3Addressing::kVirtual ||
                       (config.addressing == S3Addressing::kAuto && config.endpoint.empty());
  if (in_host && IsLabel(config.bucket)) {
    host = config.bucket + "." + host;
  } else {
    base += "/" + config.bucket;
  }
  return {scheme + host, host, base};
}

}  // namespace headrace::store
