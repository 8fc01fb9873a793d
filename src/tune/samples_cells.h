// Cells of Arrow columns as texts and conversations.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "model/chat.h"

namespace headrace::tune {

struct Conversation {
  std::vector<model::Message> messages;
  std::vector<bool> weights;  // of each message: whether it may be learned
  std::vector<model::Tool> tools;
};

// kInvalid, without the cell's content, where `text` is no UTF-8.
Status CheckUtf8(std::string_view text);

// Of a column of text: string, large_string, string_view, or a dictionary of one of them; nothing of a null.
// The bytes live as long as the array. kUnsupported of other types.
Result<std::optional<std::string_view>> TextAt(const arrow::Array& values, int64_t row);

// Of a column of messages (SampleColumns::messages); nothing of a null. kInvalid, with the path of what is
// wrong ("messages[2].role"), where they cannot be read; kUnsupported of other types.
Result<std::optional<Conversation>> ConversationAt(const arrow::Array& values, int64_t row);

}  // namespace headrace::tune
