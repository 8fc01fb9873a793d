// registry: models in the catalog. A model's file lives under its content hash with a manifest beside it
// (models/<sha256>/weights.gguf, manifest.json); a ref of kind model names it, moved by compare-and-swap,
// with history.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/progress.h"
#include "base/status.h"
#include "model/model.h"
#include "table/catalog.h"

namespace headrace::registry {

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
  model::Facts facts;
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
  std::string probe_program;
  ProgressFn progress;
  StopToken stop;
};

class Registry {
 public:
  explicit Registry(std::shared_ptr<table::Catalog> catalog) : catalog_(std::move(catalog)) {}

  // Probes a GGUF file, stores it (once per content), and points `name` at it. A name that is a table's is
  // refused; one that is another model's moves, and its history remembers.
  Result<Entry> Add(const std::string& path, const std::string& name, const AddOptions& options = {});
  Result<std::vector<Entry>> List() const;
  // By name, or by a hash's beginning of at least 8 hex digits.
  Result<Entry> Get(const std::string& name) const;
  // What the name stood for, newest first. NotFound if no model ever had it.
  Result<std::vector<Revision>> History(const std::string& name) const;
  // Moves the name back to what it stood for at `revision`; 0: before what it stands for now. A new revision.
  Result<Entry> Rollback(const std::string& name, int64_t revision, const std::string& who,
                         const std::string& why);
  // The name goes; with `data`, also the file, if no other name points at it.
  Status Remove(const std::string& name, bool data, const std::string& who);
  // A file on this machine that holds the model: the catalog's own where it is a folder, else a checked copy
  // in the cache.
  Result<std::string> LocalFile(const Entry& entry, const ProgressFn& progress = {},
                                const StopToken& stop = {}) const;

 private:
  Result<Entry> ReadManifest(const std::string& sha256) const;
  std::shared_ptr<table::Catalog> catalog_;
};

// The file that MODEL on a command line stands for: a path, or a name in the catalog (which may be null).
Result<std::string> FindModelFile(const std::string& model, const std::shared_ptr<table::Catalog>& catalog,
                                  const ProgressFn& progress = {});

}  // namespace headrace::registry
