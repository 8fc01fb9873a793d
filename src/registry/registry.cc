#include "registry/registry.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <set>
#include <utility>

#include "base/cache_folder.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/exception_text.h"
#include "base/file.h"
#include "base/json.h"
#include "model/adapter_file.h"
#include "model/probe.h"
#include "table/keys.h"
#include "table/settle.h"

namespace headrace::registry {
namespace {

using nlohmann::ordered_json;

constexpr size_t kPiece = 4 << 20;

using table::ModelManifestKey;
using table::WeightsKey;

// Reads a file piece by piece; `take` sees every piece.
Status ReadPieces(const std::string& path, const std::string& what, const ProgressFn& progress,
                  const StopToken& stop, const std::function<Status(std::string_view)>& take) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return Status::FromErrno(errno, "open", path);
  struct stat info {};
  fstat(file, &info);
  std::string piece(kPiece, '\0');
  Status status;
  for (int64_t done = 0; status.ok();) {
    const ssize_t got = read(file, piece.data(), piece.size());
    if (got < 0) status = Status::FromErrno(errno, "read", path);
    if (got <= 0) break;
    done += got;
    status = take(std::string_view(piece.data(), static_cast<size_t>(got)));
    if (status.ok()) status = stop.Check();
    if (progress) progress({what, done, info.st_size, done, 0});
  }
  close(file);
  return status;
}

Result<std::string> HashFile(const std::string& path, const ProgressFn& progress, const StopToken& stop) {
  Sha256Stream sum;
  HEADRACE_TRY(ReadPieces(path, "hashing", progress, stop, [&](std::string_view piece) {
    sum.Add(piece);
    return Status::Ok();
  }));
  return sum.Hex();
}

ordered_json ToJson(const Entry& e) {
  const model::Facts& f = e.facts;
  ordered_json json = {{"format", 1},
                       {"sha256", e.sha256},
                       {"bytes", e.bytes},
                       {"source", e.source},
                       {"licence", e.licence},
                       {"added", FormatMicros(e.added_us)},
                       {"probe", {{"verdict", e.verdict}, {"build", e.build}}},
                       {"model",
                        {{"name", f.name},
                         {"architecture", f.architecture},
                         {"quantization", f.quantization},
                         {"parameters", f.parameters},
                         {"weight_bytes", f.weight_bytes},
                         {"vocabulary", f.vocabulary},
                         {"context", f.trained_context},
                         {"embedding", f.embedding},
                         {"layers", f.layers},
                         {"heads", f.heads},
                         {"kv_heads", f.kv_heads},
                         {"window", f.window},
                         {"kv_bytes_per_token", f.kv_bytes_per_token},
                         {"memory", model::MemoryName(f.memory)},
                         {"ranks", f.ranks},
                         {"template_hash", f.template_hash}}}};
  if (e.adapter)
    json["adapter"] = {{"base", e.adapter->base}, {"base_sha256", e.adapter->base_sha256},
                       {"rank", e.adapter->rank}, {"alpha", e.adapter->alpha},
                       {"run", e.adapter->run},   {"data", e.adapter->data}};
  return json;
}

AdapterFacts AdapterFromJson(const ordered_json& a) {
  AdapterFacts facts;
  facts.base = a.at("base");
  facts.base_sha256 = a.at("base_sha256");
  facts.rank = a.at("rank");
  facts.alpha = a.at("alpha");
  facts.run = a.at("run");
  facts.data = a.at("data");
  return facts;
}

Result<Entry> FromJson(const std::string& text, const std::string& key) {
  const ordered_json json = ParseJsonInOrder(text);
  Entry e;
  try {
    if (json.at("format") != 1) return Status::Unsupported(key + " is of a later version of Headrace");
    e.sha256 = json.at("sha256");
    e.bytes = json.at("bytes");
    e.source = json.at("source");
    e.licence = json.at("licence");
    HEADRACE_ASSIGN(e.added_us, ParseMicros(json.at("added").get<std::string>()));
    e.verdict = json.at("probe").at("verdict");
    e.build = json.at("probe").at("build");
    const ordered_json& m = json.at("model");
    model::Facts& f = e.facts;
    f.name = m.at("name");
    f.architecture = m.at("architecture");
    f.quantization = m.at("quantization");
    f.licence = e.licence;
    f.parameters = m.at("parameters");
    f.weight_bytes = f.step_bytes = m.at("weight_bytes");
    f.vocabulary = m.at("vocabulary");
    f.trained_context = m.at("context");
    f.embedding = m.at("embedding");
    f.layers = m.at("layers");
    f.heads = m.at("heads");
    f.kv_heads = m.at("kv_heads");
    f.window = m.at("window");
    f.kv_bytes_per_token = m.at("kv_bytes_per_token");
    f.ranks = m.value("ranks", false);  // manifests of before do not say
    f.template_hash = m.at("template_hash");
    f.has_template = !f.template_hash.empty();
    for (const model::Memory memory :
         {model::Memory::kAttention, model::Memory::kSlidingWindow, model::Memory::kRecurrent,
          model::Memory::kHybrid, model::Memory::kEncoder})
      if (model::MemoryName(memory) == m.at("memory").get<std::string>()) f.memory = memory;
    if (json.contains("adapter")) e.adapter = AdapterFromJson(json.at("adapter"));
  } catch (const nlohmann::json::exception& error) {
    return Status::Corrupt(key + " is not a model's manifest: " + ExceptionText(error));
  }
  return e;
}

}  // namespace

