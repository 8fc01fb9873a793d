#include "store/aws_request.h"

#include <chrono>
#include <thread>

namespace headrace::store {

Result<HttpResponse> AskAws(const std::string& service, HttpRequest request, AwsPatience patience) {
  HttpClient client(1);  // asked once an hour: no thread is kept for it
  request.timeout_seconds = patience.seconds;
  request.connect_seconds = patience.seconds;
  request.max_response_bytes = 1 << 20;
  Result<HttpResponse> answer = Status::Timeout("nothing was sent");
  for (int attempt = 0; attempt < patience.attempts; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(std::chrono::milliseconds(100 << attempt));
    answer = client.Send(request).get();
    if (answer.ok() && answer->status != 429 && answer->status < 500) return answer;
  }
  if (!answer.ok()) return answer.status().Wrap("cannot get credentials from " + service);
  return Status::Unavailable("cannot get credentials from " + service + ": it answered with " +
                             std::to_string(answer->status));
}

Result<ExpiringCredentials> CredentialsFromJson(const std::string& json, const std::string& token_name,
                                                const std::string& service) {
  const auto parsed = ParseJson(json);
  ExpiringCredentials found;
  found.keys = {JsonText(parsed, "AccessKeyId"), JsonText(parsed, "SecretAccessKey"),
                JsonText(parsed, token_name.c_str())};
  if (found.keys.access_key.empty() || found.keys.secret_key.empty())
    return Status::Permission(service + " gave no credentials");
  if (const std::string expires = JsonText(parsed, "Expiration"); !expires.empty()) {
    HEADRACE_ASSIGN(found.expires_us, ParseMicros(expires));
  }
  return found;
}

std::string JsonText(const nlohmann::json& object, const char* name) {
  const auto it = object.is_object() ? object.find(name) : object.end();
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

int64_t JsonNumber(const nlohmann::json& object, const char* name) {
  const auto it = object.is_object() ? object.find(name) : object.end();
  return it != object.end() && it->is_number() ? it->get<int64_t>() : 0;
}

}  // namespace headrace::store
