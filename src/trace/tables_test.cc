// The system's tables: their names, and how those of an earlier Headrace get them.
#include "trace/tables.h"

#include "store/faulty_store.h"
#include "store/memory_store.h"
#include "trace/committer.h"
#include "trace/tail.h"
#include "trace/trace_testing.h"

namespace headrace::trace {
namespace {

using store::Fault;
using testing::TempFolder;

// As an earlier Headrace made it: beside people's tables, without the columns that came since.
Result<Uuid> MakeOlder(table::Catalog* catalog) {
  HEADRACE_ASSIGN(table::Schema schema, table::SchemaFromArrow(*ArrowSchema(TraceColumns())));
  std::erase_if(schema.fields, [](const table::Field& field) { return field.name == "response"; });
  HEADRACE_ASSIGN(const auto table, catalog->CreateTable(kTraces, schema));
  return table->id();
}

Result<Uuid> IdOf(const table::Catalog& catalog, const std::string& name) {
  HEADRACE_ASSIGN(const auto table, catalog.OpenTable(name));
  return table->id();
}

TEST(Tables, AnOlderOneIsCarriedOver) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  ASSERT_VALUE(const Uuid older, MakeOlder(catalog.get()));
  ASSERT_VALUE(const auto before, NameIn(*catalog, kTraces));
  EXPECT_EQ(before, kTraces);
  RowsById wanted;
  ASSERT_VALUE(auto spool, Spool::Create(SpoolRoot(*catalog)));
  AddEnded(spool.get(), "first", &wanted);
  ASSERT_OK(CommitSpools(catalog).status());
  ASSERT_VALUE(const auto names, catalog->TableNames());
  EXPECT_EQ(names, std::vector<std::string>{"hr.traces"});
  for (const char* name : {"traces", "hr.traces"}) {
    ASSERT_VALUE(const Uuid now, IdOf(*catalog, name));
    EXPECT_EQ(now, older);
  }
  EXPECT_EQ(Read(catalog, false), wanted);
}

TEST(Tables, APersonsTableIsNeverInTheWay) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  // Also where some columns have the names of ours.
  for (const auto& columns :
       {arrow::schema({arrow::field("x", arrow::int64())}),
        arrow::schema({arrow::field("id", arrow::utf8()), arrow::field("status", arrow::utf8())})}) {
    ASSERT_VALUE(const auto persons, catalog->CreateTable(kTraces, *table::SchemaFromArrow(*columns)));
    RowsById wanted = Read(catalog, false);
    ASSERT_VALUE(auto spool, Spool::Create(SpoolRoot(*catalog)));
    AddEnded(spool.get(), "of " + persons->id().ToString(), &wanted);
    ASSERT_VALUE(const table::View view, persons->At());
    ASSERT_VALUE(const auto none, Tail(*catalog, kTraces, view));
    EXPECT_EQ(none->num_rows(), 0);
    ASSERT_OK(CommitSpools(catalog).status());
    EXPECT_EQ(Read(catalog, false), wanted);
    ASSERT_VALUE(const Uuid plain, IdOf(*catalog, kTraces));
    EXPECT_EQ(plain, persons->id());
    ASSERT_VALUE(const auto names, catalog->TableNames());
    EXPECT_EQ(names, (std::vector<std::string>{"traces", "hr.traces"}));
    ASSERT_OK(catalog->DropTable(kTraces));
  }
  // Without one, the plain name is the system's; what begins like it is not for people.
  ASSERT_VALUE(const auto ours, catalog->OpenTable(kTraces));
  EXPECT_EQ(ours->name(), "hr.traces");
  const auto schema = *table::SchemaFromArrow(*arrow::schema({arrow::field("x", arrow::int64())}));
  const Status refused = catalog->CreateTable("hr.mine", schema).status();
  EXPECT_NE(refused.message().find("Headrace's own"), std::string::npos) << refused.ToString();
  EXPECT_TRUE(catalog->PointRef("hr.prod", kTraces, "", 0).status().Is(Code::kInvalid));
}

// Whatever fails, and wherever a process dies: the rows are there under both names, and in the end there is
// one.
TEST(Tables, CarriedOverWhateverFails) {
  for (const Fault fault : {Fault::kFail, Fault::kCrash, Fault::kAmbiguous, Fault::kDuplicate}) {
    for (int64_t n = 0;; ++n) {
      const auto inner = store::NewMemoryStore();
      ASSERT_VALUE(const auto setup, table::Catalog::InitOn(inner, {.threads = 1}));
      ASSERT_VALUE(const Uuid older, MakeOlder(setup.get()));
      const auto faulty = store::NewFaultyStore(inner);
      ASSERT_VALUE(const auto catalog, table::Catalog::OpenOn(faulty, {.threads = 1}));
      faulty->Arm({.at = n, .fault = fault});
      (void)OpenOrCreate(catalog.get(), kTraces).ok();
      const bool fired = faulty->fired();
      faulty->Arm({});
      ASSERT_VALUE(const Uuid plain, IdOf(*setup, kTraces));
      ASSERT_EQ(plain, older) << static_cast<int>(fault) << " at " << n;
      ASSERT_OK(CarryOver(setup.get(), kTraces));
      ASSERT_VALUE(const auto table, OpenOrCreate(setup.get(), kTraces));
      ASSERT_EQ(table->id(), older) << static_cast<int>(fault) << " at " << n;
      ASSERT_VALUE(const auto names, setup->TableNames());
      ASSERT_EQ(names, std::vector<std::string>{"hr.traces"}) << static_cast<int>(fault) << " at " << n;
      if (!fired) break;
      ASSERT_LT(n, 200);
    }
  }
}

}  // namespace
}  // namespace headrace::trace
