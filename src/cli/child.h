// A program that runs below this one, seen from outside: what it writes passes through, signals reach it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::cli {

struct ChildEnd {
  int exit_code = 0;  // as a shell tells it: 128 + the signal that ended it
  int signal = 0;     // that ended it; 0: none
};

struct ChildOptions {
  std::vector<std::string> words;                  // the program, looked up in PATH, and its arguments
  std::map<std::string, std::string> environment;  // beside ours
  // What it has written, before it is passed on: stream 1 is its standard output, 2 its standard error. On a
  // terminal both are 1: it gets a terminal of its own, so that it draws colours and progress as ever.
  std::function<void(int stream, std::string_view bytes)> output;
  std::function<void()> each_second;
  std::function<void(int pid)> started;
};

// Runs it to its end. Signals that reach this process (SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2)
// are passed on, and end it no sooner. NotFound where there is no such program. Once in a process at a time.
Result<ChildEnd> RunChild(const ChildOptions& options);

// What a program prints on its standard output, at most `seconds` later; nothing where it fails, or is not
// there.
std::string OutputOf(const std::vector<std::string>& words, double seconds);

}  // namespace headrace::cli
