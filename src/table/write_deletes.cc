#include "table/write_deletes.h"

#include "base/check.h"
#include "table/row_map.h"
#include "table/row_set_file.h"

namespace headrace::table {

const DeleteRows* DeletesOf(const Change& change) {
  if (const auto* deletes = std::get_if<DeleteRows>(&change.what)) return deletes;
  const auto* merge = std::get_if<MergeRows>(&change.what);
  return merge == nullptr || merge->deletes.rows.empty() ? nullptr : &merge->deletes;
}

Status WriteDeletes(const DeleteRows& deletes, const View& head, Snapshot* next,
                    std::vector<std::string>* written) {
  HEADRACE_ASSIGN(const auto fragments, head.Fragments());
  const RowMap rows(*fragments);
  RowSetWriter sets(*head.environment());
  int64_t gone = 0;
  for (const auto& part : deletes.rows) {
    const Fragment* now = rows.Same(part.fragment);
    HEADRACE_CHECK(now != nullptr);
    HEADRACE_ASSIGN(const auto before, head.Deleted(*now));
    const auto after = before == nullptr ? part.rows : part.rows->Union(*before);
    if (after->count() == now->deleted.count) continue;
    gone += after->count() - now->deleted.count;
    Fragment entry;
    entry.id = now->id;
    entry.first_row_id = now->first_row_id;
    entry.rows = now->rows;
    entry.version = next->version;
    entry.deleted = sets.Add(*after);
    next->inline_entries.push_back(std::move(entry));
  }
  next->rows -= gone;
  if (next->operation.kind == OperationKind::kDelete) next->operation.rows = gone;
  return sets.Finish(head.environment().get(), head.prefix(), written);
}

}  // namespace headrace::table
