// StopEvent: a stop that poll(2) can wait for, beside a pipe or a socket.
#pragma once

#include <memory>

#include "base/cancel.h"
#include "base/file.h"
#include "base/status.h"

namespace headrace {

class StopEvent {
 public:
  static Result<std::unique_ptr<StopEvent>> Make(const StopToken& stop);
  // A descriptor that is readable (POLLIN) from the stop on.
  int fd() const { return event_.get(); }

 private:
  StopEvent(Fd event, const StopToken& stop);
  const Fd event_;
  const StopCallback on_stop_;
};

}  // namespace headrace