Result<Entry> Registry::ReadManifest(const std::string& sha256) const {
  const std::string key = ModelManifestKey(sha256);
  HEADRACE_ASSIGN(const store::Bytes bytes, catalog_->environment()->store->Get(key));
  return FromJson(std::string(bytes.view()), key);
}

Result<Entry> Registry::ReadNamed(const table::RefValue& ref) const {
  HEADRACE_ASSIGN(Entry entry, ReadManifest(ref.target));
  entry.name = ref.name;
  entry.revision = ref.revision;
  if (const auto parts = SplitAdapterName(ref.name); parts && entry.adapter) entry.adapter_of = parts->first;
  return entry;
}

// What a new model's or adapter's name stands for now.
Result<table::RefValue> Registry::NameFor(const std::string& name) const {
  HEADRACE_ASSIGN(table::RefValue now, catalog_->refs().Get(name));
  if (now.kind != table::RefKind::kNone && now.kind != table::RefKind::kModel)
    return Status::AlreadyExists("'" + name + "' is a table or a ref to one; choose another name");
  return now;
}

// Stores the file and the entry, whose facts are known, or reads the entry of the same content.
Status Registry::Store(const std::string& path, const AddOptions& options, Entry* entry) {
  HEADRACE_ASSIGN(entry->sha256, HashFile(path, options.progress, options.stop));
  store::ObjectStore* store = catalog_->environment()->store.get();
  HEADRACE_ASSIGN(const bool there, store->Exists(ModelManifestKey(entry->sha256)));
  if (there) {
    HEADRACE_ASSIGN(*entry, ReadManifest(entry->sha256));
    return Status::Ok();
  }
  HEADRACE_ASSIGN(std::unique_ptr<store::Upload> upload, store->StartUpload(WeightsKey(entry->sha256)));
  Sha256Stream again;  // of what is stored: the file may have changed meanwhile
  HEADRACE_TRY(ReadPieces(path, "storing", options.progress, options.stop, [&](std::string_view piece) {
    again.Add(piece);
    return upload->Append(piece);
  }));
  entry->bytes = upload->written();
  if (again.Hex() != entry->sha256)
    return Status::Conflict(path + " changed while it was being added; try again");
  // Weights without a manifest are whole, and what their name says: whoever put them died before the
  // manifest.
  const Status put = upload->Commit();
  if (!put.ok() && !put.Is(Code::kAlreadyExists)) return put;
  std::error_code ignored;
  entry->source = options.source.empty() ? std::filesystem::absolute(path, ignored).string() : options.source;
  entry->licence = options.licence.empty() ? entry->facts.licence : options.licence;
  entry->added_us = NowMicros();
  entry->verdict = "ok";
  entry->build = model::BuildDescription();
  // Last: a manifest means that the weights are whole.
  return table::PutFirst(store, ModelManifestKey(entry->sha256), ToJson(*entry).dump(1)).status();
}

// The name stands for the entry from now on.
Result<Entry> Registry::Point(const table::RefValue& before, Entry entry, const AddOptions& options) {
  table::RefValue after = before;
  if (before.kind != table::RefKind::kModel || before.target != entry.sha256) {
    HEADRACE_ASSIGN(after, catalog_->refs().Move(before.name, before.revision, table::RefKind::kModel,
                                                 entry.sha256, options.who, options.why));
  }
  return ReadNamed(after);
}

