// RecordMode: what the rows of requests hold of their texts.
#pragma once

#include <string>

#include "base/status.h"

namespace headrace::serve {

enum class RecordMode { kFull, kHash, kNone };  // texts are kept; only their hashes; neither
Result<RecordMode> ParseRecordMode(const std::string& word);

}  // namespace headrace::serve
