#include "model/header.h"

#include <gguf.h>
#include <llama.h>

#include <memory>
#include <optional>

namespace headrace::model {
namespace {

std::string Text(const gguf_context* file, const std::string& key) {
  const int64_t at = gguf_find_key(file, key.c_str());
  return at >= 0 && gguf_get_kv_type(file, at) == GGUF_TYPE_STRING ? gguf_get_val_str(file, at) : "";
}

std::optional<uint32_t> Number(const gguf_context* file, const std::string& key) {
  const int64_t at = gguf_find_key(file, key.c_str());
  if (at < 0 || gguf_get_kv_type(file, at) != GGUF_TYPE_UINT32) return std::nullopt;
  return gguf_get_val_u32(file, at);
}

using File = std::unique_ptr<gguf_context, void (*)(gguf_context*)>;

Result<File> Open(const std::string& path) {
  File file(gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}), gguf_free);
  if (!file) return Status::Corrupt(path + " is not a GGUF file that can be read");
  return file;
}

}  // namespace

Result<Facts> ReadHeader(const std::string& path) {
  HEADRACE_ASSIGN(const File file, Open(path));
  Facts facts;
  facts.architecture = Text(file.get(), "general.architecture");
  facts.name = Text(file.get(), "general.name");
  const std::string prefix = facts.architecture + ".";
  facts.trained_context = static_cast<int32_t>(Number(file.get(), prefix + "context_length").value_or(0));
  facts.ranks = Number(file.get(), prefix + "pooling_type") == uint32_t{LLAMA_POOLING_TYPE_RANK};
  const int64_t causal = gguf_find_key(file.get(), (prefix + "attention.causal").c_str());
  const bool all_see_all = causal >= 0 && gguf_get_kv_type(file.get(), causal) == GGUF_TYPE_BOOL &&
                           !gguf_get_val_bool(file.get(), causal);
  if (all_see_all || facts.architecture == "t5encoder") facts.memory = Memory::kEncoder;
  return facts;
}

Result<bool> HasRankHead(const std::string& path) {
  HEADRACE_ASSIGN(const File file, Open(path));
  return gguf_find_tensor(file.get(), "cls.output.weight") >= 0 ||
         gguf_find_tensor(file.get(), "cls.weight") >= 0;
}

}  // namespace headrace::model
