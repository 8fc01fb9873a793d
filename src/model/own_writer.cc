#include "model/own_writer.h"

#include <chat-auto-parser.h>
#include <chat.h>

namespace headrace::model {

bool HasOwnWriter(const std::string& source) {
  try {
    const common_chat_template parsed(source, "", "");
    autoparser::generation_params inputs;
    common_json message;
    message["role"] = "user";
    message["content"] = "…";
    inputs.messages = common_json::array();
    inputs.messages.push_back(message);
    inputs.extra_context = common_json::object();
    return common_chat_try_specialized_template(parsed, parsed.source(), inputs).has_value();
  } catch (const std::exception&) {
    return true;
  }
}

}  // namespace headrace::model
