#include "model/header.h"

#include <gguf.h>

#include <memory>

namespace headrace::model {
namespace {

std::string Text(const gguf_context* file, const std::string& key) {
  const int64_t at = gguf_find_key(file, key.c_str());
  return at >= 0 && gguf_get_kv_type(file, at) == GGUF_TYPE_STRING ? gguf_get_val_str(file, at) : "";
}

}  // namespace

Result<Facts> ReadHeader(const std::string& path) {
  const std::unique_ptr<gguf_context, void (*)(gguf_context*)> file(
      gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}), gguf_free);
  if (!file) return Status::Corrupt(path + " is not a GGUF file that can be read");
  Facts facts;
  facts.architecture = Text(file.get(), "general.architecture");
  facts.name = Text(file.get(), "general.name");
  const std::string prefix = facts.architecture + ".";
  if (const int64_t at = gguf_find_key(file.get(), (prefix + "context_length").c_str());
      at >= 0 && gguf_get_kv_type(file.get(), at) == GGUF_TYPE_UINT32)
    facts.trained_context = static_cast<int32_t>(gguf_get_val_u32(file.get(), at));
  const int64_t causal = gguf_find_key(file.get(), (prefix + "attention.causal").c_str());
  const bool all_see_all = causal >= 0 && gguf_get_kv_type(file.get(), causal) == GGUF_TYPE_BOOL &&
                           !gguf_get_val_bool(file.get(), causal);
  if (all_see_all || facts.architecture == "t5encoder") facts.memory = Memory::kEncoder;
  return facts;
}

}  // namespace headrace::model
