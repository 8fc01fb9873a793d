// Assertions that stay on in release builds: a programming error aborts the program and prints file, line and
// message.
#pragma once

namespace headrace {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}  // namespace headrace

#define HEADRACE_CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::headrace::CheckFailed(__FILE__, __LINE__, #condition))
