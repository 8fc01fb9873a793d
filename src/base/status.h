// Status and Result<T>: how errors travel in Headrace.
//
// A Status says what went wrong in words a user can act on: it names the thing and, where there is one, the
// fix. Causes are chained with `Status::Wrap`. No exception crosses a module's front header.
//
//   Result<int64_t> Size(const std::string& path);
//   Status Print(const std::string& path) {
//     HEADRACE_ASSIGN(int64_t size, Size(path));
//     ...
//     return Status::Ok();
//   }
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace headrace {

enum class Code {
  kOk,
  kInvalid,        // the caller's input is wrong: a bad name, type, expression
  kNotFound,       // the named thing does not exist
  kAlreadyExists,  // put-if-absent lost, or the name is taken
  kConflict,       // a concurrent commit makes this one meaningless; re-read and decide
  kIo,             // the operating system refused
  kUnavailable,    // the store cannot be reached now; trying again may help
  kTimeout,        // a deadline passed
  kCorrupt,        // bytes do not match their checksum or their format
  kUnsupported,    // understood, but not something that this version does
  kLimit,          // a named limit (base/limits.h) was passed
  kPermission,     // access was refused
  kCancelled,      // the caller asked to stop
  kUnknown,        // a write whose outcome could not be settled: it may or may not have happened
};

// The name of a code as printed in `--json` errors, e.g. "not_found".
std::string_view CodeName(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message);

  static Status Ok() { return Status(); }
  static Status Invalid(std::string message) { return {Code::kInvalid, std::move(message)}; }
  static Status NotFound(std::string message) { return {Code::kNotFound, std::move(message)}; }
  static Status AlreadyExists(std::string message) { return {Code::kAlreadyExists, std::move(message)}; }
  static Status Conflict(std::string message) { return {Code::kConflict, std::move(message)}; }
  static Status Io(std::string message) { return {Code::kIo, std::move(message)}; }
  static Status Unavailable(std::string message) { return {Code::kUnavailable, std::move(message)}; }
  static Status Timeout(std::string message) { return {Code::kTimeout, std::move(message)}; }
  static Status Corrupt(std::string message) { return {Code::kCorrupt, std::move(message)}; }
  static Status Unsupported(std::string message) { return {Code::kUnsupported, std::move(message)}; }
  static Status Limit(std::string message) { return {Code::kLimit, std::move(message)}; }
  static Status Permission(std::string message) { return {Code::kPermission, std::move(message)}; }
  static Status Cancelled(std::string message = "stopped on request") {
    return {Code::kCancelled, std::move(message)};
  }
  static Status Unknown(std::string message) { return {Code::kUnknown, std::move(message)}; }
  // The error of errno `error` met while doing `what` to `path`.
  static Status FromErrno(int error, std::string_view what, std::string_view path);

  bool ok() const { return !state_; }
  Code code() const { return state_ ? state_->code : Code::kOk; }
  bool Is(Code code) const { return this->code() == code; }
  // This error's own words, without its causes.
  const std::string& message() const;
  // The whole chain: "cannot append to photos: disk full (…)".
  std::string ToString() const;
  // The same error seen from further out: `context` in front, this as its cause. Ok stays Ok.
  Status Wrap(std::string context) const;

 private:
  struct State {
    Code code;
    std::string message;
    std::shared_ptr<const State> cause;
  };
  std::shared_ptr<const State> state_;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT: implicit by design
  Result(Status status) : status_(std::move(status)) { HEADRACE_CHECK(!status_.ok()); }  // NOLINT: likewise

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & {
    HEADRACE_CHECK(ok());
    return *value_;
  }
  const T& value() const& {
    HEADRACE_CHECK(ok());
    return *value_;
  }
  T&& value() && {
    HEADRACE_CHECK(ok());
    return std::move(*value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace headrace

#define HEADRACE_CONCAT_INNER(a, b) a##b
#define HEADRACE_CONCAT(a, b) HEADRACE_CONCAT_INNER(a, b)

// Returns from the enclosing function if `expr` (a Status) is an error.
#define HEADRACE_TRY(expr)                             \
  do {                                                 \
    ::headrace::Status headrace_status = (expr);       \
    if (!headrace_status.ok()) return headrace_status; \
  } while (false)

// `lhs = value of expr` (a Result), or returns its error.
#define HEADRACE_ASSIGN(lhs, expr) \
  HEADRACE_ASSIGN_INNER(HEADRACE_CONCAT(headrace_result_, __LINE__), lhs, expr)
#define HEADRACE_ASSIGN_INNER(result, lhs, expr) \
  auto result = (expr);                          \
  if (!result.ok()) return result.status();      \
  lhs = std::move(result).value()
