#include "serve/model_loader.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "base/hash.h"
#include "model/adapter_file.h"
#include "model/arithmetic.h"
#include "model/header.h"
#include "model/probe.h"

namespace headrace::serve {
namespace {

using Kind = engine::HostCache::Kind;

constexpr double kOfFreeMemory = 0.8;

std::string Gigabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

// A file's identity where it is in no catalog.
std::string FileHash(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return "";
  const int64_t facts[4] = {static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino),
                            static_cast<int64_t>(info.st_size), info.st_mtim.tv_sec};
  return "file-" + Hex64(Xxh3(facts, sizeof facts));
}

// Runs `work` on a thread that waits for serving, and ends: threads inherit how nice they are, so whatever a
// slowed thread started would be slow for ever.
Status Behind(const std::function<Status()>& work) {
  Status status;
  std::thread([&] {
    setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 10);
    status = work();
  }).join();
  return status;
}

}  // namespace

ModelLoader::ModelLoader(std::shared_ptr<table::Catalog> catalog, LoaderOptions options)
    : catalog_(std::move(catalog)), options_(std::move(options)) {
  if (options_.memory == 0)
    options_.memory = static_cast<int64_t>(static_cast<double>(model::AvailableMemory()) * kOfFreeMemory);
  // Whatever computes in this process takes turns.
  options_.engine.lease = std::make_shared<engine::ComputeLease>();
  // Of the budget, evicted prefixes, preempted requests and grammars take an eighth at most.
  host_ = engine::HostCache::Make(
      {.cache = std::min(options_.engine.core.host_bytes, options_.memory / 8), .total = options_.memory});
  options_.engine.core.host = host_;
}

Result<ModelLoader::Source> ModelLoader::Find(const ModelChoice& choice, const StopToken& stop) const {
  Source source;
  struct stat info {};
  const bool is_file = choice.from.find('/') != std::string::npos || stat(choice.from.c_str(), &info) == 0;
  if (!is_file && catalog_) {
    HEADRACE_ASSIGN(source.entry, registry::Registry(catalog_).Get(choice.from));
    const std::string& base = source.entry.adapter_of;
    if (source.entry.adapter)
      return Status::Invalid("'" + choice.from + "' is an adapter of '" + base + "': serve '" + base +
                             "', and clients find '" + choice.from + "' there");
    source.sha256 = source.entry.sha256;
    source.task = source.entry.facts.task();
    return source;
  }
  HEADRACE_ASSIGN(source.path, registry::FindModelFile(choice.from, catalog_));
  source.sha256 = FileHash(source.path);
  HEADRACE_TRY(model::Probe(source.path, {.chat_template = options_.chat_template, .stop = stop}));
  HEADRACE_ASSIGN(const model::Facts facts, model::ReadHeader(source.path));
  source.task = facts.task();
  return source;
}

std::vector<std::string> ModelLoader::AdaptersOf(const Source& source) const {
  std::vector<std::string> names;
  if (source.entry.name.empty() || source.task != model::Task::kWrite) return names;
  const auto adapters = registry::Registry(catalog_).AdaptersOf(source.entry.name);
  if (!adapters.ok()) return names;
  for (const registry::Entry& adapter : *adapters)
    names.push_back(adapter.name.substr(adapter.adapter_of.size() + 1));
  return names;
}

// The catalog's adapters of a model. What is wrong with one is a warning: the others and the model answer.
void ModelLoader::AddAdapters(const Source& source, const StopToken& stop, engine::ChatSession* session,
                              Served* served) const {
  const registry::Registry registry(catalog_);
  const auto adapters = registry.AdaptersOf(source.entry.name);
  if (!adapters.ok())
    return served->warnings.push_back("the adapters of '" + served->name +
                                      "' cannot be read: " + adapters.status().ToString());
  for (const registry::Entry& adapter : *adapters) {
    const std::string name = adapter.name.substr(adapter.adapter_of.size() + 1);
    if (session->adapters().contains(name)) {
      served->warnings.push_back("'" + adapter.name + "' is hidden by --adapter " + name);
      continue;
    }
    const auto add = [&]() -> Status {
      if (!adapter.adapter) return registry.Get(adapter.name).status();
      HEADRACE_ASSIGN(const std::string path, registry.LocalFile(adapter, {}, stop));
      HEADRACE_TRY(model::Probe(path, {.stop = stop}));
      HEADRACE_TRY(model::CheckAdapter(path, served->path).status());
      return session->AddAdapter(name, path);
    };
    const Status added = add();
    if (!added.ok()) {
      served->warnings.push_back("'" + adapter.name + "' is not served: " + added.ToString());
      continue;
    }
    served->adapters.push_back(name);
    served->bytes += adapter.bytes;
    if (adapter.adapter->base == source.entry.name && adapter.adapter->base_sha256 != source.sha256)
      served->warnings.push_back("'" + adapter.name + "' was made for other weights of '" +
                                 source.entry.name + "' (" + adapter.adapter->base_sha256.substr(0, 12) +
                                 "), and fits these");
  }
}

