#include "store/aws_credentials.h"

#include <set>

#include "store/aws_metadata.h"
#include "store/aws_process.h"
#include "store/aws_sso.h"
#include "store/aws_sts.h"

namespace headrace::store {
namespace {

using Found = std::optional<Result<ExpiringCredentials>>;  // nothing: this place is not set

std::string Find(const AwsSettings::Values& values, const char* name) {
  return AwsSettings::Find(values, name);
}

Found EnvironmentKeys(const AwsSettings& settings) {
  S3Credentials keys{settings.Env("AWS_ACCESS_KEY_ID"), settings.Env("AWS_SECRET_ACCESS_KEY"),
                     settings.Env("AWS_SESSION_TOKEN")};
  if (keys.access_key.empty()) return std::nullopt;
  if (keys.secret_key.empty())
    return Status::Permission("no S3 credentials: AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not");
  return ExpiringCredentials{std::move(keys), 0};
}

Found FileKeys(const AwsSettings::Values& values, const std::string& profile) {
  S3Credentials keys{Find(values, "aws_access_key_id"), Find(values, "aws_secret_access_key"),
                     Find(values, "aws_session_token")};
  if (keys.access_key.empty()) return std::nullopt;
  if (keys.secret_key.empty())
    return Status::Permission("no S3 credentials: the profile '" + profile +
                              "' has aws_access_key_id, and no aws_secret_access_key");
  return ExpiringCredentials{std::move(keys), 0};
}

AwsRole RoleOf(const AwsSettings::Values& values) {
  return {Find(values, "role_arn"), Find(values, "role_session_name"), Find(values, "external_id"),
          Find(values, "duration_seconds")};
}

Found WebIdentity(const AwsSettings& settings, const std::string& profile, bool use_environment) {
  const auto get = [&](const char* variable, const char* name) {
    const std::string set = use_environment ? settings.Env(variable) : "";
    return set.empty() ? Find(settings.Profile(profile), name) : set;
  };
  const std::string file = get("AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file");
  if (file.empty()) return std::nullopt;
  AwsRole role = RoleOf(settings.Profile(profile));
  role.arn = get("AWS_ROLE_ARN", "role_arn");
  role.session_name = get("AWS_ROLE_SESSION_NAME", "role_session_name");
  return AssumeRoleWithWebIdentity(settings, role, file);
}

// What a profile says besides an AssumeRole.
Found ProfileCredentials(const AwsSettings& settings, const std::string& profile, bool use_environment) {
  const auto& values = settings.Profile(profile);
  if (auto found = WebIdentity(settings, profile, use_environment)) return found;
  if (UsesSso(values)) return SsoCredentials(settings, profile);
  if (auto found = FileKeys(settings.SharedProfile(profile), profile)) return found;
  if (const std::string line = Find(values, "credential_process"); !line.empty())
    return ProcessCredentials(line, profile);
  return FileKeys(values, profile);
}

bool AssumesRole(const AwsSettings::Values& values) {
  return values.contains("role_arn") && !values.contains("web_identity_token_file");
}

Result<ExpiringCredentials> NamedSource(const AwsSettings& settings, const std::string& profile,
                                        const std::string& source) {
  if (source == "Environment") {
    if (auto found = EnvironmentKeys(settings)) return *found;
    return Status::Permission("the profile '" + profile +
                              "' has credential_source = Environment, and AWS_ACCESS_KEY_ID is not set");
  }
  if (source == "EcsContainer") return ContainerCredentials(settings);
  if (source == "Ec2InstanceMetadata") return InstanceCredentials(settings);
  return Status::Invalid("the profile '" + profile + "' has credential_source = " + source +
                         ", which is none of Environment, EcsContainer, Ec2InstanceMetadata");
}

// `above`: the profiles that led here.
Result<ExpiringCredentials> AssumedRole(const AwsSettings& settings, const std::string& profile,
                                        std::set<std::string> above) {
  const auto& values = settings.Profile(profile);
  const std::string source = Find(values, "source_profile");
  const std::string named = Find(values, "credential_source");
  if (!Find(values, "mfa_serial").empty())
    return Status::Unsupported("the profile '" + profile +
                               "' wants a code from a device (mfa_serial): set the variables that "
                               "`aws configure export-credentials --format env` prints");
  if (source.empty() == named.empty())
    return Status::Invalid("the profile '" + profile +
                           "' has a role_arn: it needs either source_profile or credential_source");
  if (!named.empty()) {
    HEADRACE_ASSIGN(const auto found, NamedSource(settings, profile, named));
    return AssumeRole(settings, RoleOf(values), found.keys);
  }
  above.insert(profile);
  const auto& below = settings.Profile(source);
  if (below.empty())
    return Status::Invalid("the profile '" + profile + "' has source_profile = " + source +
                           ", which is in none of the files in ~/.aws");
  const bool has_keys = below.contains("aws_access_key_id") || below.contains("aws_secret_access_key");
  // A profile may be its own source, by the keys that it has.
  if (above.contains(source) && !(source == profile && has_keys))
    return Status::Invalid("the profile '" + source + "' leads back to itself through source_profile");
  if (AssumesRole(below) && !has_keys) {
    HEADRACE_ASSIGN(const auto found, AssumedRole(settings, source, std::move(above)));
    return AssumeRole(settings, RoleOf(values), found.keys);
  }
  const auto found = ProfileCredentials(settings, source, /*use_environment=*/false);
  if (!found) return Status::Permission("the profile '" + source + "' has no credentials");
  if (!found->ok()) return found->status();
  return AssumeRole(settings, RoleOf(values), (*found)->keys);
}

}  // namespace

Result<ExpiringCredentials> FindAwsCredentials(const AwsSettings& settings) {
  const std::string& profile = settings.profile_name();
  if (auto found = EnvironmentKeys(settings)) return *found;
  if (AssumesRole(settings.Profile(profile))) return AssumedRole(settings, profile, {});
  if (auto found = ProfileCredentials(settings, profile, /*use_environment=*/true)) return *found;
  if (HasContainerCredentials(settings)) return ContainerCredentials(settings);
  auto instance = InstanceCredentials(settings);
  if (instance.ok() || !instance.status().Is(Code::kNotFound)) return instance;
  return Status::Permission(
      "no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or the profile '" +
      profile + "' in ~/.aws (" + instance.status().message() + ")");
}

}  // namespace headrace::store
