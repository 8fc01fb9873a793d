// Parts of the program that are written in Python, in the package of the same build.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace headrace::cli {

// Replaces the process by `python3 -m MODULE WORDS`, or the Python that HEADRACE_PYTHON names. The package is
// the one beside this program, or an installed one. Comes back only where Python does not start.
Status BecomePython(const std::string& module, const std::vector<std::string>& words);

}  // namespace headrace::cli
