// server_state: what a server tells of itself: its figures, its load, its health.
#pragma once

#include <string>

#include "serve/services.h"

namespace headrace::serve {

// As Prometheus reads it.
std::string MetricsText(Services* services);
// What is going on now: models, requests in flight.
std::string Load(const Services& services);
// {"status": "ok" | "degraded", …}
std::string Health(const Services& services);

}  // namespace headrace::serve
