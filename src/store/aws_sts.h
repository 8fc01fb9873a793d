// AWS Security Token Service: credentials of a role.
// (https://docs.aws.amazon.com/STS/latest/APIReference/)
#pragma once

#include <optional>
#include <string>

#include "store/aws_settings.h"
#include "store/s3_credentials.h"

namespace headrace::store {

struct AwsRole {
  std::string arn;
  std::string session_name;      // empty: one is made up
  std::string external_id;       // of AssumeRole alone; may be empty
  std::string duration_seconds;  // may be empty
};

Result<ExpiringCredentials> AssumeRole(const AwsSettings& settings, const AwsRole& role,
                                       const S3Credentials& source);
// With the token that lies in `token_file` now.
Result<ExpiringCredentials> AssumeRoleWithWebIdentity(const AwsSettings& settings, const AwsRole& role,
                                                      const std::string& token_file);

}  // namespace headrace::store
