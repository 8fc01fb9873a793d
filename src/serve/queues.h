// queues: /v1/queues: items of annotation queues, handed out and judged.
#pragma once

#include <memory>
#include <string>

#include "api/call.h"
#include "serve/ticket.h"

namespace headrace::serve {

// They answer the ticket's request. Called on a worker.
void AllQueues(const std::shared_ptr<Ticket>& ticket);
void QueueItems(const std::shared_ptr<Ticket>& ticket, const std::string& queue, api::QueueAction action);

}  // namespace headrace::serve
