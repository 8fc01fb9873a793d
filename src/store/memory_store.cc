#include "store/memory_store.h"

#include <map>
#include <mutex>

#include "base/clock.h"

namespace headrace::store {
namespace {

class MemoryReader final : public ObjectReader {
 public:
  MemoryReader(std::string key, Bytes bytes)
      : ObjectReader(std::move(key), bytes.size()), bytes_(std::move(bytes)) {}
  bool is_mapped() const override { return true; }

 protected:
  Result<Bytes> DoRead(int64_t offset, int64_t length) override { return bytes_.Slice(offset, length); }

 private:
  Bytes bytes_;
};

class MemoryStore final : public ObjectStore {
 public:
  explicit MemoryStore(std::function<int64_t()> clock) : clock_(std::move(clock)) {}
  std::string Describe() const override { return "memory"; }

  Result<Bytes> Get(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    std::lock_guard lock(mutex_);
    const auto it = objects_.find(key);
    if (it == objects_.end()) return Status::NotFound("there is no object " + std::string(key));
    return it->second.bytes;
  }
  Result<Bytes> GetRange(std::string_view key, ByteRange range) override {
    HEADRACE_ASSIGN(auto reader, Open(key));
    return reader->Read(range.offset, range.length);
  }
  Result<std::shared_ptr<ObjectReader>> Open(std::string_view key) override {
    HEADRACE_ASSIGN(Bytes bytes, Get(key));
    return std::shared_ptr<ObjectReader>(new MemoryReader(std::string(key), std::move(bytes)));
  }
  Result<bool> Exists(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    std::lock_guard lock(mutex_);
    return objects_.contains(key);
  }
  Status Put(std::string_view key, std::string_view bytes) override {
    HEADRACE_TRY(ValidateKey(key));
    std::lock_guard lock(mutex_);
    objects_.insert_or_assign(std::string(key), Object{Bytes::FromString(std::string(bytes)), clock_()});
    return Status::Ok();
  }
  Status PutIfAbsent(std::string_view key, std::string_view bytes) override {
    HEADRACE_TRY(ValidateKey(key));
    std::lock_guard lock(mutex_);
    if (!objects_.try_emplace(std::string(key), Object{Bytes::FromString(std::string(bytes)), clock_()})
             .second) {
      return Status::AlreadyExists(std::string(key) + " exists");
    }
    return Status::Ok();
  }
  Result<std::unique_ptr<Upload>> StartUpload(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    return std::unique_ptr<Upload>(new MemoryUpload(this, std::string(key)));
  }
  Status Delete(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    std::lock_guard lock(mutex_);
    const auto it = objects_.find(key);
    if (it != objects_.end()) objects_.erase(it);
    return Status::Ok();
  }
  Result<std::vector<ObjectInfo>> List(std::string_view prefix, std::string_view start_after,
                                       int64_t limit) override {
    std::lock_guard lock(mutex_);
    std::vector<ObjectInfo> found;
    auto it = start_after >= prefix ? objects_.upper_bound(start_after) : objects_.lower_bound(prefix);
    for (; it != objects_.end() && static_cast<int64_t>(found.size()) < limit; ++it) {
      if (!it->first.starts_with(prefix)) break;
      found.push_back({it->first, it->second.bytes.size(), it->second.put_us});
    }
    return found;
  }

 private:
  class MemoryUpload final : public Upload {
   public:
    MemoryUpload(MemoryStore* store, std::string key) : store_(store), key_(std::move(key)) {}
    Status Append(std::string_view bytes) override {
      text_ += bytes;
      written_ += static_cast<int64_t>(bytes.size());
      return Status::Ok();
    }
    Status Commit() override { return store_->PutIfAbsent(key_, text_); }

   private:
    MemoryStore* store_;
    std::string key_;
    std::string text_;
  };

  std::function<int64_t()> clock_;
  std::mutex mutex_;
  struct Object {
    Bytes bytes;
    int64_t put_us;
  };
  std::map<std::string, Object, std::less<>> objects_;
};

}  // namespace

std::shared_ptr<ObjectStore> NewMemoryStore(std::function<int64_t()> clock) {
  return std::make_shared<MemoryStore>(std::move(clock));
}

}  // namespace headrace::store
