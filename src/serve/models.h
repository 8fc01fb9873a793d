// models: the names that a server answers to, and the backend of each. A model is found by name in the
// catalog (or is a file), and loaded under one budget of memory: at the start or when it is first asked for.
// A name that points elsewhere is loaded anew beside what answers: requests that run keep the old one until
// they end. Who has had no requests for a while sleeps.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/cancel.h"
#include "base/task_pool.h"
#include "serve/local_backend.h"
#include "serve/model_loader.h"

namespace headrace::serve {

// What stands in an alias for every name that nothing else has.
inline constexpr char kAnyName[] = "*";

struct ModelOptions {
  LoaderOptions loader;
  // Other names of what is served: alias, and what Find takes. kAnyName may come once for a language model
  // and once for an embedding model.
  std::vector<std::pair<std::string, std::string>> aliases;
  // Names of those that are loaded before the server is ready; without it, all are. The others are loaded
  // when they are asked for, and put to sleep when those that are asked for need their memory.
  std::optional<std::vector<std::string>> load;
  double sleep_after = 0;  // seconds without a request, after which a model is put to sleep; 0: never
  std::function<void(const std::string&)> say;  // what happens, for the log
};

// What a name stands for.
struct Named {
  std::shared_ptr<Backend> backend;  // null: there is no such model
  std::string adapter;               // "" for none
};

// What answers a request: held until its end.
struct Chosen {
  Lease served;
  int adapter = -1;
  std::string adapter_name;
  double waited = 0;  // seconds, for it to be loaded
};

class Models {
 public:
  static Result<std::unique_ptr<Models>> Start(std::shared_ptr<table::Catalog> catalog,
                                               std::vector<ModelChoice> choices, ModelOptions options);
  ~Models();
  // Nothing is loaded any more; who waits for it is told. Once; the destructor does it too.
  void Stop();

  // By name, whatever that is for; "" is the first that is for `task`. "name:adapter" chooses an adapter, and
  // so does its own name, if it is one of LoaderOptions::adapters; then aliases, and the one for any name
  // that is for `task`.
  Named Find(const std::string& name, model::Task task) const;
  // As for the first of `tasks`, else as for the next.
  Named Find(const std::string& name, std::initializer_list<model::Task> tasks) const;
  // Where it makes no difference which: a language model first.
  Named FindAny(const std::string& name) const;
  std::vector<BackendReport> reports() const;
  // What is loaded now: no leases.
  std::vector<std::shared_ptr<Served>> loaded() const;
  std::string names() const;  // for errors
  // A model's adapters, as clients say them: those of LoaderOptions by their own names, the catalog's as
  // "name:adapter". The catalog's are those that there were when it was last loaded, or at the start.
  std::vector<std::string> AdaptersOf(const std::string& name) const;
  const std::vector<std::pair<std::string, std::string>>& aliases() const { return options_.aliases; }
  // Requests that run at once.
  int32_t slots() const { return options_.loader.engine.core.slots; }
  int64_t swaps() const { return swaps_; }
  std::string trouble() const;  // of the last swap, and of loads

 private:
  struct Entry {
    ModelChoice choice;
    bool adapters = false;  // it is the first language model
    std::shared_ptr<LocalBackend> backend;
    // The catalog's, as far as they are known; under mutex_.
    std::vector<std::string> registered;
  };
  Models() = default;
  Status Add(const ModelChoice& choice);
  Named FindServed(const std::string& name, model::Task task) const;
  Status CheckAliases() const;
  Status CheckLoad() const;
  void LoadOnUse(size_t entry);
  void Know(Entry* entry, const Served& loaded);
  bool MakeRoom();
  void Retire(std::shared_ptr<Served> served);
  bool EndRetired();
  void SleepIdle();
  void Say(const std::string& text) const;
  void Watch();
  void Look();

  std::shared_ptr<table::Catalog> catalog_;
  ModelOptions options_;
  std::unique_ptr<ModelLoader> loader_;
  std::vector<Entry> entries_;  // do not change once it is started, but for their adapters
  StopSource stop_;
  TaskPool load_thread_{1, "hr-load"};
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::shared_ptr<Served>> retired_;  // until nobody holds them
  struct Refused {
    std::string sha256;
    bool for_memory = false;  // tried again when a retired model has gone
  };
  std::map<std::string, Refused> refused_;  // by name: what could not be loaded. The watcher's
  std::string trouble_;
  std::atomic<int64_t> swaps_{0};
  bool stopping_ = false;
  std::thread watcher_;
};

}  // namespace headrace::serve
