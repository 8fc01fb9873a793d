// What goes in comes out, for every type, whatever the sizes; and damaged files are told, never read wrong.
#include <arrow/compute/api.h>
#include <arrow/util/byte_size.h>

#include <functional>

#include "base/hash.h"
#include "store/local_store.h"
#include "store/slow_store.h"
#include "table/conform.h"
#include "table/keys.h"
#include "table/table_testing.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::ReadAll;
using testing::ReaderOf;

const char* kTypes[] = {"bool",
                        "int8",
                        "int16",
                        "int32",
                        "int64",
                        "uint8",
                        "uint16",
                        "uint32",
                        "uint64",
                        "float32",
                        "float64",
                        "string",
                        "binary",
                        "date",
                        "timestamp[s]",
                        "timestamp[ms]",
                        "timestamp[us, UTC]",
                        "timestamp[ns]",
                        "float16",
                        "time[s]",
                        "time[ms]",
                        "time[us]",
                        "time[ns]",
                        "duration[s]",
                        "duration[ns]",
                        "decimal(1, 1)",
                        "decimal(9, 3)",
                        "decimal(38, 10)",
                        "decimal(76, 0)",
                        "fixed_binary[3]",
                        "uuid",
                        "json",
                        "struct<a: decimal(20, 2), b: uuid, c: struct<d: time[s]>>",
                        "map<string, decimal(5, 1)>",
                        "list<map<string, list<json>>>",
                        "list<int32>",
                        "struct<a: int32, b: struct<c: string, d: float64>>",
                        "list<struct<x: int8, y: string>>",
                        "tensor<float32>[3]",
                        "tensor<uint8>[2, 2]",
                        "blob"};

