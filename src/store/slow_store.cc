#include "store/slow_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "store/local_store.h"

namespace headrace::store {
namespace {

struct Options {
  double latency = 0;  // seconds
  double rate = 0;     // bytes a second; 0: no limit
  std::string outage;
  std::string log;
  std::string folder;
};

Result<Options> ParseOptions(const std::string& location) {
  const auto wrong = [&] {
    return Status::Invalid("'" + location +
                           "': a slow store is written slow:latency=50ms,rate=100MB:/folder");
  };
  const size_t split = location.find(":/", 5);
  if (split == std::string::npos) return wrong();
  Options options;
  options.folder = location.substr(split + 1);
  std::string rest = location.substr(5, split - 5);
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string part = rest.substr(0, comma);
    rest = comma < rest.size() ? rest.substr(comma + 1) : "";
    const size_t equals = part.find('=');
    if (equals == std::string::npos) return wrong();
    const std::string name = part.substr(0, equals);
    const std::string value = part.substr(equals + 1);
    if (name == "latency") {
      options.latency = std::strtod(value.c_str(), nullptr) / (value.ends_with("ms") ? 1000 : 1);
    } else if (name == "rate") {
      const double unit = value.ends_with("GB")   ? 1e9
                          : value.ends_with("MB") ? 1e6
                          : value.ends_with("KB") ? 1e3
                                                  : 1;
      options.rate = std::strtod(value.c_str(), nullptr) * unit;
    } else if (name == "outage") {
      options.outage = value;
    } else if (name == "log") {
      options.log = value;
    } else {
      return wrong();
    }
  }
  return options;
}

// The network link, shared by all requests.
class Link {
 public:
  explicit Link(Options options) : options_(std::move(options)) {
    if (!options_.log.empty())
      log_ = open(options_.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  }
  ~Link() {
    if (log_ >= 0) close(log_);
  }
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Sleeps until these bytes, all asked for now, have arrived.
  Status Carry(std::string_view key, const std::vector<ByteRange>& ranges) {
    struct stat info {};
    if (!options_.outage.empty() && stat(options_.outage.c_str(), &info) == 0) {
      std::this_thread::sleep_for(std::chrono::duration<double>(options_.latency));
      return Status::Unavailable("the slow store is away (" + options_.outage + " exists)");
    }
    const double now = MonotonicSeconds();
    double ready = now + options_.latency;
    for (const auto& range : ranges) {
      if (options_.rate > 0) {
        const std::lock_guard lock(mutex_);
        free_at_ =
            std::max(free_at_, now + options_.latency) + static_cast<double>(range.length) / options_.rate;
        ready = std::max(ready, free_at_);
      }
      if (log_ >= 0) {
        const std::string line =
            std::string(key) + " " + std::to_string(range.offset) + " " + std::to_string(range.length) + "\n";
        if (write(log_, line.data(), line.size()) < 0)
          return Status::FromErrno(errno, "write to", options_.log);
      }
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(ready - MonotonicSeconds()));
    return Status::Ok();
  }

 private:
  Options options_;
  std::mutex mutex_;
  double free_at_ = 0;
  int log_ = -1;
};

class SlowReader final : public ObjectReader {
 public:
  SlowReader(std::shared_ptr<ObjectReader> inner, std::shared_ptr<Link> link)
      : ObjectReader(inner->key(), inner->size()), inner_(std::move(inner)), link_(std::move(link)) {}

 protected:
  Result<Bytes> DoRead(int64_t offset, int64_t length) override {
    HEADRACE_ASSIGN(auto parts, DoReadMany({{offset, length}}, 0));
    return parts[0];
  }
  Result<std::vector<Bytes>> DoReadMany(const std::vector<ByteRange>& ranges, int64_t max_gap) override {
    std::vector<Bytes> parts(ranges.size());
    std::vector<ByteRange> wanted;
    for (const auto& part : CoalesceRanges(ranges, max_gap, kCoalesceBytes)) wanted.push_back(part.range);
    HEADRACE_TRY(link_->Carry(key(), wanted));
    for (size_t i = 0; i < ranges.size(); ++i) {
      // A copy, as a download is one.
      HEADRACE_ASSIGN(const Bytes bytes, inner_->Read(ranges[i].offset, ranges[i].length));
      parts[i] = Bytes::FromString(std::string(bytes.view()));
    }
    return parts;
  }

 private:
  std::shared_ptr<ObjectReader> inner_;
  std::shared_ptr<Link> link_;
};

class SlowStore final : public ObjectStore {
 public:
  SlowStore(std::shared_ptr<ObjectStore> inner, std::string location, Options options)
      : inner_(std::move(inner)),
        location_(std::move(location)),
        link_(std::make_shared<Link>(std::move(options))) {}

  std::string Describe() const override { return location_; }
  bool is_local() const override { return false; }

  Result<Bytes> Get(std::string_view key) override {
    HEADRACE_ASSIGN(auto bytes, Answer(key, inner_->Get(key)));
    HEADRACE_TRY(link_->Carry(key, {{0, bytes.size()}}));
    return bytes;
  }
  Result<Bytes> GetRange(std::string_view key, ByteRange range) override {
    HEADRACE_TRY(link_->Carry(key, {range}));
    return inner_->GetRange(key, range);
  }
  Result<std::shared_ptr<ObjectReader>> Open(std::string_view key) override {
    HEADRACE_TRY(link_->Carry(key, {}));
    HEADRACE_ASSIGN(auto reader, inner_->Open(key));
    return std::shared_ptr<ObjectReader>(std::make_shared<SlowReader>(std::move(reader), link_));
  }
  Result<bool> Exists(std::string_view key) override {
    HEADRACE_TRY(link_->Carry(key, {}));
    return inner_->Exists(key);
  }
  Status Put(std::string_view key, std::string_view bytes) override {
    HEADRACE_TRY(link_->Carry(key, {}));
    return inner_->Put(key, bytes);
  }
  Status PutIfAbsent(std::string_view key, std::string_view bytes) override {
    HEADRACE_TRY(link_->Carry(key, {}));
    return inner_->PutIfAbsent(key, bytes);
  }
  Result<std::unique_ptr<Upload>> StartUpload(std::string_view key) override {
    HEADRACE_TRY(link_->Carry(key, {}));
    return inner_->StartUpload(key);
  }
  Status Delete(std::string_view key) override {
    HEADRACE_TRY(link_->Carry(key, {}));
    return inner_->Delete(key);
  }
  Result<std::vector<ObjectInfo>> List(std::string_view prefix, std::string_view start_after,
                                       int64_t limit) override {
    HEADRACE_TRY(link_->Carry(prefix, {}));
    return inner_->List(prefix, start_after, limit);
  }

 private:
  // A key that is not there costs a round trip as well.
  Result<Bytes> Answer(std::string_view key, Result<Bytes> result) {
    if (result.ok()) return result;
    HEADRACE_TRY(link_->Carry(key, {}));
    return result;
  }
  std::shared_ptr<ObjectStore> inner_;
  std::string location_;
  std::shared_ptr<Link> link_;
};

}  // namespace

Result<std::shared_ptr<ObjectStore>> OpenSlowStore(const std::string& location, bool sync) {
  HEADRACE_ASSIGN(Options options, ParseOptions(location));
  HEADRACE_ASSIGN(auto inner, OpenLocalStore(options.folder, {.sync = sync}));
  return std::shared_ptr<ObjectStore>(
      std::make_shared<SlowStore>(std::move(inner), location, std::move(options)));
}

}  // namespace headrace::store
