#include "store/faulty_store.h"

#include <chrono>
#include <functional>
#include <mutex>
#include <random>
#include <thread>

namespace headrace::store {
namespace {

class Faults {
 public:
  void Arm(const FaultPlan& plan) {
    std::lock_guard lock(mutex_);
    plan_ = plan;
    count_ = 0;
    fired_ = false;
    crashed_ = false;
    random_.seed(plan.seed);
  }
  Fault Next() {
    std::lock_guard lock(mutex_);
    const int64_t mine = count_++;
    if (crashed_) return Fault::kCrash;
    Fault fault = Fault::kNone;
    if (mine == plan_.at) {
      fault = plan_.fault;
      fired_ = true;
    } else if (!plan_.kinds.empty() && std::uniform_real_distribution<>(0, 1)(random_) < plan_.probability) {
      fault = plan_.kinds[random_() % plan_.kinds.size()];
      fired_ = true;
    }
    if (fault == Fault::kCrash) crashed_ = true;
    return fault;
  }
  void Sleep() const { std::this_thread::sleep_for(std::chrono::milliseconds(plan_.hang_ms)); }
  int64_t count() const {
    std::lock_guard lock(mutex_);
    return count_;
  }
  bool fired() const {
    std::lock_guard lock(mutex_);
    return fired_;
  }

  Status Write(std::string_view what, const std::function<Status()>& run) {
    switch (Next()) {
      case Fault::kNone:
        return run();
      case Fault::kFail:
      case Fault::kShortRead:
        return Status::Unavailable("injected failure of " + std::string(what));
      case Fault::kCrash:
        return Status::Unavailable("injected crash before " + std::string(what));
      case Fault::kHang:
        Sleep();
        return Status::Timeout("injected hang of " + std::string(what));
      case Fault::kAmbiguous: {
        const Status ignored = run();
        (void)ignored;
        return Status::Timeout("injected time-out after " + std::string(what));
      }
      case Fault::kDelay:
        Sleep();
        return run();
      case Fault::kDuplicate: {
        const Status first = run();
        (void)first;
        return run();
      }
    }
    return run();
  }

  template <typename T>
  Result<T> Read(std::string_view what, const std::function<Result<T>()>& run,
                 const std::function<T(T)>& shorten = nullptr) {
    switch (Next()) {
      case Fault::kFail:
        return Status::Unavailable("injected failure of " + std::string(what));
      case Fault::kCrash:
        return Status::Unavailable("injected crash before " + std::string(what));
      case Fault::kHang:
      case Fault::kAmbiguous:
        Sleep();
        return Status::Timeout("injected hang of " + std::string(what));
      case Fault::kDelay:
        Sleep();
        return run();
      case Fault::kShortRead: {
        auto result = run();
        if (result.ok() && shorten) return shorten(std::move(result).value());
        return result;
      }
      default:
        return run();
    }
  }

 private:
  mutable std::mutex mutex_;
  FaultPlan plan_;
  int64_t count_ = 0;
  bool fired_ = false;
  bool crashed_ = false;
  std::mt19937_64 random_;
};

Bytes Half(Bytes bytes) { return bytes.Slice(0, bytes.size() / 2); }

class FaultyReader final : public ObjectReader {
 public:
  FaultyReader(std::shared_ptr<Faults> faults, std::shared_ptr<ObjectReader> inner)
      : ObjectReader(inner->key(), inner->size()), faults_(std::move(faults)), inner_(std::move(inner)) {}

 protected:
  Result<Bytes> DoRead(int64_t offset, int64_t length) override {
    return faults_->Read<Bytes>(
        "read " + key(), [&] { return inner_->Read(offset, length); }, Half);
  }

