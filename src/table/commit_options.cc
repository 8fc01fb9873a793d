#include "table/commit_options.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

namespace headrace::table {

std::string DefaultWho() {
  if (const char* user = getenv("HEADRACE_USER"); user != nullptr && *user != '\0') return user;
  char host[256] = "host";
  gethostname(host, sizeof host - 1);
  const char* name = getenv("USER");
  if (name == nullptr || *name == '\0') {
    const passwd* entry = getpwuid(getuid());
    name = entry != nullptr ? entry->pw_name : "user";
  }
  return std::string(name) + "@" + host;
}

WriterClaim ClaimOf(const CommitOptions& options) {
  return {options.writer, options.sequence, options.after, options.since};
}

}  // namespace headrace::table
