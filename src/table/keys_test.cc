#include "table/keys.h"

#include <map>

#include "base/limits.h"
#include "store/memory_store.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;

TEST(Keys, EveryKeyIsTakenApart) {
  const Uuid table = Uuid::Random(), id = Uuid::Random();
  const std::string folder = TableFolder(table), sha(64, 'a');
  const auto parse = [](const std::string& key) {
    const auto name = ParseKey(key);
    EXPECT_TRUE(name.has_value()) << key;
    return name.value_or(ObjectName{});
  };
  EXPECT_EQ(parse(kCatalogKey).kind, ObjectKind::kCatalog);
  EXPECT_EQ(parse(store::kProbePrefix + id.ToString()).id, id);
  const ObjectName ref = parse(RefKey("a name/with ä%", 3));
  EXPECT_EQ(ref.kind, ObjectKind::kRef);
  EXPECT_EQ(ref.name, "a name/with ä%");
  EXPECT_EQ(ref.number, 3);
  EXPECT_EQ(parse(WeightsKey(sha)).kind, ObjectKind::kModelWeights);
  EXPECT_EQ(parse(ModelManifestKey(sha)).kind, ObjectKind::kModelManifest);
  EXPECT_EQ(parse(ModelManifestKey(sha)).name, sha);
  EXPECT_EQ(parse(ArtifactKey(sha)).kind, ObjectKind::kArtifact);
  EXPECT_EQ(parse(ArtifactKey(sha)).name, sha);
  EXPECT_EQ(parse(CheckpointKey("a:b.c", sha)).kind, ObjectKind::kCheckpointFile);
  EXPECT_EQ(parse(CheckpointKey("a:b.c", sha)).name, sha);
  EXPECT_TRUE(CheckpointKey("a:b.c", sha).starts_with(CheckpointFolder("a:b.c")));
  EXPECT_EQ(parse("jobs/run-0123456789abcdef/0a.json").kind, ObjectKind::kJob);
  EXPECT_EQ(parse(QueueLogKey(id, 5)).kind, ObjectKind::kQueueLog);
  EXPECT_EQ(parse(QueueLogKey(id, 5)).id, id);
  EXPECT_EQ(parse(QueueLogKey(id, 5)).number, 5);
  EXPECT_EQ(parse(WantKey("metrics")).kind, ObjectKind::kWant);
  EXPECT_EQ(parse(WantKey("metrics")).name, "metrics");
  EXPECT_EQ(parse(TailKey("runs", id.ToString())).kind, ObjectKind::kTail);
  EXPECT_EQ(parse(TailKey("runs", id.ToString())).name, "runs");
  EXPECT_EQ(parse(TailKey("runs", id.ToString())).id, id);
  for (const int64_t version : {int64_t{1}, int64_t{1'000'000}, INT64_MAX}) {
    const ObjectName snapshot = parse(SnapshotKey(folder, version));
    EXPECT_EQ(snapshot.kind, ObjectKind::kSnapshot);
    EXPECT_EQ(snapshot.number, version);
    EXPECT_EQ(snapshot.table, table);
  }
  EXPECT_EQ(parse(DamagedKey(folder, 7)).kind, ObjectKind::kDamaged);
  EXPECT_EQ(parse(DamagedKey(folder, 7)).number, 7);
  EXPECT_LT(SnapshotKey(folder, 10), SnapshotKey(folder, 9)) << "the newest is listed first";
  const std::pair<std::string, ObjectKind> with_ids[] = {
      {ManifestKey(folder, id), ObjectKind::kManifest},
      {TakenKey(folder, id), ObjectKind::kTaken},
      {DataKey(folder, id, FileKind::kParquet), ObjectKind::kParquet},
      {DataKey(folder, id, FileKind::kTensor), ObjectKind::kTensor},
      {SumsKey(folder, id), ObjectKind::kTensorSums},
      {PackKey(folder, id), ObjectKind::kPack},
      {RowSetKey(folder, id), ObjectKind::kRowSets}};
  for (const auto& [key, kind] : with_ids) {
    const ObjectName name = parse(key);
    EXPECT_EQ(name.kind, kind) << key;
    EXPECT_EQ(name.id, id) << key;
    EXPECT_EQ(name.table, table) << key;
  }
  for (const size_t part : {size_t{0}, size_t{99'999'999}, size_t{123'456'789}}) {
    const ObjectName selection = parse(SelectionKey(folder, 0x1f, part));
    EXPECT_EQ(selection.kind, ObjectKind::kSelection);
    EXPECT_EQ(selection.name, "000000000000001f");
    EXPECT_EQ(selection.number, static_cast<int64_t>(part));
  }
  EXPECT_EQ(parse(CommitLockKey(folder)).kind, ObjectKind::kLock);
  EXPECT_EQ(parse(LockKey(SelectionKey(folder, 1, 2))).name, SelectionKey(folder, 1, 2));
}

