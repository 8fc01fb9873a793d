// The conflict matrix, every pair: theirs lands between my read and my commit.
#include "table/conflict.h"

#include <functional>
#include <map>

#include "table/key_table.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::ReaderOf;
using K = OperationKind;

constexpr K kKinds[] = {K::kAppend, K::kAddColumns, K::kSchemaChange, K::kTag,     K::kReserve,
                        K::kDelete, K::kUpdate,     K::kMerge,        K::kRestore, K::kCompact,
                        K::kRetain, K::kExpire,     K::kSort};

// What is to happen where mine and theirs meet at the same things. Written down here once more, so that a
// cell of the matrix that loses its rule is found.
Rule WantedRule(K mine, K theirs) {
  // Reading or changing a value that another changed.
  const auto values = [](K kind) { return kind == K::kDelete || kind == K::kUpdate || kind == K::kMerge; };
  if (theirs == K::kExpire) {
    if (mine == K::kTag || mine == K::kRestore) return kRetained;
    const bool has_files = mine == K::kAppend || mine == K::kAddColumns || mine == K::kUpdate ||
                           mine == K::kMerge || mine == K::kCompact;
    return has_files ? kUncollected : kRebase;
  }
  if (theirs == K::kCompact && values(mine)) return kSameValues;
  if (mine == K::kCompact) {
    const bool other_files = theirs == K::kAddColumns || theirs == K::kUpdate || theirs == K::kMerge ||
                             theirs == K::kRestore || theirs == K::kCompact;
    return other_files ? kSameFragments : kRebase;
  }
  if ((values(mine) || mine == K::kAddColumns) && (theirs == K::kUpdate || theirs == K::kMerge)) {
    return mine == K::kMerge && theirs == K::kMerge ? kFreeKeys : kSameValues;
  }
  if (values(mine) && theirs == K::kAddColumns) return kSameValues;
  if ((values(mine) || mine == K::kSort) && theirs == K::kSchemaChange) return kSameFields;
  if (mine == K::kMerge && theirs == K::kAppend) return kFreeKeys;
  // To a version in which the rows and the columns were not there yet.
  if (theirs == K::kRestore &&
      (values(mine) || mine == K::kAddColumns || mine == K::kAppend || mine == K::kSort))
    return kSameFields;
  const std::map<std::pair<K, K>, Rule> wanted = {{{K::kAppend, K::kAppend}, kNewItems},
                                                  {{K::kAppend, K::kSchemaChange}, kSameFields},
                                                  {{K::kAddColumns, K::kAddColumns}, kOpenHoles},
                                                  {{K::kAddColumns, K::kSchemaChange}, kSameFields},
                                                  {{K::kSchemaChange, K::kAddColumns}, kFreeNames},
                                                  {{K::kSchemaChange, K::kSchemaChange}, kSameFields},
                                                  {{K::kTag, K::kTag}, kSameTag}};
  const auto it = wanted.find({mine, theirs});
  return it == wanted.end() ? kRebase : it->second;
}

// Writes one fragment anew.
CompactFragments Compacted(const View& view, size_t fragment) {
  Compactor compactor(view, {});
  EXPECT_OK(compactor.Add(**view.Fragments(), {fragment, fragment + 1}, [](int64_t) {}));
  return compactor.Take();
}

// Deletes the first row for its id and its hole; changes its id; merges by the id, with a row that is new.
Change MineOfRows(K kind, const View& view) {
  // What decides reads the hole too.
  const std::vector<Field> id = {*view.schema().Find("id"), *view.schema().Find("hole")};
  const std::vector<Fragment> fragments = **view.Fragments();
  const std::vector<UsedValues> used = {{fragments[0], RowSet::Of({0}), IdsOf(id)}};
  const DeleteRows first_row{{{fragments[0], RowSet::Of({0})}}};
  if (kind == K::kDelete) return {first_row, {}, {}, id, used};
  if (kind == K::kRestore)
    return {RestoreVersion{std::make_shared<const Snapshot>(view.snapshot())}, {}, {}, {}};
  Fragment entry;
  entry.id = fragments[0].id;
  entry.first_row_id = fragments[0].first_row_id;
  entry.rows = fragments[0].rows;
  entry.files = {{Uuid::Random(),
                  1,
                  std::make_shared<const ColumnGroup>(ColumnGroup{FileKind::kParquet, {id[0].id}}),
                  {}}};
  if (kind == K::kUpdate) return {UpdateRows{{entry}}, {}, {}, id, used};
  Fragment added;
  added.rows = 1;
  arrow::Int64Builder key;
  EXPECT_TRUE(key.Append(1).ok());
  const auto keys = KeyTable::Build(KeyColumns::Of({key.Finish().ValueOrDie()}).value(), {"id"}).value();
  const MergeRows merge{{{entry}},
                        first_row,
                        {{added}, {}},
                        {"id"},
                        std::make_shared<const KeyTable>(keys),
                        view.snapshot().next_row_id};
  return {merge, {}, {}, id, used};
}

