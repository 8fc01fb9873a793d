#include "store/aws_sts.h"

#include <pugixml.hpp>

#include "base/digest.h"
#include "base/file.h"
#include "store/aws_request.h"

namespace headrace::store {
namespace {

using Form = std::vector<std::pair<std::string, std::string>>;

std::string RegionOf(const AwsSettings& settings) {
  const std::string region = settings.Region();
  return region.empty() ? "us-east-1" : region;
}

// The regional endpoint: the default of all SDKs since 2022.
std::string EndpointOf(const AwsSettings& settings) {
  const std::string set = settings.Endpoint("sts");
  if (!set.empty()) return set;
  const std::string region = RegionOf(settings);
  return "https://sts." + region + ".amazonaws.com" + (region.starts_with("cn-") ? ".cn" : "");
}

Form RoleForm(const std::string& action, const AwsRole& role) {
  Form form = {{"Action", action}, {"Version", "2011-06-15"}, {"RoleArn", role.arn}};
  form.emplace_back("RoleSessionName", role.session_name.empty()
                                           ? "headrace-" + std::to_string(NowMicros() / 1'000'000)
                                           : role.session_name);
  if (!role.external_id.empty()) form.emplace_back("ExternalId", role.external_id);
  if (!role.duration_seconds.empty()) form.emplace_back("DurationSeconds", role.duration_seconds);
  return form;
}

// `action`: its answer is <actionResponse><actionResult><Credentials>.
Result<ExpiringCredentials> ParseAnswer(const std::string& action, const AwsRole& role,
                                        const HttpResponse& response) {
  const std::string who = "STS for the role " + role.arn;
  pugi::xml_document xml;
  xml.load_string(response.body.c_str());
  if (response.status != 200) {
    // A message of STS may quote the token's claims: its code says enough.
    const std::string code = xml.child("ErrorResponse").child("Error").child_value("Code");
    return Status::Permission("cannot get credentials from " + who + ": it answered with " +
                              std::to_string(response.status) + (code.empty() ? "" : " (" + code + ")"));
  }
  const auto found = xml.child((action + "Response").c_str()).child((action + "Result").c_str());
  const auto values = found.child("Credentials");
  ExpiringCredentials credentials;
  credentials.keys = {values.child_value("AccessKeyId"), values.child_value("SecretAccessKey"),
                      values.child_value("SessionToken")};
  if (credentials.keys.access_key.empty() || credentials.keys.secret_key.empty())
    return Status::Permission(who + " gave no credentials");
  HEADRACE_ASSIGN(credentials.expires_us, ParseMicros(values.child_value("Expiration")));
  return credentials;
}

HttpRequest Post(const AwsSettings& settings, const std::string& body) {
  HttpRequest request;
  request.method = "POST";
  request.url = EndpointOf(settings) + "/";
  request.headers = {"content-type: application/x-www-form-urlencoded"};
  request.body = body;
  return request;
}

}  // namespace

Result<ExpiringCredentials> AssumeRole(const AwsSettings& settings, const AwsRole& role,
                                       const S3Credentials& source) {
  const std::string body = CanonicalQuery(RoleForm("AssumeRole", role));
  HttpRequest request = Post(settings, body);
  SignInput sign;
  sign.method = "POST";
  const std::string address = EndpointOf(settings).substr(EndpointOf(settings).find("://") + 3);
  const size_t slash = address.find('/');
  sign.path = (slash == std::string::npos ? "" : address.substr(slash)) + "/";
  sign.region = RegionOf(settings);
  sign.service = "sts";
  sign.payload_hash = Sha256Hex(body);
  sign.amz_date = AmzDate(NowMicros());
  sign.headers = {{"content-type", "application/x-www-form-urlencoded"},
                  {"host", address.substr(0, slash)},
                  {"x-amz-date", sign.amz_date}};
  if (!source.session_token.empty()) sign.headers["x-amz-security-token"] = source.session_token;
  request.headers.clear();
  for (const auto& [name, value] : sign.headers)
    if (name != "host") request.headers.push_back(name + ": " + value);
  request.headers.push_back("authorization: " + Authorization(sign, source));
  HEADRACE_ASSIGN(const auto answer, AskAws("STS", std::move(request), {}));
  return ParseAnswer("AssumeRole", role, answer);
}

Result<ExpiringCredentials> AssumeRoleWithWebIdentity(const AwsSettings& settings, const AwsRole& role,
                                                      const std::string& token_file) {
  if (role.arn.empty()) {
    return Status::Invalid("there is a web identity token file, " + token_file +
                           ", and no role for it: set AWS_ROLE_ARN, or the profile's role_arn");
  }
  auto token = ReadFile(token_file, 1 << 20);
  if (!token.ok()) return token.status().Wrap("cannot read the web identity token");
  Form form = RoleForm("AssumeRoleWithWebIdentity", role);
  form.emplace_back("WebIdentityToken", *token);
  const std::string body = CanonicalQuery(form);
  HEADRACE_ASSIGN(const auto answer, AskAws("STS", Post(settings, body), {}));
  return ParseAnswer("AssumeRoleWithWebIdentity", role, answer);
}

}  // namespace headrace::store
