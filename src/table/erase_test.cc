// Rows whose bytes are to be nowhere.
#include "table/collect_testing.h"

namespace headrace::table {
namespace {

// A picture, a text and numbers of one person go from every file, in two runs; a tag holds them until it
// goes.
TEST_F(CollectTest, PurgedRowsAreErased) {
  Schema schema =
      SchemaFromArrow(*arrow::schema({arrow::field("name", arrow::utf8()), kColumns->field(1)})).value();
  schema.fields.push_back(Field{-1, "image", Type{.kind = Kind::kBlob, .children = BlobFields()}, "", false});
  ASSERT_VALUE(const auto people, catalog_->CreateTable("people", schema));
  const auto columns = arrow::schema(
      {arrow::field("name", arrow::utf8()), kColumns->field(1), arrow::field("image", arrow::binary())});
  CommitOptions options;
  options.write.inline_blob_bytes = 4;
  std::string json;
  for (int i = 0; i < 9; ++i) {
    const std::string who = "person number " + std::to_string(i);
    json += (i ? "," : "[") + std::string("{\"name\": \"") + who + "\", \"vec\": [" + std::to_string(i) +
            ".5, 7], \"image\": \"the face of " + who + "\"}";
  }
  ASSERT_OK(people->Append(ReaderOf({BatchFromJson(columns, json + "]")}).get(), options).status());
  const auto holding = [&](const std::string& bytes) {
    int objects = 0;
    for (const auto& object : Listed(store_.get(), people->prefix()))
      objects += store_->Get(object.key)->view().find(bytes) != std::string_view::npos;
    return objects;
  };
  const float number = 4.5F;
  const std::string as_bytes(reinterpret_cast<const char*>(&number), sizeof number);
  ASSERT_GE(holding("person number 4"), 2) << "in a column and in a pack";
  ASSERT_EQ(holding(as_bytes), 1);
  ASSERT_OK(people->Tag("golden", "", false, {}).status());
  ASSERT_OK(people->Delete({"name = 'person number 4'"}, {}, /*erase=*/true).status());
  const auto absent = [&] {
    VerifyOptions verify;
    verify.absent = Xxh3("the face of person number 4");
    return people->Verify(verify, {}).value().present.empty();
  };
  EXPECT_FALSE(absent());
  const auto collect = [&] {
    Tick();
    return people->Collect({.grace_us = 0}, {}).value();
  };
  EXPECT_GT(collect().erased, 0);
  EXPECT_GE(holding("the face of person number 4"), 1) << "the tag holds them";
  EXPECT_FALSE(absent());
  ASSERT_OK(people->RemoveTag("golden", {}).status());
  EXPECT_EQ(collect().erased, 0) << "the newest version has been without them";
  collect();
  EXPECT_EQ(holding("person number 4"), 0);
  EXPECT_EQ(holding(as_bytes), 0);
  EXPECT_TRUE(absent());
  VerifyOptions other;
  other.absent = Xxh3("the face of person number 5");
  EXPECT_FALSE(people->Verify(other, {}).value().present.empty());
  ASSERT_VALUE(const View view, people->At());
  ASSERT_VALUE(const auto rows, ReadAll(view));
  ASSERT_EQ(rows->num_rows(), 8);
  ASSERT_VALUE(const auto faces, view.ReadBlobs(rows->GetColumnByName("image")->chunk(0)));
  EXPECT_EQ(faces[4]->view(), "the face of person number 5");
  EXPECT_EQ(view.snapshot().erase, 0);
}

// Two rows share a blob's bytes, as many as another's that is purged: what fragments say of a pack's use is
// then no less than the pack.
TEST_F(CollectTest, PurgedBytesGoThoughOthersAreShared) {
  const Schema schema{{Field{-1, "image", Type{.kind = Kind::kBlob, .children = BlobFields()}, "", false}}};
  ASSERT_VALUE(const auto photos, catalog_->CreateTable("photos", schema));
  const auto blobs = arrow::schema({arrow::field("image", arrow::binary())});
  CommitOptions options;
  options.write.inline_blob_bytes = 4;
  ASSERT_OK(
      photos
          ->Append(
              ReaderOf({BatchFromJson(blobs, R"([{"image": "picture a"}, {"image": "picture b"}])")}).get(),
              options)
          .status());
  ASSERT_VALUE(const View first, photos->At());
  ASSERT_VALUE(const auto a, first.Take({0}, {"image"}));
  ASSERT_OK(photos->Append(ReaderOf({a}).get(), options).status());
  ASSERT_OK(photos->Delete({"_row_id = 1"}, {}, /*erase=*/true).status());
  ASSERT_OK(photos->Compact({.deleted_share = 0}, options).status());
  for (int run = 0; run < 2; ++run) {
    Tick();
    ASSERT_OK(photos->Collect({.grace_us = 0}, {}).status());
  }
  for (const auto& object : Listed(store_.get(), photos->prefix()))
    EXPECT_EQ(store_->Get(object.key)->view().find("picture b"), std::string_view::npos) << object.key;
  ASSERT_VALUE(const View view, photos->At());
  ASSERT_VALUE(const auto rows, ReadAll(view));
  ASSERT_VALUE(const auto bytes, view.ReadBlobs(rows->column(0)->chunk(0)));
  ASSERT_EQ(bytes.size(), 2U);
  EXPECT_EQ(bytes[1]->view(), "picture a");
}

}  // namespace
}  // namespace headrace::table
