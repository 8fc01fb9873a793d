#include "ingest/spool.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace headrace::ingest {

Result<SpooledInput> SpooledInput::Standard(const StopToken& stop) {
  SpooledInput input;
  HEADRACE_ASSIGN(input.fd_, OpenTemporaryFile());
  std::string buffer(1 << 20, '\0');
  const Fd stopped(eventfd(0, EFD_CLOEXEC));
  if (stopped.get() < 0) return Status::FromErrno(errno, "make", "an event to wait for");
  const StopCallback on_stop(stop, [&] { eventfd_write(stopped.get(), 1); });
  for (;;) {
    HEADRACE_TRY(stop.Check());
    pollfd ready[] = {{STDIN_FILENO, POLLIN, 0}, {stopped.get(), POLLIN, 0}};
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
