#include "base/stop_event.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <utility>

namespace headrace {

Result<std::unique_ptr<StopEvent>> StopEvent::Make(const StopToken& stop) {
  Fd event(eventfd(0, EFD_CLOEXEC));
  if (!event.ok()) return Status::FromErrno(errno, "make", "an event to wait for");
  return std::unique_ptr<StopEvent>(new StopEvent(std::move(event), stop));
}

StopEvent::StopEvent(Fd event, const StopToken& stop)
    : event_(std::move(event)), on_stop_(stop, [this] { eventfd_write(event_.get(), 1); }) {}

}  // namespace headrace