Result<Entry> Registry::Add(const std::string& path, const std::string& name, const AddOptions& options) {
  if (name.empty()) return Status::Invalid("a model needs a name");
  if (name.find(':') != std::string::npos)
    return Status::Invalid("'" + name + "' is a name of an adapter, and " + path +
                           " is a model: choose a name without ':'");
  HEADRACE_ASSIGN(const table::RefValue before, NameFor(name));
  model::ProbeOptions probe;
  probe.program = options.probe_program;
  HEADRACE_TRY(model::Probe(path, probe));
  HEADRACE_ASSIGN(const std::shared_ptr<model::Model> loaded,
                  model::Model::Load(path, {.vocabulary_only = false}));
  Entry entry;
  entry.facts = loaded->facts();
  HEADRACE_TRY(Store(path, options, &entry));
  return Point(before, std::move(entry), options);
}

Result<Entry> Registry::AddAdapter(const std::string& path, const std::string& base, const std::string& name,
                                   const AddOptions& options) {
  if (name.empty() || name.find_first_of("/:@ \t\n") != std::string::npos)
    return Status::Invalid("'" + name + "' is no adapter's name: that has no '/', ':', '@' and no spaces");
  HEADRACE_ASSIGN(const table::RefValue of, catalog_->refs().Get(base));
  if (of.kind != table::RefKind::kModel)
    return Get(base).status().ok() ? Status::Invalid("name the model, not its hash") : Get(base).status();
  HEADRACE_ASSIGN(const Entry model, ReadNamed(of));
  if (model.adapter) return Status::Invalid("'" + base + "' is an adapter itself");
  if (model.facts.task() != model::Task::kWrite)
    return Status::Unsupported("'" + base + "' writes no text, and only models that do have adapters here");
  HEADRACE_ASSIGN(const table::RefValue before, NameFor(base + ":" + name));
  model::ProbeOptions probe;
  probe.program = options.probe_program;
  HEADRACE_TRY(model::Probe(path, probe));
  HEADRACE_ASSIGN(const std::string base_path, LocalFile(model, options.progress, options.stop));
  HEADRACE_TRY(model::CheckAdapter(path, base_path).status().Wrap("it does not fit '" + base + "'"));
  HEADRACE_ASSIGN(Entry entry, Describe(path));
  entry.adapter->base = base;
  entry.adapter->base_sha256 = options.base_sha256.empty() ? model.sha256 : options.base_sha256;
  HEADRACE_TRY(Store(path, options, &entry));
  return Point(before, std::move(entry), options);
}

Result<std::vector<Entry>> Registry::List() const {
  HEADRACE_ASSIGN(const std::vector<table::RefValue> refs, catalog_->refs().All());
  std::vector<Entry> entries;
  for (const table::RefValue& ref : refs) {
    if (ref.kind != table::RefKind::kModel) continue;
    HEADRACE_ASSIGN(Entry entry, ReadNamed(ref));
    entries.push_back(std::move(entry));
  }
  const auto place = [](const Entry& entry) {  // "a", "a:x", "a-b": not as their bytes are
    return std::pair(entry.adapter_of.empty() ? entry.name : entry.adapter_of, entry.name);
  };
  std::sort(entries.begin(), entries.end(),
            [&](const Entry& a, const Entry& b) { return place(a) < place(b); });
  return entries;
}

Result<std::vector<Entry>> Registry::AdaptersOf(const std::string& base) const {
  store::ObjectStore* store = catalog_->environment()->store.get();
  HEADRACE_ASSIGN(const auto files,
                  store->List(table::kRefsFolder + table::EncodeRefName(base + ":"), "", INT64_MAX));
  std::set<std::string> names;
  for (const store::ObjectInfo& file : files)
    if (const auto key = table::ParseKey(file.key); key && key->kind == table::ObjectKind::kRef)
      names.insert(key->name);
  std::vector<Entry> entries;
  for (const std::string& name : names) {
    HEADRACE_ASSIGN(const table::RefValue ref, catalog_->refs().Get(name));
    const auto parts = SplitAdapterName(ref.name);
    if (ref.kind != table::RefKind::kModel || !parts || parts->first != base) continue;
    auto entry = ReadNamed(ref);
    if (!entry.ok()) {
      entry = Entry{};
      entry->name = ref.name;
      entry->sha256 = ref.target;
    } else if (!entry->adapter) {
      continue;  // a model whose name has a ':', of before there were adapters
    }
    entry->adapter_of = base;
    entries.push_back(std::move(*entry));
  }
  return entries;
}

