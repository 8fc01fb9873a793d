// registry: models in the catalog, and adapters of them. A model's file lives under its content hash with a
// manifest beside it (models/<sha256>/weights.gguf, manifest.json); a ref of kind model names it, moved by
// compare-and-swap, with history. An adapter is kept likewise; its name is its base's and its own:
// "gemma:support".
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/cancel.h"
#include "base/progress.h"
#include "base/status.h"
#include "model/model.h"
#include "table/catalog.h"

namespace headrace::registry {

// What is known of an adapter.
struct AdapterFacts {
  // Of the model that it was made for: its name, and the hash of its weights. Of a file that is added to two
  // models, the first; Entry::adapter_of is what its name says.
  std::string base, base_sha256;
  int64_t rank = 0;  // the highest of its pairs
  double alpha = 0;
  std::string run, data;  // of a fine-tuning: the run's id, and its table and version; "" else
};

struct Entry {
  std::string name;  // "" where no ref names it
  int64_t revision = 0;
  std::string sha256;
  int64_t bytes = 0;
  std::string source;  // where it came from: a path or a URL
  std::string licence;
  int64_t added_us = 0;
  std::string verdict;  // of the probe: "ok"
  std::string build;    // that it was probed with
  // Of an adapter: its name, architecture, quantization, licence, parameters and weight_bytes.
  model::Facts facts;
  std::string adapter_of;               // the base's name: "gemma" of "gemma:support"; "" of a model
  std::optional<AdapterFacts> adapter;  // of an adapter
};

// One move of a model's name.
struct Revision {
  int64_t revision = 0;
  std::string sha256;  // "": the name was taken away
  bool there = false;  // its weights are still kept
  std::string who, why;
  int64_t time_us = 0;
};

struct AddOptions {
  std::string source;   // default: the file's absolute path
  std::string licence;  // default: what the file says
  std::string who, why;
  std::string base_sha256;  // of an adapter: the weights that it was made for; default: its base's now
  std::string probe_program;
  ProgressFn progress;
  StopToken stop;
};

class Registry {
 public:
  explicit Registry(std::shared_ptr<table::Catalog> catalog) : catalog_(std::move(catalog)) {}

  // Probes a GGUF file, stores it (once per content), and points `name` at it. A name that is a table's is
  // refused, and one with ':', which are adapters'; one that is another model's moves, and its history
  // remembers.
  Result<Entry> Add(const std::string& path, const std::string& name, const AddOptions& options = {});
  // As Add, of a LoRA adapter for the model `base`: it becomes "base:name". Invalid: it is none, or does not
  // fit the model: another architecture, or weights that the model has not, or of another shape. NotFound: no
  // such model. Unsupported: a model that writes no text.
  Result<Entry> AddAdapter(const std::string& path, const std::string& base, const std::string& name,
                           const AddOptions& options = {});
  // All that have names, by name: a model's adapters follow it.
  Result<std::vector<Entry>> List() const;
  // The adapters of a model, by name. A manifest that cannot be read is an entry without `adapter`.
  Result<std::vector<Entry>> AdaptersOf(const std::string& base) const;
  // By name, or by a hash's beginning of at least 8 hex digits.
  Result<Entry> Get(const std::string& name) const;
  // What the name stood for, newest first. NotFound if no model ever had it.
  Result<std::vector<Revision>> History(const std::string& name) const;
  // Moves the name back to what it stood for at `revision`; 0: before what it stands for now. A new revision.
  Result<Entry> Rollback(const std::string& name, int64_t revision, const std::string& who,
                         const std::string& why);
  // The name goes; with `data`, also the file, if no other name points at it. Invalid: of a model that has
  // adapters, which go first.
  Status Remove(const std::string& name, bool data, const std::string& who);
  // A file on this machine that holds the model: the catalog's own where it is a folder, else a checked copy
  // in the cache.
  Result<std::string> LocalFile(const Entry& entry, const ProgressFn& progress = {},
                                const StopToken& stop = {}) const;

 private:
  Result<Entry> ReadManifest(const std::string& sha256) const;
  Result<Entry> ReadNamed(const table::RefValue& ref) const;
  Result<table::RefValue> NameFor(const std::string& name) const;
  Status Store(const std::string& path, const AddOptions& options, Entry* entry);
  Result<Entry> Point(const table::RefValue& before, Entry entry, const AddOptions& options);
  std::shared_ptr<table::Catalog> catalog_;
};

// What an adapter's file says of itself; see model::ReadAdapter for errors. For files that a probe has
// passed.
Result<Entry> Describe(const std::string& path);

// "gemma" and "support" of "gemma:support"; nothing of a model's name.
std::optional<std::pair<std::string, std::string>> SplitAdapterName(const std::string& name);

// What MODEL on a command line stands for: files on this machine.
struct ModelFiles {
  std::string path;     // the model's
  std::string adapter;  // the adapter's, whose base it is; "" for none
  Entry entry;          // of the model; its name is "" where that is a file of no catalog
};
// Of a path, of a model's name in the catalog (which may be null), or of an adapter's: its base and it.
// Invalid: an adapter that does not fit its base any more.
Result<ModelFiles> FindModelFiles(const std::string& model, const std::shared_ptr<table::Catalog>& catalog,
                                  const ProgressFn& progress = {});
// The path alone; Invalid of an adapter's name.
Result<std::string> FindModelFile(const std::string& model, const std::shared_ptr<table::Catalog>& catalog,
                                  const ProgressFn& progress = {});

}  // namespace headrace::registry