// The file, tried and mapped, with its adapters and its template: whatever starts no thread.
Status ModelLoader::Read(const ModelChoice& choice, const How& how, Served* served) const {
  HEADRACE_ASSIGN(const Source source, Find(choice, how.stop));
  served->sha256 = source.sha256;
  served->path = source.path;
  if (served->path.empty()) {
    HEADRACE_ASSIGN(served->path, registry::Registry(catalog_).LocalFile(source.entry, {}, how.stop));
  }
  engine::SessionOptions session;
  session.chat_template = options_.chat_template;
  session.replace_template = options_.replace_template;
  if (how.adapters) session.adapters = options_.adapters;
  session.context = options_.engine.decoder.cells;
  session.load = options_.load;
  session.load.stop = how.stop;
  HEADRACE_ASSIGN(const std::shared_ptr<engine::ChatSession> opened,
                  engine::ChatSession::Open(served->path, session));
  if (!source.entry.name.empty() && opened->model().facts().task() == model::Task::kWrite)
    AddAdapters(source, how.stop, opened.get(), served);
  HEADRACE_TRY(how.stop.Check());
  served->session = opened;
  (void)served->model().TokenizerHash();  // of a large vocabulary it takes a while: not when somebody asks
  return Status::Ok();
}

Result<engine::HostCache::Charge> ModelLoader::Charge(const Served& served, int32_t cells,
                                                      const How& how) const {
  for (;;) {
    if (auto charge = host_->TryCharge(Kind::kModel, served.bytes)) return std::move(*charge);
    if (how.make_room && how.make_room()) continue;
    return Status::Limit("'" + served.name + "' needs " + Gigabytes(served.bytes) + " (" +
                         Gigabytes(served.model().resident_bytes()) + " of weights, the rest for " +
                         std::to_string(cells) + " tokens of cache), " +
                         Gigabytes(host_->bytes(Kind::kModel)) + " are taken by models, and the budget is " +
                         Gigabytes(options_.memory) +
                         "; give less cache with --context, or more with --memory");
  }
}

Result<std::shared_ptr<Served>> ModelLoader::Load(const ModelChoice& choice, const How& how) const {
  auto served = std::make_shared<Served>();
  served->name = choice.name;
  const auto read = [&] { return Read(choice, how, served.get()); };
  HEADRACE_TRY(how.behind ? Behind(read) : read());
  const model::Facts& facts = served->model().facts();
  engine::EngineOptions engine = options_.engine;
  served->task = facts.task();
  const bool writes = served->task == model::Task::kWrite;
  if (engine.decoder.cells <= 0) engine.decoder.cells = std::min(facts.trained_context, model::kUsualCells);
  served->bytes +=
      served->model().resident_bytes() + (writes ? facts.kv_bytes_per_token * engine.decoder.cells : 0);
  HEADRACE_ASSIGN(served->memory, Charge(*served, engine.decoder.cells, how));
  HEADRACE_TRY(how.stop.Check());
  engine.weights_hash = served->sha256;
  if (!writes) {
    model::EncoderOptions encoder;
    encoder.threads = engine.decoder.threads;
    HEADRACE_ASSIGN(served->embedder,
                    engine::Embedder::Start(served->session->shared_model(), encoder, engine.lease));
  } else {
    HEADRACE_ASSIGN(served->engine, engine::Engine::Start(served->session->shared_model(), engine));
  }
  if (options_.prepare) options_.prepare(*served);
  served->loaded_us = NowMicros();
  return served;
}

}  // namespace headrace::serve