// A folder that passes for a bucket, where pages are compressed.
Result<std::shared_ptr<store::ObjectStore>> DistantStore(const testing::TempFolder& folder) {
  return store::OpenSlowStore("slow:latency=0ms:" + folder.path(), false);
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t operator()() { return engine_(); }
  bool OneIn(uint64_t n) { return engine_() % n == 0; }

  // A JSON value of the type, as Arrow's JSON reader takes it.
  std::string Json(const Type& type, bool nullable) {
    if (nullable && OneIn(nulls_)) return "null";
    switch (type.kind) {
      case Kind::kBool:
        return OneIn(2) ? "true" : "false";
      case Kind::kInt8:
        return std::to_string(static_cast<int>(engine_() % 256) - 128);
      case Kind::kUInt8:
        return std::to_string(engine_() % 256);
      case Kind::kInt16:
        return std::to_string(static_cast<int>(engine_() % 65536) - 32768);
      case Kind::kUInt16:
        return std::to_string(engine_() % 65536);
      case Kind::kUInt32:
        return std::to_string(engine_() % 4294967296);
      case Kind::kUInt64:
        return std::to_string(engine_());
      case Kind::kInt64:
      case Kind::kTimestamp:
        return std::to_string(static_cast<int64_t>(engine_()) / 1'000'000);
      case Kind::kFloat16:
      case Kind::kFloat32:
      case Kind::kFloat64:
        return std::to_string(static_cast<int>(engine_() % 2000) - 1000) + (OneIn(3) ? ".5" : ".25");
      case Kind::kString:
      case Kind::kBinary:
        return "\"" + Text() + "\"";
      case Kind::kTime:
        return std::to_string(engine_() % 86'400);
      case Kind::kDuration:
        return std::to_string(static_cast<int64_t>(engine_()));
      case Kind::kDecimal:
        return "\"" + Digits(type.precision, type.scale) + "\"";
      case Kind::kFixedBinary:
      case Kind::kUuid: {
        std::string bytes(static_cast<size_t>(type.kind == Kind::kUuid ? 16 : type.width), 'a');
        for (char& c : bytes) c = static_cast<char>('0' + engine_() % 64);
        std::replace(bytes.begin(), bytes.end(), '\\', '/');
        return "\"" + bytes + "\"";
      }
      case Kind::kJson: {
        static const char* kJson[] = {"null", "1e300", R"([{\"a\": []}, 2.50])", R"({\"b\": \"ü\"})"};
        return std::string("\"") + kJson[engine_() % std::size(kJson)] + "\"";
      }
      case Kind::kMap: {
        std::string out = "[";
        for (uint64_t n = engine_() % 4; n > 0; --n) {
          out += (out.size() > 1 ? ",[" : "[") + Json(type.children[0].type, false) + "," +
                 Json(type.children[1].type, true) + "]";
        }
        return out + "]";
      }
      case Kind::kList: {
        std::string out = "[";
        for (uint64_t n = engine_() % 4; n > 0; --n)
          out += (out.size() > 1 ? "," : "") + Json(type.children[0].type, true);
        return out + "]";
      }
      case Kind::kStruct: {
        std::string out = "{";
        for (const auto& child : type.children)
          out += (out.size() > 1 ? ",\"" : "\"") + child.name + "\":" + Json(child.type, true);
        return out + "}";
      }
      case Kind::kTensor: {
        std::string out = "[";
        for (int64_t n = type.tensor_elements(); n > 0; --n)
          out += (out.size() > 1 ? "," : "") + std::to_string(engine_() % 100);
        return out + "]";
      }
      default:
        return std::to_string(static_cast<int>(engine_() % 100000) - 50000);
    }
  }
  void nulls(uint64_t one_in) { nulls_ = one_in; }

 private:
  // At most so many digits, often all of them, with a point before the last `scale`.
  std::string Digits(int precision, int scale) {
    std::string digits;
    const int before = OneIn(3) ? 0 : precision - scale;
    for (int i = 0; i < before; ++i) digits += static_cast<char>('0' + engine_() % 10);
    if (digits.empty()) digits = "0";
    if (scale > 0) digits += '.';
    for (int i = 0; i < scale; ++i) digits += static_cast<char>('0' + engine_() % 10);
    return (OneIn(2) ? "-" : "") + digits;
  }
  std::string Text() {
    static const char* kWords[] = {"",     "a",   "headrace", "ünïcode", "日本",
                                   "🙂", "x y", "repeat",   "repeat",  "repeat"};
    std::string text = kWords[engine_() % 10];
    if (OneIn(3)) text += std::to_string(engine_());
    if (OneIn(50)) text += std::string(engine_() % 5000, 'z');
    return text;
  }
  std::mt19937_64 engine_;
  uint64_t nulls_ = 5;
};

TEST(RoundTrip, EveryTypeAtRandom) {
  const int rounds = testing::Scaled(20);
  for (int round = 0; round < rounds; ++round) {
    Random random(static_cast<uint64_t>(round) + 1);
    random.nulls(round % 4 == 0 ? 1'000'000'000 : round % 4 == 1 ? 1 : 5);
    Schema schema;
    arrow::FieldVector fields;
    for (const char* text : kTypes) {
      Field field;
      field.name = text;
      ASSERT_VALUE(field.type, ParseType(text));
      schema.fields.push_back(field);
      Field plain = field;
      fields.push_back(field.type.kind == Kind::kBlob ? arrow::field(text, arrow::binary()) : ToArrow(plain));
    }
    const testing::TempFolder folder;
    std::shared_ptr<store::ObjectStore> store = store::NewMemoryStore();
    if (round / 4 % 2 == 1) {
      ASSERT_VALUE(store, DistantStore(folder));
    }
    ASSERT_VALUE(const auto catalog, Catalog::InitOn(store));
    ASSERT_VALUE(const auto table, catalog->CreateTable("t", schema));
    std::vector<std::shared_ptr<arrow::RecordBatch>> batches;
    CommitOptions options;
    options.write.row_group_rows = 1 + static_cast<int64_t>(random() % 400);
    options.write.row_group_bytes = 1 + static_cast<int64_t>(random() % 100'000);
    options.write.fragment_rows = 1 + static_cast<int64_t>(random() % 900);
    options.write.inline_blob_bytes = 20;
    for (uint64_t n = 1 + random() % 3; n > 0; --n) {
      std::string json = "[";
      for (uint64_t rows = random() % 500; rows > 0; --rows) {
        json += json.size() > 1 ? ",{" : "{";
        for (size_t c = 0; c < schema.fields.size(); ++c) {
          Type type = schema.fields[c].type;
          if (type.kind == Kind::kBlob) type.kind = Kind::kBinary;
          json += (c ? ",\"" : "\"") + schema.fields[c].name + "\":" + random.Json(type, true);
        }
        json += "}";
      }
      batches.push_back(BatchFromJson(arrow::schema(fields), json + "]"));
    }
    ASSERT_OK(table->Append(ReaderOf(batches).get(), options).status());
    const auto expected = arrow::Table::FromRecordBatches(arrow::schema(fields), batches)
                              .ValueOrDie()
                              ->CombineChunksToBatch()
                              .ValueOrDie();
    ASSERT_VALUE(const View view, table->At());
    ASSERT_EQ(view.snapshot().rows, expected->num_rows());
    if (expected->num_rows() == 0) continue;
    ASSERT_VALUE(const auto all, ReadAll(view, {.batch_rows = 1 + static_cast<int64_t>(random() % 300)}));
    std::vector<int64_t> picks;
    for (int i = 0; i < 100; ++i)
      picks.push_back(static_cast<int64_t>(random() % static_cast<uint64_t>(expected->num_rows())));
    ASSERT_VALUE(const auto taken, view.Take(picks, {}));
    arrow::Int64Builder builder;
    ASSERT_TRUE(builder.AppendValues(picks).ok());
    const auto indices = builder.Finish().ValueOrDie();
    for (size_t c = 0; c < schema.fields.size(); ++c) {
      const std::string& name = schema.fields[c].name;
      const auto got = all->GetColumnByName(name)->chunk(0);
      const auto want = expected->GetColumnByName(name);
      if (schema.fields[c].type.kind == Kind::kBlob) {
        ASSERT_VALUE(const auto blobs, view.ReadBlobs(got));
        for (size_t i = 0; i < blobs.size(); ++i) {
          ASSERT_EQ(blobs[i].has_value(), want->IsValid(static_cast<int64_t>(i)));
          if (!blobs[i]) continue;
          ASSERT_EQ(blobs[i]->view(),
                    static_cast<const arrow::BinaryArray&>(*want).GetView(static_cast<int64_t>(i)));
        }
        continue;
      }
      ASSERT_TRUE(got->ValidateFull().ok()) << name;
      ASSERT_TRUE(got->Equals(*want)) << name << "\n" << got->Diff(*want) << "\nround " << round;
      const auto picked = arrow::compute::Take(*want, *indices).ValueOrDie();
      ASSERT_TRUE(taken->GetColumnByName(name)->Equals(*picked))
          << name << "\n"
          << taken->GetColumnByName(name)->Diff(*picked);
    }
  }
}

// Batches of 100 rows: the group's limit at one below, at and above what a batch brings, rows and fragments
// likewise. A group that was opened for rows that never came made the file unreadable.
TEST(RoundTrip, LimitsOfGroupsAndFragments) {
  const auto schema = arrow::schema({arrow::field("k", arrow::int64()), arrow::field("s", arrow::utf8())});
  std::string json = "[";
  for (int i = 0; i < 100; ++i)
    json += (i ? ",{\"k\":" : "{\"k\":") + std::to_string(i) + ",\"s\":\"" + std::string(92, 'x') + "\"}";
  const auto batch = BatchFromJson(schema, json + "]");
  const int64_t bytes = arrow::util::ReferencedBufferSize(*batch).ValueOrDie();
  ASSERT_GT(bytes, 10'000);
  for (const int batches : {1, 2, 3}) {
    for (const int64_t group_bytes : {int64_t{1}, bytes / 2, bytes - 1, bytes, bytes + 1, 2 * bytes}) {
      for (const int64_t rows : {99, 100, 101, 200, 1'000}) {
        ASSERT_VALUE(const auto catalog, Catalog::InitOn(store::NewMemoryStore()));
        ASSERT_VALUE(const auto table, testing::MakeTable(catalog.get(), "t", schema));
        CommitOptions options;
        options.write.row_group_bytes = group_bytes;
        options.write.row_group_rows = rows;
        options.write.fragment_rows = rows == 1'000 ? 100 : 1'000;
        ASSERT_OK(table
                      ->Append(ReaderOf(std::vector<std::shared_ptr<arrow::RecordBatch>>(
                                            static_cast<size_t>(batches), batch))
                                   .get(),
                               options)
                      .status());
        ASSERT_VALUE(const View view, table->At());
        ASSERT_VALUE(const auto all, ReadAll(view));
        ASSERT_EQ(all->num_rows(), 100 * batches) << group_bytes << " bytes, " << rows << " rows";
        ASSERT_VALUE(const auto some, ReadAll(view, {.columns = {"k"}, .where = "k = 99"}));
        ASSERT_EQ(some->num_rows(), batches);
        ASSERT_VALUE(const auto last, view.Take({100 * batches - 1}, {"k"}));
        ASSERT_EQ(last->num_rows(), 1);
      }
    }
  }
}

// Changes one byte of each file below `folder` whose path holds `part`, many times over, and cuts it off:
// `read` fails, or what it gives is still right (bytes that nobody looks at).
void ExpectToldOrHarmless(const std::shared_ptr<store::ObjectStore>& store, const std::string& folder,
                          const std::string& part, const std::function<Result<std::string>()>& read) {
  ASSERT_VALUE(const std::string expected, read());
  std::mt19937_64 random(3);
  int told = 0;
  int trials = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string path = entry.path().string();
    if (!entry.is_regular_file() || path.ends_with(".lock") || path.find(part) == std::string::npos) continue;
    const std::string key = std::filesystem::relative(path, folder).string();
    const std::string whole((*store->Get(key)).view());
    for (int i = 0; i < testing::Scaled(60); ++i, ++trials) {
      std::string bad = whole;
      const size_t at = random() % bad.size();
      bad[at] = static_cast<char>(bad[at] ^ (1 << (random() % 8)));
      if (i % 10 == 9) bad = whole.substr(0, at);  // or it is cut off
      ASSERT_OK(store->Put(key, bad));
      const auto got = read();
      told += !got.ok();
      if (got.ok()) {
        ASSERT_EQ(*got, expected) << key << " at " << at << " read wrong";
      }
    }
    ASSERT_OK(store->Put(key, whole));
  }
  EXPECT_GT(told, trials / 2) << part;
}

class Damage : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Stores, Damage, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "distant" : "local"; });

// The files of a table, read whole, by filters and by row.
TEST_P(Damage, IsToldOrHarmless) {
  testing::TempFolder folder;
  const auto opened =
      GetParam() ? DistantStore(folder) : store::OpenLocalStore(folder.path(), {.sync = false});
  ASSERT_VALUE(const auto store, opened);
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store));
  const auto schema = arrow::schema({arrow::field("id", arrow::int64()), arrow::field("name", arrow::utf8()),
                                     arrow::field("vec", arrow::fixed_size_list(arrow::float32(), 4)),
                                     arrow::field("image", arrow::binary())});
  ASSERT_VALUE(Schema fields, SchemaFromArrow(*schema));
  ASSERT_VALUE(fields.fields[3].type, ParseType("blob"));
  ASSERT_VALUE(const auto table, catalog->CreateTable("t", fields));
  std::string json = "[";
  for (int i = 0; i < 300; ++i) {
    json += (i ? "," : "") + std::string("{\"id\":") + std::to_string(i) + ",\"name\":\"n" +
            std::to_string(i % 7) + "\",\"vec\":[1,2,3," + std::to_string(i) + "],\"image\":\"" +
            std::string(3000, static_cast<char>('a' + i % 26)) + "\"}";
  }
  ASSERT_OK(table->Append(ReaderOf({BatchFromJson(schema, json + "]")}).get(), {}).status());
  const auto read = [&]() -> Result<std::string> {
    HEADRACE_ASSIGN(const auto fresh, Catalog::OpenOn(store, {.threads = 1}));
    HEADRACE_ASSIGN(const auto opened, fresh->OpenTable("t"));
    HEADRACE_ASSIGN(const View view, opened->At());
    HEADRACE_ASSIGN(const auto all, ReadAll(view));
    HEADRACE_ASSIGN(const auto blobs, view.ReadBlobs(all->column(3)->chunk(0)));
    std::string text = all->column(0)->ToString() + all->column(1)->chunk(0)->ToString() +
                       all->column(2)->chunk(0)->ToString();
    for (const auto& blob : blobs) text += Hex64(Xxh3(blob->view()));
    // Filters follow statistics and page indexes, which a whole read never looks at.
    for (const char* where : {"id = 7", "id > 290", "name = 'n3'", "name > 'n5' and id < 100", "id is null",
                              "image.width is not null", "image.length = 3000 and id = 299"}) {
      HEADRACE_ASSIGN(const auto some, ReadAll(view, {.columns = {"id", "name"}, .where = where}));
      text += some->num_rows() == 0 ? "none" : some->column(0)->ToString();
    }
    HEADRACE_ASSIGN(const auto taken, view.Take({299, 0, 150}, {"id", "name", "vec"}));
    text += taken->ToString();
    return text;
  };
  ExpectToldOrHarmless(store, folder.path(), "/tables/", read);
}

