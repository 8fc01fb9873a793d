// JSON Schema as a grammar. Begin here.
#pragma once

#include <string>

#include "base/status.h"

namespace headrace::schema {

// The grammar of a schema's documents, as EBNF that XGrammar reads: every text it allows is JSON that the
// schema (drafts 4 to 2020-12) holds for, properties in the schema's order, written as Python's json.dumps
// writes. kUnsupported names the path of a keyword that cannot be held, kInvalid that of one that is wrong.
Result<std::string> SchemaGrammar(const std::string& schema);

// Any JSON object, blanks and line ends as the writer likes.
std::string AnyObjectGrammar();

// Whether a text is JSON that is not nested too deep.
Status CheckJsonText(const std::string& text);

}  // namespace headrace::schema
