// ModelLoader: from a model's name to what answers: the file is found and tried, mapped, charged to the one
// budget of memory, and its engine started.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/cancel.h"
#include "registry/registry.h"
#include "serve/backend.h"

namespace headrace::serve {

struct ModelChoice {
  std::string name;  // as clients say it
  std::string from;  // a name in the catalog, or a file
};

struct LoaderOptions {
  std::string chat_template;      // for models without one; see ChatTemplate::Make
  bool replace_template = false;  // for those that have one too
  // Name, file; of the first language model. The catalog's adapters of each are loaded too.
  std::vector<std::pair<std::string, std::string>> adapters;
  engine::EngineOptions engine;
  model::LoadOptions load;  // devices and layers, for all models
  // Sees each before it answers anybody.
  std::function<void(const Served&)> prepare;
  int64_t memory = 0;  // bytes that weights and caches of all may take; 0: 80 % of what is free at the start
};

// Thread-safe.
class ModelLoader {
 public:
  ModelLoader(std::shared_ptr<table::Catalog> catalog, LoaderOptions options);

  // What a choice stands for now. A file that was never tried is tried.
  struct Source {
    std::string sha256;  // "file-…" of what is in no catalog: it is served until the server ends
    std::string path;    // "" where it is in the catalog: Load fetches it
    registry::Entry entry;
    model::Task task = model::Task::kWrite;
  };
  Result<Source> Find(const ModelChoice& choice, const StopToken& stop) const;
  // Names of the adapters that the catalog has of it now, without the model's; whether each can be loaded is
  // seen then. None of a file, and where the catalog cannot be read.
  std::vector<std::string> AdaptersOf(const Source& source) const;

  struct How {
    bool adapters = false;  // with LoaderOptions::adapters
    bool behind = false;    // its weights are read on a thread that waits for serving
    // Called where memory is short; true: some was given back, try again.
    std::function<bool()> make_room = {};
    StopToken stop = {};
  };
  Result<std::shared_ptr<Served>> Load(const ModelChoice& choice, const How& how) const;

 private:
  Status Read(const ModelChoice& choice, const How& how, Served* served) const;
  void AddAdapters(const Source& source, const StopToken& stop, engine::ChatSession* session,
                   Served* served) const;
  Result<engine::HostCache::Charge> Charge(const Served& served, int32_t cells, const How& how) const;

  const std::shared_ptr<table::Catalog> catalog_;
  LoaderOptions options_;
  std::shared_ptr<engine::HostCache> host_;  // the one budget of memory
};

}  // namespace headrace::serve
