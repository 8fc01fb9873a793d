#include "serve/keys.h"

#include <arrow/api.h>
#include <openssl/rand.h>

#include <algorithm>

#include "base/clock.h"
#include "base/digest.h"
#include "engine/sampling_ranges.h"
#include "table/arrow_bridge.h"

namespace headrace::serve {
namespace {

constexpr char kTable[] = "keys";
constexpr size_t kFewestLetters = 8, kMostLetters = 1024;  // of a key that comes from elsewhere
constexpr char kOldRecord[] = "scores";                    // what the scope "record" was called
constexpr char kMaxPriority[] = "max_priority";            // tables of earlier programs lack it

std::shared_ptr<arrow::Schema> KeySchema() {
  const auto time = arrow::timestamp(arrow::TimeUnit::MICRO, "UTC");
  return arrow::schema(
      {arrow::field("id", arrow::utf8()), arrow::field("name", arrow::utf8()),
       arrow::field("hash", arrow::utf8()), arrow::field("group", arrow::utf8()),
       arrow::field("scopes", arrow::utf8()), arrow::field("weight", arrow::float64()),
       arrow::field("requests_per_minute", arrow::int64()), arrow::field("tokens_per_minute", arrow::int64()),
       arrow::field("concurrent", arrow::int64()), arrow::field("cache", arrow::utf8()),
       arrow::field("created", time), arrow::field("expires", time),
       arrow::field("revoked", arrow::boolean()), arrow::field(kMaxPriority, arrow::int64())});
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::vector<std::string> Split(const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    if (end > at) words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

template <typename Builder, typename Value>
Result<std::shared_ptr<arrow::Array>> One(Builder builder, const Value& value) {
  HEADRACE_ARROW_TRY(builder.Append(value));
  std::shared_ptr<arrow::Array> array;
  HEADRACE_ARROW_TRY(builder.Finish(&array));
  return array;
}

Status Write(table::Catalog* catalog, const KeyFacts& facts, const std::string& why) {
  HEADRACE_ASSIGN(const table::Schema schema, table::SchemaFromArrow(*KeySchema()));
  HEADRACE_ASSIGN(const auto table,
                  catalog->OpenOrCreateTable(kTable, schema, {.why = "keys of the server"}));
  HEADRACE_ASSIGN(const table::View view, table->At());
  if (view.schema().Find(kMaxPriority) == nullptr) {
    const Status grown =
        table->AddEmptyColumns({*schema.Find(kMaxPriority)}, {.why = "keys have a highest priority"})
            .status();
    if (!grown.ok() && !grown.Is(Code::kConflict)) return grown;  // Conflict: another was faster
  }
  arrow::ArrayVector columns;
  const auto add = [&](Result<std::shared_ptr<arrow::Array>> array) {
    if (array.ok()) columns.push_back(*array);
    return array.ok() ? Status::Ok() : array.status();
  };
  const auto time = arrow::timestamp(arrow::TimeUnit::MICRO, "UTC");
  const auto times = [&](int64_t value) {
    return One(arrow::TimestampBuilder(time, arrow::default_memory_pool()), value);
  };
  for (const std::string& text : {facts.id, facts.name, facts.hash, facts.group, Join(facts.scopes)})
    HEADRACE_TRY(add(One(arrow::StringBuilder(), text)));
  HEADRACE_TRY(add(One(arrow::DoubleBuilder(), facts.weight)));
  for (const int64_t number : {facts.requests_per_minute, facts.tokens_per_minute, facts.concurrent})
    HEADRACE_TRY(add(One(arrow::Int64Builder(), number)));
  HEADRACE_TRY(add(One(arrow::StringBuilder(), facts.cache)));
  HEADRACE_TRY(add(times(facts.created_us)));
  HEADRACE_TRY(add(times(facts.expires_us)));
  HEADRACE_TRY(add(One(arrow::BooleanBuilder(), facts.revoked)));
  HEADRACE_TRY(add(One(arrow::Int64Builder(), facts.max_priority)));
  const auto batch = arrow::RecordBatch::Make(KeySchema(), 1, columns);
  HEADRACE_ASSIGN(const auto appender, table->StartAppend(batch->schema()->field_names(), {.why = why}));
  HEADRACE_TRY(appender->Write(*batch));
  return appender->Commit().status();
}

Result<std::vector<KeyFacts>> Read(const table::View& view) {
  std::vector<KeyFacts> keys;
  HEADRACE_ASSIGN(const auto reader, view.Scan({}));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) break;
    const auto text = [&](const char* name, int64_t i) {
      return static_cast<const arrow::StringArray&>(*batch->GetColumnByName(name)).GetString(i);
    };
    const auto number = [&](const char* name, int64_t i) {
      return static_cast<const arrow::Int64Array&>(*batch->GetColumnByName(name)).Value(i);
    };
    for (const char* name : {"id", "name", "hash", "group", "scopes", "weight", "requests_per_minute",
                             "tokens_per_minute", "concurrent", "cache", "created", "expires", "revoked"})
      if (batch->GetColumnByName(name) == nullptr)
        return Status::Invalid(std::string("the table 'keys' has no column '") + name +
                               "': it is not one that `headrace key` made");
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      KeyFacts facts;
      facts.id = text("id", i);
      facts.name = text("name", i);
      facts.hash = text("hash", i);
      facts.group = text("group", i);
      facts.scopes = Split(text("scopes", i));
      facts.weight = static_cast<const arrow::DoubleArray&>(*batch->GetColumnByName("weight")).Value(i);
      facts.requests_per_minute = number("requests_per_minute", i);
      facts.tokens_per_minute = number("tokens_per_minute", i);
      facts.concurrent = number("concurrent", i);
      facts.cache = text("cache", i);
      if (const auto most = batch->GetColumnByName(kMaxPriority); most && !most->IsNull(i)) {
        facts.max_priority = number(kMaxPriority, i);
      } else if (facts.cache == "project") {
        facts.cache = "key";  // an earlier program's default, which nobody chose
      }
      facts.created_us = number("created", i);  // timestamps are int64 below
      facts.expires_us = number("expires", i);
      facts.revoked = static_cast<const arrow::BooleanArray&>(*batch->GetColumnByName("revoked")).Value(i);
      const auto same =
          std::find_if(keys.begin(), keys.end(), [&](const KeyFacts& k) { return k.id == facts.id; });
      if (same != keys.end()) {
        *same = std::move(facts);
      } else {
        keys.push_back(std::move(facts));
      }
    }
  }
  return keys;
}

Result<std::string> Random(size_t letters) {
  static constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  std::string text;
  while (text.size() < letters) {
    unsigned char bytes[64];
    if (RAND_bytes(bytes, sizeof bytes) != 1) return Status::Io("the system gives no random numbers");
    for (const unsigned char byte : bytes)
      if (byte < 248 && text.size() < letters) text += kLetters[byte % 62];  // 248 = 4 · 62: all as likely
  }
  return text;
}

// What can be sent in a header, and is not too easily guessed.
Status CheckValue(const std::string& value) {
  if (value.size() < kFewestLetters || value.size() > kMostLetters)
    return Status::Invalid("a key has " + std::to_string(kFewestLetters) + " to " +
                           std::to_string(kMostLetters) + " characters, this has " +
                           std::to_string(value.size()));
  for (const char c : value)
    if (c <= ' ' || c > '~') return Status::Invalid("a key is printable ASCII without spaces");
  return Status::Ok();
}

}  // namespace

