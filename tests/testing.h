// What the C++ tests share: small tables from JSON, temporary folders, checks of a Status.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"

#define ASSERT_OK(expr)                              \
  do {                                               \
    const ::headrace::Status status_ = (expr);       \
    ASSERT_TRUE(status_.ok()) << status_.ToString(); \
  } while (false)
#define EXPECT_OK(expr)                              \
  do {                                               \
    const ::headrace::Status status_ = (expr);       \
    EXPECT_TRUE(status_.ok()) << status_.ToString(); \
  } while (false)
#define ASSERT_VALUE(lhs, expr) ASSERT_VALUE_INNER(HEADRACE_CONCAT(value_, __LINE__), lhs, expr)
#define ASSERT_VALUE_INNER(result, lhs, expr)             \
  auto result = (expr);                                   \
  ASSERT_TRUE(result.ok()) << result.status().ToString(); \
  lhs = std::move(result).value()

namespace headrace::testing {

class TempFolder {
 public:
  TempFolder() : TempFolder(std::filesystem::temp_directory_path()) {}
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string path() const { return path_.string(); }

 protected:
  explicit TempFolder(const std::filesystem::path& in)
      : path_(in / ("headrace-test-" + Uuid::Random().ToString())) {
    std::filesystem::create_directories(path_);
  }

 private:
  std::filesystem::path path_;
};

// In memory where the system has room for that: for loops that would wait for the disk at each of thousands
// of syncs, and whose subject is not the disk.
class MemoryFolder : public TempFolder {
 public:
  MemoryFolder() : TempFolder(Place()) {}

 private:
  static std::filesystem::path Place() {
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path();
  }
};

// Fewer steps where sanitizers make each one slow.
inline int Scaled(int steps) {
  const char* small = getenv("HEADRACE_TEST_SMALL");
  return small != nullptr && *small != '\0' ? std::max(1, steps / 10) : steps;
}
inline bool InCi() {
  const char* ci = getenv("HEADRACE_TEST_CI");
  return ci != nullptr && *ci != '\0';
}

}  // namespace headrace::testing
