// What a reader must know to read a file: "requires", a list of names in catalog.json, in each snapshot and
// in each manifest. Members that a reader does not know are ignored; a change that would make ignoring them
// wrong (deletes, overlays, another file kind) names a feature here, and a reader without it refuses, by that
// name.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/status.h"

namespace headrace::table {

// `in`: an object that may have "requires". Unsupported if that names what this program does not have. Throws
// as nlohmann::json does where it is no list of strings.
Status CheckFeatures(const nlohmann::json& in);

}  // namespace headrace::table
