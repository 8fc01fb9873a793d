#include "trace/live.h"

#include <arrow/array/util.h>
#include <arrow/extension_type.h>
#include <arrow/io/memory.h>
#include <arrow/ipc/reader.h>
#include <arrow/ipc/writer.h>
#include <arrow/record_batch.h>

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <set>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "store/object_store.h"
#include "table/arrow_bridge.h"
#include "table/keys.h"
#include "trace/tables.h"
#include "trace/tail.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

constexpr int64_t kMostTailBytes = 64 << 20;  // more is committed soon anyway
constexpr size_t kMostTails = 64;             // of one table that a viewer reads: the newest
constexpr size_t kMostHead = 4096;

// A tail: a line of JSON, and the rows as an Arrow IPC stream. `base` is the last commit of this committer
// that the table's version had which the rows are to be added to.
std::string EncodeTail(const std::string& committer, int64_t base, std::string_view rows) {
  return json{{"committer", committer}, {"base", base}, {"xxh3", Hex64(Xxh3(rows))}}.dump() + "\n" +
         std::string(rows);
}

Result<std::string> ToStream(const arrow::RecordBatch& batch) {
  HEADRACE_ARROW_ASSIGN(const auto sink, arrow::io::BufferOutputStream::Create());
  HEADRACE_ARROW_ASSIGN(const auto writer, arrow::ipc::MakeStreamWriter(sink, batch.schema()));
  HEADRACE_ARROW_TRY(writer->WriteRecordBatch(batch));
  HEADRACE_ARROW_TRY(writer->Close());
  HEADRACE_ARROW_ASSIGN(const auto buffer, sink->Finish());
  return buffer->ToString();
}

// With today's columns: a newer program's others are left out, those that an older one lacks are null.
Result<std::shared_ptr<arrow::RecordBatch>> Conformed(const arrow::RecordBatch& batch,
                                                      const std::shared_ptr<arrow::Schema>& schema) {
  arrow::ArrayVector arrays;
  for (const auto& field : schema->fields()) {
    auto array = batch.GetColumnByName(field->name());
    if (array == nullptr) {
      HEADRACE_ARROW_ASSIGN(array, arrow::MakeArrayOfNull(field->type(), batch.num_rows()));
    } else if (array->type_id() == arrow::Type::EXTENSION && field->type()->id() != arrow::Type::EXTENSION) {
      array = static_cast<const arrow::ExtensionArray&>(*array).storage();  // JSON, by its field's metadata
    }
    if (!array->type()->Equals(*field->type()))
      return Status::Corrupt("its column '" + field->name() + "' is " + array->type()->ToString());
    arrays.push_back(table::WithType(array, field->type()));
  }
  return arrow::RecordBatch::Make(schema, batch.num_rows(), std::move(arrays));
}

// Null where the rows are on top of another version than `view`.
Result<std::shared_ptr<arrow::RecordBatch>> DecodeTail(std::string_view bytes, const std::string& committer,
                                                       const table::View& view,
                                                       const std::shared_ptr<arrow::Schema>& schema) {
  const size_t line = bytes.substr(0, kMostHead).find('\n');
  if (line == std::string_view::npos) return Status::Corrupt("it has no head");
  const json head = ParseJson(bytes.substr(0, line));
  const std::string_view rows = bytes.substr(line + 1);
  if (!head.is_object() || head.value("committer", json()) != committer ||
      !head.value("base", json()).is_number_integer())
    return Status::Corrupt("its head is not one of a tail");
  if (head.value("xxh3", json()) != Hex64(Xxh3(rows)))
    return Status::Corrupt("it does not match its checksum");
  if (head["base"].get<int64_t>() != LastSequence(view, committer))
    return std::shared_ptr<arrow::RecordBatch>();
  const auto buffer = arrow::Buffer::FromString(std::string(rows));
  HEADRACE_ARROW_ASSIGN(const auto reader, arrow::ipc::RecordBatchStreamReader::Open(
                                               std::make_shared<arrow::io::BufferReader>(buffer)));
  std::shared_ptr<arrow::RecordBatch> batch;
  HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
  if (!batch) return Status::Corrupt("it has no rows");
  HEADRACE_ARROW_TRY(batch->ValidateFull());
  return Conformed(*batch, schema);
}

// Once for each object and reason.
void Complain(const std::string& key, const Status& status) {
  static std::mutex mutex;
  static std::set<std::string> told;
  const std::string text = key + " is left out: " + status.message();
  const std::lock_guard lock(mutex);
  if (told.size() < 1000 && told.insert(text).second) std::fprintf(stderr, "headrace: %s\n", text.c_str());
}

// Whoever may only read the bucket sees what others have asked for.
void Want(const table::Catalog& catalog, const std::string& table) {
  static std::mutex mutex;
  static std::map<std::string, double> put;
  const std::string key = table::WantKey(table);
  {
    const std::lock_guard lock(mutex);
    const double now = MonotonicSeconds();
    const auto [last, is_new] = put.try_emplace(catalog.Describe() + "/" + key, now);
    if (!is_new && now - last->second < kWantSeconds / 3) return;
    last->second = now;
  }
  (void)catalog.environment()->store->Put(key, json{{"seconds", kWantSeconds}}.dump());
}

}  // namespace