// Changes of mine, made from the view that I read: of the column "id" and the holes of "hole", giving the
// name "free", the tag "golden" and the item "a file".
Change Mine(K kind, const View& view) {
  const Field& id = *view.schema().Find("id");
  switch (kind) {
    case K::kAppend: {
      Fragment rows;
      rows.rows = 1;
      return {AppendRows{{rows}, {{.source = "a file"}}}, {}, {}, view.schema().fields};
    }
    case K::kAddColumns: {
      const Field& hole = *view.schema().Find("hole");
      FillColumns fill;
      for (const auto& fragment : **view.Fragments()) {
        Fragment entry;
        entry.id = fragment.id;
        entry.first_row_id = fragment.first_row_id;
        entry.rows = fragment.rows;
        entry.files = {{Uuid::Random(),
                        1,
                        std::make_shared<const ColumnGroup>(ColumnGroup{FileKind::kParquet, {hole.id}}),
                        {}}};
        fill.entries.push_back(entry);
      }
      return {fill, {}, {}, {id, hole}, {{(**view.Fragments())[0], nullptr, {id.id, hole.id}}}};
    }
    case K::kSchemaChange:
      return {ChangeSchema{{{id.id, "free"}}, {}}, {}, {}, {id}};
    case K::kTag:
      return {MoveTag{"golden", 1, false}, {}, {}, {}};
    case K::kDelete:
    case K::kUpdate:
    case K::kMerge:
    case K::kRestore:
      return MineOfRows(kind, view);
    case K::kCompact:
      return {Compacted(view, 0), {}, {}, {}};
    case K::kRetain:
      return {KeepVersions{5}, {}, {}, {}};
    case K::kSort: {
      const Field& hole = *view.schema().Find("hole");
      return {SortRows{{hole.id, id.id}}, {}, {}, {hole, id}};
    }
    case K::kExpire:
      return {ExpireVersions{view.snapshot().version, 0}, {}, {}, {}};
    default:
      return {ReserveFieldIds{3}, {}, {}, {}};
  }
}

