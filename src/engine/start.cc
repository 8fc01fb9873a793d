// An engine over a real model: the one file here that knows where models come from.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>

#include "base/cache_folder.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "engine/engine.h"
#include "engine/memory_speed.h"

namespace headrace::engine {
namespace {

class ModelVocabulary : public Vocabulary {
 public:
  explicit ModelVocabulary(std::shared_ptr<const model::Model> model) : model_(std::move(model)) {}
  std::string_view Piece(Token token) const override { return model_->Piece(token); }
  bool IsEnd(Token token) const override { return model_->IsEnd(token); }
  std::vector<Token> Tokenize(std::string_view text) const override {
    Result<std::vector<Token>> tokens = model_->Tokenize(text, false, false);
    if (!tokens.ok()) return {};
    // Some tokenizers put a space before every text; in the middle of an answer there is none.
    if (!tokens->empty() && !text.starts_with(' ') && model_->Piece(tokens->front()) == " ")
      tokens->erase(tokens->begin());
    return std::move(*tokens);
  }

 private:
  std::shared_ptr<const model::Model> model_;
};

// One file per model, machine, device and threads.
std::string CostFile(const std::string& folder, const model::Model& model, const model::DecoderFacts& facts) {
  if (folder.empty()) return "";
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const model::Facts& about = model.facts();
  std::string name = about.architecture + "-" + std::to_string(about.parameters) + "-" + about.quantization +
                     "-" + host + "-" + std::to_string(facts.threads) +
                     (model.on_accelerator() ? "-gpu" : "") + (facts.unified ? "" : "-separate");
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_') c = '-';
  return folder + "/" + name + ".json";
}

// The profile of what a model computes on, and what its steps take: as earlier runs on this machine stored
// it, else a first guess. A GPU's memory is not measured.
std::pair<MachineProfile, CostTable> Machine(const model::Model& model, int threads, const std::string& file,
                                             const EngineOptions& options) {
  MachineProfile machine = model.on_accelerator() ? MachineProfile::Gpu() : MachineProfile::Cpu();
  const auto guess = [&] {  // weights are read once a step
    return CostTable(threads, static_cast<double>(model.facts().step_bytes) / machine.bytes_per_second,
                     machine);
  };
  if (const auto text = ReadFile(file); !file.empty() && text.ok()) {
    CostTable stored = guess();
    if (stored.FromJson(*text).ok()) return {machine, stored};
  }
  if (!model.on_accelerator())
    machine.bytes_per_second =
        machine.memory_share * (options.memory_speed ? options.memory_speed(threads)
                                                     : MeasureMemorySpeed(threads, MonotonicSeconds));
  return {machine, guess()};
}

// A number that nobody else has.
uint64_t Unshared() {
  static std::atomic<uint64_t> last{0};
  const std::string name = "unshared " + std::to_string(++last);
  return Xxh3(name);
}

// States can be exchanged where weights and the cache's layout are the same.
uint64_t WeightsNumber(const EngineOptions& options) {
  if (options.weights_hash.empty()) return Unshared();
  return Xxh3(options.weights_hash + (options.decoder.unified ? " unified" : " separate") +
              (options.decoder.flash_attention ? " flash" : ""));
}

// An adapter's file as it is now, and its scale.
uint64_t AdapterNumber(const model::Model::Adapter& adapter) {
  struct stat info {};
  if (stat(adapter.path.c_str(), &info) != 0) return Unshared();
  const std::string name = std::to_string(info.st_dev) + " " + std::to_string(info.st_ino) + " " +
                           std::to_string(info.st_size) + " " + std::to_string(info.st_mtim.tv_sec) + " " +
                           std::to_string(info.st_mtim.tv_nsec) + " " + std::to_string(adapter.scale);
  return Xxh3(name);
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::Start(std::shared_ptr<const model::Model> model,
                                              EngineOptions options) {
  const std::shared_ptr<HostCache> host =
      options.core.host ? options.core.host : HostCache::Make({.cache = options.core.host_bytes});
  options.core.host = host;
  if (options.core.deterministic) {
    // Every path has cells of its own from the first on, so that sums run in one order whatever else is
    // cached.
    options.decoder.unified = false;
    options.decoder.paths = std::min(options.core.slots, 8);
    options.core.slots = options.decoder.paths;
    options.core.host_bytes = 0;
    options.core.host.reset();  // of grammars only
    if (options.decoder.cells == 0)
      options.decoder.cells = std::min(model->facts().trained_context, 4096) * options.decoder.paths;
  }
  HEADRACE_ASSIGN(std::unique_ptr<model::Decoder> decoder, model::NewDecoder(model, options.decoder));
  const int threads = decoder->facts().threads;
  const std::string folder = options.cost_folder ? *options.cost_folder : CacheFolder("costs");
  const std::string file = CostFile(folder, *model, decoder->facts());
  const auto [machine, costs] = Machine(*model, threads, file, options);
  options.core.machine = machine;
  options.core.draw_threads = std::clamp(threads, 1, machine.draw_threads);
  options.core.weights = WeightsNumber(options);
  for (const model::Model::Adapter& adapter : model->adapters())
    options.core.adapters.push_back(AdapterNumber(adapter));
  const bool shared = !options.weights_hash.empty();
  auto grammars = std::make_shared<Grammars>(model->pieces(), model->EndTokens(), host,
                                             shared ? model->TokenizerHash() : 0);
  auto engine =
      StartWith(std::move(decoder), std::make_unique<ModelVocabulary>(model), std::move(options), costs,
                [grammars](const Structure& structure) { return grammars->Compile(structure); });
  engine->cost_file_ = file;
  engine->grammars_ = std::move(grammars);
  return engine;
}

}  // namespace headrace::engine