 private:
  std::shared_ptr<Faults> faults_;
  std::shared_ptr<ObjectReader> inner_;
};

class FaultyUpload final : public Upload {
 public:
  FaultyUpload(std::shared_ptr<Faults> faults, std::unique_ptr<Upload> inner)
      : faults_(std::move(faults)), inner_(std::move(inner)) {}
  Status Append(std::string_view bytes) override {
    // A stream cannot be sent twice: only failures make sense here.
    const Fault fault = faults_->Next();
    if (fault != Fault::kNone && fault != Fault::kDelay && fault != Fault::kDuplicate) {
      return Status::Unavailable("injected failure of an upload");
    }
    written_ += static_cast<int64_t>(bytes.size());
    return inner_->Append(bytes);
  }
  Status Commit() override {
    const Fault fault = faults_->Next();
    if (fault == Fault::kAmbiguous) {
      const Status ignored = inner_->Commit();
      (void)ignored;
      return Status::Timeout("injected time-out after an upload");
    }
    if (fault != Fault::kNone && fault != Fault::kDelay && fault != Fault::kDuplicate) {
      return Status::Unavailable("injected failure of an upload");
    }
    return inner_->Commit();
  }

 private:
  std::shared_ptr<Faults> faults_;
  std::unique_ptr<Upload> inner_;
};

class FaultyStoreImpl final : public FaultyStore {
 public:
  explicit FaultyStoreImpl(std::shared_ptr<ObjectStore> inner)
      : faults_(std::make_shared<Faults>()), inner_(std::move(inner)) {}

  void Arm(const FaultPlan& plan) override { faults_->Arm(plan); }
  int64_t operations() const override { return faults_->count(); }
  bool fired() const override { return faults_->fired(); }
  std::string Describe() const override { return "faulty " + inner_->Describe(); }

  Result<Bytes> Get(std::string_view key) override {
    // A whole-object read cannot know its length, so a short answer is an error here (as curl reports it).
    return faults_->Read<Bytes>("get " + std::string(key),
                                [&]() -> Result<Bytes> { return inner_->Get(key); });
  }
  Result<Bytes> GetRange(std::string_view key, ByteRange range) override {
    return faults_->Read<Bytes>("get " + std::string(key), [&] { return inner_->GetRange(key, range); });
  }
  Result<std::shared_ptr<ObjectReader>> Open(std::string_view key) override {
    using Reader = std::shared_ptr<ObjectReader>;
    return faults_->Read<Reader>("open " + std::string(key), [&]() -> Result<Reader> {
      HEADRACE_ASSIGN(auto reader, inner_->Open(key));
      return Reader(new FaultyReader(faults_, std::move(reader)));
    });
  }
  Result<bool> Exists(std::string_view key) override {
    return faults_->Read<bool>("probe " + std::string(key), [&] { return inner_->Exists(key); });
  }
  Status Put(std::string_view key, std::string_view bytes) override {
    return faults_->Write("put " + std::string(key), [&] { return inner_->Put(key, bytes); });
  }
  Status PutIfAbsent(std::string_view key, std::string_view bytes) override {
    return faults_->Write("put " + std::string(key), [&] { return inner_->PutIfAbsent(key, bytes); });
  }
  Result<std::unique_ptr<Upload>> StartUpload(std::string_view key) override {
    using Ptr = std::unique_ptr<Upload>;
    return faults_->Read<Ptr>("upload " + std::string(key), [&]() -> Result<Ptr> {
      HEADRACE_ASSIGN(auto upload, inner_->StartUpload(key));
      return Ptr(new FaultyUpload(faults_, std::move(upload)));
    });
  }
  Status Delete(std::string_view key) override {
    return faults_->Write("delete " + std::string(key), [&] { return inner_->Delete(key); });
  }
  Result<std::vector<ObjectInfo>> List(std::string_view prefix, std::string_view start_after,
                                       int64_t limit) override {
    using Infos = std::vector<ObjectInfo>;
    return faults_->Read<Infos>("list " + std::string(prefix),
                                [&] { return inner_->List(prefix, start_after, limit); });
  }
  bool is_local() const override { return inner_->is_local(); }

 private:
  std::shared_ptr<Faults> faults_;
  std::shared_ptr<ObjectStore> inner_;
};

}  // namespace

std::shared_ptr<FaultyStore> NewFaultyStore(std::shared_ptr<ObjectStore> inner) {
  return std::make_shared<FaultyStoreImpl>(std::move(inner));
}

}  // namespace headrace::store
