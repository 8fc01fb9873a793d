#include "serve/models.h"

#include <algorithm>
#include <future>

#include "base/clock.h"

namespace headrace::serve {
namespace {

using model::Task;

constexpr double kLookSeconds = 0.5, kMostLookSeconds = 2;  // between looks at the names
constexpr double kLookShare =
    0.05;  // of the time: where a look takes long (a distant store), there are fewer

std::string Seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", seconds);
  return text;
}

}  // namespace

Result<std::unique_ptr<Models>> Models::Start(std::shared_ptr<table::Catalog> catalog,
                                              std::vector<ModelChoice> choices, ModelOptions options) {
  std::unique_ptr<Models> models(new Models());
  models->catalog_ = catalog;
  models->options_ = std::move(options);
  models->loader_ = std::make_unique<ModelLoader>(std::move(catalog), models->options_.loader);
  for (const ModelChoice& choice : choices) HEADRACE_TRY(models->Add(choice));
  HEADRACE_TRY(models->CheckAliases());
  HEADRACE_TRY(models->CheckLoad());
  models->watcher_ = std::thread([raw = models.get()] { raw->Watch(); });
  return models;
}

// Loads it if it is one of those that are loaded at the start; else finds out whether it could be.
Status Models::Add(const ModelChoice& choice) {
  for (const Entry& other : entries_)
    if (other.choice.name == choice.name)
      return Status::Invalid("two models are named '" + choice.name + "'");
  HEADRACE_ASSIGN(const ModelLoader::Source source, loader_->Find(choice, stop_.token()));
  Entry entry;
  entry.choice = choice;
  entry.adapters = source.task == Task::kWrite &&
                   std::all_of(entries_.begin(), entries_.end(),
                               [](const Entry& other) { return other.backend->task() != Task::kWrite; });
  LocalBackend::Options options;
  options.name = choice.name;
  options.task = source.task;
  options.most_waiting = static_cast<size_t>(std::max(options_.loader.engine.core.queue, 1));
  options.begin_load = [this, index = entries_.size()] {
    if (!load_thread_.TrySubmit([this, index] { LoadOnUse(index); }))
      entries_[index].backend->Loaded(Status::Cancelled("the server is shutting down"), 0);
  };
  entry.backend = std::make_shared<LocalBackend>(std::move(options));
  const auto& wanted = options_.load;
  const bool waits = wanted && std::find(wanted->begin(), wanted->end(), choice.name) == wanted->end();
  if (waits) entry.registered = loader_->AdaptersOf(source);
  entries_.push_back(entry);
  if (waits) return Status::Ok();
  Status status;
  std::promise<void> told;
  entry.backend->Acquire([&](const Result<Lease>& lease) {
    status = lease.status();
    told.set_value();
  });
  told.get_future().wait();
  return status;
}

Models::~Models() { Stop(); }

void Models::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.Stop();
  wake_.notify_all();
  load_thread_.Close();
  if (watcher_.joinable()) watcher_.join();
}

// ---------------------------------------------------------------- names

// Each leads to a model, and hides none.
Status Models::CheckAliases() const {
  const auto& aliases = options_.aliases;
  for (size_t i = 0; i < aliases.size(); ++i) {
    const auto& [alias, target] = aliases[i];
    if (alias.empty() || target.empty()) return Status::Invalid("an alias is NAME=MODEL");
    const Named named = FindServed(target, Task::kWrite);
    if (!named.backend)
      return Status::NotFound("the alias '" + alias + "' stands for '" + target +
                              "', which is not served; there are " + names());
    if (FindServed(alias, Task::kWrite).backend)
      return Status::Invalid("'" + alias + "' is served already: it can be no alias");
    for (size_t j = 0; j < i; ++j)
      if (aliases[j].first == alias &&
          (alias != kAnyName ||
           FindServed(aliases[j].second, Task::kWrite).backend->task() == named.backend->task()))
        return Status::Invalid("there are two aliases '" + alias + "'");
  }
  return Status::Ok();
}