// What says which files and rows there are: catalog.json, refs, the newest snapshot, manifests.
TEST(DamageOfTheRest, ManifestsRefsAndTheCatalog) {
  testing::TempFolder folder;
  ASSERT_VALUE(const auto store, store::OpenLocalStore(folder.path(), {.sync = false}));
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store));
  const auto schema = arrow::schema({arrow::field("id", arrow::int64())});
  ASSERT_VALUE(const auto table, testing::MakeTable(catalog.get(), "t", schema));
  for (int64_t i = 0; i < limits::kInlineFragments + 5; ++i) {  // more than ride inline
    const auto one = BatchFromJson(schema, "[{\"id\":" + std::to_string(i) + "}]");
    ASSERT_OK(table->Append(ReaderOf({one}).get(), {}).status());
  }
  ASSERT_OK(catalog->PointRef("prod", "t", "v2", 0).status());
  ASSERT_VALUE(const View newest, table->At());
  ASSERT_FALSE(newest.snapshot().manifests.empty());
  const auto read = [&]() -> Result<std::string> {
    HEADRACE_ASSIGN(const auto fresh, Catalog::OpenOn(store, {.threads = 1}));
    HEADRACE_ASSIGN(const auto opened, fresh->OpenTable("t"));
    HEADRACE_ASSIGN(const View view, opened->At());
    HEADRACE_ASSIGN(const RefValue ref, fresh->refs().Get("prod"));
    HEADRACE_ASSIGN(const int64_t count, view.Count("id >= 30"));
    HEADRACE_ASSIGN(const auto some, ReadAll(view, {.where = "id = 7"}));
    return ref.target + ref.who + ref.why + std::to_string(ref.time_us) + " " + std::to_string(count) +
           some->ToString();
  };
  ExpectToldOrHarmless(store, folder.path(), "/manifests/", read);
  ExpectToldOrHarmless(store, folder.path(), "/refs/", read);
  ExpectToldOrHarmless(store, folder.path(), "/catalog.json", read);
  ExpectToldOrHarmless(store, folder.path(), SnapshotKey("/", newest.snapshot().version), read);
}

