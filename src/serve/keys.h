// keys: who may ask, and how much. Keys are rows of the table `keys`: one for each change, the last of an id
// counts. The key itself is shown once, when it is made; the table holds its SHA-256.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "table/catalog.h"

namespace headrace::serve {

struct KeyFacts {
  std::string id;                                             // "key_1f2e3d4c"
  std::string name;                                           // for people
  std::string hash;                                           // SHA-256 of the key, hex
  std::string group = "default";                              // of metrics: "interactive", "batch", …
  std::vector<std::string> scopes = {"inference", "record"};  // and "admin": metrics, load
  double weight = 1;                                          // share of compute beside others
  int64_t requests_per_minute = 0;                            // 0: no limit
  int64_t tokens_per_minute = 0;                              // of prompts and answers
  int64_t concurrent = 0;                                     // requests in flight
  std::string cache = "key";  // whose cached prefixes it shares: its own, or those of all keys with this name
  int64_t max_priority = 0;   // of its requests: beyond, they would go before everybody's
  int64_t created_us = 0;
  int64_t expires_us = 0;  // 0: never
  bool revoked = false;
  bool May(std::string_view scope) const;
};

struct NewKey {
  KeyFacts facts;
  std::string key;  // "hr-…", told once
};
// `value`: a key that clients have already; "": a new one.
Result<NewKey> CreateKey(table::Catalog* catalog, KeyFacts facts, const std::string& value = "");
Result<KeyFacts> RevokeKey(table::Catalog* catalog, const std::string& id_or_name);
// All of them, oldest first, revoked ones too.
Result<std::vector<KeyFacts>> ListKeys(const table::Catalog& catalog);
std::string KeyHash(std::string_view key);

// The keys as a server sees them: read again when the table has a new version.
class KeyRing {
 public:
  explicit KeyRing(std::shared_ptr<table::Catalog> catalog) : catalog_(std::move(catalog)) {}
  // Reads the table if it has changed. After an error the keys that were known stay.
  Status Refresh();
  bool empty() const;  // no key was ever made
  // The key's facts; nothing where it is unknown, revoked or expired.
  std::optional<KeyFacts> Find(std::string_view key) const;
  std::vector<KeyFacts> all() const;
  std::string trouble() const;  // why the table could not be read the last time; "" where it could

 private:
  Status Reread();

  std::shared_ptr<table::Catalog> catalog_;
  mutable std::mutex mutex_;
  int64_t version_ = -1;
  std::map<std::string, KeyFacts> by_hash_;
  std::string trouble_;
};

}  // namespace headrace::serve
