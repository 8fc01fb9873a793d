#include "model/adapter_file.h"

#include <ggml.h>
#include <gguf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>

#include "base/file.h"
#include "model/tensor_file.h"

namespace headrace::model {
namespace {

constexpr std::string_view kA = ".lora_a", kB = ".lora_b";

using Head = std::unique_ptr<gguf_context, void (*)(gguf_context*)>;

Head OpenHead(const std::string& path) {
  return {gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}), gguf_free};
}

// Nothing where there is no such key, or one of another type: llama.cpp aborts on those.
std::optional<std::string> TextOf(const gguf_context* file, const char* key) {
  const int64_t at = gguf_find_key(file, key);
  if (at < 0 || gguf_get_kv_type(file, at) != GGUF_TYPE_STRING) return std::nullopt;
  return gguf_get_val_str(file, at);
}

Status ReadFacts(const std::string& path, const gguf_context* file, AdapterFacts* facts) {
  if (TextOf(file, "general.type") != "adapter")
    return Status::Invalid(path + " is not an adapter: its head has no general.type = adapter");
  if (TextOf(file, "adapter.type") != "lora")
    return Status::Invalid(path + " is an adapter of a kind that is not known here: only LoRA is");
  facts->architecture = TextOf(file, "general.architecture").value_or("");
  if (facts->architecture.empty())
    return Status::Invalid(path + " does not say which architecture it is for (general.architecture)");
  facts->name = TextOf(file, "general.name").value_or("");
  const int64_t alpha = gguf_find_key(file, "adapter.lora.alpha");
  if (alpha >= 0) {
    if (gguf_get_kv_type(file, alpha) != GGUF_TYPE_FLOAT32)
      return Status::Invalid(path + ": adapter.lora.alpha is not a float32");
    facts->alpha = gguf_get_val_f32(file, alpha);
  }
  for (int64_t i = 0; i < gguf_get_n_kv(file); ++i)
    if (gguf_get_kv_type(file, i) == GGUF_TYPE_STRING)
      facts->texts.emplace_back(gguf_get_key(file, i), gguf_get_val_str(file, i));
  return Status::Ok();
}

int64_t Inner(const TensorFacts& tensor) { return tensor.shape.back(); }
int64_t Outer(const TensorFacts& tensor) {
  return tensor.shape.size() > 1 ? tensor.shape[tensor.shape.size() - 2] : 1;
}

// Of embeddings both halves are stored the other way round: A (tokens, rank), B (width, rank).
bool OfEmbeddings(std::string_view weight) { return weight.ends_with("token_embd.weight"); }

std::string ShapeText(const TensorFacts& tensor) {
  return "(" + std::to_string(Outer(tensor)) + ", " + std::to_string(Inner(tensor)) + ")";
}

// One pair: `weight` is the name of what it changes.
Status CheckPair(const TensorFile& file, const std::string& weight, const TensorFacts& a,
                 const TensorFacts& b) {
  const int64_t rank = OfEmbeddings(weight) ? Inner(a) : Outer(a);
  if (Inner(b) == rank) return Status::Ok();
  return Status::Invalid(file.path() + ": the halves for " + weight +
                         " do not fit each other: " + ShapeText(a) + " and " + ShapeText(b));
}

// The weights that it changes, each once.
Result<std::vector<std::string>> Weights(const TensorFile& file, AdapterHead* head) {
  std::vector<std::string> weights;
  for (const TensorFacts& tensor : file.tensors()) {
    const std::string_view name = tensor.name;
    if (name.ends_with("_norm.weight")) continue;  // llama.cpp passes over them
    if (!name.ends_with(kA) && !name.ends_with(kB))
      return Status::Invalid(file.path() + ": " + tensor.name + " is not a tensor of a LoRA adapter");
    const std::string weight(name.substr(0, name.size() - kA.size()));
    const TensorFacts* a = file.Find(weight + std::string(kA));
    const TensorFacts* b = file.Find(weight + std::string(kB));
    if (a == nullptr || b == nullptr)
      return Status::Invalid(file.path() + ": of the pair for " + weight + " one half is missing");
    head->values += tensor.rows() * tensor.columns();
    if (name.ends_with(kB)) continue;
    HEADRACE_TRY(CheckPair(file, weight, *a, *b));
    head->rank = std::max(head->rank, OfEmbeddings(weight) ? Inner(*a) : Outer(*a));
    if (head->type.empty()) head->type = tensor.type;
    weights.push_back(weight);
  }
  if (weights.empty()) return Status::Invalid(file.path() + " changes no weights");
  return weights;
}

Result<AdapterHead> Read(const std::string& path, std::vector<std::string>* weights,
                         std::shared_ptr<const TensorFile>* file) {
  HEADRACE_ASSIGN(*file, TensorFile::Open(path));
  const Head keys = OpenHead(path);
  if (!keys) return Status::Corrupt(path + " is not a GGUF file that can be read");
  AdapterHead head;
  HEADRACE_TRY(ReadFacts(path, keys.get(), &head.facts));
  HEADRACE_ASSIGN(*weights, Weights(**file, &head));
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return Status::FromErrno(errno, "look at", path);
  head.bytes = info.st_size;
  return head;
}

}  // namespace

std::string AdapterHead::Text(std::string_view key) const {
  for (const auto& [name, text] : facts.texts)
    if (name == key) return text;
  return "";
}

bool IsAdapter(const std::string& path) {
  const Head file = OpenHead(path);
  return file && TextOf(file.get(), "general.type") == "adapter";
}

Result<AdapterHead> ReadAdapter(const std::string& path) {
  std::vector<std::string> weights;
  std::shared_ptr<const TensorFile> file;
  return Read(path, &weights, &file);
}

Result<AdapterHead> CheckAdapter(const std::string& path, const std::string& base) {
  std::vector<std::string> weights;
  std::shared_ptr<const TensorFile> file;
  HEADRACE_ASSIGN(AdapterHead head, Read(path, &weights, &file));
  HEADRACE_ASSIGN(const std::shared_ptr<const TensorFile> model, TensorFile::Open(base));
  const std::string architecture = model->Text("general.architecture").value_or("");
  if (architecture != head.facts.architecture)
    return Status::Invalid(path + " is for the architecture " + head.facts.architecture +
                           ", and the model is of " + architecture);
  for (const std::string& weight : weights) {
    const TensorFacts* there = model->Find(weight);
    if (there == nullptr) return Status::Invalid(path + " changes " + weight + ", which the model has not");
    const TensorFacts& a = *file->Find(weight + std::string(kA));
    const TensorFacts& b = *file->Find(weight + std::string(kB));
    const int64_t inputs = OfEmbeddings(weight) ? Outer(b) : Inner(a);
    const int64_t outputs = OfEmbeddings(weight) ? Outer(a) : Outer(b);
    if (Inner(*there) != inputs || Outer(*there) != outputs)
      return Status::Invalid(path + " changes " + weight + " as (" + std::to_string(outputs) + ", " +
                             std::to_string(inputs) + "), and the model's is " + ShapeText(*there));
  }
  return head;
}

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
