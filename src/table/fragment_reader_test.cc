#include "table/fragment_reader.h"

#include "table/keys.h"
#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::ReaderOf;

// A table of one fragment in memory, and a look at its parts.
struct Made {
  std::shared_ptr<store::ObjectStore> store = store::NewMemoryStore();
  std::shared_ptr<Table> table;
  std::shared_ptr<const View> view;
  std::shared_ptr<const std::vector<Fragment>> fragments;

  Status Look() {
    HEADRACE_ASSIGN(View newest, table->At());
    view = std::make_shared<const View>(std::move(newest));
    HEADRACE_ASSIGN(fragments, view->Fragments());
    return Status::Ok();
  }
  const Fragment& fragment() const { return fragments->at(0); }
  Result<Projection> Project(const std::string& column) const {
    HEADRACE_ASSIGN(auto columns, ProjectColumns(view->schema(), {column}));
    return std::move(columns.at(0));
  }
  // The key of the file that holds the column.
  Result<std::string> KeyOf(const std::string& column) const {
    HEADRACE_ASSIGN(const auto projection, Project(column));
    const DataFile* file = fragment().FileOf(projection.top.id);
    if (file == nullptr) return Status::NotFound("a hole");
    return DataKey(view->prefix(), file->id, file->column_group->kind);
  }
};

Result<Made> Make(Schema columns, const std::shared_ptr<arrow::Schema>& schema, const std::string& rows) {
  Made made;
  HEADRACE_ASSIGN(const auto catalog, Catalog::InitOn(made.store, {.threads = 1}));
  HEADRACE_ASSIGN(made.table, catalog->CreateTable("t", std::move(columns)));
  const auto reader = ReaderOf({BatchFromJson(schema, rows)});
  HEADRACE_TRY(made.table->Append(reader.get(), {}).status());
  HEADRACE_TRY(made.Look());
  return made;
}

Result<Made> MakeNumbers() {
  const auto schema = arrow::schema({arrow::field("n", arrow::int64())});
  HEADRACE_ASSIGN(Schema columns, SchemaFromArrow(*schema));
  return Make(std::move(columns), schema, R"([{"n": 1}, {"n": 2}, {"n": 3}])");
}

// What reading `n` says after its file became `bytes`, to a reader that has seen nothing yet.
Status ReadAfter(const Made& made, const std::string& bytes) {
  HEADRACE_ASSIGN(const std::string key, made.KeyOf("n"));
  HEADRACE_TRY(made.store->Put(key, bytes));
  HEADRACE_ASSIGN(const auto catalog, Catalog::OpenOn(made.store, {.threads = 1}));
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable("t"));
  HEADRACE_ASSIGN(const auto view, table->At());
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  HEADRACE_ASSIGN(const auto columns, ProjectColumns(view.schema(), {"n"}));
  return view.reader().Read(fragments->at(0), columns.at(0), Rows::Range(0, 3)).status();
}

TEST(FragmentReader, FilesOfAnotherSizeAreCorrupt) {
  ASSERT_VALUE(const Made made, MakeNumbers());
  ASSERT_VALUE(const std::string key, made.KeyOf("n"));
  ASSERT_VALUE(const store::Bytes bytes, made.store->Get(key));
  const Status status = ReadAfter(made, "x" + std::string(bytes.view()));
  EXPECT_TRUE(status.Is(Code::kCorrupt)) << status.ToString();
  EXPECT_NE(status.ToString().find("bytes; its manifest says"), std::string::npos) << status.ToString();
}

TEST(FragmentReader, TheEndOfAFileIsCheckedAgainstTheManifest) {
  ASSERT_VALUE(const Made made, MakeNumbers());
  ASSERT_VALUE(const std::string key, made.KeyOf("n"));
  ASSERT_VALUE(const store::Bytes bytes, made.store->Get(key));
  const std::string whole(bytes.view());
  const int64_t tail = made.fragment().files.at(0).tail.bytes;
  ASSERT_GT(tail, 0);
  for (const size_t at : {whole.size() - static_cast<size_t>(tail), whole.size() - 9}) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    const Status status = ReadAfter(made, damaged);
    EXPECT_TRUE(status.Is(Code::kCorrupt)) << at << status.ToString();
    EXPECT_NE(status.ToString().find("does not match its checksum"), std::string::npos) << status.ToString();
  }
  EXPECT_OK(ReadAfter(made, whole));
}

