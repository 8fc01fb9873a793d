// Whether a value satisfies a schema: for those that a schema lists (enum, const) beside other keywords.
#pragma once

#include "schema/document.h"

namespace headrace::schema {

// kUnsupported names a keyword that is not looked at here.
Result<bool> Holds(const Document& document, const Sub& schema, const Json& value);
// The same without the schemas that it refers to or combines.
Result<bool> HoldsAlone(const Document& document, const Sub& schema, const Json& value);

// JSON Schema's equality: 1 is 1.0, and the order of members is no matter.
bool Same(const Json& a, const Json& b);

}  // namespace headrace::schema
