#include "model/model.h"

#include <llama.h>
#include <log.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "model/adapter_file.h"
#include "model/backends.h"
#include "model/placement.h"

namespace headrace::model {
namespace {

// llama.cpp logs through one process-wide callback. Its warnings and errors are kept per thread, so that a
// failure can say why; nothing is printed.
thread_local std::string last_complaint;

void KeepComplaint(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR && text != nullptr) {
    last_complaint = text;
    while (!last_complaint.empty() && last_complaint.back() == '\n') last_complaint.pop_back();
  }
}

Status StartLibrary() {
  static std::once_flag once;
  static Status status = Status::Ok();
  std::call_once(once, [] {
    status = LoadBackends().status();
    llama_log_set(KeepComplaint, nullptr);
    common_log_set_verbosity_thold(-1);  // its chat templates log apart
    llama_backend_init();
  });
  return status;
}

std::string Meta(const llama_model* model, const char* key) {
  char buffer[4096];
  const int32_t length = llama_model_meta_val_str(model, key, buffer, sizeof buffer);
  return length < 0 ? ""
                    : std::string(buffer, std::min<size_t>(static_cast<size_t>(length), sizeof buffer - 1));
}

int64_t MetaInt(const llama_model* model, const std::string& key, int64_t otherwise) {
  const std::string text = Meta(model, key.c_str());
  return text.empty() ? otherwise : std::strtoll(text.c_str(), nullptr, 10);
}

std::string FileName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

std::string_view MemoryName(Memory memory) {
  switch (memory) {
    case Memory::kAttention:
      return "attention";
    case Memory::kSlidingWindow:
      return "sliding window";
    case Memory::kRecurrent:
      return "recurrent";
    case Memory::kHybrid:
      return "hybrid";
    case Memory::kEncoder:
      return "encoder";
  }
  return "";
}

std::string_view TaskName(Task task) {
  switch (task) {
    case Task::kWrite:
      return "language";
    case Task::kEmbed:
      return "embedding";
    case Task::kRank:
      return "reranker";
  }
  return "";
}

Result<std::shared_ptr<Model>> Model::Load(const std::string& path, const LoadOptions& options) {
  HEADRACE_TRY(StartLibrary());
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return Status::FromErrno(errno, "open", path);
  if (S_ISDIR(info.st_mode)) return Status::Invalid(path + " is a folder; a model is one GGUF file");
  char magic[4] = {};
  if (FILE* file = std::fopen(path.c_str(), "rb"); file != nullptr) {
    const size_t got = std::fread(magic, 1, sizeof magic, file);
    std::fclose(file);
    if (got != sizeof magic || std::memcmp(magic, "GGUF", 4) != 0)
      return Status::Corrupt(path + " is not a GGUF file: it does not begin with 'GGUF'");
  } else {
    return Status::FromErrno(errno, "read", path);
  }
  llama_model_params params = llama_model_default_params();
  params.vocab_only = options.vocabulary_only;
  Placement placement;
  HEADRACE_TRY(placement.Choose(path, options, &params));
  params.load_mode = options.memory_map ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
  struct Report {
    const LoadOptions* options;
    int64_t bytes;
  } report{&options, info.st_size};
  params.progress_callback_user_data = &report;
  params.progress_callback = [](float done, void* data) {
    const auto* to = static_cast<Report*>(data);
    const auto bytes = static_cast<int64_t>(done * static_cast<float>(to->bytes));
    if (to->options->progress) to->options->progress({"loading weights", bytes, to->bytes, bytes, 0});
    return !to->options->stop.stopped();
  };
  last_complaint.clear();
  std::shared_ptr<Model> result(new Model());
  result->path_ = path;
  try {
    result->model_ = llama_model_load_from_file(path.c_str(), params);
  } catch (const std::exception& error) {
    last_complaint = error.what();
  }
  HEADRACE_TRY(options.stop.Check());
  if (result->model_ == nullptr && IsAdapter(path))
    return Status::Unsupported(path + " is an adapter of a model, and no model: `headrace model add " + path +
                               " --name MODEL:NAME` keeps it beside its model, and --adapter takes the file");
  if (result->model_ == nullptr)
    return Status::Corrupt(path + " cannot be loaded as a model" +
                           (last_complaint.empty() ? "" : ": " + last_complaint));
  result->on_accelerator_ = placement.accelerated();
  HEADRACE_TRY(result->ReadFacts(options.vocabulary_only));
  if (!options.vocabulary_only && options.widen) result->Widen();
  return result;
}

// An encoder's steps are many rows, so its time is arithmetic. ggml's x86 kernels turn half precision to
// single at each use; turned once, MiniLM reads 1.24 times as many texts a second, from twice the memory. The
// wide file is one without a name, in memory. Where anything is in the way, the model stays as it is.
void Model::Widen() {
#ifdef __x86_64__
  constexpr int64_t kMost = int64_t{1} << 30;  // bytes, wide
  if (facts_.memory != Memory::kEncoder || on_accelerator_ ||
      llama_model_ftype(model_) != LLAMA_FTYPE_MOSTLY_F16 || facts_.parameters * 4 > kMost)
    return;
  const int file = memfd_create("wide model", MFD_CLOEXEC);
  if (file < 0) return;
  const std::string wide = "/proc/self/fd/" + std::to_string(file);
  llama_model_quantize_params quantize = llama_model_quantize_default_params();
  quantize.ftype = LLAMA_FTYPE_ALL_F32;
  llama_model_params params = llama_model_default_params();
  params.n_gpu_layers = 0;
  try {
    if (llama_model_quantize(path_.c_str(), wide.c_str(), &quantize) == 0) {
      if (llama_model* loaded = llama_model_load_from_file(wide.c_str(), params); loaded != nullptr) {
        llama_model_free(model_);
        model_ = loaded;
        widened_ = true;
      }
    }
  } catch (const std::exception& error) {
    last_complaint = error.what();
  }
  close(file);
#endif
}

Model::~Model() {
  if (model_ != nullptr) llama_model_free(model_);
}

void Model::ReadShape() {
  Facts& f = facts_;
  f.trained_context = llama_model_n_ctx_train(model_);
  f.embedding = llama_model_n_embd(model_);
  f.layers = llama_model_n_layer(model_);
  f.heads = llama_model_n_head(model_);
  f.kv_heads = llama_model_n_head_kv(model_);
  f.window = llama_model_n_swa(model_);
  const std::string prefix = f.architecture + ".attention.";
  const int64_t head = f.heads > 0 ? f.embedding / f.heads : 0;
  f.kv_bytes_per_token =
      f.layers * f.kv_heads * 2 *
      (MetaInt(model_, prefix + "key_length", head) + MetaInt(model_, prefix + "value_length", head));
  f.ranks = MetaInt(model_, f.architecture + ".pooling_type", -1) == LLAMA_POOLING_TYPE_RANK;
  const bool causal = Meta(model_, (prefix + "causal").c_str()) != "false";
  if (llama_model_is_recurrent(model_)) {
    f.memory = Memory::kRecurrent;
  } else if (llama_model_is_hybrid(model_)) {
    f.memory = Memory::kHybrid;
  } else if (!causal || !llama_model_has_decoder(model_)) {
    f.memory = Memory::kEncoder;
    f.kv_bytes_per_token = 0;
  } else if (f.window > 0) {
    f.memory = Memory::kSlidingWindow;
  }
}

Status Model::ReadFacts(bool vocabulary_only) {
  const llama_vocab* vocabulary = llama_model_get_vocab(model_);
  Facts& f = facts_;
  f.architecture = Meta(model_, "general.architecture");
  f.name = Meta(model_, "general.name");
  if (f.name.empty()) f.name = FileName(path_);
  f.licence = Meta(model_, "general.license");
  f.quantization = llama_ftype_name(llama_model_ftype(model_));
  f.parameters = static_cast<int64_t>(llama_model_n_params(model_));
  f.weight_bytes = static_cast<int64_t>(llama_model_size(model_));
  f.step_bytes = f.weight_bytes;
  f.vocabulary = llama_vocab_n_tokens(vocabulary);
  if (!vocabulary_only) ReadShape();  // llama.cpp leaves it out otherwise
  if (const char* source = llama_model_chat_template(model_, nullptr); source != nullptr) template_ = source;
  f.has_template = !template_.empty();
  if (f.has_template) f.template_hash = Hex64(Xxh3(template_));
  if (f.vocabulary <= 0) return Status::Corrupt(path_ + " holds no vocabulary");
  bos_ = llama_vocab_bos(vocabulary);
  eos_ = llama_vocab_eos(vocabulary);
  pieces_.resize(static_cast<size_t>(f.vocabulary));
  ends_.resize(pieces_.size());
  // Tokenizers that change a text first (blanks joined, words unknown) may make one token of any length.
  const enum llama_vocab_type type = llama_vocab_type(vocabulary);
  const bool bounded = type == LLAMA_VOCAB_TYPE_SPM || type == LLAMA_VOCAB_TYPE_BPE;
  char buffer[512];
  for (int32_t token = 0; token < f.vocabulary; ++token) {
    ends_[static_cast<size_t>(token)] = llama_vocab_is_eog(vocabulary, token);
    const int32_t length = llama_token_to_piece(vocabulary, token, buffer, sizeof buffer, 0, false);
    std::string& piece = pieces_[static_cast<size_t>(token)];
    if (length >= 0) {
      piece.assign(buffer, static_cast<size_t>(length));
    } else {
      piece.resize(static_cast<size_t>(-length));
      llama_token_to_piece(vocabulary, token, piece.data(), -length, 0, false);
    }
    if (!bounded) continue;
    const char* name = llama_vocab_get_text(vocabulary, token);
    longest_ = std::max({longest_, piece.size(), name == nullptr ? 0 : std::strlen(name)});
  }
  return Status::Ok();
}

Result<std::vector<Token>> Model::Tokenize(std::string_view text, bool special, bool parse) const {
  if (static_cast<int64_t>(text.size()) > limits::kMaxPromptBytes)
    return Status::Limit("a text of " + std::to_string(text.size()) + " bytes is longer than the limit of " +
                         std::to_string(limits::kMaxPromptBytes) + " bytes (kMaxPromptBytes)");
  const llama_vocab* vocabulary = llama_model_get_vocab(model_);
  std::vector<Token> tokens(text.size() + 8);
  try {
    int32_t count = llama_tokenize(vocabulary, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                                   static_cast<int32_t>(tokens.size()), special, parse);
    if (count < 0) {
      tokens.resize(static_cast<size_t>(-count));
      count = llama_tokenize(vocabulary, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                             static_cast<int32_t>(tokens.size()), special, parse);
    }
    if (count < 0) return Status::Invalid("the text cannot be tokenized by " + facts_.name);
    tokens.resize(static_cast<size_t>(count));
  } catch (const std::exception& error) {
    return Status::Invalid("the text cannot be tokenized by " + facts_.name + ": " + error.what());
  }
  return tokens;
}

std::string Model::Name(Token token) const {
  if (token < 0 || token >= facts_.vocabulary) return "";
  const char* text = llama_vocab_get_text(llama_model_get_vocab(model_), token);
  return text == nullptr ? "" : text;
}

std::string Model::Detokenize(std::span<const Token> tokens) const {
  std::string text;
  for (const Token token : tokens)
    if (token >= 0 && token < facts_.vocabulary) text += Piece(token);
  return text;
}

uint64_t Model::TokenizerHash() const {
  std::call_once(hashed_, [this] { hash_ = HashTokenizer(); });
  return hash_;
}

uint64_t Model::HashTokenizer() const {
  std::string all = Meta(model_, "tokenizer.ggml.model") + "\n" + Meta(model_, "tokenizer.ggml.pre") + "\n" +
                    std::to_string(bos_) + " " + std::to_string(eos_) + "\n";
  for (const std::string& piece : pieces_) all += std::to_string(piece.size()) + ":" + piece;
  return Xxh3(all);
}

std::vector<Token> Model::EndTokens() const {
  std::vector<Token> result;
  for (size_t i = 0; i < ends_.size(); ++i)
    if (ends_[i]) result.push_back(static_cast<Token>(i));
  return result;
}

Result<int> Model::LoadAdapter(const std::string& path, float scale) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return Status::FromErrno(errno, "open", path);
  last_complaint.clear();
  llama_adapter_lora* adapter = nullptr;
  try {
    adapter = llama_adapter_lora_init(model_, path.c_str());
  } catch (const std::exception& error) {
    last_complaint = error.what();
  }
  if (adapter == nullptr)
    return Status::Invalid(path + " is not a LoRA adapter for " + facts_.name +
                           (last_complaint.empty() ? "" : ": " + last_complaint));
  adapters_.push_back({adapter, scale, path});
  return static_cast<int>(adapters_.size()) - 1;
}

