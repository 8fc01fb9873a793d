#include "ingest/spool.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "base/stop_event.h"

namespace headrace::ingest {

Result<SpooledInput> SpooledInput::Standard(const StopToken& stop) {
  SpooledInput input;
  HEADRACE_ASSIGN(input.fd_, OpenTemporaryFile());
  std::string buffer(1 << 20, '\0');
  HEADRACE_ASSIGN(const auto stopped, StopEvent::Make(stop));
  for (;;) {
    HEADRACE_TRY(stop.Check());
    pollfd ready[] = {{STDIN_FILENO, POLLIN, 0}, {stopped->fd(), POLLIN, 0}};
    if (poll(ready, 2, -1) < 0 && errno != EINTR)
      return Status::FromErrno(errno, "wait for", "standard input");
    if (ready[0].revents == 0) continue;
    const ssize_t got = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::FromErrno(errno, "read", "standard input");
    if (got == 0) return input;
    const Status kept = WriteAll(input.fd_.get(), {buffer.data(), static_cast<size_t>(got)},
                                 "the temporary file that keeps standard input (TMPDIR says where)");
    HEADRACE_TRY(kept);
    input.bytes_ += got;
  }
}

}  // namespace headrace::ingest
