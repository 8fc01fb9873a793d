// What is left of dropped tables, and of programs that died.
#include <algorithm>
#include <map>
#include <set>

#include "store/cached_store.h"
#include "store/kept_uploads.h"
#include "table/catalog.h"
#include "table/keys.h"
#include "table/lease.h"

namespace headrace::table {
namespace {

constexpr int64_t kNewTableUs = int64_t{3600} * 1'000'000;

// A folder of tables/ that no name points to.
struct Nameless {
  std::vector<std::string> keys;
  ObjectCount all;
  int64_t put_us = 0;  // of its youngest object
  int64_t versions = 0;
  std::string name;  // that pointed there last
};

bool IsSnapshot(const std::string& key) {
  const auto parsed = ParseKey(key);
  return parsed && parsed->kind == ObjectKind::kSnapshot;
}

struct Named {
  std::set<std::string> now;                // tables that a ref points to
  std::set<std::string> lately;             // to which one pointed within the grace period
  std::map<std::string, std::string> last;  // every table's last name
};

Result<Named> NamedTables(store::ObjectStore* store, const Refs& refs, int64_t before_us) {
  HEADRACE_ASSIGN(const auto files, store->List(kRefsFolder, "", INT64_MAX));
  Named named;
  std::map<std::string, int64_t> replaced_us;  // by name: when the value that is read next was replaced
  std::string folder;
  std::vector<RefValue> history;
  for (const auto& file : files) {  // ascending keys: newest first in each folder
    const auto key = ParseKey(file.key);
    if (!key || key->kind != ObjectKind::kRef)
      return Status::Corrupt("'" + file.key + "' is not a ref's file: nothing is collected");
    if (history.empty() || history.front().name != key->name) {
      HEADRACE_ASSIGN(history, refs.History(key->name));
    }
    const auto value = std::find_if(history.begin(), history.end(),
                                    [&](const RefValue& one) { return one.revision == key->number; });
    const auto replaced = replaced_us.find(key->name);
    const bool holds = replaced == replaced_us.end();
    const bool held = !holds && replaced->second >= before_us;
    replaced_us[key->name] = file.modified_us;
    if (value == history.end()) return Status::Unavailable("'" + key->name + "' moves; collect again");
    if (value->kind != RefKind::kTable && value->kind != RefKind::kSnapshot) continue;
    const std::string table = value->target.substr(0, value->target.find('@'));
    if (holds) named.now.insert(table);
    if (held) named.lately.insert(table);
    if (value->kind == RefKind::kTable) named.last.try_emplace(table, value->name);
  }
  return named;
}

// Whether no ref points to the table now, and nobody has put anything into its folder since it was listed.
Result<bool> NamelessStill(store::ObjectStore* store, const Refs& refs, const std::string& table,
                           const Nameless& found) {
  HEADRACE_ASSIGN(const auto all, refs.All());
  for (const auto& ref : all) {
    if (ref.target.substr(0, ref.target.find('@')) == table) return false;
  }
  HEADRACE_ASSIGN(const auto objects, store->List(kTablesFolder + table + "/", "", INT64_MAX));
  for (const auto& object : objects) {
    if (object.modified_us > found.put_us) return false;
  }
  return true;
}

// What was half put when its program died: no listing shows it, and it is paid for. Reported as what was
// deleted of no table.
Status AbortUploads(const std::shared_ptr<store::ObjectStore>& store, int64_t before_us, bool dry_run,
                    const Catalog::CollectedFn& done) {
  const auto bucket = store::BelowCache(store);
  auto* keeper = dynamic_cast<store::KeepsUploads*>(bucket.get());
  if (keeper == nullptr) return Status::Ok();
  const auto uploads = keeper->AbortUploads(before_us, dry_run);
  if (uploads.status().Is(Code::kPermission)) return Status::Ok();  // a right that nothing else needs
  HEADRACE_TRY(uploads.status());
  if (*uploads == 0) return Status::Ok();
  CollectReport report;
  report.deleted.objects = *uploads;
  done(report);
  return Status::Ok();
}

}  // namespace

Status Catalog::Collect(const CollectOptions& collect, const CommitOptions& options,
                        const CollectedFn& done) const {
  HEADRACE_ASSIGN(const auto names, TableNames());
  for (const auto& name : names) {
    const auto table = OpenTable(name);
    if (table.status().Is(Code::kNotFound)) continue;  // dropped meanwhile
    HEADRACE_TRY(table.status());
    const auto report = (*table)->Collect(collect, options);
    if (report.status().Is(Code::kCorrupt)) {  // the others are collected all the same
      CollectReport damaged;
      damaged.table = name;
      damaged.damaged = {report.status().ToString()};
      done(damaged);
      continue;
    }
    HEADRACE_TRY(report.status());
    done(*report);
  }
  return CollectNameless(collect, options, done);
}

Status Catalog::CollectNameless(const CollectOptions& collect, const CommitOptions& options,
                                const CollectedFn& done) const {
  store::ObjectStore* store = env_->store.get();
  HEADRACE_ASSIGN(const int64_t now_us, StoreNow(store));
  const int64_t before_us = now_us - collect.grace_us;
  HEADRACE_ASSIGN(const Named named, NamedTables(store, refs(), before_us));
  HEADRACE_ASSIGN(const auto probes, store->List(store::kProbePrefix, "", INT64_MAX));
  for (const auto& probe : probes) {
    if (probe.modified_us < before_us && !collect.dry_run) HEADRACE_TRY(store->Delete(probe.key));
  }
  HEADRACE_ASSIGN(const auto live, store->List(kLiveFolder, "", INT64_MAX));
  for (const auto& object : live) {
    if (object.modified_us < before_us && ParseKey(object.key) && !collect.dry_run)
      HEADRACE_TRY(store->Delete(object.key));
  }
  HEADRACE_TRY(
      AbortUploads(env_->store, std::min(before_us, now_us - kDefaultGraceUs), collect.dry_run, done));
  HEADRACE_ASSIGN(const auto objects, store->List(kTablesFolder, "", INT64_MAX));
  std::map<std::string, Nameless> nameless;
  for (const auto& object : objects) {
    const size_t begin = std::string_view(kTablesFolder).size();
    const std::string table = object.key.substr(begin, object.key.find('/', begin) - begin);
    if (!Uuid::Parse(table).ok() || named.now.contains(table)) continue;
    Nameless& found = nameless[table];
    found.keys.push_back(object.key);
    found.all.Add(object.size);
    found.put_us = std::max(found.put_us, object.modified_us);
    found.versions += IsSnapshot(object.key);
  }
  for (auto& [table, found] : nameless) {
    HEADRACE_ASSIGN(const auto leases, LiveLeases(store, table + "-", now_us, collect, options));
    CollectReport report;
    const auto last = named.last.find(table);
    report.table = last == named.last.end() ? table : last->second;
    report.dropped = true;
    report.versions = found.versions;
    // One that never had a name may be about to get it.
    const int64_t least = last == named.last.end() ? std::min(before_us, now_us - kNewTableUs) : before_us;
    const bool young = found.put_us >= least || named.lately.contains(table);
    if (young || !leases.empty()) {
      report.holders.push_back({young ? Holder::Kind::kGrace : Holder::Kind::kLease,
                                young ? "" : leases.front().terms.holder, 0, 0, found.all});
      done(report);
      continue;
    }
    // Its snapshots last: until then another run finds the rest.
    const auto snapshots = std::stable_partition(found.keys.begin(), found.keys.end(),
                                                 [](const std::string& key) { return !IsSnapshot(key); });
    bool nameless_still = true;
    for (auto key = found.keys.begin(); key != found.keys.end() && !collect.dry_run; ++key) {
      HEADRACE_TRY(options.stop.Check());
      if (key == found.keys.begin() || key == snapshots) {
        // This may have slept since it looked.
        HEADRACE_ASSIGN(nameless_still, NamelessStill(store, refs(), table, found));
        if (!nameless_still) break;
      }
      HEADRACE_TRY(store->Delete(*key));
    }
    if (!nameless_still) continue;
    report.deleted = found.all;
    done(report);
  }
  return Status::Ok();
}

}  // namespace headrace::table
