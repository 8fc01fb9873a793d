#include "ingest/spool.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

namespace headrace::ingest {
namespace {

Status WriteAll(int fd, const char* data, size_t bytes, const std::string& folder) {
  while (bytes > 0) {
    const ssize_t wrote = write(fd, data, bytes);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return Status::FromErrno(errno, "keep standard input in (TMPDIR says where)", folder);
    data += wrote;
    bytes -= static_cast<size_t>(wrote);
  }
  return Status::Ok();
}

}  // namespace

SpooledInput& SpooledInput::operator=(SpooledInput&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

SpooledInput::~SpooledInput() {
  if (fd_ >= 0) close(fd_);
}

Result<SpooledInput> SpooledInput::Standard(const StopToken& stop) {
  const char* chosen = getenv("TMPDIR");
  const std::string folder = chosen != nullptr && *chosen != '\0' ? chosen : "/tmp";
  std::string name = folder + "/headrace-stdin-XXXXXX";
  SpooledInput input;
  input.fd_ = mkstemp(name.data());
  if (input.fd_ < 0) return Status::FromErrno(errno, "make a temporary file in", folder);
  unlink(name.c_str());
  std::string buffer(1 << 20, '\0');
  for (;;) {
    HEADRACE_TRY(stop.Check());
    pollfd ready{STDIN_FILENO, POLLIN, 0};
    if (poll(&ready, 1, 100) == 0) continue;
    const ssize_t got = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::FromErrno(errno, "read", "standard input");
    if (got == 0) return input;
    HEADRACE_TRY(WriteAll(input.fd_, buffer.data(), static_cast<size_t>(got), folder));
    input.bytes_ += got;
  }
}

}  // namespace headrace::ingest