Status Models::CheckLoad() const {
  if (!options_.load) return Status::Ok();
  for (const std::string& name : *options_.load)
    if (std::none_of(entries_.begin(), entries_.end(),
                     [&](const Entry& entry) { return entry.choice.name == name; }))
      return Status::NotFound("'" + name + "' cannot be loaded: it is not served; there are " + names());
  return Status::Ok();
}

Named Models::Find(const std::string& name, Task task) const {
  Named named = FindServed(name, task);
  if (named.backend || name.empty()) return named;
  for (const auto& [alias, target] : options_.aliases)
    if (alias == name) return FindServed(target, task);
  for (const auto& [alias, target] : options_.aliases) {
    if (alias != kAnyName) continue;
    named = FindServed(target, task);
    if (named.backend && named.backend->task() == task) return named;
  }
  return {};
}

Named Models::Find(const std::string& name, std::initializer_list<Task> tasks) const {
  for (const Task task : tasks)
    if (Named named = Find(name, task); named.backend) return named;
  return {};
}

Named Models::FindAny(const std::string& name) const {
  return Find(name, {Task::kWrite, Task::kEmbed, Task::kRank});
}

Named Models::FindServed(const std::string& name, Task task) const {
  for (const Entry& entry : entries_) {
    const auto& backend = entry.backend;
    if (name.empty() ? backend->task() == task : entry.choice.name == name) return {backend, ""};
    const std::string prefix = entry.choice.name + ":";
    if (entry.adapters)
      for (const auto& [adapter, path] : options_.loader.adapters)
        if (name == adapter || name == prefix + adapter) return {backend, adapter};
    if (!name.starts_with(prefix)) continue;
    const std::string own = name.substr(prefix.size());
    const std::lock_guard lock(mutex_);
    if (std::find(entry.registered.begin(), entry.registered.end(), own) != entry.registered.end())
      return {backend, own};
  }
  return {};
}

std::vector<BackendReport> Models::reports() const {
  std::vector<BackendReport> reports;
  for (const Entry& entry : entries_) reports.push_back(entry.backend->report());
  return reports;
}

std::vector<std::shared_ptr<Served>> Models::loaded() const {
  std::vector<std::shared_ptr<Served>> all;
  for (BackendReport& report : reports())
    if (report.served) all.push_back(std::move(report.served));
  return all;
}

std::vector<std::string> Models::AdaptersOf(const std::string& name) const {
  std::vector<std::string> adapters;
  for (const Entry& entry : entries_) {
    if (entry.choice.name != name) continue;
    if (entry.adapters)
      for (const auto& [adapter, path] : options_.loader.adapters) adapters.push_back(adapter);
    const std::lock_guard lock(mutex_);
    for (const std::string& adapter : entry.registered) adapters.push_back(name + ":" + adapter);
  }
  return adapters;
}

std::string Models::names() const {
  std::string text;
  for (const Entry& entry : entries_) {
    text += (text.empty() ? "" : ", ") + entry.choice.name;
    for (const std::string& adapter : AdaptersOf(entry.choice.name)) text += ", " + adapter;
  }
  for (const auto& [alias, target] : options_.aliases)
    if (alias != kAnyName) text += ", " + alias;
  return text;
}

std::string Models::trouble() const {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    text = trouble_;
  }
  for (const BackendReport& report : reports())
    if (!report.trouble.empty())
      text += (text.empty() ? "'" : "; '") + report.name + "' cannot be loaded: " + report.trouble;
  return text;
}

void Models::Say(const std::string& text) const {
  if (options_.say) options_.say(text);
}

// ---------------------------------------------------------------- loading and sleeping

// What it was loaded with, and without.
void Models::Know(Entry* entry, const Served& loaded) {
  for (const std::string& warning : loaded.warnings) Say(warning);
  const std::lock_guard lock(mutex_);
  entry->registered = loaded.adapters;
}

// On the loading thread.
void Models::LoadOnUse(size_t index) {
  Entry& entry = entries_[index];
  const bool starting = !watcher_.joinable();  // what Start loads, it tells of itself
  const double before = MonotonicSeconds();
  ModelLoader::How how;
  how.adapters = entry.adapters;
  how.make_room = [this] { return MakeRoom(); };
  how.stop = stop_.token();
  auto loaded = stop_.stopped()
                    ? Result<std::shared_ptr<Served>>(Status::Cancelled("the server is shutting down"))
                    : loader_->Load(entry.choice, how);
  const double took = MonotonicSeconds() - before;
  if (!starting && !stop_.stopped())
    Say(loaded.ok() ? "'" + entry.choice.name + "' is loaded, in " + Seconds(took)
                    : "'" + entry.choice.name + "' cannot be loaded: " + loaded.status().ToString());
  if (loaded.ok()) Know(&entry, **loaded);
  entry.backend->Loaded(std::move(loaded), took);
}

