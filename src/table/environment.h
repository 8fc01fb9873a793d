// What the tables of one opened catalog share: the store, the threads, and the files that are open.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <unordered_map>

#include "base/limits.h"
#include "base/task_pool.h"
#include "store/object_store.h"
#include "store/read_ahead.h"
#include "table/pins.h"
#include "table/upkeeper.h"

namespace headrace::table {

// Immutable files, opened once and kept while they are among the most recently used.
class FileCache {
 public:
  explicit FileCache(size_t capacity) : capacity_(capacity) {}

  template <typename T>
  Result<std::shared_ptr<T>> GetOrOpen(const std::string& key,
                                       const std::function<Result<std::shared_ptr<T>>()>& open) {
    using Mutable = std::remove_const_t<T>;
    if (auto found = Find(key)) return std::shared_ptr<T>(std::static_pointer_cast<Mutable>(found));
    HEADRACE_ASSIGN(auto opened, open());
    Insert(key, std::const_pointer_cast<Mutable>(opened));
    return opened;
  }

 private:
  std::shared_ptr<void> Find(const std::string& key);
  void Insert(const std::string& key, std::shared_ptr<void> value);

  using Entry = std::pair<std::string, std::shared_ptr<void>>;
  std::mutex mutex_;
  size_t capacity_;
  std::list<Entry> recent_;
  std::unordered_map<std::string, std::list<Entry>::iterator> index_;
};

struct Environment {
  explicit Environment(std::shared_ptr<store::ObjectStore> s, int threads = DefaultThreads())
      : store(std::move(s)),
        files(2048),
        blocks(std::make_shared<store::BlockPool>(limits::kReadAheadBytes)),
        pins(std::make_shared<Pins>(store)),
        pool(threads) {}
  std::shared_ptr<store::ObjectStore> store;
  FileCache files;
  std::shared_ptr<store::BlockPool> blocks;  // of files on a distant store
  std::shared_ptr<Pins> pins;
  TaskPool pool;
  size_t inline_row_set_bytes = 256;  // sets of rows that are larger go into files
  std::unique_ptr<Upkeeper> upkeep;   // of the tables that are committed to here; null: whoever needs it asks
};

}  // namespace headrace::table
