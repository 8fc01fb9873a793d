// Manifests by their place, kept in memory with other opened files.
#pragma once

#include <memory>
#include <string>

#include "table/environment.h"
#include "table/manifest.h"

namespace headrace::table {

// Of the table at `prefix`.
Result<std::shared_ptr<const Manifest>> LoadManifest(Environment* env, const std::string& prefix,
                                                     const ManifestRef& ref);

}  // namespace headrace::table
