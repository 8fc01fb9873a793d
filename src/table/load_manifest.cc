#include "table/load_manifest.h"

#include "table/keys.h"

namespace headrace::table {

Result<std::shared_ptr<const Manifest>> LoadManifest(Environment* env, const std::string& prefix,
                                                     const ManifestRef& ref) {
  const std::string key = ManifestKey(prefix, ref.id);
  return env->files.GetOrOpen<const Manifest>(key, [&]() -> Result<std::shared_ptr<const Manifest>> {
    HEADRACE_ASSIGN(auto bytes, env->store->Get(key));
    return Manifest::Load(std::move(bytes), ref);
  });
}

}  // namespace headrace::table
