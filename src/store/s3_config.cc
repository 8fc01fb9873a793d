#include "store/s3_config.h"

#include <cstdlib>
#include <fstream>
#include <map>

namespace headrace::store {
namespace {

std::string Env(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

std::string Trim(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// One section of an AWS profile file.
std::map<std::string, std::string> ReadProfile(const std::string& path, const std::string& section) {
  std::map<std::string, std::string> values;
  std::ifstream file(path);
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    line = Trim(line);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line[0] == '[') {
      inside = Trim(line.substr(1, line.find(']') - 1)) == section;
      continue;
    }
    const size_t equals = line.find('=');
    if (inside && equals != std::string::npos)
      values[Trim(line.substr(0, equals))] = Trim(line.substr(equals + 1));
  }
  return values;
}

std::string First(std::initializer_list<std::string> values) {
  for (const auto& value : values) {
    if (!value.empty()) return value;
  }
  return "";
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

  const std::string home = Env("HOME");
  const std::string profile = First({Env("AWS_PROFILE"), "default"});
  const auto secrets =
      ReadProfile(First({Env("AWS_SHARED_CREDENTIALS_FILE"), home + "/.aws/credentials"}), profile);
  const auto settings = ReadProfile(First({Env("AWS_CONFIG_FILE"), home + "/.aws/config"}),
                                    profile == "default" ? profile : "profile " + profile);
  const auto get = [](const std::map<std::string, std::string>& values, const char* name) {
    const auto it = values.find(name);
    return it == values.end() ? std::string() : it->second;
  };
  config.credentials.access_key = Env("AWS_ACCESS_KEY_ID");
  config.credentials.secret_key = Env("AWS_SECRET_ACCESS_KEY");
  config.credentials.session_token = Env("AWS_SESSION_TOKEN");
  if (config.credentials.access_key.empty()) {
    config.credentials = {get(secrets, "aws_access_key_id"), get(secrets, "aws_secret_access_key"),
                          get(secrets, "aws_session_token")};
  }
  if (config.credentials.access_key.empty() || config.credentials.secret_key.empty()) {
    return Status::Permission("no S3 credentials for " + location +
                              ": set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile '" +
                              profile + "' in ~/.aws/credentials");
  }
  config.region = First({Env("AWS_REGION"), Env("AWS_DEFAULT_REGION"), get(settings, "region"), "us-east-1"});
  config.endpoint =
      First({Env("AWS_ENDPOINT_URL_S3"), Env("AWS_ENDPOINT_URL"), get(settings, "endpoint_url")});
  config.path_style = !config.endpoint.empty();
  if (config.endpoint.empty())
    config.endpoint = "https://" + config.bucket + ".s3." + config.region + ".amazonaws.com";
  while (config.endpoint.back() == '/') config.endpoint.pop_back();
  if (!config.endpoint.starts_with("http://") && !config.endpoint.starts_with("https://")) {
    return Status::Invalid("the S3 endpoint '" + config.endpoint + "' is not an http:// or https:// address");
  }
  const std::string deadline = Env("HEADRACE_S3_DEADLINE");
  if (!deadline.empty()) {
    char* end = nullptr;
    config.deadline_seconds = std::strtod(deadline.c_str(), &end);
    if (end == deadline.c_str() || config.deadline_seconds <= 0) {
      return Status::Invalid("HEADRACE_S3_DEADLINE is '" + deadline + "'; give seconds");
    }
  }
  return config;
}

}  // namespace headrace::store
