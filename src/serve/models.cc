#include "serve/models.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/hash.h"
#include "model/arithmetic.h"
#include "model/probe.h"

namespace headrace::serve {
namespace {

constexpr double kLookSeconds = 0.5, kMostLookSeconds = 2;  // between looks at the names
constexpr double kLookShare =
    0.05;  // of the time: where a look takes long (a distant store), there are fewer
constexpr double kOfFreeMemory = 0.8;

std::string Gigabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

// A file's identity where it is in no catalog: it is served until the server ends.
std::string FileHash(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return "";
  const int64_t facts[4] = {static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino),
                            static_cast<int64_t>(info.st_size), info.st_mtim.tv_sec};
  return "file-" + Hex64(Xxh3(facts, sizeof facts));
}

// Runs `work` on a thread that waits for serving, and ends: threads inherit how nice they are, so whatever a
// slowed thread started would be slow for ever.
Status Patiently(const std::function<Status()>& work) {
  Status status;
  std::thread([&] {
    setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 10);
    status = work();
  }).join();
  return status;
}

}  // namespace

Result<std::unique_ptr<Models>> Models::Start(std::shared_ptr<table::Catalog> catalog,
                                              std::vector<ModelChoice> choices, ModelOptions options) {
  std::unique_ptr<Models> models(new Models());
  models->catalog_ = std::move(catalog);
  models->options_ = std::move(options);
  if (models->options_.memory == 0)
    models->options_.memory =
        static_cast<int64_t>(static_cast<double>(model::AvailableMemory()) * kOfFreeMemory);
  // Whatever computes in this process takes turns.
  models->options_.engine.lease = std::make_shared<engine::ComputeLease>();
  // Of the budget, evicted prefixes, preempted requests and grammars take an eighth at most.
  models->host_ = engine::HostCache::Make(
      {.cache = std::min(models->options_.engine.core.host_bytes, models->options_.memory / 8),
       .total = models->options_.memory});
  models->options_.engine.core.host = models->host_;
  for (const ModelChoice& choice : choices) {
    for (const ModelChoice& other : models->choices_)
      if (other.name == choice.name) return Status::Invalid("two models are named '" + choice.name + "'");
    HEADRACE_ASSIGN(auto served, models->Load(choice, false));
    models->served_.push_back(std::move(served));
    models->choices_.push_back(choice);
  }
  HEADRACE_TRY(models->CheckAliases());
  models->watcher_ = std::thread([raw = models.get()] { raw->Watch(); });
  return models;
}

Models::~Models() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

// The file, tried and mapped, with its adapters and its template: whatever starts no thread.
Status Models::Read(const ModelChoice& choice, Served* served) const {
  struct stat info {};
  const bool is_file = choice.from.find('/') != std::string::npos || stat(choice.from.c_str(), &info) == 0;
  if (!is_file && catalog_) {
    registry::Registry registry(catalog_);
    HEADRACE_ASSIGN(const registry::Entry entry, registry.Get(choice.from));
    served->sha256 = entry.sha256;
    HEADRACE_ASSIGN(served->path, registry.LocalFile(entry));
  } else {
    HEADRACE_ASSIGN(served->path, registry::FindModelFile(choice.from, catalog_));
    served->sha256 = FileHash(served->path);
  }
  model::ProbeOptions probe;
  probe.chat_template = options_.chat_template;
  HEADRACE_TRY(model::Probe(served->path, probe));
  HEADRACE_ASSIGN(served->model, model::Model::Load(served->path, options_.load));
  (void)served->model->TokenizerHash();  // of a large vocabulary it takes a while: not when somebody asks
  const model::Facts& facts = served->model->facts();
  if (facts.memory == model::Memory::kEncoder) return Status::Ok();
  const bool first = std::none_of(served_.begin(), served_.end(), [&](const auto& other) {
    return !other->embeds() && other->name != choice.name;
  });
  if (first)
    for (const auto& [name, path] : options_.adapters) {
      HEADRACE_ASSIGN(served->adapters[name], served->model->LoadAdapter(path));
    }
  auto chat = model::ChatTemplate::Make(
      *served->model, facts.has_template && !options_.replace_template ? "" : options_.chat_template);
  if (chat.ok()) {
    served->chat = *chat;
  } else {
    served->chat_problem = chat.status();
  }
  return Status::Ok();
}

// `patiently`: beside what is served.
Result<std::shared_ptr<Served>> Models::Load(const ModelChoice& choice, bool patiently) {
  auto served = std::make_shared<Served>();
  served->name = choice.name;
  const auto read = [&] { return Read(choice, served.get()); };
  HEADRACE_TRY(patiently ? Patiently(read) : read());
  const model::Facts& facts = served->model->facts();
  engine::EngineOptions engine = options_.engine;
  const bool embeds = facts.memory == model::Memory::kEncoder;
  if (engine.decoder.cells <= 0) engine.decoder.cells = std::min(facts.trained_context, model::kUsualCells);
  served->context = std::min(engine.decoder.cells, std::max(facts.trained_context, 1));
  const int64_t weights = served->model->resident_bytes();
  served->bytes = weights + (embeds ? 0 : facts.kv_bytes_per_token * engine.decoder.cells);
  auto memory = host_->TryCharge(engine::HostCache::Kind::kModel, served->bytes);
  if (!memory)
    return Status::Limit("'" + choice.name + "' needs " + Gigabytes(served->bytes) + " (" +
                         Gigabytes(weights) + " of weights, the rest for " +
                         std::to_string(engine.decoder.cells) + " tokens of cache), " +
                         Gigabytes(host_->bytes(engine::HostCache::Kind::kModel)) +
                         " are taken by models, and the budget is " + Gigabytes(options_.memory) +
                         "; give less cache with --context, or more with --memory");
  served->memory = std::move(*memory);
  engine.weights_hash = served->sha256;
  if (embeds) {
    model::EncoderOptions encoder;
    encoder.threads = engine.decoder.threads;
    HEADRACE_ASSIGN(served->embedder, engine::Embedder::Start(served->model, encoder, engine.lease));
  } else {
    HEADRACE_ASSIGN(served->engine, engine::Engine::Start(served->model, engine));
  }
  served->loaded_us = NowMicros();
  return served;
}

