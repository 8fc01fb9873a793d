#include "table/row_set_file.h"

#include "base/hash.h"
#include "table/environment.h"
#include "table/keys.h"

namespace headrace::table {

RowSetWriter::RowSetWriter(const Environment& env)
    : inline_bytes_(env.inline_row_set_bytes), file_(Uuid::Random()) {}

RowSetRef RowSetWriter::Add(const RowSet& rows) {
  RowSetRef ref;
  ref.count = rows.count();
  std::string encoded = rows.Encode();
  if (encoded.size() <= inline_bytes_) {
    ref.inside = std::move(encoded);
    return ref;
  }
  ref.file = file_;
  ref.offset = static_cast<int64_t>(bytes_.size());
  ref.bytes = static_cast<int64_t>(encoded.size());
  ref.sum = Xxh3(encoded);
  bytes_ += encoded;
  return ref;
}

Status RowSetWriter::Finish(Environment* env, const std::string& folder, std::vector<std::string>* written) {
  if (bytes_.empty()) return Status::Ok();
  written->push_back(RowSetKey(folder, file_));
  return store::PutFresh(env->store.get(), written->back(), bytes_);
}

Result<std::shared_ptr<const RowSet>> LoadRowSet(Environment* env, const std::string& folder,
                                                 const RowSetRef& ref, int64_t rows) {
  if (!ref.inside.empty()) return RowSet::Parse(ref.inside, rows, ref.count);
  const std::string key = RowSetKey(folder, ref.file);
  return env->files.GetOrOpen<const RowSet>(
      key + "@" + std::to_string(ref.offset), [&]() -> Result<std::shared_ptr<const RowSet>> {
        HEADRACE_ASSIGN(const auto reader, env->files.GetOrOpen<store::ObjectReader>(
                                               key, [&] { return env->store->Open(key); }));
        if (ref.offset > reader->size() || ref.bytes > reader->size() - ref.offset) {
          return Status::Corrupt(key + " is shorter than its manifest says");
        }
        HEADRACE_ASSIGN(const store::Bytes bytes, reader->Read(ref.offset, ref.bytes));
        if (Xxh3(bytes.view()) != ref.sum) return Status::Corrupt(key + ": a checksum does not match");
        auto set = RowSet::Parse(bytes.view(), rows, ref.count);
        if (!set.ok()) return set.status().Wrap(key);
        return set;
      });
}

}  // namespace headrace::table
