// JSON schemas as the grammar compiler needs them: what it would read past without enforcing is found and
// refused, or said in a way that it enforces (held against JSON Schema's own test suite,
// docs/guide/models.md).
#pragma once

#include <string>

#include "base/status.h"

namespace headrace::engine {

// Whether a text is JSON that is not nested too deep (kMaxSchemaDepth).
Status CheckJsonText(const std::string& text);

// The schema to compile. kUnsupported names the path of what cannot be enforced.
Result<std::string> PrepareSchema(const std::string& text);

}  // namespace headrace::engine