bool KeyFacts::May(std::string_view scope) const {
  return std::any_of(scopes.begin(), scopes.end(), [&](const auto& s) {
    return s == scope || s == "all" || (s == kOldRecord && scope == "record");
  });
}

std::string KeyHash(std::string_view key) { return Sha256Hex(key); }

Result<std::vector<KeyFacts>> ListKeys(const table::Catalog& catalog) {
  const auto table = catalog.OpenTable(kTable);
  if (!table.ok() && table.status().Is(Code::kNotFound)) return std::vector<KeyFacts>();
  if (!table.ok()) return table.status();
  HEADRACE_ASSIGN(const table::View view, (*table)->At());
  return Read(view);
}

Result<NewKey> CreateKey(table::Catalog* catalog, KeyFacts facts, const std::string& value) {
  for (std::string& scope : facts.scopes) {
    if (scope == kOldRecord) scope = "record";
    if (scope != "inference" && scope != "record" && scope != "admin" && scope != "all")
      return Status::Invalid("there is no scope '" + scope + "'; there are inference, record, admin and all");
  }
  if (!(facts.weight > 0 && facts.weight <= 1000))
    return Status::Invalid("a key's weight is from above 0 to 1,000");
  if (constexpr auto range = engine::kPriorities; !range.Holds(facts.max_priority))
    return Status::Invalid("a key's highest priority is from " + std::to_string(range.least) + " to " +
                           std::to_string(range.most));
  if (facts.name.empty()) return Status::Invalid("a key needs a name");
  HEADRACE_ASSIGN(const auto known, ListKeys(*catalog));
  for (const KeyFacts& other : known)
    if (other.name == facts.name && !other.revoked)
      return Status::AlreadyExists("there is a key '" + facts.name + "' (" + other.id + "); revoke it first");
  NewKey made;
  if (value.empty()) {
    HEADRACE_ASSIGN(const std::string secret, Random(43));  // 256 bits
    made.key = "hr-" + secret;
  } else {
    HEADRACE_TRY(CheckValue(value));
    for (const KeyFacts& other : known)
      if (other.hash == KeyHash(value) && !other.revoked)
        return Status::AlreadyExists("this is the key '" + other.name + "' (" + other.id + ") already");
    made.key = value;
  }
  HEADRACE_ASSIGN(const std::string id, Random(10));
  facts.id = "key_" + id;
  facts.hash = KeyHash(made.key);
  facts.created_us = NowMicros();
  HEADRACE_TRY(Write(catalog, facts, "key '" + facts.name + "' made"));
  made.facts = std::move(facts);
  return made;
}