// Commits of others. `same`: of the things that mine are about; otherwise of others.
Status Theirs(K kind, Catalog* catalog, Table* table, bool same) {
  static const auto one_column = arrow::schema({arrow::field("id", arrow::int64())});
  switch (kind) {
    case K::kAppend: {
      HEADRACE_ASSIGN(const auto appender, table->StartAppend({"id"}, {}));
      appender->Take({.source = same ? "a file" : "another file"});
      HEADRACE_TRY(appender->Write(*BatchFromJson(one_column, same ? R"([{"id": 1}])" : R"([{"id": 2}])")));
      return appender->Commit().status();
    }
    case K::kAddColumns: {
      // Fills the holes, and takes the name.
      const auto names = same ? std::vector<std::string>{"hole", "free"} : std::vector<std::string>{"else"};
      for (const auto& name : names) {
        const auto values = arrow::schema({arrow::field(name, arrow::int64())});
        const auto rows = BatchFromJson(values, R"([{")" + name + R"(": 1}, {")" + name + R"(": 2}])");
        HEADRACE_TRY(table->AddColumns(ReaderOf({rows}).get(), {}).status());
      }
      return Status::Ok();
    }
    case K::kSchemaChange:
      return table->RenameColumn(same ? "id" : "other", "theirs", {}).status();
    case K::kTag:
      return table->Tag(same ? "golden" : "silver", "v2", false, {}).status();
    case K::kDelete:
      return table->Delete({"id = 7"}, {}).status();
    case K::kUpdate: {
      const std::string name = same ? "id" : "other";
      const auto one = arrow::schema({arrow::field(name, arrow::int64())});
      const auto fn =
          [&](std::shared_ptr<arrow::RecordBatch>) -> Result<std::shared_ptr<arrow::RecordBatch>> {
        return BatchFromJson(one, "[{\"" + name + "\": 5}]");
      };
      return table->Update({"other = 1"}, {}, {name}, fn, {}).status();
    }
    case K::kMerge: {
      // One row changes and one is added; of other things: another column changes, by itself.
      const auto both =
          arrow::schema({arrow::field("id", arrow::int64()), arrow::field("other", arrow::int64())});
      const auto rows = BatchFromJson(
          both, same ? R"([{"id": 70, "other": 1}, {"id": 1, "other": 3}])" : R"([{"id": 7, "other": 4}])");
      MergeOptions rules;
      rules.on = {same ? "other" : "id"};
      return table->Merge(ReaderOf({rows}).get(), rules, {}).status();
    }
    case K::kRestore:
      return table->Restore(same ? "v1" : "", {}).status();
    case K::kCompact: {
      if (!same) HEADRACE_TRY(Theirs(K::kAppend, catalog, table, false));
      HEADRACE_ASSIGN(const View view, table->At());
      SnapshotLog log(catalog->environment(), table->prefix());
      return log.Commit({Compacted(view, same ? 0 : 1), {}, {}, {}}, {}).status();
    }
    case K::kRetain:
      return table->SetRetention(7, {}).status();
    case K::kSort:
      return table->SortBy({same ? "id" : "other"}, {}).status();
    case K::kExpire: {
      HEADRACE_ASSIGN(const View view, table->At());
      const int64_t next = view.snapshot().version + 1;
      SnapshotLog log(catalog->environment(), table->prefix());
      return log.Commit({same ? ExpireVersions{next, next} : ExpireVersions{1, 1}, {}, {}, {}}, {}).status();
    }
    default:
      return table->AddEmptyColumns({Field{-1, "another", Type{}, "", false}}, {}).status();
  }
}

// Ready for all of the above: the columns id and other with two rows, and hole without values.
Result<std::shared_ptr<Table>> MakeTable(Catalog* catalog) {
  const auto columns =
      arrow::schema({arrow::field("id", arrow::int64()), arrow::field("other", arrow::int64())});
  HEADRACE_ASSIGN(const Schema schema, SchemaFromArrow(*columns));
  HEADRACE_ASSIGN(auto table, catalog->CreateTable("t", schema));
  const auto rows = BatchFromJson(columns, R"([{"id": 7, "other": 1}, {"id": 8, "other": 2}])");
  HEADRACE_TRY(table->Append(ReaderOf({rows}).get(), {}).status());
  HEADRACE_TRY(table->AddEmptyColumns({Field{-1, "hole", Type{}, "", false}}, {}).status());
  return table;
}

