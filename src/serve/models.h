// models: what a server answers with. Each is found by name in the catalog (or is a file), loaded under one
// budget of memory, and loaded anew beside itself when its name points elsewhere: requests that run keep the
// old one until they end.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/embedder.h"
#include "engine/engine.h"
#include "model/chat.h"
#include "registry/registry.h"

namespace headrace::serve {

struct ModelChoice {
  std::string name;  // as clients say it
  std::string from;  // a name in the catalog, or a file
};

// What stands in an alias for every name that nothing else has.
inline constexpr char kAnyName[] = "*";

struct ModelOptions {
  std::string chat_template;      // for models without one; see ChatTemplate::Make
  bool replace_template = false;  // for those that have one too
  std::vector<std::pair<std::string, std::string>> adapters;  // name, file; of the first language model
  // Other names of what is loaded: alias, and what Find takes. kAnyName may come once for a language model
  // and once for an embedding model.
  std::vector<std::pair<std::string, std::string>> aliases;
  engine::EngineOptions engine;
  model::LoadOptions load;  // devices and layers, for all models
  int64_t memory = 0;  // bytes that weights and caches of all may take; 0: 80 % of what is free at the start
  std::function<void(const std::string&)> say;  // what happens, for the log
};

// One loaded model. Immutable; in-flight requests hold it.
struct Served {
  std::string name, sha256, path;
  int64_t bytes = 0;                 // of memory: weights and cache
  engine::HostCache::Charge memory;  // of so many bytes, until nobody holds it any more
  int64_t loaded_us = 0;
  std::shared_ptr<model::Model> model;
  std::unique_ptr<engine::Engine> engine;           // of language models
  std::unique_ptr<engine::Embedder> embedder;       // of embedding models
  std::shared_ptr<const model::ChatTemplate> chat;  // null: chat_problem says why
  Status chat_problem;
  std::map<std::string, int> adapters;
  int32_t context = 0;
  bool embeds() const { return embedder != nullptr; }
};

struct Chosen {
  std::shared_ptr<Served> served;  // null: there is no such model
  int adapter = -1;
  std::string adapter_name;
};

class Models {
 public:
  static Result<std::unique_ptr<Models>> Start(std::shared_ptr<table::Catalog> catalog,
                                               std::vector<ModelChoice> choices, ModelOptions options);
  ~Models();

  // By name; "" is the first language (or, for `embedding`, embedding) model. "name:adapter" and an adapter's
  // own name choose it; then aliases, and the one for any name.
  Chosen Find(const std::string& name, bool embedding) const;
  std::vector<std::shared_ptr<Served>> all() const;
  std::string names() const;  // for errors
  const std::vector<std::pair<std::string, std::string>>& aliases() const { return options_.aliases; }
  int32_t slots() const { return options_.engine.core.slots; }  // requests that run at once
  int64_t swaps() const { return swaps_; }
  std::string trouble() const;  // of the last swap

 private:
  Models() = default;
  Chosen FindLoaded(const std::string& name, bool embedding) const;
  Status CheckAliases() const;
  Result<std::shared_ptr<Served>> Load(const ModelChoice& choice, bool patiently);
  Status Read(const ModelChoice& choice, Served* served) const;
  void Watch();
  void Look();

  std::shared_ptr<table::Catalog> catalog_;
  std::vector<ModelChoice> choices_;
  ModelOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::shared_ptr<Served>> served_;   // in the order of choices_
  std::vector<std::shared_ptr<Served>> retired_;  // until nobody holds them
  std::shared_ptr<engine::HostCache> host_;       // the one budget of memory
  struct Refused {
    std::string sha256;
    bool for_memory = false;  // tried again when a retired model has gone
  };
  std::map<std::string, Refused> refused_;  // by name: what could not be loaded
  std::string trouble_;
  std::atomic<int64_t> swaps_{0};
  bool stopping_ = false;
  std::thread watcher_;
};

}  // namespace headrace::serve