// Puts the one to sleep that has had no request for longest. It is gone when this returns.
bool Models::MakeRoom() {
  if (!options_.load && options_.sleep_after == 0) return false;  // all stay
  const Entry* idlest = nullptr;
  double longest = -1;
  for (const Entry& entry : entries_)
    if (const double idle = entry.backend->idle_seconds(); idle > longest) {
      longest = idle;
      idlest = &entry;
    }
  if (idlest == nullptr) return false;
  auto asleep = idlest->backend->Sleep(0);
  if (!asleep) return true;  // it was asked for just now: look again
  Say("'" + idlest->choice.name + "' sleeps: another needs its memory");
  Retire(std::move(asleep));
  EndRetired();
  return true;
}

void Models::Retire(std::shared_ptr<Served> served) {
  const std::lock_guard lock(mutex_);
  retired_.push_back(std::move(served));
}

// Ends those that nobody holds any more: their threads are joined here, and not where the last lease ended.
// Whether there were any.
bool Models::EndRetired() {
  std::vector<std::shared_ptr<Served>> gone;  // let go of outside the lock
  const std::lock_guard lock(mutex_);
  for (auto& old : retired_)
    if (old.use_count() == 1) gone.push_back(std::move(old));
  std::erase(retired_, nullptr);
  return !gone.empty();
}

void Models::SleepIdle() {
  if (options_.sleep_after == 0) return;
  for (const Entry& entry : entries_) {
    auto asleep = entry.backend->Sleep(options_.sleep_after);
    if (!asleep) continue;
    Say("'" + entry.choice.name + "' sleeps until it is asked for");
    Retire(std::move(asleep));
  }
}

// ---------------------------------------------------------------- names that move

// Names that point elsewhere, of what is loaded: what sleeps is looked up when it is asked for.
void Models::Look() {
  if (!catalog_) return;
  const registry::Registry registry(catalog_);
  for (Entry& entry : entries_) {
    const std::string& name = entry.choice.name;
    const auto now = entry.backend->report().served;
    if (!now || now->sha256.starts_with("file-")) continue;
    const auto found = registry.Get(entry.choice.from);
    if (!found.ok() || found->sha256 == now->sha256 || refused_[name].sha256 == found->sha256) continue;
    const std::string hash = found->sha256.substr(0, 12);
    Say("'" + name + "' points at " + hash + " now: loading it beside");
    const double before = MonotonicSeconds();
    auto loaded =
        loader_->Load(entry.choice, {.adapters = entry.adapters, .behind = true, .stop = stop_.token()});
    if (stop_.stopped()) return;
    if (!loaded.ok()) {
      refused_[name] = {found->sha256, loaded.status().Is(Code::kLimit)};
      const std::string text =
          "'" + name + "' stays at " + now->sha256.substr(0, 12) + ": " + loaded.status().ToString();
      Say(text);
      const std::lock_guard lock(mutex_);
      trouble_ = text;
      continue;
    }
    auto old = entry.backend->Replace(*loaded);
    if (!old) continue;  // it fell asleep meanwhile: whoever asks next gets the new one
    Know(&entry, **loaded);
    Retire(std::move(old));
    {
      const std::lock_guard lock(mutex_);
      trouble_.clear();
    }
    ++swaps_;
    Say("'" + name + "' answers with " + hash + " (loaded in " + Seconds(MonotonicSeconds() - before) + ")");
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
    SleepIdle();
    if (EndRetired()) std::erase_if(refused_, [](const auto& one) { return one.second.for_memory; });
    Look();
    wait = std::clamp((MonotonicSeconds() - before) / kLookShare, kLookSeconds, kMostLookSeconds);
  }
}

}  // namespace headrace::serve