// In a bucket a page takes as little as its values allow; what it takes in memory is written down, in
// snapshots and in manifests alike.
TEST(Compression, IsOfDistantStoresAndTellsWhatItTakesInMemory) {
  const testing::TempFolder folder;
  ASSERT_VALUE(const auto distant, DistantStore(folder));
  const auto schema = arrow::schema({arrow::field("k", arrow::int64()), arrow::field("s", arrow::utf8())});
  std::string json;
  for (int i = 0; i < 5'000; ++i)
    json += (i ? ",{\"k\":" : "[{\"k\":") + std::to_string(i) + ",\"s\":\"name-" + std::to_string(i) + "\"}";
  const auto batch = BatchFromJson(schema, json + "]");
  int64_t bytes[2] = {}, decoded[2] = {};
  for (const bool far : {false, true}) {
    ASSERT_VALUE(const auto catalog,
                 Catalog::InitOn(far ? distant : std::shared_ptr(store::NewMemoryStore())));
    ASSERT_VALUE(const auto table, testing::MakeTable(catalog.get(), "t", schema));
    for (int64_t i = 0; i < limits::kInlineFragments + 2; ++i)
      ASSERT_OK(table->Append(ReaderOf({batch}).get(), {}).status());
    ASSERT_VALUE(const View view, table->At());
    ASSERT_FALSE(view.snapshot().manifests.empty());
    ASSERT_FALSE(view.snapshot().inline_entries.empty());
    ASSERT_VALUE(const auto fragments, view.Fragments());
    for (const auto& fragment : *fragments) {
      ASSERT_EQ(fragment.files[0].decoded > 0, far);
      bytes[far] += fragment.files[0].bytes;
      decoded[far] += fragment.files[0].decoded_bytes();
    }
    ASSERT_VALUE(const auto some, ReadAll(view, {.where = "k = 4999"}));
    EXPECT_EQ(some->num_rows(), limits::kInlineFragments + 2);
  }
  EXPECT_LT(bytes[true] * 2, bytes[false]);
  // The same pages; headers and indexes apart.
  EXPECT_LE(decoded[true], decoded[false]);
  EXPECT_GT(decoded[true] * 5, decoded[false] * 4);
}

TEST(Types, RefusedByNameWithTheCast) {
  const auto refused = [](const std::shared_ptr<arrow::DataType>& type) {
    const auto result = SchemaFromArrow(*arrow::schema({arrow::field("x", type)}));
    return result.ok() ? std::string() : result.status().ToString();
  };
  EXPECT_NE(refused(arrow::decimal128(10, -2)).find("scale is from 0"), std::string::npos);
  EXPECT_NE(refused(arrow::null()).find("all its values are null"), std::string::npos);
  EXPECT_NE(refused(arrow::fixed_size_binary(0)).find("binary"), std::string::npos);
  for (const auto& type : {arrow::large_utf8(), arrow::dictionary(arrow::int8(), arrow::utf8()),
                           arrow::large_list(arrow::int32()), arrow::utf8_view()}) {
    EXPECT_EQ(refused(type), "") << type->ToString();
  }
  for (const char* bad :
       {"", "int", "list<int32", "tensor<float64>[3]", "tensor<float32>[0]", "tensor<float32>[99999999999]",
        "struct<>", "timestamp[m]", "decimal(0)", "decimal(77)", "decimal(3, 4)", "time[h]", "fixed_binary",
        "map<string>", "struct<\"a: int8>"}) {
    EXPECT_FALSE(ParseType(bad).ok()) << bad;
  }
}

TEST(Types, BadValuesNameColumnAndRow) {
  ASSERT_VALUE(const auto catalog, Catalog::InitOn(store::NewMemoryStore()));
  const auto list = arrow::fixed_size_list(arrow::float32(), 2);
  ASSERT_VALUE(
      const auto table,
      testing::MakeTable(catalog.get(), "t",
                         arrow::schema({arrow::field("s", arrow::utf8()), arrow::field("v", list)})));
  const auto fails = [&](const std::shared_ptr<arrow::RecordBatch>& batch) {
    return table->Append(ReaderOf({batch}).get(), {}).status().ToString();
  };
  const auto bad_text =
      arrow::ArrayData::Make(arrow::utf8(), 2,
                             {nullptr, arrow::Buffer::FromVector(std::vector<int32_t>{0, 1, 3}),
                              arrow::Buffer::FromString("a\xff\xfe")});
  EXPECT_NE(fails(arrow::RecordBatch::Make(arrow::schema({arrow::field("s", arrow::utf8())}), 2,
                                           {arrow::MakeArray(bad_text)}))
                .find("column 's', row 1"),
            std::string::npos);
  const auto bad_offsets =
      arrow::ArrayData::Make(arrow::utf8(), 2,
                             {nullptr, arrow::Buffer::FromVector(std::vector<int32_t>{0, 1000, 3}),
                              arrow::Buffer::FromString("abc")});
  EXPECT_NE(fails(arrow::RecordBatch::Make(arrow::schema({arrow::field("s", arrow::utf8())}), 2,
                                           {arrow::MakeArray(bad_offsets)}))
                .find("not a valid Arrow array"),
            std::string::npos);
  EXPECT_NE(
      fails(BatchFromJson(arrow::schema({arrow::field("v", list)}), R"([{"v": [1, 2]}, {"v": [1, null]}])"))
          .find("column 'v', row 1"),
      std::string::npos);
  EXPECT_NE(
      fails(BatchFromJson(arrow::schema({arrow::field("v", arrow::fixed_size_list(arrow::float32(), 3))}),
                          R"([{"v": [1, 2, 3]}])"))
          .find("cells of 3"),
      std::string::npos);
  EXPECT_NE(fails(BatchFromJson(arrow::schema({arrow::field("w", arrow::int8())}), R"([{"w": 1}])"))
                .find("no column 'w'"),
            std::string::npos);
  ASSERT_VALUE(const View view, table->At());
  EXPECT_EQ(view.snapshot().rows, 0);
}

}  // namespace
}  // namespace headrace::table