namespace {

struct NamedType {
  const char* name;
  llama_ftype type;
};
constexpr NamedType kTypes[] = {
    {"F32", LLAMA_FTYPE_ALL_F32},          {"F16", LLAMA_FTYPE_MOSTLY_F16},
    {"BF16", LLAMA_FTYPE_MOSTLY_BF16},     {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
    {"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K},     {"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M},
    {"Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S}, {"Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
    {"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},     {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
    {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S}, {"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
    {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},     {"IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS},
    {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL}, {"Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L},
    {"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M}, {"Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S},
    {"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K},
};

}  // namespace

std::vector<std::string> QuantizationNames() {
  std::vector<std::string> names;
  for (const NamedType& type : kTypes) names.emplace_back(type.name);
  return names;
}

Status Quantize(const std::string& from, const std::string& to, const std::string& type, int threads) {
  HEADRACE_TRY(StartLibrary());
  llama_model_quantize_params params = llama_model_quantize_default_params();
  const auto* named = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const NamedType& t) { return strcasecmp(t.name, type.c_str()) == 0; });
  if (named == std::end(kTypes)) {
    std::string known;
    for (const NamedType& t : kTypes) known += (known.empty() ? "" : ", ") + std::string(t.name);
    return Status::Invalid("there is no quantization '" + type + "'; there are " + known);
  }
  params.ftype = named->type;
  params.nthread = threads;
  params.allow_requantize = true;
  last_complaint.clear();
  // llama.cpp opens it by its name.
  const std::string part = to + ".part";
  HEADRACE_ASSIGN(PendingFile file,
                  PendingFile::Create(ParentFolder(to), {.make_folders = false,
                                                         .unnamed = false,
                                                         .name = std::filesystem::path(part).filename()}));
  uint32_t code = 1;
  try {
    code = llama_model_quantize(from.c_str(), part.c_str(), &params);
  } catch (const std::exception& error) {
    last_complaint = error.what();
  }
  if (code != 0) {
    return Status::Invalid("cannot quantize " + from + " to " + named->name +
                           (last_complaint.empty() ? "" : ": " + last_complaint));
  }
  return file.Publish(to, /*replace=*/true);
}

std::string BuildDescription() {
  const Status started = StartLibrary();
  return std::string("llama.cpp ") + llama_version() + "; " +
         (started.ok() ? llama_print_system_info() : started.message());
}

}  // namespace headrace::model
