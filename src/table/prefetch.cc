#include "table/prefetch.h"

#include <map>

#include "table/open_parquet.h"
#include "table/parquet_file.h"

namespace headrace::table {

void Prefetch(Environment* env, const std::string& prefix, const Fragment& fragment,
              const std::vector<Projection>& columns, const Rows& rows) {
  std::map<const DataFile*, std::vector<const Field*>> wanted;
  for (const auto& column : columns) {
    if (column.top.id == 0) continue;
    const DataFile* file = fragment.FileOf(column.top.id);
    if (file != nullptr && file->column_group->kind == FileKind::kParquet)
      wanted[file].push_back(&column.top);
  }
  for (const auto& [file, fields] : wanted) {
    const auto parquet = OpenParquet(env, prefix, *file);
    if (parquet.ok()) (void)(*parquet)->Prefetch(fields, rows).ok();
  }
}

}  // namespace headrace::table