Result<Entry> Registry::Get(const std::string& name) const {
  HEADRACE_ASSIGN(const table::RefValue ref, catalog_->refs().Get(name));
  if (ref.kind == table::RefKind::kModel) {
    return ReadNamed(ref);
  }
  HEADRACE_ASSIGN(const std::vector<Entry> all, List());
  if (name.size() >= 8)
    for (const Entry& entry : all)
      if (entry.sha256.rfind(name, 0) == 0) return entry;
  std::string known;
  for (const Entry& entry : all) known += (known.empty() ? "" : ", ") + entry.name;
  return Status::NotFound("there is no model '" + name + "' in " + catalog_->Describe() +
                          (known.empty() ? "; it has none yet: `headrace model add FILE.gguf --name NAME`"
                                         : "; there are " + known));
}

Result<std::vector<Revision>> Registry::History(const std::string& name) const {
  HEADRACE_ASSIGN(const std::vector<table::RefValue> moves, catalog_->refs().History(name));
  std::vector<Revision> found;
  bool model = false;
  for (const table::RefValue& move : moves) {
    if (move.kind != table::RefKind::kModel && move.kind != table::RefKind::kNone) continue;
    Revision one{move.revision, move.target, false, move.who, move.why, move.time_us};
    if (move.kind == table::RefKind::kModel) {
      model = true;
      HEADRACE_ASSIGN(one.there, catalog_->environment()->store->Exists(ModelManifestKey(move.target)));
    }
    found.push_back(std::move(one));
  }
  if (!model)
    return Get(name).status().ok() ? Status::Invalid("name the model, not its hash") : Get(name).status();
  return found;
}

Result<Entry> Registry::Rollback(const std::string& name, int64_t revision, const std::string& who,
                                 const std::string& why) {
  HEADRACE_ASSIGN(const std::vector<Revision> history, History(name));
  const Revision& now = history.front();
  const auto chosen = std::find_if(history.begin(), history.end(), [&](const Revision& one) {
    return revision > 0 ? one.revision == revision : !one.sha256.empty() && one.sha256 != now.sha256;
  });
  const std::string see = "; `headrace model log " + name + "` shows them";
  if (chosen == history.end())
    return Status::NotFound("'" + name + "' has no " +
                            (revision > 0 ? "revision " + std::to_string(revision) : "earlier model") + see);
  if (!chosen->there)
    return Status::NotFound("the weights of '" + name + "' at revision " + std::to_string(chosen->revision) +
                            " are not kept any more" + see);
  table::RefValue after;
  after.name = name;
  after.revision = now.revision;
  after.target = chosen->sha256;
  if (chosen->sha256 != now.sha256) {
    HEADRACE_ASSIGN(
        after, catalog_->refs().Move(name, now.revision, table::RefKind::kModel, chosen->sha256, who, why));
  }
  return ReadNamed(after);
}

Status Registry::Remove(const std::string& name, bool data, const std::string& who) {
  HEADRACE_ASSIGN(const table::RefValue ref, catalog_->refs().Get(name));
  if (ref.kind != table::RefKind::kModel)
    return Get(name).status().ok() ? Status::Invalid("name the model, not its hash") : Get(name).status();
  HEADRACE_ASSIGN(const std::vector<Entry> adapters, AdaptersOf(name));
  std::string names;
  for (const Entry& adapter : adapters) names += (names.empty() ? "" : ", ") + adapter.name;
  if (!names.empty())
    return Status::Invalid(
        "'" + name + "' has adapters, which are of no use without it: remove them first (" + names + ")");
  HEADRACE_TRY(catalog_->refs().Move(name, ref.revision, table::RefKind::kNone, "", who, "removed").status());
  if (!data) return Status::Ok();
  HEADRACE_ASSIGN(const std::vector<table::RefValue> refs, catalog_->refs().All());
  for (const table::RefValue& other : refs)
    if (other.kind == table::RefKind::kModel && other.target == ref.target) return Status::Ok();
  store::ObjectStore* store = catalog_->environment()->store.get();
  HEADRACE_TRY(store->Delete(ModelManifestKey(ref.target)));  // first: without it there is no model
  return store->Delete(WeightsKey(ref.target));
}

