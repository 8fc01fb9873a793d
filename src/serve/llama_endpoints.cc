#include "serve/llama_endpoints.h"

#include <algorithm>
#include "base/json.h"

#include "api/writer.h"
#include "serve/json_body.h"

namespace headrace::serve {
using nlohmann::ordered_json;

std::string Props(const Services& services) {
  const Named named = services.models->Find("", model::Task::kWrite);
  const auto loaded = named.backend ? named.backend->report().served : nullptr;
  ordered_json body = {{"default_generation_settings", nullptr},
                       {"total_slots", services.models->slots()},
                       {"modalities", {{"vision", false}, {"audio", false}}},
                       {"build_info", "headrace, " + services.build},
                       {"is_sleeping", named.backend && !loaded}};
  if (!loaded) return Dump(body);
  const Served& served = *loaded;
  body["default_generation_settings"] = {
      {"id", 0},
      {"n_ctx", served.session->context()},
      {"params", ParseJsonInOrder(api::NativeSettings(services.defaults))}};
  body["model_alias"] = served.name;
  body["model_path"] = served.path.substr(served.path.rfind('/') + 1);  // where it lies is nobody's business
  body["chat_template"] = served.session->chat() ? served.session->chat()->source() : "";
  body["bos_token"] = served.model().Name(served.model().bos());
  body["eos_token"] = served.model().Name(served.model().eos());
  return Dump(body);
}

std::string Slots(const Services& services, size_t* free) {
  const Named named = services.models->Find("", model::Task::kWrite);
  const auto loaded = named.backend ? named.backend->report().served : nullptr;
  const auto count = static_cast<size_t>(std::max(services.models->slots(), 1));
  const auto requests = services.in_flight.all();
  ordered_json list = ordered_json::array();
  for (size_t i = 0; i < count; ++i) {
    ordered_json slot = {{"id", i},
                         {"n_ctx", loaded ? loaded->session->context() : 0},
                         {"speculative", false},
                         {"is_processing", i < requests.size()}};
    if (i < requests.size())
      slot.update({{"id_task", requests[i]->id},
                   {"model", requests[i]->model},
                   {"n_prompt_tokens", requests[i]->prompt_tokens.load()},
                   {"next_token", {{{"n_decoded", requests[i]->answer_tokens.load()}}}}});
    list.push_back(std::move(slot));
  }
  *free = count - std::min(count, requests.size());
  return Dump(list);
}

}  // namespace headrace::serve