Result<std::vector<std::shared_ptr<arrow::RecordBatch>>> LiveRows(const table::Catalog& catalog, size_t table,
                                                                  const table::View& view,
                                                                  const std::string& own) {
  std::vector<std::shared_ptr<arrow::RecordBatch>> found;
  store::ObjectStore& store = *catalog.environment()->store;
  if (store.is_local()) return found;
  const std::string name = SpoolTables()[table].name;
  Want(catalog, name);
  HEADRACE_ASSIGN(auto objects, store.List(table::TailFolder(name), "", INT64_MAX));
  std::erase_if(objects, [](const auto& object) { return object.size > kMostTailBytes; });
  std::sort(objects.begin(), objects.end(),
            [](const auto& a, const auto& b) { return a.modified_us > b.modified_us; });
  if (objects.size() > kMostTails) objects.resize(kMostTails);
  const auto schema = ArrowSchema(SpoolTables()[table].columns());
  for (const auto& object : objects) {
    const auto key = table::ParseKey(object.key);
    if (!key || key->kind != table::ObjectKind::kTail || key->id.ToString() == own) continue;
    const auto bytes = store.Get(object.key);
    if (bytes.status().Is(Code::kNotFound)) continue;  // nobody wants it any more
    HEADRACE_TRY(bytes.status());
    auto batch = DecodeTail(bytes->view(), key->id.ToString(), view, schema);
    if (!batch.ok()) {
      Complain(object.key, batch.status());
    } else if (*batch && (*batch)->num_rows() > 0) {
      found.push_back(std::move(*batch));
    }
  }
  return found;
}

Status LiveTails::Look(double now, bool waiting) {
  store::ObjectStore& store = *catalog_->environment()->store;
  const auto is_told = [](const auto& want) { return want.second.told != 0; };
  if (store.is_local() || now < next_ || !(waiting || std::any_of(wants_.begin(), wants_.end(), is_told)))
    return Status::Ok();
  next_ = now + kLiveSeconds;
  HEADRACE_ASSIGN(const auto objects, store.List(table::kWantFolder, "", 1000));
  std::set<std::string> there;
  for (const auto& object : objects) {
    const auto key = table::ParseKey(object.key);
    if (!key || key->kind != table::ObjectKind::kWant) continue;
    if (FindTable(key->name.c_str()) == SpoolTables().size()) continue;
    there.insert(key->name);
    const auto [known, is_new] = wants_.try_emplace(key->name);
    Want& want = known->second;
    if (!is_new && want.put_us == object.modified_us) continue;
    want = {object.modified_us, now, !is_new, want.told};  // one that was put anew is no older than a look
  }
  Status first;
  for (auto& [name, want] : wants_) {  // what fails for one table is no reason to be silent of the others
    const bool wanted = there.contains(name) && now - want.seen < kWantSeconds;
    const Status done = wanted ? Tell(name, &want) : Untell(name, &want);
    if (first.ok()) first = done;
  }
  return first;
}

Status LiveTails::Tell(const std::string& name, Want* want) {
  store::ObjectStore& store = *catalog_->environment()->store;
  HEADRACE_ASSIGN(const auto view, Newest(*catalog_, name.c_str()));
  if (!view) return Status::Ok();
  const auto batch = LocalTail(*catalog_, name, *view);
  if (batch.status().Is(Code::kConflict)) return Status::Ok();  // the next time
  HEADRACE_TRY(batch.status());
  if ((*batch)->num_rows() == 0 && want->told == 0) return Status::Ok();
  HEADRACE_ASSIGN(const std::string rows, ToStream(**batch));
  const std::string bytes = EncodeTail(committer_, LastSequence(*view, committer_), rows);
  const uint64_t hash = Xxh3(bytes);
  if (hash == want->told || static_cast<int64_t>(bytes.size()) > kMostTailBytes) return Status::Ok();
  const std::string key = table::TailKey(name, committer_);
  HEADRACE_TRY(store.Put(key, bytes));
  want->told = hash;
  if (want->timed) return Status::Ok();
  // How old the want was when it was first seen, by the store's clock: that of this machine may be off.
  HEADRACE_ASSIGN(const auto put, store.List(key, "", 1));
  if (put.empty() || put[0].key != key) return Status::Ok();
  want->timed = true;
  const double age = static_cast<double>(put[0].modified_us - want->put_us) / 1e6;
  want->seen -= std::max(age, 0.0);
  return age < kWantSeconds ? Status::Ok() : Untell(name, want);
}

Status LiveTails::Untell(const std::string& name, Want* want) {
  if (want->told == 0) return Status::Ok();
  HEADRACE_TRY(catalog_->environment()->store->Delete(table::TailKey(name, committer_)));
  want->told = 0;
  return Status::Ok();
}

void LiveTails::Forget() {
  for (auto& [name, want] : wants_) (void)Untell(name, &want);
}

}  // namespace headrace::trace
