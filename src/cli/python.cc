#include "cli/python.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

namespace headrace::cli {

Status BecomePython(const std::string& module, const std::vector<std::string>& words) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto beside = self.parent_path().parent_path() / "python";
  if (!error && std::filesystem::exists(beside / "headrace" / "__init__.py", error)) {
    const char* before = getenv("PYTHONPATH");
    const std::string path =
        before == nullptr || *before == '\0' ? beside.string() : beside.string() + ":" + before;
    setenv("PYTHONPATH", path.c_str(), 1);
  }
  const char* named = getenv("HEADRACE_PYTHON");
  const std::string python = named == nullptr || *named == '\0' ? "python3" : named;
  std::vector<std::string> line = {python, "-m", module};
  line.insert(line.end(), words.begin(), words.end());
  std::vector<char*> arguments;
  for (std::string& word : line) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  execvp(python.c_str(), arguments.data());
  return Status::FromErrno(errno, "start", python + " (HEADRACE_PYTHON names another)");
}

}  // namespace headrace::cli