// Each leads to a model, and hides none.
Status Models::CheckAliases() const {
  const auto& aliases = options_.aliases;
  for (size_t i = 0; i < aliases.size(); ++i) {
    const auto& [alias, target] = aliases[i];
    if (alias.empty() || target.empty()) return Status::Invalid("an alias is NAME=MODEL");
    const Chosen chosen = FindLoaded(target, false);
    if (!chosen.served)
      return Status::NotFound("the alias '" + alias + "' stands for '" + target +
                              "', which is not served; there are " + names());
    if (FindLoaded(alias, false).served)
      return Status::Invalid("'" + alias + "' is served already: it can be no alias");
    for (size_t j = 0; j < i; ++j)
      if (aliases[j].first == alias &&
          (alias != kAnyName ||
           FindLoaded(aliases[j].second, false).served->embeds() == chosen.served->embeds()))
        return Status::Invalid("there are two aliases '" + alias + "'");
  }
  return Status::Ok();
}

Chosen Models::Find(const std::string& name, bool embedding) const {
  Chosen chosen = FindLoaded(name, embedding);
  if (chosen.served || name.empty()) return chosen;
  for (const auto& [alias, target] : options_.aliases)
    if (alias == name) return FindLoaded(target, embedding);
  for (const auto& [alias, target] : options_.aliases) {
    if (alias != kAnyName) continue;
    chosen = FindLoaded(target, embedding);
    if (chosen.served && chosen.served->embeds() == embedding) return chosen;
  }
  return {};
}

Chosen Models::FindLoaded(const std::string& name, bool embedding) const {
  const std::lock_guard lock(mutex_);
  for (const auto& served : served_) {
    if (served->embeds() == embedding && name.empty()) return {served, -1, ""};
    if (served->name == name) return {served, -1, ""};
    const auto own = served->adapters.find(name);
    if (own != served->adapters.end()) return {served, own->second, own->first};
    const size_t colon = name.rfind(':');
    if (colon == std::string::npos || name.substr(0, colon) != served->name) continue;
    const auto named = served->adapters.find(name.substr(colon + 1));
    if (named != served->adapters.end()) return {served, named->second, named->first};
  }
  return {};
}

std::vector<std::shared_ptr<Served>> Models::all() const {
  const std::lock_guard lock(mutex_);
  return served_;
}

std::string Models::names() const {
  std::string text;
  for (const auto& served : all()) {
    text += (text.empty() ? "" : ", ") + served->name;
    for (const auto& [name, index] : served->adapters) text += ", " + name;
  }
  for (const auto& [alias, target] : options_.aliases)
    if (alias != kAnyName) text += ", " + alias;
  return text;
}

std::string Models::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

// Names that point elsewhere, and old models that nobody holds any more.
void Models::Look() {
  std::vector<std::shared_ptr<Served>> gone;
  {
    const std::lock_guard lock(mutex_);
    for (auto& old : retired_)
      if (old.use_count() == 1) gone.push_back(std::move(old));
    std::erase(retired_, nullptr);
  }
  if (!gone.empty()) std::erase_if(refused_, [](const auto& one) { return one.second.for_memory; });
  gone.clear();  // ends their threads: outside the lock
  if (!catalog_) return;
  registry::Registry registry(catalog_);
  for (size_t i = 0; i < choices_.size(); ++i) {
    std::shared_ptr<Served> now;
    {
      const std::lock_guard lock(mutex_);
      now = served_[i];
    }
    if (now->sha256.starts_with("file-")) continue;
    const auto entry = registry.Get(choices_[i].from);
    if (!entry.ok() || entry->sha256 == now->sha256 || refused_[now->name].sha256 == entry->sha256) continue;
    if (options_.say)
      options_.say("'" + now->name + "' points at " + entry->sha256.substr(0, 12) +
                   " now: loading it beside");
    const double before = MonotonicSeconds();
    auto loaded = Load(choices_[i], true);
    if (!loaded.ok()) {
      refused_[now->name] = {entry->sha256, loaded.status().Is(Code::kLimit)};
      const std::string text =
          "'" + now->name + "' stays at " + now->sha256.substr(0, 12) + ": " + loaded.status().ToString();
      if (options_.say) options_.say(text);
      const std::lock_guard lock(mutex_);
      trouble_ = text;
      continue;
    }
    char took[32];
    std::snprintf(took, sizeof took, "%.1f s", MonotonicSeconds() - before);
    {
      const std::lock_guard lock(mutex_);
      retired_.push_back(std::move(served_[i]));
      served_[i] = std::move(*loaded);
      trouble_.clear();
    }
    ++swaps_;
    if (options_.say)
      options_.say("'" + now->name + "' answers with " + entry->sha256.substr(0, 12) + " (loaded in " + took +
                   ")");
  }
}

void Models::Watch() {
  pthread_setname_np(pthread_self(), "hr-models");
  for (double wait = kLookSeconds;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, std::chrono::duration<double>(wait), [&] { return stopping_; });
      if (stopping_) return;
    }
    const double before = MonotonicSeconds();
    Look();
    wait = std::clamp((MonotonicSeconds() - before) / kLookShare, kLookSeconds, kMostLookSeconds);
  }
}

}  // namespace headrace::serve
