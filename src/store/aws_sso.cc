#include "store/aws_sso.h"

#include <openssl/evp.h>

#include "base/digest.h"
#include "base/file.h"
#include "store/aws_request.h"

namespace headrace::store {
namespace {

std::string Sha1Hex(const std::string& text) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(text.data(), text.size(), out, &size, EVP_sha1(), nullptr);
  return Hex({reinterpret_cast<const char*>(out), size});
}

Status LogIn(const std::string& profile, const std::string& why) {
  return Status::Permission(why + "; log in with: aws sso login" +
                            (profile == "default" ? "" : " --profile " + profile));
}

struct Sso {
  std::string session;  // empty: a profile of the older kind
  std::string start_url;
  std::string region;
  std::string role;
  std::string account;
};

Result<Sso> ReadSso(const AwsSettings& settings, const std::string& profile) {
  AwsSettings::Values values = settings.Profile(profile);
  Sso sso;
  sso.session = AwsSettings::Find(values, "sso_session");
  if (!sso.session.empty()) {
    const auto& session = settings.SsoSession(sso.session);
    if (session.empty())
      return Status::Invalid("the profile '" + profile + "' names the sso_session '" + sso.session +
                             "', and ~/.aws/config has no [sso-session " + sso.session + "]");
    for (const auto& [name, value] : session) values[name] = value;
  }
  for (const auto& [name, field] : {std::pair{"sso_start_url", &sso.start_url},
                                    {"sso_region", &sso.region},
                                    {"sso_role_name", &sso.role},
                                    {"sso_account_id", &sso.account}}) {
    *field = AwsSettings::Find(values, name);
    if (field->empty()) return Status::Invalid("the profile '" + profile + "' uses SSO, and has no " + name);
  }
  return sso;
}

struct Token {
  std::string access;
  int64_t expires_us = 0;
  // For renewing it; empty where it cannot be.
  std::string refresh;
  std::string client_id;
  std::string client_secret;
  int64_t client_expires_us = 0;
};

Result<Token> ReadToken(const std::string& path) {
  HEADRACE_ASSIGN(const std::string text, ReadFile(path, 1 << 20));
  const auto parsed = ParseJson(text);
  Token token;
  token.access = JsonText(parsed, "accessToken");
  if (token.access.empty()) return Status::Invalid(path + " holds no token");
  std::string expires = JsonText(parsed, "expiresAt");
  if (expires.ends_with("UTC")) expires.replace(expires.size() - 3, 3, "Z");  // older command lines
  HEADRACE_ASSIGN(token.expires_us, ParseMicros(expires));
  token.refresh = JsonText(parsed, "refreshToken");
  token.client_id = JsonText(parsed, "clientId");
  token.client_secret = JsonText(parsed, "clientSecret");
  const auto registered = ParseMicros(JsonText(parsed, "registrationExpiresAt"));
  if (registered.ok()) token.client_expires_us = *registered;
  return token;
}

// CreateToken of SSO OIDC, as the AWS command line does it; the new token is for it as well.
Result<Token> RenewToken(const AwsSettings& settings, const Sso& sso, const Token& old,
                         const std::string& path) {
  const std::string set = settings.Endpoint("sso_oidc");
  HttpRequest request;
  request.method = "POST";
  request.url = (set.empty() ? "https://oidc." + sso.region + ".amazonaws.com" : set) + "/token";
  request.headers = {"content-type: application/json"};
  const std::string body = nlohmann::json{
      {"grantType", "refresh_token"},
      {"clientId", old.client_id},
      {"clientSecret", old.client_secret},
      {"refreshToken",
       old.refresh}}.dump();
  request.body = body;
  HEADRACE_ASSIGN(const auto answer, AskAws("SSO", std::move(request), {}));
  const auto parsed = ParseJson(answer.body);
  Token token = old;
  token.access = JsonText(parsed, "accessToken");
  if (answer.status != 200 || token.access.empty())
    return Status::Permission("the SSO token could not be renewed");
  token.expires_us = NowMicros() + JsonNumber(parsed, "expiresIn") * 1'000'000;
  if (const std::string next = JsonText(parsed, "refreshToken"); !next.empty()) token.refresh = next;
  HEADRACE_ASSIGN(const std::string text, ReadFile(path, 1 << 20));
  auto file = ParseJson(text);
  if (!file.is_object()) return token;
  file["accessToken"] = token.access;
  file["expiresAt"] = FormatMicros(token.expires_us).substr(0, 19) + "Z";
  file["refreshToken"] = token.refresh;
  // A file that cannot be written costs the next process a renewal.
  (void)ReplaceFile(path, file.dump(), /*sync=*/false, 0600).ok();
  return token;
}

}  // namespace

bool UsesSso(const AwsSettings::Values& profile) {
  return profile.contains("sso_role_name") || profile.contains("sso_account_id");
}

Result<ExpiringCredentials> SsoCredentials(const AwsSettings& settings, const std::string& profile) {
  HEADRACE_ASSIGN(const Sso sso, ReadSso(settings, profile));
  const std::string cached = sso.session.empty() ? sso.start_url : sso.session;
  const std::string path = settings.InHome(".aws/sso/cache/" + Sha1Hex(cached) + ".json");
  auto token = ReadToken(path);
  if (!token.ok()) return LogIn(profile, "nobody is logged in to SSO for the profile '" + profile + "'");
  constexpr int64_t kAhead = 60'000'000;
  const int64_t now = NowMicros();
  if (token->expires_us < now + kAhead && !sso.session.empty() && !token->refresh.empty() &&
      token->client_expires_us > now) {
    auto renewed = RenewToken(settings, sso, *token, path);
    if (renewed.ok()) token = std::move(renewed);
  }
  const std::string expired = "the SSO login of the profile '" + profile + "' has expired";
  if (token->expires_us <= now) return LogIn(profile, expired);

  const std::string set = settings.Endpoint("sso");
  HttpRequest request;
  request.url = (set.empty() ? "https://portal.sso." + sso.region + ".amazonaws.com" : set) +
                "/federation/credentials?" +
                CanonicalQuery({{"role_name", sso.role}, {"account_id", sso.account}});
  request.headers = {"x-amz-sso_bearer_token: " + token->access};
  HEADRACE_ASSIGN(const auto answer, AskAws("SSO", std::move(request), {}));
  if (answer.status == 401) return LogIn(profile, expired);
  const auto parsed = ParseJson(answer.body);
  if (answer.status != 200 || !parsed.is_object() || !parsed.contains("roleCredentials"))
    return Status::Permission("SSO gave no credentials for the role " + sso.role + " in the account " +
                              sso.account + ": it answered with " + std::to_string(answer.status));
  const auto& role = parsed["roleCredentials"];
  ExpiringCredentials credentials;
  credentials.keys = {JsonText(role, "accessKeyId"), JsonText(role, "secretAccessKey"),
                      JsonText(role, "sessionToken")};
  credentials.expires_us = JsonNumber(role, "expiration") * 1000;  // given in milliseconds
  if (credentials.keys.access_key.empty() || credentials.keys.secret_key.empty())
    return Status::Permission("SSO gave no credentials for the role " + sso.role);
  return credentials;
}

}  // namespace headrace::store
