// Chat templates that llama.cpp knows by their text: it changes the messages before it writes them (a model's
// reasoning gets another name, say), and the text that comes out.
#pragma once

#include <string>

namespace headrace::model {

// Also true of a template that could not be tried.
bool HasOwnWriter(const std::string& source);

}  // namespace headrace::model
