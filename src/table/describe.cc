#include "table/describe.h"

#include <algorithm>

namespace headrace::table {
namespace {

bool IsFact(const Field& field) {
  return field.name == "media_type" || field.name == "width" || field.name == "height" ||
         field.name == "length" || field.name == "checksum";
}

Status AddColumn(const View& view, const Field& field, const std::string& path, bool exact, bool nested,
                 std::vector<ColumnSummary>* columns) {
  HEADRACE_ASSIGN(const auto stats, view.Stats(field));
  std::optional<FieldStats> all = FieldStats{};
  for (const auto& one : stats) all = all && one ? std::optional(MergeStats(*all, *one)) : std::nullopt;
  ColumnSummary column{path,  field, nested, all && field.type.is_scalar() && !stats.empty(),
                       exact, 0,     {},     {}};
  if (column.known) {
    column.nulls = all->nulls;
    column.min = all->min;
    column.max = all->max;
  }
  columns->push_back(std::move(column));
  const bool blob = field.type.kind == Kind::kBlob;
  if (!blob && field.type.kind != Kind::kStruct) return Status::Ok();
  for (const auto& child : field.type.children) {
    if (!blob || IsFact(child))
      HEADRACE_TRY(AddColumn(view, child, path + "." + child.name, exact, true, columns));
  }
  return Status::Ok();
}

}  // namespace

Result<std::vector<ColumnSummary>> SummariseColumns(const View& view) {
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  const bool exact = std::all_of(fragments->begin(), fragments->end(), [](const Fragment& fragment) {
    return fragment.deleted.empty() && fragment.overlays.empty();
  });
  std::vector<ColumnSummary> columns;
  for (const auto& field : view.schema().fields)
    HEADRACE_TRY(AddColumn(view, field, field.name, exact, false, &columns));
  return columns;
}

}  // namespace headrace::table
