// IAM Identity Center (SSO): credentials of a role by the token that `aws sso login` left in ~/.aws.
// (https://docs.aws.amazon.com/sdkref/latest/guide/feature-sso-credentials.html)
#pragma once

#include "store/aws_settings.h"
#include "store/s3_credentials.h"

namespace headrace::store {

bool UsesSso(const AwsSettings::Values& profile);
// `profile`: its name. A token of an sso_session that expired is renewed, where it can be; otherwise the
// error names the login.
Result<ExpiringCredentials> SsoCredentials(const AwsSettings& settings, const std::string& profile);

}  // namespace headrace::store