TEST(FragmentReader, NullStructsHaveNullFields) {
  const auto schema = arrow::schema({arrow::field("s", arrow::struct_({arrow::field("a", arrow::int64())}))});
  ASSERT_VALUE(Schema columns, SchemaFromArrow(*schema));
  ASSERT_VALUE(const Made made, Make(std::move(columns), schema, R"([{"s": {"a": 1}}, {"s": null}])"));
  ASSERT_VALUE(const auto projection, made.Project("s.a"));
  ASSERT_VALUE(const auto values,
               made.view->reader().ReadPath(made.fragment(), projection, Rows::Range(0, 2)));
  EXPECT_EQ(static_cast<const arrow::Int64Array&>(*values).Value(0), 1);
  EXPECT_TRUE(values->IsNull(1));
}

TEST(FragmentReader, BlobsAndTheirPacksNameTheTable) {
  const auto schema = arrow::schema({arrow::field("b", arrow::binary())});
  ASSERT_VALUE(Schema columns, SchemaFromArrow(*schema));
  columns.fields[0].type = *ParseType("blob");
  const std::string large(100'000, 'x');
  ASSERT_VALUE(const Made made, Make(std::move(columns), schema, R"([{"b": ")" + large + R"("}])"));
  const Rows rows = Rows::Range(0, 1);
  const std::string begin = made.table->id().ToString() + "/";

  ASSERT_VALUE(const auto blob, made.Project("b"));
  ASSERT_VALUE(const auto cells, made.view->reader().Read(made.fragment(), blob, rows));
  const auto pack = static_cast<const arrow::StructArray&>(*cells).GetFieldByName("pack");
  EXPECT_TRUE(static_cast<const arrow::StringArray&>(*pack).GetString(0).starts_with(begin));

  ASSERT_VALUE(const auto place, made.Project("b.pack"));
  ASSERT_VALUE(const auto packs, made.view->reader().Read(made.fragment(), place, rows));
  EXPECT_TRUE(static_cast<const arrow::StringArray&>(*packs).GetString(0).starts_with(begin));
}

TEST(FragmentReader, HolesAreKnownWithoutReading) {
  ASSERT_VALUE(Made made, MakeNumbers());
  Field plain, filled;
  plain.name = "plain";
  filled.name = "filled";
  filled.default_value = "7";
  filled.has_default = true;
  ASSERT_OK(made.table->AddEmptyColumns({plain, filled}, {}).status());
  ASSERT_OK(made.Look());
  const FragmentReader& reader = made.view->reader();

  ASSERT_VALUE(const auto nulls, made.Project("plain"));
  ASSERT_VALUE(const auto stats, reader.PageStats(made.fragment(), nulls, 0, 2));
  ASSERT_TRUE(stats.has_value());
  EXPECT_EQ(stats->nulls, 2);
  EXPECT_EQ(stats->values, 0);
  ASSERT_VALUE(const auto read, reader.Read(made.fragment(), nulls, Rows::Range(0, 3)));
  EXPECT_EQ(read->null_count(), 3);

  // A default's bounds are not known: a filter may not conclude from them that no row passes.
  ASSERT_VALUE(const auto defaults, made.Project("filled"));
  ASSERT_VALUE(const auto of_defaults, reader.PageStats(made.fragment(), defaults, 0, 3));
  ASSERT_TRUE(of_defaults.has_value());
  EXPECT_EQ(of_defaults->nulls, 0);
  EXPECT_EQ(of_defaults->values, 3);
  EXPECT_TRUE(of_defaults->has_nan && IsNull(of_defaults->min) && IsNull(of_defaults->max));
  ASSERT_VALUE(const auto sevens, reader.Read(made.fragment(), defaults, Rows::Range(1, 3)));
  EXPECT_EQ(static_cast<const arrow::Int64Array&>(*sevens).Value(1), 7);
  EXPECT_EQ(reader.bytes_read(), 0);
}

TEST(FragmentReader, BytesOfTensorsAreCounted) {
  const auto schema = arrow::schema({arrow::field("v", arrow::fixed_size_list(arrow::float32(), 4))});
  ASSERT_VALUE(Schema columns, SchemaFromArrow(*schema));
  ASSERT_VALUE(const Made made,
               Make(std::move(columns), schema, R"([{"v": [1, 2, 3, 4]}, {"v": [5, 6, 7, 8]}])"));
  ASSERT_VALUE(const auto tensor, made.Project("v"));
  ASSERT_OK(made.view->reader().Read(made.fragment(), tensor, Rows::Range(1, 2)).status());
  EXPECT_EQ(made.view->reader().bytes_read(), 16);
}

}  // namespace
}  // namespace headrace::table
