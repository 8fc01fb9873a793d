#include "store/aws_metadata.h"

#include <algorithm>
#include <cstdlib>

#include "base/file.h"
#include "store/aws_request.h"

namespace headrace::store {
namespace {

// Plain HTTP carries credentials to this machine alone: loopback, and the link-local addresses of ECS and
// EKS.
bool MayAskPlainly(const std::string& url) {
  std::string host = url.substr(url.find("://") + 3);
  host = host.substr(0, host.find_first_of("/?#"));
  if (host.find('@') != std::string::npos) return false;
  if (host.starts_with("[")) {
    host = host.substr(1, host.find(']') - 1);
  } else {
    host = host.substr(0, host.find(':'));
  }
  if (host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos) return true;
  return host == "localhost" || host == "::1" || host == "169.254.170.2" || host == "169.254.170.23" ||
         host == "fd00:ec2::23";
}

int Number(const std::string& text, int otherwise) {
  const int number = std::atoi(text.c_str());
  return number > 0 ? number : otherwise;
}

}  // namespace

bool HasContainerCredentials(const AwsSettings& settings) {
  return !settings.Env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").empty() ||
         !settings.Env("AWS_CONTAINER_CREDENTIALS_FULL_URI").empty();
}

Result<ExpiringCredentials> ContainerCredentials(const AwsSettings& settings) {
  const std::string who = "the container's credentials endpoint";
  const std::string relative = settings.Env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  const std::string url = relative.empty() ? settings.Env("AWS_CONTAINER_CREDENTIALS_FULL_URI")
                                           : "http://169.254.170.2" + relative;
  if (!url.starts_with("https://") && !(url.starts_with("http://") && MayAskPlainly(url)))
    return Status::Invalid("AWS_CONTAINER_CREDENTIALS_FULL_URI is '" + url +
                           "': without https it must be an address of this machine");
  std::string token = settings.Env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
  if (const std::string file = settings.Env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); !file.empty()) {
    auto text = ReadFile(file, 1 << 20);
    if (!text.ok()) return text.status().Wrap("cannot read AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    token = std::move(text).value();
  }
  if (token.find_first_of("\r\n") != std::string::npos)
    return Status::Invalid("the token for " + who + " has more than one line");
  HttpRequest request;
  request.url = url;
  request.use_proxy = !url.starts_with("http://");
  request.headers = {"accept: application/json"};
  if (!token.empty()) request.headers.push_back("authorization: " + token);
  HEADRACE_ASSIGN(const auto answer, AskAws(who, std::move(request), {.seconds = 2, .attempts = 3}));
  if (answer.status != 200)
    return Status::Permission(who + " answered with " + std::to_string(answer.status));
  return CredentialsFromJson(answer.body, "Token", who);
}

Result<ExpiringCredentials> InstanceCredentials(const AwsSettings& settings) {
  const std::string who = "the instance metadata service";
  std::string disabled = settings.Env("AWS_EC2_METADATA_DISABLED");
  std::transform(disabled.begin(), disabled.end(), disabled.begin(),
                 [](unsigned char c) { return static_cast<char>(tolower(c)); });
  if (disabled == "true") return Status::NotFound(who + " is disabled (AWS_EC2_METADATA_DISABLED)");
  const auto setting = [&](const char* variable, const char* name) {
    const std::string value = settings.Env(variable);
    return value.empty() ? settings.Get(name) : value;
  };
  std::string base = setting("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ec2_metadata_service_endpoint");
  const bool ipv6 =
      setting("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ec2_metadata_service_endpoint_mode") == "ipv6";
  if (base.empty()) base = ipv6 ? "http://[fd00:ec2::254]" : "http://169.254.169.254";
  while (base.ends_with('/')) base.pop_back();
  const AwsPatience patience{
      .seconds =
          static_cast<double>(Number(setting("AWS_METADATA_SERVICE_TIMEOUT", "metadata_service_timeout"), 1)),
      .attempts = Number(setting("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "metadata_service_num_attempts"), 1)};

  HttpRequest put;
  put.method = "PUT";
  put.url = base + "/latest/api/token";
  put.headers = {"x-aws-ec2-metadata-token-ttl-seconds: 21600"};
  put.use_proxy = false;
  const auto token = AskAws(who, std::move(put), patience);
  if (!token.ok()) return Status::NotFound(who + " at " + base + " does not answer");
  if (token->status != 200 || token->body.find_first_of("\r\n") != std::string::npos)
    return Status::NotFound(who + " at " + base + " gives no token for its version 2");
  const auto get = [&](const std::string& path) -> Result<std::string> {
    HttpRequest request;
    request.url = base + "/latest/meta-data/iam/security-credentials/" + path;
    request.headers = {"x-aws-ec2-metadata-token: " + token->body};
    request.use_proxy = false;
    HEADRACE_ASSIGN(auto answer, AskAws(who, std::move(request), patience));
    if (answer.status == 404) return Status::NotFound(who + " knows no role of this instance");
    if (answer.status != 200)
      return Status::Permission(who + " answered with " + std::to_string(answer.status));
    return std::move(answer.body);
  };
  HEADRACE_ASSIGN(const std::string roles, get(""));
  const std::string role = roles.substr(0, roles.find_first_of("\r\n"));
  if (role.empty()) return Status::NotFound(who + " knows no role of this instance");
  HEADRACE_ASSIGN(const std::string json, get(UriEncode(role, false)));
  return CredentialsFromJson(json, "Token", who);
}

}  // namespace headrace::store
