// What an exception of a library says, for people.
#pragma once

#include <exception>
#include <string>

namespace headrace {

// Without the JSON library's name for the error, "[json.exception.parse_error.101] ".
inline std::string ExceptionText(const std::exception& error) {
  std::string text = error.what();
  if (text.rfind("[json.exception", 0) == 0) text.erase(0, text.find("] ") + 2);
  return text;
}

}  // namespace headrace
