// What deletes, updates and merges have in common.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "table/view.h"

namespace headrace::table {

// Which rows are meant: those that pass a filter, or those with these ids.
struct RowFilter {
  std::string where;
  std::optional<std::vector<int64_t>> ids{};
};

// The rows of a view that are meant, by fragment; null where none is. Invalid where nothing is said, NotFound
// for an id that no row has.
Result<RowSets> SelectRows(const View& view, const RowFilter& rows, const StopToken& stop);

// The top-level fields that a filter reads.
Result<std::vector<Field>> FieldsOfFilter(const Schema& schema, const std::string& where);
// Adds the schema's field with this id, if there is one, and it is not among them.
void AddField(const Schema& schema, int32_t id, std::vector<Field>* fields);
std::vector<int32_t> IdsOf(const std::vector<Field>& fields);

}  // namespace headrace::table