TEST(ConflictMatrix, EveryPair) {
  for (const K mine : kKinds) {
    for (const K theirs : kKinds) {
      for (const bool same : {true, false}) {
        const std::string what = std::string(OperationName(mine)) + " after " + OperationName(theirs) +
                                 (same ? " of the same things" : " of other things");
        ASSERT_VALUE(const auto catalog, Catalog::InitOn(store::NewMemoryStore(), {.threads = 1}));
        ASSERT_VALUE(const auto table, MakeTable(catalog.get()));
        ASSERT_VALUE(const View base, table->At());
        Change change = Mine(mine, base);
        if (WantedRule(mine, K::kExpire) == kUncollected) change.base = base.snapshot().version;
        if (mine == K::kAppend && theirs == K::kSchemaChange && !same)
          change.fields_used = {*base.schema().Find("id")};
        SCOPED_TRACE(what);
        ASSERT_OK(Theirs(theirs, catalog.get(), table.get(), same));
        ASSERT_VALUE(const View head, table->At());

        Rule broken = kRebase;
        const Status checked = CheckConflicts(change, head, &broken);
        // To compaction, which writes all columns, another column's values are the same thing.
        const bool meet = same || (mine == K::kCompact && theirs != K::kRestore && theirs != K::kCompact &&
                                   theirs != K::kExpire);
        const Rule wanted = meet ? WantedRule(mine, theirs) : kRebase;
        EXPECT_EQ(broken, wanted) << checked.ToString();
        EXPECT_EQ(checked.ok(), broken == kRebase);
        EXPECT_EQ(RulesFor(mine, theirs) & broken, broken) << "the matrix names another rule";
        // Restores bite where the version is older than what a change relies on; not every change relies on
        // it.
        // What is filled follows its rows, as long as it was computed from what is there.
        const bool follows = mine == K::kAddColumns && theirs == K::kCompact;
        // A merge of items that have changed takes items in; this one has none.
        const bool of_items = mine == K::kAppend && theirs == K::kMerge;
        if (same && wanted == kRebase && theirs != K::kRestore && !follows && !of_items) {
          EXPECT_EQ(RulesFor(mine, theirs), kRebase);
        }

        // What a commit does is what the check says.
        SnapshotLog log(catalog->environment(), table->prefix());
        const auto committed = log.Commit(change, {});
        EXPECT_EQ(committed.status().ToString(), checked.ToString());
        if (checked.ok()) {
          EXPECT_EQ(committed->version, head.snapshot().version + 1);
          EXPECT_EQ(committed->snapshot->operation.kind, mine);
        } else {
          EXPECT_TRUE(checked.Is(Code::kConflict) || checked.Is(Code::kAlreadyExists)) << checked.ToString();
          ASSERT_VALUE(const View after, table->At());
          EXPECT_EQ(after.snapshot().version, head.snapshot().version);
        }
      }
    }
  }
}

// Cells with two rules: the second holds where the first finds nothing.
TEST(ConflictMatrix, NewNamesMustBeFree) {
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store::NewMemoryStore(), {.threads = 1}));
  ASSERT_VALUE(const auto table, MakeTable(catalog.get()));
  ASSERT_VALUE(const View base, table->At());
  const Field added{100, "new", Type{}, "", false};
  const Change add{FillColumns{{added}, {}}, {}, {}, {}};
  const Change rename{ChangeSchema{{{base.schema().Find("id")->id, "new"}}, {}}, {}, {}, {}};
  EXPECT_OK(CheckConflicts(add, base));
  EXPECT_OK(CheckConflicts(rename, base));
  const auto check = [&](const View& head) {
    for (const Change* change : {&add, &rename}) {
      Rule broken = kRebase;
      const Status status = CheckConflicts(*change, head, &broken);
      EXPECT_EQ(broken, kFreeNames);
      EXPECT_TRUE(status.Is(change == &add ? Code::kConflict : Code::kAlreadyExists)) << status.ToString();
      EXPECT_TRUE(RulesFor(change->kind(), K::kAddColumns) & kFreeNames);
      EXPECT_TRUE(RulesFor(change->kind(), K::kSchemaChange) & kFreeNames);
    }
  };
  ASSERT_OK(table->RenameColumn("other", "new", {}).status());
  ASSERT_VALUE(const View renamed, table->At());
  check(renamed);
  ASSERT_OK(table->DropColumn("new", {}).status());
  ASSERT_OK(table->AddEmptyColumns({Field{-1, "new", Type{}, "", false}}, {}).status());
  ASSERT_VALUE(const View with_new, table->At());
  check(with_new);

  // Names that the change itself frees are free: two columns change names, a third one's goes.
  const int32_t id = base.schema().Find("id")->id, hole = base.schema().Find("hole")->id;
  const Change swap{ChangeSchema{{{id, "hole"}, {hole, "id"}}, {}}, {}, {}, {}};
  EXPECT_OK(CheckConflicts(swap, base));
  const Change replace{ChangeSchema{{{id, "hole"}}, {hole}}, {}, {}, {}};
  EXPECT_OK(CheckConflicts(replace, base));
}

}  // namespace
}  // namespace headrace::table
