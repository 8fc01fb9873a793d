// A catalog: the tables of one folder or bucket, by name.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "table/environment.h"
#include "table/refs.h"
#include "table/table.h"

namespace headrace::table {

struct CatalogOptions {
  bool sync = true;  // of Init: kept in the catalog, and used by everyone who opens it
  int threads = 0;   // 0: one per hardware thread
  // Small fragments that commits leave are joined in the background, and what expired is collected
  // (upkeeper.h).
  bool upkeep = false;
};

// Names of Headrace's own tables begin so: hr.traces. People own every other name, so that a table of theirs
// is never in the way.
inline constexpr std::string_view kSystemSchema = "hr.";
inline bool IsSystemName(std::string_view name) { return name.starts_with(kSystemSchema); }

class Catalog {
 public:
  // A folder or s3://bucket/prefix. Init makes a catalog (AlreadyExists if there is one); Open needs one.
  static Result<std::shared_ptr<Catalog>> Init(const std::string& location,
                                               const CatalogOptions& options = {});
  static Result<std::shared_ptr<Catalog>> Open(const std::string& location,
                                               const CatalogOptions& options = {});
  // On a store that is there already (tests, scratch).
  static Result<std::shared_ptr<Catalog>> InitOn(std::shared_ptr<store::ObjectStore> store,
                                                 const CatalogOptions& options = {});
  static Result<std::shared_ptr<Catalog>> OpenOn(std::shared_ptr<store::ObjectStore> store,
                                                 const CatalogOptions& options = {});

  // Invalid for names of the system's schema.
  Result<std::shared_ptr<Table>> CreateTable(const std::string& name, Schema schema,
                                             const CommitOptions& options = {});
  // Without the schema, a name means the person's table if there is one, else the system's.
  Result<std::shared_ptr<Table>> OpenTable(const std::string& name) const;
  // The table as it is, or made with this schema where there is none; whoever is faster makes it.
  Result<std::shared_ptr<Table>> OpenOrCreateTable(const std::string& name, Schema schema,
                                                   const CommitOptions& options = {});
  // The same of one of the system's, by its whole name.
  Result<std::shared_ptr<Table>> OpenOrCreateSystemTable(const std::string& name, Schema schema,
                                                         const CommitOptions& options = {});
  // Gives a table another name, in two steps: after a crash between them it has both, and this goes on.
  // Nothing where another table has the new name, or nobody the old one.
  Status MoveTable(const std::string& from, const std::string& to, const CommitOptions& options = {});
  // People's tables, then the system's.
  Result<std::vector<std::string>> TableNames() const;
  // Every table's Table::Collect, and what is left of tables without a name. `done` is called after each.
  using CollectedFn = std::function<void(const CollectReport& report)>;
  Status Collect(const CollectOptions& collect, const CommitOptions& options, const CollectedFn& done) const;
  // Every table's Table::Verify, and the refs: those in a report without a table.
  using VerifiedFn = std::function<void(const VerifyReport& report)>;
  Status Verify(const VerifyOptions& verify, const CommitOptions& options, const VerifiedFn& done) const;
  // The name goes; the data stays until garbage collection.
  Status DropTable(const std::string& name, const CommitOptions& options = {});

  // A ref to a table's version: tags that version (so that it is kept) and points the name at it.
  Result<RefValue> PointRef(const std::string& ref, const std::string& table, const std::string& version,
                            int64_t expected_revision, const CommitOptions& options = {});
  // A table's name, or a ref to a snapshot: the view it stands for. `name` may end in @version.
  Result<View> Resolve(const std::string& name) const;

  Refs refs() const { return Refs(env_->store); }
  std::string Describe() const { return env_->store->Describe(); }
  const std::shared_ptr<Environment>& environment() const { return env_; }

 private:
  explicit Catalog(std::shared_ptr<Environment> env) : env_(std::move(env)) {}
  Result<std::shared_ptr<Table>> Create(const std::string& name, Schema schema, const CommitOptions& options);
  // The ref that a table's name stands for; of kind kNone where there is none.
  Result<RefValue> RefOf(const std::string& name) const;
  Status CollectNameless(const CollectOptions& collect, const CommitOptions& options,
                         const CollectedFn& done) const;
  Status ReleaseTag(const RefValue& held, const CommitOptions& options);
  std::shared_ptr<Environment> env_;
};

}  // namespace headrace::table
