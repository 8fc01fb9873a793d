#include "table/prefetch.h"

#include <map>

#include "base/limits.h"
#include "table/open_parquet.h"
#include "table/parquet_file.h"

namespace headrace::table {

namespace {

// Of a file, at least: then its other bytes are fetched too rather than to wait for its footer alone.
constexpr double kMostOfAFile = 0.7;
// A larger one would drive out of memory what was fetched for others.
constexpr int64_t kWholeBytes = limits::kReadAheadBytes / 4;

// About the share of a file's bytes that some of its columns hold of these rows.
double ShareRead(const DataFile& file, size_t columns, const Fragment& fragment, const Rows& rows) {
  const int64_t pages = (fragment.rows + limits::kPageRows - 1) / limits::kPageRows;
  int64_t touched = 0;
  for (int64_t i = 0, last = -1; i < rows.count(); ++i) {
    const int64_t page = rows.at(i) / limits::kPageRows;
    touched += page != last;
    last = page;
  }
  const auto fields = static_cast<double>(file.column_group->fields.size());
  return static_cast<double>(touched) / static_cast<double>(pages) * static_cast<double>(columns) / fields;
}

}  // namespace

void Prefetch(Environment* env, const std::string& prefix, const Fragment& fragment,
              const std::vector<Projection>& columns, const Rows& rows) {
  std::map<const DataFile*, std::vector<const Field*>> wanted;
  for (const auto& column : columns) {
    const DataFile* file = fragment.FileOf(column.top.id);
    if (file != nullptr && file->column_group->kind == FileKind::kParquet)
      wanted[file].push_back(&column.top);
  }
  for (const auto& [file, fields] : wanted) {
    const bool whole = !env->store->is_local() && file->bytes <= kWholeBytes &&
                       ShareRead(*file, fields.size(), fragment, rows) >= kMostOfAFile;
    const auto parquet = OpenParquet(env, prefix, *file, whole);
    if (parquet.ok()) (void)(*parquet)->Prefetch(fields, rows).ok();
  }
}

}  // namespace headrace::table
