// Small JSON files that are changed by nobody (refs, catalog.json): with a checksum of their own, so that a
// flipped byte is an error and not another answer.
#pragma once

#include <string>
#include "base/json.h"

#include "base/hash.h"

namespace headrace::table {

// Adds "xxh3": the XXH3 of the object without it, as one line with sorted keys.
inline void Seal(nlohmann::json* object) {
  object->erase("xxh3");
  (*object)["xxh3"] = Hex64(Xxh3(object->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
}

// False where the object has a sum and it is another's. Files of before sums have none.
inline bool SealHolds(nlohmann::json object) {
  const auto it = object.find("xxh3");
  if (it == object.end()) return true;
  const nlohmann::json sum = *it;
  Seal(&object);
  return object["xxh3"] == sum;
}

}  // namespace headrace::table
