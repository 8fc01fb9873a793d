// model: weights on disk, tokenizer, chat template, adapters: a thin face over llama.cpp, whose headers are
// seen by the .cc files of this folder only.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/progress.h"
#include "base/status.h"
#include "model/decoder.h"

struct llama_model;

namespace headrace::model {

// What a model remembers of the past, and so what can be reused of it.
enum class Memory {
  kAttention,      // every token's keys and values: any prefix can be shared
  kSlidingWindow,  // some layers see only the last `window` tokens: shared with care (see decoder.h)
  kRecurrent,      // a state: reusable only at its exact end
  kHybrid,         // both
  kEncoder,        // no memory: embeds or ranks texts
};
std::string_view MemoryName(Memory memory);

// What a model is for.
enum class Task {
  kWrite,  // to go on with a text
  kEmbed,  // a text becomes a vector
  kRank,   // a query and a document become a score: a cross-encoder
};
std::string_view TaskName(Task task);  // "language", "embedding", "reranker"

struct Facts {
  std::string name;          // general.name, or the file's name
  std::string architecture;  // "gemma3", "llama", "bert"
  std::string quantization;  // "Q4_K - Medium"
  std::string licence;       // general.license, "" where the file does not say
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  int64_t step_bytes = 0;  // bytes of weights that a step of one token reads
  int32_t vocabulary = 0;
  int32_t trained_context = 0;
  int32_t embedding = 0;  // width of a hidden state
  int32_t layers = 0;
  int32_t heads = 0, kv_heads = 0;
  int32_t window = 0;
  int64_t kv_bytes_per_token = 0;  // at f16
  Memory memory = Memory::kAttention;
  bool ranks = false;  // its pooling is RANK
  Task task() const { return ranks ? Task::kRank : memory == Memory::kEncoder ? Task::kEmbed : Task::kWrite; }
  bool has_template = false;
  std::string template_hash;  // XXH3 of the template's text, hex
};

// Tokens of a language model's cache where nobody says how many, or the trained context if that is less.
constexpr int32_t kUsualCells = 32'768;

struct LoadOptions {
  // Layers on accelerators; -1: as many as fit beside a cache of kUsualCells tokens.
  int gpu_layers = -1;
  // Which accelerators, by their names in LoadBackends; empty: all; "none": the CPU alone.
  std::vector<std::string> devices;
  bool vocabulary_only = false;
  bool memory_map = true;
  bool widen = true;  // an encoder's half precision to single, where that computes faster; see Widen
  ProgressFn progress;
  StopToken stop = {};
};

// Immutable, shared by threads.
class Model : public std::enable_shared_from_this<Model> {
 public:
  // A GGUF file. Errors name the file and what is wrong with it. A hostile file may still abort inside
  // llama.cpp: new files go through registry::Probe first.
  static Result<std::shared_ptr<Model>> Load(const std::string& path, const LoadOptions& options = {});
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Facts& facts() const { return facts_; }
  const std::string& path() const { return path_; }

  // Tokens of a text. `special`: also begin with the model's beginning-of-sequence token if it wants one;
  // `parse`: names of control tokens in the text stand for them (templates need it; users' text must not).
  // Invalid UTF-8 is accepted: bytes become byte tokens.
  Result<std::vector<Token>> Tokenize(std::string_view text, bool special, bool parse) const;
  // Fewer tokens than this no text of so many bytes has: a long text can be refused before it is cut.
  int64_t FewestTokens(size_t bytes) const {
    return static_cast<int64_t>(longest_ == 0 ? 0 : (bytes + longest_ - 1) / longest_);
  }
  // The bytes a token stands for; empty for control tokens.
  std::string_view Piece(Token token) const { return pieces_[static_cast<size_t>(token)]; }
  // How the vocabulary writes it: "<eos>" of a control token; "" of -1.
  std::string Name(Token token) const;
  const std::vector<std::string>& pieces() const { return pieces_; }
  std::string Detokenize(std::span<const Token> tokens) const;
  bool IsEnd(Token token) const { return ends_[static_cast<size_t>(token)]; }
  std::vector<Token> EndTokens() const;
  const std::string& template_source() const { return template_; }
  Token bos() const { return bos_; }
  Token eos() const { return eos_; }  // -1: it has none
  // Of the vocabulary and the way texts are cut into it: two models with the same give the same tokens.
  uint64_t TokenizerHash() const;

  // A LoRA adapter in GGUF, made for this model. Its index is what a decoder's row takes, of decoders that
  // are made later: those that there are know only what was loaded before. Not thread-safe.
  Result<int> LoadAdapter(const std::string& path, float scale = 1.0F);

  // Whether its layers lie on a GPU.
  bool on_accelerator() const { return on_accelerator_; }
  // Its half precision was turned to single when it was loaded (LoadOptions::widen).
  bool widened() const { return widened_; }
  // Bytes of memory that its weights take: those of the file, or of what they were widened to.
  int64_t resident_bytes() const { return widened_ ? facts_.parameters * 4 : facts_.weight_bytes; }
  llama_model* handle() const { return model_; }
  struct Adapter {
    void* handle = nullptr;
    float scale = 1.0F;
    std::string path;
  };
  const std::vector<Adapter>& adapters() const { return adapters_; }

 private:
  Model() = default;
  Status ReadFacts(bool vocabulary_only);
  void ReadShape();
  void Widen();
  uint64_t HashTokenizer() const;

  llama_model* model_ = nullptr;
  std::string path_, template_;
  Facts facts_;
  std::vector<std::string> pieces_;
  size_t longest_ = 0;  // bytes of a text that one token may stand for; 0: any number
  std::vector<bool> ends_;
  std::vector<Adapter> adapters_;
  mutable std::once_flag hashed_;
  mutable uint64_t hash_ = 0;  // of the tokenizer, when it was first asked for
  Token bos_ = -1, eos_ = -1;
  bool on_accelerator_ = false, widened_ = false;
};

struct DecoderOptions {
  int32_t cells = 0;       // 0: the model's context, at most 32,768
  int32_t max_rows = 512;  // of one step
  int32_t paths = 128;
  int32_t threads = 0;  // 0: all cores
  bool unified = true;  // see DecoderFacts
  bool flash_attention = true;
};
// A context of a language model; others are refused.
Result<std::unique_ptr<Decoder>> NewDecoder(std::shared_ptr<const Model> model,
                                            const DecoderOptions& options);

// Quantizes a GGUF file into another. `type` is ggml's name: Q4_K_M, Q8_0, F16, …
Status Quantize(const std::string& from, const std::string& to, const std::string& type, int threads);
std::vector<std::string> QuantizationNames();

// llama.cpp's version and the processor features ggml was built with.
std::string BuildDescription();

}  // namespace headrace::model
