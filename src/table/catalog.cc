#include "table/catalog.h"

#include <algorithm>

#include "base/json.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/exception_text.h"
#include "store/store.h"
#include "table/features.h"
#include "table/immutable.h"
#include "table/json_read.h"
#include "table/keys.h"
#include "table/sealed_json.h"
#include "table/settle.h"

namespace headrace::table {
namespace {

using nlohmann::json;

Result<json> ReadCatalogFile(store::ObjectStore* store) {
  auto bytes = store->Get(kCatalogKey);
  if (bytes.status().Is(Code::kNotFound)) {
    return Status::NotFound("there is no Headrace catalog in " + store->Describe() +
                            "; make one with: headrace init " + store->Describe());
  }
  if (!bytes.ok()) return bytes.status();
  try {
    json file = ParseJsonOrThrow(bytes->view());
    const int format = JsonInt<int>(file.at("format"));
    if (format != kFormatVersion) {
      return Status::Unsupported("the catalog in " + store->Describe() + " has format " +
                                 std::to_string(format) + "; this program reads " +
                                 std::to_string(kFormatVersion) + ". Update Headrace");
    }
    if (!SealHolds(file)) {
      return Status::Corrupt("catalog.json in " + store->Describe() +
                             " is damaged: its checksum does not match");
    }
    const Status features = CheckFeatures(file);
    if (!features.ok()) return features.Wrap("cannot open the catalog in " + store->Describe());
    return file;
  } catch (const std::exception& error) {
    return Status::Corrupt("cannot read catalog.json in " + store->Describe() + ": " + ExceptionText(error));
  }
}

std::shared_ptr<Environment> NewEnvironment(std::shared_ptr<store::ObjectStore> store,
                                            const CatalogOptions& options) {
  return std::make_shared<Environment>(std::move(store),
                                       options.threads > 0 ? options.threads : DefaultThreads());
}

std::shared_ptr<Catalog> WithUpkeep(std::shared_ptr<Catalog> catalog, const CatalogOptions& options) {
  const auto& env = catalog->environment();
  if (options.upkeep) env->upkeep = std::make_unique<Upkeeper>(env->store);
  return catalog;
}

}  // namespace

Result<std::shared_ptr<Catalog>> Catalog::InitOn(std::shared_ptr<store::ObjectStore> store,
                                                 const CatalogOptions& options) {
  HEADRACE_ASSIGN(const bool there, store->Exists(kCatalogKey));
  if (there) return Status::AlreadyExists("there is a catalog in " + store->Describe() + " already");
  HEADRACE_TRY(store::ProbeConditionalPut(store.get()));
  json file = {{"format", kFormatVersion},
               {"id", Uuid::Random().ToString()},
               {"created", FormatMicros(NowMicros())},
               {"sync", options.sync}};
  Seal(&file);
  const std::string text = file.dump(2) + "\n";
  HEADRACE_ASSIGN(const std::string stands, PutFirst(store.get(), kCatalogKey, text));
  if (stands != text) return Status::AlreadyExists("there is a catalog in " + store->Describe() + " already");
  return OpenOn(std::move(store), options);
}

Result<std::shared_ptr<Catalog>> Catalog::OpenOn(std::shared_ptr<store::ObjectStore> store,
                                                 const CatalogOptions& options) {
  HEADRACE_TRY(ReadCatalogFile(store.get()).status());
  return std::shared_ptr<Catalog>(new Catalog(NewEnvironment(std::move(store), options)));
}

Result<std::shared_ptr<Catalog>> Catalog::Init(const std::string& location, const CatalogOptions& options) {
  HEADRACE_ASSIGN(
      auto store,
      store::OpenStore(location, {.sync = options.sync, .create = true, .immutable = IsImmutable}));
  HEADRACE_ASSIGN(auto catalog, InitOn(std::move(store), options));
  return WithUpkeep(std::move(catalog), options);
}

Result<std::shared_ptr<Catalog>> Catalog::Open(const std::string& location, const CatalogOptions& options) {
  HEADRACE_ASSIGN(auto store,
                  store::OpenStore(location, {.sync = true, .create = false, .immutable = IsImmutable}));
  HEADRACE_ASSIGN(const json file, ReadCatalogFile(store.get()));
  if (!file.value("sync", true)) {
    HEADRACE_ASSIGN(store,
                    store::OpenStore(location, {.sync = false, .create = false, .immutable = IsImmutable}));
  }
  std::shared_ptr<Catalog> catalog(new Catalog(NewEnvironment(std::move(store), options)));
  return WithUpkeep(std::move(catalog), options);
}

Result<std::shared_ptr<Table>> Catalog::CreateTable(const std::string& name, Schema schema,
                                                    const CommitOptions& options) {
  HEADRACE_TRY(ValidateName("table", name));
  if (name.find('@') != std::string::npos) {
    return Status::Invalid("a table's name may not hold '@' ('" + name +
                           "'): name@version means a version of it");
  }
  if (IsSystemName(name))
    return Status::Invalid("'" + name + "': names that begin with '" + std::string(kSystemSchema) +
                           "' are Headrace's own tables; choose another");
  return Create(name, std::move(schema), options);
}

Result<std::shared_ptr<Table>> Catalog::Create(const std::string& name, Schema schema,
                                               const CommitOptions& options) {
  if (schema.fields.empty()) return Status::Invalid("table '" + name + "' needs at least one column");
  HEADRACE_ASSIGN(const RefValue ref, refs().Get(name));
  if (ref.kind != RefKind::kNone)
    return Status::AlreadyExists("there is a table or ref named '" + name + "' already");
  Snapshot first;
  first.table = Uuid::Random();
  first.version = 1;
  first.transaction = Uuid::Random().ToString();
  first.time_us = NowMicros();
  first.operation.kind = OperationKind::kCreate;
  first.operation.who = options.who.empty() ? DefaultWho() : options.who;
  first.operation.why = options.why;
  first.operation.how = options.how;
  first.operation.inputs = options.inputs;
  for (auto& field : schema.fields) {
    HEADRACE_TRY(ValidateName("column", field.name));
    first.operation.columns.push_back(field.name);
  }
  AssignIds(&schema.fields, &first.next_field_id);
  first.schema = std::move(schema);
  auto table = std::make_shared<Table>(env_, name, first.table);
  HEADRACE_TRY(SnapshotLog(env_, table->prefix()).Create(first));
  const auto moved = refs().Move(name, ref.revision, RefKind::kTable, first.table.ToString(),
                                 first.operation.who, options.why);
  if (moved.status().Is(Code::kConflict))
    return Status::AlreadyExists("there is a table named '" + name + "' already");
  if (!moved.ok()) return moved.status();
  // Whoever slept between the two for longer than the grace period finds that its table was collected.
  HEADRACE_ASSIGN(const bool there, env_->store->Exists(SnapshotKey(table->prefix(), 1)));
  if (!there) HEADRACE_TRY(SnapshotLog(env_, table->prefix()).Create(first));
  return table;
}

Result<RefValue> Catalog::RefOf(const std::string& name) const {
  HEADRACE_ASSIGN(RefValue ref, refs().Get(name));
  if (ref.kind != RefKind::kNone || IsSystemName(name)) return ref;
  HEADRACE_ASSIGN(RefValue system, refs().Get(std::string(kSystemSchema) + name));
  return system.kind == RefKind::kNone ? ref : system;
}

Result<std::shared_ptr<Table>> Catalog::OpenTable(const std::string& name) const {
  HEADRACE_ASSIGN(const RefValue ref, RefOf(name));
  if (ref.kind != RefKind::kTable) {
    std::string text = "there is no table '" + name + "' in " + Describe();
    const auto names = TableNames();
    if (names.ok() && names->empty()) text += " (it has no tables yet)";
    if (names.ok() && !names->empty()) {
      text += "; it has ";
      for (size_t i = 0; i < names->size() && i < 8; ++i) text += (i ? ", " : "") + (*names)[i];
      if (names->size() > 8) text += ", …";
    }
    return Status::NotFound(text);
  }
  HEADRACE_ASSIGN(const Uuid id, Uuid::Parse(ref.target));
  return std::make_shared<Table>(env_, ref.name, id);
}

Result<std::shared_ptr<Table>> Catalog::OpenOrCreateTable(const std::string& name, Schema schema,
                                                          const CommitOptions& options) {
  auto opened = OpenTable(name);
  if (opened.ok() || !opened.status().Is(Code::kNotFound)) return opened;
  auto created = CreateTable(name, std::move(schema), options);
  if (created.status().Is(Code::kAlreadyExists)) return OpenTable(name);  // another was faster
  return created;
}

Result<std::shared_ptr<Table>> Catalog::OpenOrCreateSystemTable(const std::string& name, Schema schema,
                                                                const CommitOptions& options) {
  HEADRACE_CHECK(IsSystemName(name));
  auto opened = OpenTable(name);
  if (opened.ok() || !opened.status().Is(Code::kNotFound)) return opened;
  auto created = Create(name, std::move(schema), options);
  if (created.status().Is(Code::kAlreadyExists)) return OpenTable(name);  // another was faster
  return created;
}

Status Catalog::MoveTable(const std::string& from, const std::string& to, const CommitOptions& options) {
  const std::string who = options.who.empty() ? DefaultWho() : options.who;
  HEADRACE_ASSIGN(const RefValue before, refs().Get(from));
  if (before.kind != RefKind::kTable) return Status::Ok();
  HEADRACE_ASSIGN(RefValue after, refs().Get(to));
  if (after.kind == RefKind::kNone) {
    const auto moved = refs().Move(to, after.revision, RefKind::kTable, before.target, who, options.why);
    if (!moved.ok() && !moved.status().Is(Code::kConflict)) return moved.status();
    HEADRACE_ASSIGN(after, refs().Get(to));
  }
  if (after.kind != RefKind::kTable || after.target != before.target) return Status::Ok();
  const auto gone = refs().Move(from, before.revision, RefKind::kNone, "", who, options.why);
  return gone.status().Is(Code::kConflict) ? Status::Ok() : gone.status();  // another was faster
}

Result<std::vector<std::string>> Catalog::TableNames() const {
  HEADRACE_ASSIGN(const auto all, refs().All());
  std::vector<std::string> names;
  for (const auto& ref : all) {
    if (ref.kind == RefKind::kTable) names.push_back(ref.name);
  }
  std::stable_partition(names.begin(), names.end(), [](const auto& name) { return !IsSystemName(name); });
  return names;
}

Status Catalog::DropTable(const std::string& name, const CommitOptions& options) {
  HEADRACE_TRY(OpenTable(name).status());
  HEADRACE_ASSIGN(const RefValue ref, RefOf(name));
  return refs()
      .Move(ref.name, ref.revision, RefKind::kNone, "", options.who.empty() ? DefaultWho() : options.who,
            options.why)
      .status();
}

Result<RefValue> Catalog::PointRef(const std::string& ref, const std::string& table,
                                   const std::string& version, int64_t expected_revision,
                                   const CommitOptions& options) {
  if (IsSystemName(ref))
    return Status::Invalid("'" + ref + "': names that begin with '" + std::string(kSystemSchema) +
                           "' are Headrace's own; choose another");
  HEADRACE_ASSIGN(const RefValue now, refs().Get(ref));
  if (now.kind == RefKind::kTable) return Status::AlreadyExists("'" + ref + "' is a table's name");
  HEADRACE_ASSIGN(const auto target, OpenTable(table));
  HEADRACE_ASSIGN(const View view, target->At(version));
  const int64_t pinned = view.snapshot().version;
  // A tag of this move's own holds the version before the ref points there; whoever loses the race takes back
  // only that. The one that held where the ref pointed before goes last.
  const std::string tag = "ref/" + ref + "/" + Uuid::Random().ToString().substr(0, 12);
  HEADRACE_TRY(target->Tag(tag, std::to_string(pinned), /*move=*/false, options).status());
  auto moved = refs().Move(ref, expected_revision, RefKind::kSnapshot,
                           target->id().ToString() + "@" + std::to_string(pinned),
                           options.who.empty() ? DefaultWho() : options.who, options.why, tag);
  if (moved.status().Is(Code::kConflict)) {
    const Status untagged =
        target->RemoveTag(tag, options).status();  // if it stays, it holds too much: harmless
    (void)untagged;
  } else if (moved.ok() && now.kind == RefKind::kSnapshot) {
    const Status released = ReleaseTag(now, options);  // likewise
    (void)released;
  }
  return moved;
}

Status Catalog::ReleaseTag(const RefValue& held, const CommitOptions& options) {
  HEADRACE_ASSIGN(const Uuid id, Uuid::Parse(held.target.substr(0, held.target.find('@'))));
  return Table(env_, held.name, id)
      .RemoveTag(held.tag.empty() ? "ref/" + held.name : held.tag, options)
      .status();
}

Result<View> Catalog::Resolve(const std::string& name) const {
  const size_t at = name.rfind('@');
  if (at != std::string::npos) {
    HEADRACE_ASSIGN(const auto table, OpenTable(name.substr(0, at)));
    return table->At(name.substr(at + 1));
  }
  HEADRACE_ASSIGN(const RefValue ref, refs().Get(name));
  if (ref.kind != RefKind::kSnapshot) {
    HEADRACE_ASSIGN(const auto table, OpenTable(name));
    return table->At();
  }
  const size_t split = ref.target.find('@');
  HEADRACE_ASSIGN(const Uuid id, Uuid::Parse(ref.target.substr(0, split)));
  if (split == std::string::npos) return Status::Corrupt("the ref '" + name + "' points nowhere");
  return Table(env_, name, id).At(ref.target.substr(split + 1));
}

}  // namespace headrace::table
