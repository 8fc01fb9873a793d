// For tests of garbage collection: a table with a history, on a store whose clock and listings they have in
// hand.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <thread>

#include "base/hash.h"
#include "store/faulty_store.h"
#include "table/keys.h"
#include "table/lease.h"
#include "table/table_testing.h"

namespace headrace::table {

using testing::BatchFromJson;
using testing::ReadAll;
using testing::ReaderOf;

inline constexpr int64_t kHourUs = int64_t{3600} * 1'000'000;

inline const auto kColumns = arrow::schema(
    {arrow::field("id", arrow::int64()), arrow::field("vec", arrow::fixed_size_list(arrow::float32(), 2))});

// Calls back after each listing, and may tell other times of objects.
class HookedStore final : public store::ObjectStore {
 public:
  explicit HookedStore(std::shared_ptr<store::ObjectStore> inner) : inner_(std::move(inner)) {}
  std::function<void(std::string_view prefix)> on_list;
  std::function<Status(std::string_view key)> on_put_if_absent = [](std::string_view) {
    return Status::Ok();
  };
  std::function<int64_t(const std::string& key, int64_t put_us)> time = [](const auto&, int64_t us) {
    return us;
  };

  std::string Describe() const override { return inner_->Describe(); }
  Result<store::Bytes> Get(std::string_view key) override { return inner_->Get(key); }
  Result<store::Bytes> GetRange(std::string_view key, store::ByteRange range) override {
    return inner_->GetRange(key, range);
  }
  Result<std::shared_ptr<store::ObjectReader>> Open(std::string_view key) override {
    return inner_->Open(key);
  }
  Result<bool> Exists(std::string_view key) override { return inner_->Exists(key); }
  Status Put(std::string_view key, std::string_view bytes) override { return inner_->Put(key, bytes); }
  Status PutIfAbsent(std::string_view key, std::string_view bytes) override {
    HEADRACE_TRY(on_put_if_absent(key));
    return inner_->PutIfAbsent(key, bytes);
  }
  Result<std::unique_ptr<store::Upload>> StartUpload(std::string_view key) override {
    return inner_->StartUpload(key);
  }
  Status Delete(std::string_view key) override { return inner_->Delete(key); }
  Result<std::vector<store::ObjectInfo>> List(std::string_view prefix, std::string_view start_after,
                                              int64_t limit) override {
    auto listed = inner_->List(prefix, start_after, limit);
    if (listed.ok()) {
      for (auto& object : *listed) object.modified_us = time(object.key, object.modified_us);
    }
    if (on_list) on_list(prefix);
    return listed;
  }

