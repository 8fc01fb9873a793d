#include "model/adapter_file.h"

#include <ggml.h>
#include <gguf.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "base/file.h"

namespace headrace::model {

Status WriteAdapter(const std::string& path, const AdapterFacts& facts,
                    const std::vector<AdapterTensor>& tensors) {
  const std::unique_ptr<gguf_context, void (*)(gguf_context*)> file(gguf_init_empty(), gguf_free);
  gguf_set_val_str(file.get(), "general.architecture", facts.architecture.c_str());
  gguf_set_val_str(file.get(), "general.type", "adapter");
  gguf_set_val_str(file.get(), "adapter.type", "lora");
  gguf_set_val_str(file.get(), "general.name", facts.name.c_str());
  gguf_set_val_f32(file.get(), "adapter.lora.alpha", facts.alpha);
  for (const auto& [key, text] : facts.texts) gguf_set_val_str(file.get(), key.c_str(), text.c_str());

  const ggml_init_params room = {
      .mem_size = (tensors.size() + 1) * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true};
  const std::unique_ptr<ggml_context, void (*)(ggml_context*)> heads(ggml_init(room), ggml_free);
  for (const AdapterTensor& tensor : tensors) {
    if (tensor.name.size() >= GGML_MAX_NAME)
      return Status::Invalid("the name of a tensor is longer than GGUF files have them: " + tensor.name);
    ggml_tensor* head = ggml_new_tensor_2d(heads.get(), GGML_TYPE_F32, tensor.columns, tensor.rows);
    ggml_set_name(head, tensor.name.c_str());
    head->data = const_cast<float*>(tensor.values);
    gguf_add_tensor(file.get(), head);
  }

  HEADRACE_ASSIGN(PendingFile pending, PendingFile::Create(ParentFolder(path), {}));
  FILE* stream = fdopen(dup(pending.fd()), "wb");
  if (stream == nullptr) return Status::FromErrno(errno, "write", path);
  errno = 0;
  const bool written = gguf_write_to_file_ptr(file.get(), stream, false);
  const int error = errno;
  if (fclose(stream) != 0) return Status::FromErrno(errno, "write", path);
  if (!written) return Status::FromErrno(error != 0 ? error : EIO, "write", path);
  return pending.Publish(path, true);
}

}  // namespace headrace::model
