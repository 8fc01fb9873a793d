#include "base/version.h"

namespace headrace {

std::string_view Version() { return HEADRACE_VERSION; }

}  // namespace headrace
