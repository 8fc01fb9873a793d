// What calls have that leave a field out, as the operator of a server sets it.
#include <algorithm>
#include <array>
#include <string_view>

#include "api/parse_parts.h"

namespace headrace::api {
namespace {

// Fields that a call's own value replaces; of chat_template_kwargs, each variable by itself.
constexpr std::array kMayDefault = {"temperature",
                                    "top_p",
                                    "top_k",
                                    "min_p",
                                    "frequency_penalty",
                                    "presence_penalty",
                                    "repeat_penalty",
                                    "repetition_penalty",
                                    "seed",
                                    "min_tokens",
                                    "stop_token_ids",
                                    "xtc_probability",
                                    "xtc_threshold",
                                    "dry_multiplier",
                                    "dry_base",
                                    "dry_allowed_length",
                                    "dry_penalty_last_n",
                                    "dry_sequence_breakers",
                                    "max_tokens",
                                    "reasoning_effort",
                                    "chat_template_kwargs"};

}  // namespace

std::optional<Fault> ParseDefaults(std::string_view json, Call* call) {
  return Reading(json, [&](const Json& object) {
    for (const auto& [name, value] : object.items()) {
      if (std::find(kMayDefault.begin(), kMayDefault.end(), std::string_view(name)) == kMayDefault.end())
        Refuse(name, "has no default");
      if (!value.is_null()) call->defaulted.insert(name);
    }
    Fields body(object, "");
    ReadSampling(&body, call);
    if (const auto most = ReadMost(&body, "max_tokens")) call->request.max_tokens = *most;
    ReadEffort(body.Text("reasoning_effort"), call);
    ReadTemplate(&body, &call->render);
  });
}

}  // namespace headrace::api
