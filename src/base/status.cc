#include "base/status.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace headrace {

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "headrace: internal error at %s:%d: %s does not hold. Please report this.\n", file,
               line, condition);
  std::abort();
}

std::string_view CodeName(Code code) {
  switch (code) {
    case Code::kOk:
      return "ok";
    case Code::kInvalid:
      return "invalid";
    case Code::kNotFound:
      return "not_found";
    case Code::kAlreadyExists:
      return "already_exists";
    case Code::kConflict:
      return "conflict";
    case Code::kIo:
      return "io";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kTimeout:
      return "timeout";
    case Code::kCorrupt:
      return "corrupt";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kLimit:
      return "limit";
    case Code::kPermission:
      return "permission";
    case Code::kCancelled:
      return "cancelled";
    case Code::kUnknown:
      return "unknown";
  }
  return "unknown";
}

Status::Status(Code code, std::string message) {
  HEADRACE_CHECK(code != Code::kOk);
  state_ = std::make_shared<const State>(State{code, std::move(message), nullptr});
}

Status Status::FromErrno(int error, std::string_view what, std::string_view path) {
  std::string text = "cannot " + std::string(what) + " " + std::string(path) + ": " + std::strerror(error);
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return NotFound(std::move(text));
    case EEXIST:
      return AlreadyExists(std::move(text));
    case EACCES:
    case EPERM:
    case EROFS:
      return Permission(std::move(text));
    case ENOSPC:
    case EDQUOT:
      return Io(std::move(text) + " (free some space and run the same command again)");
    case ELOOP:
      return Invalid(std::move(text));
    default:
      return Io(std::move(text));
  }
}

const std::string& Status::message() const {
  static const std::string kEmpty;
  return state_ ? state_->message : kEmpty;
}

std::string Status::ToString() const {
  if (!state_) return "ok";
  std::string text = state_->message;
  for (auto cause = state_->cause; cause; cause = cause->cause) text += ": " + cause->message;
  return text;
}

Status Status::Wrap(std::string context) const {
  if (ok()) return *this;
  Status outer;
  outer.state_ = std::make_shared<const State>(State{state_->code, std::move(context), state_});
  return outer;
}

}  // namespace headrace
