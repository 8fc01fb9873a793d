// Tables from the future: what a newer Headrace may write is refused by name, everywhere that it is named.
#include <arrow/api.h>
#include <arrow/io/memory.h>
#include <arrow/util/key_value_metadata.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/writer.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "table/keys.h"
#include "table/manifest.h"
#include "table/sealed_json.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using nlohmann::json;

std::string EditSnapshot(const std::string& text, const std::function<void(json*)>& edit) {
  json body = json::parse(text).at("snapshot");
  edit(&body);
  const std::string dumped = body.dump();
  return "{\"xxh3\":\"" + Hex64(Xxh3(dumped)) + "\",\"snapshot\":" + dumped + "}";
}

std::string EditManifest(std::string_view bytes, const std::string& key, const std::string& value) {
  const auto buffer = std::make_shared<arrow::Buffer>(bytes);
  auto reader = parquet::arrow::OpenFile(std::make_shared<arrow::io::BufferReader>(buffer),
                                         arrow::default_memory_pool())
                    .ValueOrDie();
  const auto table = reader->ReadTable().ValueOrDie();
  const auto metadata = table->schema()->metadata()->Copy();
  EXPECT_TRUE(metadata->Set(key, value).ok());
  const auto sink = arrow::io::BufferOutputStream::Create().ValueOrDie();
  const auto properties = parquet::ArrowWriterProperties::Builder().store_schema()->build();
  EXPECT_TRUE(parquet::arrow::WriteTable(*table->ReplaceSchemaMetadata(metadata),
                                         arrow::default_memory_pool(), sink, 1 << 20,
                                         parquet::default_writer_properties(), properties)
                  .ok());
  return sink->Finish().ValueOrDie()->ToString();
}

struct Catalogued {
  std::shared_ptr<store::ObjectStore> store = store::NewMemoryStore();
  std::string snapshot_key;
  std::string snapshot;
};

// A table "t" of two rows with the newest snapshot's bytes at hand.
Catalogued MakeOne() {
  Catalogued made;
  const auto catalog = Catalog::InitOn(made.store).value();
  const auto schema = arrow::schema({arrow::field("k", arrow::int64())});
  const auto table = testing::MakeTable(catalog.get(), "t", schema).value();
  const auto rows = testing::BatchFromJson(schema, R"([{"k":1},{"k":2}])");
  EXPECT_TRUE(table->Append(testing::ReaderOf({rows}).get(), {}).ok());
  made.snapshot_key = SnapshotKey(table->prefix(), 2);
  made.snapshot = std::string(made.store->Get(made.snapshot_key)->view());
  return made;
}

Status ReadIt(const std::shared_ptr<store::ObjectStore>& store) {
  HEADRACE_ASSIGN(const auto catalog, Catalog::OpenOn(store, {}));
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable("t"));
  HEADRACE_ASSIGN(const View view, table->At());
  return testing::ReadAll(view).status();
}

// Unsupported, and the name of what is missing is in the message.
void ExpectRefused(const Status& status, const std::string& name) {
  EXPECT_TRUE(status.Is(Code::kUnsupported)) << status.ToString();
  EXPECT_NE(status.ToString().find(name), std::string::npos) << status.ToString();
}

TEST(Future, FeaturesThatAreRequired) {
  const Catalogued made = MakeOne();
  ASSERT_OK(ReadIt(made.store));
  const auto with = [&](const std::function<void(json*)>& edit) {
    EXPECT_TRUE(made.store->Put(made.snapshot_key, EditSnapshot(made.snapshot, edit)).ok());
    return ReadIt(made.store);
  };
  ASSERT_OK(with([](json*) {}));
  ASSERT_OK(with([](json* s) { (*s)["requires"] = json::array(); }));
  ASSERT_OK(with([](json* s) { (*s)["hint_of_a_newer_one"] = 7; }));  // what may be ignored is
  ExpectRefused(with([](json* s) { (*s)["requires"] = {"row_ids"}; }), "'row_ids'");
  ExpectRefused(with([](json* s) { (*s)["requires"] = {"overlays", ""}; }), "'overlays', ''");
  EXPECT_TRUE(with([](json* s) { (*s)["requires"] = 3; }).Is(Code::kCorrupt));
  ExpectRefused(with([](json* s) { (*s)["operation"]["kind"] = "of_tomorrow"; }), "'of_tomorrow'");
  ExpectRefused(with([](json* s) { (*s)["fragments"][0]["files"][0]["kind"] = "lance"; }), "'lance'");
  ExpectRefused(with([](json* s) { (*s)["format"] = 2; }), "format version 2");
  // Nor does a writer that does not know it commit on top of it.
  ExpectRefused(with([](json* s) { (*s)["requires"] = {"row_ids"}; }), "'row_ids'");
  ASSERT_VALUE(const auto catalog, Catalog::OpenOn(made.store, {}));
  ASSERT_VALUE(const auto table, catalog->OpenTable("t"));
  const auto rows =
      testing::BatchFromJson(arrow::schema({arrow::field("k", arrow::int64())}), R"([{"k":3}])");
  ExpectRefused(table->Append(testing::ReaderOf({rows}).get(), {}).status(), "'row_ids'");

  json file = json::parse(made.store->Get("catalog.json")->view());
  file["requires"] = {"encryption"};
  Seal(&file);
  ASSERT_OK(made.store->Put("catalog.json", file.dump()));
  ExpectRefused(ReadIt(made.store), "'encryption'");
}

TEST(Future, FeaturesOfAManifest) {
  Fragment entry;
  entry.rows = 2;
  entry.files.push_back(
      {Uuid::Random(), 10, std::make_shared<const ColumnGroup>(ColumnGroup{FileKind::kParquet, {1}})});
  ASSERT_VALUE(const auto written, EncodeManifest({entry}));
  const auto load = [&](const std::string& key, const std::string& value) {
    const std::string bytes = EditManifest(written.bytes, key, value);
    ManifestRef ref = written.ref;
    ref.bytes = static_cast<int64_t>(bytes.size());
    ref.checksum = Xxh3(bytes);
    return Manifest::Load(store::Bytes::FromString(bytes), ref).status();
  };
  ASSERT_OK(load("headrace.hint", "1"));
  ASSERT_OK(load("headrace.requires", "[]"));
  ExpectRefused(load("headrace.requires", R"(["row_ids"])"), "'row_ids'");
  ExpectRefused(load("headrace.format", "2"), "format version '2'");
  ExpectRefused(load("headrace.families", R"([{"kind":"lance","fields":[1]}])"), "'lance'");
  EXPECT_TRUE(load("headrace.requires", "nonsense").Is(Code::kCorrupt));
}

TEST(Future, KindsOfRefs) {
  const Catalogued made = MakeOne();
  ASSERT_VALUE(const auto files, made.store->List("refs/t/", "", 1));
  json ref = json::parse(made.store->Get(files[0].key)->view());
  ref["kind"] = "branch";
  Seal(&ref);
  ASSERT_OK(made.store->Put(files[0].key, ref.dump()));
  ExpectRefused(ReadIt(made.store), "'branch'");
}

}  // namespace
}  // namespace headrace::table
