// Where credentials come from: the places that the AWS tools look in, in their order.
//
//   1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//   2. the profile's role_arn with source_profile or credential_source                STS AssumeRole
//   3. a web identity token (Kubernetes), from the environment or the profile         STS
//   AssumeRoleWithWebIdentity
//   4. the profile's sso_session or sso_start_url: what `aws sso login` left          SSO GetRoleCredentials
//   5. the profile's keys in ~/.aws/credentials
//   6. the profile's credential_process
//   7. the profile's keys in ~/.aws/config
//   8. a container's address (ECS, EKS Pod Identity)
//   9. the instance metadata service, version 2 (EC2)
//
// As botocore does it (botocore/credentials.py). The first place that is set decides: if it fails, that is
// the error.
#pragma once

#include "store/aws_settings.h"
#include "store/s3_credentials.h"

namespace headrace::store {

// Permission where no place is set or answers; the message names what to set. No message holds a secret.
Result<ExpiringCredentials> FindAwsCredentials(const AwsSettings& settings);

}  // namespace headrace::store