 private:
  std::shared_ptr<store::ObjectStore> inner_;
};

class CollectTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = std::make_shared<HookedStore>(store::NewMemoryStore());
    catalog_ = Catalog::InitOn(store_, {.threads = 2}).value();
    table_ = testing::MakeTable(catalog_.get(), "t", kColumns).value();
  }

  // Ids from..to.
  Status Append(int from, int to, Table* table = nullptr) {
    return (table ? table : table_.get())->Append(ReaderOf({Rows(from, to)}).get(), {}).status();
  }
  static std::shared_ptr<arrow::RecordBatch> Rows(int from, int to) {
    std::string json;
    for (int id = from; id < to; ++id) {
      json +=
          (json.empty() ? "[" : ",") + std::string("{\"id\": ") + std::to_string(id) + ", \"vec\": [1, 2]}";
    }
    return BatchFromJson(kColumns, json + "]");
  }
  // The disk is full, just for the snapshot.
  void FailCommit(Appender* appender) {
    store_->on_put_if_absent = [](std::string_view key) {
      const auto name = ParseKey(key);
      return name && name->kind == ObjectKind::kSnapshot ? Status::Io("full") : Status::Ok();
    };
    EXPECT_TRUE(appender->Commit().status().Is(Code::kIo));
    EXPECT_TRUE(appender->can_retry());
    store_->on_put_if_absent = [](std::string_view) { return Status::Ok(); };
  }
  // Clocks have ticked since whatever came before.
  static void Tick() { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }

  Result<CollectReport> Collect(CollectOptions options = {.keep_us = 1, .grace_us = 0}) {
    Tick();
    return table_->Collect(options, {});
  }
  std::string Seen(const std::string& version = "") {
    const auto view = table_->At(version);
    if (!view.ok()) return view.status().ToString();
    const auto rows = ReadAll(*view, {.with_row_ids = true});
    return rows.ok() ? (*rows)->ToString() : rows.status().ToString();
  }
  std::vector<store::ObjectInfo> Listed(store::ObjectStore* store, const std::string& prefix) {
    return store->List(prefix, "", INT64_MAX).value();
  }
  // Keys of files, without snapshots and what lies beside them.
  std::set<std::string> Files() {
    std::set<std::string> keys;
    for (const auto& object : Listed(store_.get(), table_->prefix())) {
      const auto kind = ParseKey(object.key)->kind;
      if (kind != ObjectKind::kSnapshot && kind != ObjectKind::kCollected) keys.insert(object.key);
    }
    return keys;
  }
  // By another way than the collector's: the names that a version's snapshot, manifests and fragments hold.
  std::set<std::string> FilesOf(const std::vector<std::string>& versions) {
    std::set<std::string> keys;
    for (const auto& version : versions) {
      const View view = table_->At(version).value();
      for (const auto& ref : view.snapshot().manifests) keys.insert(ManifestKey(view.prefix(), ref.id));
      for (const auto& ref : view.snapshot().taken) keys.insert(TakenKey(view.prefix(), ref.id));
      const auto add = [&](const std::vector<DataFile>& files) {
        for (const auto& file : files) {
          keys.insert(DataKey(view.prefix(), file.id, file.column_group->kind));
          if (file.column_group->kind == FileKind::kTensor) keys.insert(SumsKey(view.prefix(), file.id));
        }
      };
      for (const auto& fragment : **view.Fragments()) {
        add(fragment.files);
        for (const auto& pack : fragment.packs) keys.insert(PackKey(view.prefix(), pack.id));
        if (fragment.deleted.count > 0 && fragment.deleted.inside.empty())
          keys.insert(RowSetKey(view.prefix(), fragment.deleted.file));
        for (const auto& overlay : fragment.overlays) {
          add(overlay.files);
          if (overlay.rows.inside.empty()) keys.insert(RowSetKey(view.prefix(), overlay.rows.file));
        }
      }
    }
    return keys;
  }
  // Versions with every kind of file, of which the newest needs few.
  void MakeHistory() {
    catalog_->environment()->inline_row_set_bytes = 0;
    ASSERT_OK(Append(0, 20));
    ASSERT_OK(Append(20, 40));
    ASSERT_OK(table_->Tag("golden", "", true, {}).status());
    ASSERT_OK(table_->Delete({"id < 5"}, {}).status());
    const auto vec = arrow::schema({kColumns->field(1)});
    const auto fives =
        [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
      std::string json = "[";
      for (int64_t i = 0; i < in->num_rows(); ++i) json += std::string(i ? "," : "") + R"({"vec": [5, 5]})";
      return BatchFromJson(vec, json + "]");
    };
    ASSERT_OK(table_->Update({"id = 8"}, {}, {"vec"}, fives, {}).status());
    ASSERT_OK(table_->Update({"id >= 20"}, {}, {"vec"}, fives, {}).status());
    {
      auto appender = table_->StartAppend({"id"}, {}).value();
      appender->Take({.source = Uuid::Random().ToString()});
      ASSERT_OK(appender->Write(*BatchFromJson(arrow::schema({kColumns->field(0)}), R"([{"id": 100}])")));
      ASSERT_OK(appender->Commit().status());
    }
    ASSERT_OK(table_->Compact({}, {}).status());
  }

  std::shared_ptr<HookedStore> store_;
  std::shared_ptr<Catalog> catalog_;
  std::shared_ptr<Table> table_;
};

}  // namespace headrace::table
