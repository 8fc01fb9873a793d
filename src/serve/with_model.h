// with_model: from the name in a call to the model that answers it. Where that has to be loaded first, no
// thread waits: the call goes on, on a worker, when it is there.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "serve/models.h"
#include "serve/ticket.h"

namespace headrace::serve {

// Calls `go`, once, with a lease of the model: here and now where it is loaded. Otherwise the request is in
// flight and waits, and `go` is called on a worker later. Where the model cannot be loaded (503, with the
// reason), the peer hangs up, `timeout` seconds are over (0: none) or the server stops, the ticket is ended
// and `go` is never called.
void WithModel(std::shared_ptr<Ticket> ticket, const Named& named, double timeout,
               std::function<void(Chosen)> go);

}  // namespace headrace::serve
