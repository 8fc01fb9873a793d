// model_list: what is served, as OpenAI's API lists it and as Anthropic's does.
#pragma once

#include <string>
#include <string_view>

#include "serve/services.h"

namespace headrace::serve {

std::string ModelList(const Services& services);
// One entry of the list; "" where there is no such model.
std::string ModelEntry(const Services& services, const std::string& name);

// Anthropic's, in pages: `query` may hold limit, after_id and before_id.
std::string AnthropicModelList(const Services& services, std::string_view query);
std::string AnthropicModelEntry(const Services& services, const std::string& name);

}  // namespace headrace::serve