Result<KeyFacts> RevokeKey(table::Catalog* catalog, const std::string& id_or_name) {
  HEADRACE_ASSIGN(const auto known, ListKeys(*catalog));
  for (KeyFacts facts : known) {
    if ((facts.id != id_or_name && facts.name != id_or_name) || facts.revoked) continue;
    facts.revoked = true;
    HEADRACE_TRY(Write(catalog, facts, "key '" + facts.name + "' revoked"));
    return facts;
  }
  std::string names;
  for (const KeyFacts& facts : known)
    if (!facts.revoked) names += (names.empty() ? "" : ", ") + facts.name;
  return Status::NotFound("there is no key '" + id_or_name + "'" +
                          (names.empty() ? "; there are none" : "; there are " + names));
}

Status KeyRing::Refresh() {
  const Status status = Reread();
  const std::lock_guard lock(mutex_);
  trouble_ = status.ok() ? "" : "the table of keys cannot be read: " + status.ToString();
  return status;
}

std::string KeyRing::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

Status KeyRing::Reread() {
  if (!catalog_) return Status::Ok();
  const auto table = catalog_->OpenTable(kTable);
  if (!table.ok() && table.status().Is(Code::kNotFound)) return Status::Ok();
  if (!table.ok()) return table.status();
  HEADRACE_ASSIGN(const table::View view, (*table)->At());
  {
    const std::lock_guard lock(mutex_);
    if (view.snapshot().version == version_) return Status::Ok();
  }
  HEADRACE_ASSIGN(const auto keys, Read(view));
  const std::lock_guard lock(mutex_);
  by_hash_.clear();
  for (const KeyFacts& facts : keys) by_hash_[facts.hash] = facts;
  version_ = view.snapshot().version;
  return Status::Ok();
}

bool KeyRing::empty() const {
  const std::lock_guard lock(mutex_);
  return by_hash_.empty();
}

std::vector<KeyFacts> KeyRing::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<KeyFacts> keys;
  for (const auto& [hash, facts] : by_hash_) keys.push_back(facts);
  return keys;
}

std::optional<KeyFacts> KeyRing::Find(std::string_view key) const {
  const std::string hash = KeyHash(key);
  const std::lock_guard lock(mutex_);
  const auto found = by_hash_.find(hash);
  if (found == by_hash_.end() || found->second.revoked) return std::nullopt;
  if (found->second.expires_us > 0 && NowMicros() >= found->second.expires_us) return std::nullopt;
  return found->second;
}

}  // namespace headrace::serve
