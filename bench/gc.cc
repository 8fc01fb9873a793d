// Garbage collection of a table of very many files, some of them dead, with its requests counted.
//   bench_gc FOLDER FILES DEAD      → {"files", "deleted", "requests", "seconds", "peak_mb"} as JSON
#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/file.h"
#include "store/store.h"
#include "table/catalog.h"
#include "table/commit.h"
#include "table/keys.h"

using namespace headrace;         // NOLINT: a program, not a header
using namespace headrace::table;  // NOLINT: likewise

namespace {

template <typename T>
T Must(Result<T> result) {
  if (result.ok()) return std::move(result).value();
  std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
  std::exit(1);
}
void Must(const Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::exit(1);
  }
}

// Of this program alone: getrusage() also counts what its parent had before exec().
double PeakMegabytes() {
  const std::string status = Must(ReadFile("/proc/self/status"));
  const size_t at = status.find("VmHWM:");
  return at == std::string::npos ? 0 : std::stod(status.substr(at + 6)) / 1024;
}

// Requests as an object store would count them: a listing is one for each thousand keys.
class CountingStore final : public store::ObjectStore {
 public:
  explicit CountingStore(std::shared_ptr<store::ObjectStore> inner) : inner_(std::move(inner)) {}
  std::atomic<int64_t> requests = 0;

  std::string Describe() const override { return inner_->Describe(); }
  Result<store::Bytes> Get(std::string_view key) override { return ++requests, inner_->Get(key); }
  Result<store::Bytes> GetRange(std::string_view key, store::ByteRange range) override {
    return ++requests, inner_->GetRange(key, range);
  }
  Result<std::shared_ptr<store::ObjectReader>> Open(std::string_view key) override {
    return ++requests, inner_->Open(key);
  }
  Result<bool> Exists(std::string_view key) override { return ++requests, inner_->Exists(key); }
  Status Put(std::string_view key, std::string_view bytes) override {
    return ++requests, inner_->Put(key, bytes);
  }
  Status PutIfAbsent(std::string_view key, std::string_view bytes) override {
    return ++requests, inner_->PutIfAbsent(key, bytes);
  }
  Result<std::unique_ptr<store::Upload>> StartUpload(std::string_view key) override {
    return ++requests, inner_->StartUpload(key);
  }
  Status Delete(std::string_view key) override { return ++requests, inner_->Delete(key); }
  Result<std::vector<store::ObjectInfo>> List(std::string_view prefix, std::string_view start_after,
                                              int64_t limit) override {
    auto listed = inner_->List(prefix, start_after, limit);
    requests += 1 + (listed.ok() ? static_cast<int64_t>(listed->size()) / 1000 : 0);
    return listed;
  }

 private:
  std::shared_ptr<store::ObjectStore> inner_;
};

// A table of which `files - dead` files are named by versions, and the others were left behind. Their bytes
// do not matter: collection reads none.
void Make(const std::shared_ptr<store::ObjectStore>& store, int64_t files, int64_t dead) {
  auto catalog = Must(Catalog::InitOn(store));
  Schema schema;
  schema.fields = {Field{-1, "n", Type{}, "", false}};
  auto table = Must(catalog->CreateTable("t", schema));
  SnapshotLog log(catalog->environment(), table->prefix());
  const int32_t field = Must(table->At()).schema().fields[0].id;
  const auto group = std::make_shared<const ColumnGroup>(ColumnGroup{FileKind::kParquet, {field}});
  constexpr int64_t kEach = 1'000;
  for (int64_t made = 0; made < files; made += kEach) {
    AppendRows append;
    for (int64_t i = 0; i < kEach; ++i) {
      Fragment fragment;
      fragment.rows = 10;
      fragment.files = {{Uuid::Random(), 3, group}};
      Must(store->Put(DataKey(table->prefix(), fragment.files[0].id, FileKind::kParquet), "abc"));
      if (i * files < kEach * (files - dead)) append.fragments.push_back(std::move(fragment));
    }
    Must(log.Commit({append, {.who = "bench"}, {}, {}}, {}).status());
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  Must(table->Tag("after", "", false, {}).status());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const auto store = Must(store::OpenStore(argv[1], {.sync = false, .create = true}));
  const int64_t files = std::stoll(argv[2]), dead = std::stoll(argv[3]);
  Make(store, files, dead);
  const auto counting = std::make_shared<CountingStore>(store);
  const auto catalog = Must(Catalog::OpenOn(counting));
  const auto table = Must(catalog->OpenTable("t"));
  counting->requests = 0;
  const double begin = MonotonicSeconds();
  const auto report = Must(table->Collect({.grace_us = 0}, {}));
  std::printf(
      "{\"files\": %lld, \"deleted\": %lld, \"requests\": %lld, \"seconds\": %.3f, \"peak_mb\": %.1f}\n",
      static_cast<long long>(files), static_cast<long long>(report.deleted.objects),
      static_cast<long long>(counting->requests.load()), MonotonicSeconds() - begin, PeakMegabytes());
  return 0;
}
