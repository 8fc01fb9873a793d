// A profile's credential_process: a program that prints credentials.
// (https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html)
#pragma once

#include <string>
#include <vector>

#include "store/s3_credentials.h"

namespace headrace::store {

// The words of a command line as a POSIX shell splits them; nothing in them is expanded. Invalid where a
// quotation is left open.
Result<std::vector<std::string>> SplitWords(const std::string& line);

// Runs it without a shell. What it writes to its standard error goes to ours.
Result<ExpiringCredentials> ProcessCredentials(const std::string& line, const std::string& profile);

}  // namespace headrace::store
