// llama_endpoints: what llama.cpp's server tells of itself (tools/server/README.md), for clients that ask.
#pragma once

#include <string>

#include "serve/services.h"

namespace headrace::serve {

// GET /props: of the first language model.
std::string Props(const Services& services);
// GET /slots: one entry for each request that may run at once. `free`: how many of them nobody has.
std::string Slots(const Services& services, size_t* free);

}  // namespace headrace::serve