Result<std::string> Registry::LocalFile(const Entry& entry, const ProgressFn& progress,
                                        const StopToken& stop) const {
  store::ObjectStore* store = catalog_->environment()->store.get();
  const std::string key = WeightsKey(entry.sha256);
  if (const auto path = store->LocalPath(key)) return *path;
  const std::string folder = CacheFolder("model-files"), path = folder + "/" + entry.sha256 + ".gguf";
  if (folder.empty()) return Status::Invalid("there is no place for a copy of the model: set HEADRACE_CACHE");
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && info.st_size == entry.bytes) return path;
  HEADRACE_ASSIGN(const std::shared_ptr<store::ObjectReader> reader, store->Open(key));
  HEADRACE_ASSIGN(PendingFile file, PendingFile::Create(folder, {}));
  Sha256Stream sum;
  for (int64_t at = 0; at < reader->size();) {
    const int64_t length = std::min<int64_t>(kPiece, reader->size() - at);
    HEADRACE_ASSIGN(const store::Bytes piece, reader->Read(at, length));
    sum.Add(piece.view());
    HEADRACE_TRY(WriteAll(file.fd(), piece.view(), path));
    at += length;
    if (progress) progress({"fetching " + entry.name, at, reader->size(), at, 0});
    HEADRACE_TRY(stop.Check());
  }
  if (sum.Hex() != entry.sha256) return Status::Corrupt(key + " does not have the hash that its name says");
  HEADRACE_TRY(file.Publish(path, /*replace=*/true));
  return path;
}

Result<Entry> Describe(const std::string& path) {
  HEADRACE_ASSIGN(const model::AdapterHead head, model::ReadAdapter(path));
  Entry entry;
  entry.facts.name = head.facts.name;
  entry.facts.architecture = head.facts.architecture;
  entry.facts.quantization = head.type;
  for (char& c : entry.facts.quantization) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  entry.facts.licence = entry.licence = head.Text("general.license");
  entry.facts.parameters = head.values;
  entry.facts.weight_bytes = entry.bytes = head.bytes;
  entry.adapter = AdapterFacts{.rank = head.rank,
                               .alpha = head.facts.alpha,
                               .run = head.Text("headrace.run"),
                               .data = head.Text("headrace.data")};
  return entry;
}

std::optional<std::pair<std::string, std::string>> SplitAdapterName(const std::string& name) {
  const size_t colon = name.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == name.size()) return std::nullopt;
  return std::pair(name.substr(0, colon), name.substr(colon + 1));
}

Result<ModelFiles> FindModelFiles(const std::string& model, const std::shared_ptr<table::Catalog>& catalog,
                                  const ProgressFn& progress) {
  ModelFiles files;
  struct stat info {};
  if (stat(model.c_str(), &info) == 0) {
    files.path = model;
    return files;
  }
  if (model.find('/') != std::string::npos || model.ends_with(".gguf"))
    return Status::NotFound("there is no file " + model);
  if (!catalog)
    return Status::NotFound("'" + model +
                            "' is no file, and there is no catalog here in which it could be a model's name");
  const Registry registry(catalog);
  HEADRACE_ASSIGN(files.entry, registry.Get(model));
  if (files.entry.adapter) {
    const Entry adapter = std::exchange(files.entry, {});
    HEADRACE_ASSIGN(files.entry, registry.Get(adapter.adapter_of));
    HEADRACE_ASSIGN(files.adapter, registry.LocalFile(adapter, progress));
  }
  HEADRACE_ASSIGN(files.path, registry.LocalFile(files.entry, progress));
  if (files.adapter.empty()) return files;
  HEADRACE_TRY(model::Probe(files.adapter));
  const Status fits = model::CheckAdapter(files.adapter, files.path).status();
  if (!fits.ok()) return fits.Wrap("'" + model + "' does not fit '" + files.entry.name + "' as it is now");
  return files;
}

Result<std::string> FindModelFile(const std::string& model, const std::shared_ptr<table::Catalog>& catalog,
                                  const ProgressFn& progress) {
  HEADRACE_ASSIGN(ModelFiles files, FindModelFiles(model, catalog, progress));
  if (!files.adapter.empty())
    return Status::Invalid("'" + model + "' is an adapter of '" + files.entry.name +
                           "': name the model here");
  return std::move(files.path);
}

}  // namespace headrace::registry
