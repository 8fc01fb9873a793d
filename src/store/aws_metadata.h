// Credentials that the machine hands out: to a container (ECS, EKS Pod Identity) at an address in its
// environment, to an instance (EC2) through the instance metadata service.
#pragma once

#include "store/aws_settings.h"
#include "store/s3_credentials.h"

namespace headrace::store {

// Whether the environment names a container's address.
bool HasContainerCredentials(const AwsSettings& settings);
Result<ExpiringCredentials> ContainerCredentials(const AwsSettings& settings);

// By version 2 of the service alone: a token first, which a program that was only tricked into fetching an
// address cannot ask for. NotFound where there is no such service, or it is disabled; a machine without one
// learns that in AWS_METADATA_SERVICE_TIMEOUT seconds, 1 by default.
Result<ExpiringCredentials> InstanceCredentials(const AwsSettings& settings);

}  // namespace headrace::store