TEST(Keys, OthersAreNone) {
  const std::string folder = TableFolder(Uuid::Random()), id = Uuid::Random().ToString();
  for (const std::string& key :
       {std::string("catalog.json.bak"),
        std::string("refs/a/1.json"),
        std::string("refs/a%2/18446744073709551615.json"),
        std::string("tables/x/y"),
        folder + "snapshots/99999999999999999999.json",  // above 2^64
        folder + "snapshots/00000000000000000000.json",  // above 2^63 - 1
        folder + "snapshots/+8446744073709551614.json",
        folder + "snapshots/018446744073709551614.json",  // version 1, with a digit too many
        folder + "manifests/" + id + ".arrow",
        folder + "data/" + id,
        folder + "data/" + id + ".overlay.parquet",
        folder + "data/.parquet",
        folder + "deletes/" + id + ".roaring",
        folder + "taken/" + id + "/x",
        folder + "selections/1/00000000.sel",
        folder + "other.lock",
        std::string("models/abc/weights.gguf"),
        std::string("live/want/"),
        std::string("live/want/a/b"),
        "live/tail/" + id,
        std::string("live/tail/runs/x"),
        "checkpoints/run/" + std::string(63, 'a'),
        "checkpoints//" + std::string(64, 'a'),
        std::string("")}) {
    EXPECT_FALSE(ParseKey(key).has_value()) << key;
  }
}

// The inventory is whole: whatever a table writes has a name in it.
TEST(Keys, NothingElseIsWritten) {
  const auto store = store::NewMemoryStore();
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store, {.threads = 1}));
  const auto schema = arrow::schema({arrow::field("id", arrow::int64()),
                                     arrow::field("vec", arrow::fixed_size_list(arrow::float32(), 2)),
                                     arrow::field("bytes", arrow::binary())});
  ASSERT_VALUE(Schema columns, SchemaFromArrow(*schema));
  columns.fields[2].type = *ParseType("blob");
  ASSERT_VALUE(const auto table, catalog->CreateTable("a b", std::move(columns)));
  const std::string cell = R"([{"id": 1, "vec": [1, 2], "bytes": ")" + std::string(100'000, 'x') + R"("}])";
  for (int64_t i = 0; i <= limits::kInlineFragments; ++i) {
    ASSERT_VALUE(const auto appender, table->StartAppend({"id", "vec", "bytes"}, {}));
    appender->Take({.source = std::to_string(i)});
    ASSERT_OK(appender->Write(*BatchFromJson(schema, cell)));
    ASSERT_OK(appender->Commit().status());
  }
  ASSERT_VALUE(const auto all, store->List("", "", 100'000));
  std::map<ObjectKind, int> kinds;
  for (const auto& object : all) {
    const auto name = ParseKey(object.key);
    ASSERT_TRUE(name.has_value()) << object.key;
    ++kinds[name->kind];
    EXPECT_GT(object.modified_us, 0) << object.key;
  }
  for (const ObjectKind kind : {ObjectKind::kCatalog, ObjectKind::kRef, ObjectKind::kSnapshot,
                                ObjectKind::kManifest, ObjectKind::kTaken, ObjectKind::kParquet,
                                ObjectKind::kTensor, ObjectKind::kTensorSums, ObjectKind::kPack}) {
    EXPECT_GT(kinds[kind], 0) << static_cast<int>(kind);
  }
}

}  // namespace
}  // namespace headrace::table
