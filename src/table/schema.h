// The columns of a table at one version. Columns are matched by id, never by name: a rename is metadata.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/type_fwd.h>
#include <nlohmann/json_fwd.hpp>

#include "table/type.h"

namespace headrace::table {

// The name under which scan, take and SQL give a row's id.
inline constexpr std::string_view kRowIdColumn = "_row_id";
// Ascends along a scan, as ids do only where no rows were sorted (row_ids.h). For who puts values to the rows
// of a scan by their order.
inline constexpr std::string_view kRowPlaceColumn = "_row_place";

struct Schema {
  std::vector<Field> fields;

  const Field* Find(std::string_view name) const;
  const Field* FindId(int32_t id) const;
  // The top-level field that is or holds the field with this id, or null; and all of them, by any field's id.
  const Field* TopOf(int32_t id) const;
  std::map<int32_t, int32_t> TopFields() const;
  // Like Find, but NotFound names the columns there are and the nearest spelling.
  Result<const Field*> Get(std::string_view name) const;
  std::shared_ptr<arrow::Schema> ToArrow() const;
  bool Equals(const Schema& other) const;
};

// Names are UTF-8, not empty, at most kMaxNameBytes; any character is allowed, except a leading "_row_id".
Status ValidateName(std::string_view what, std::string_view name);

// Fields of an Arrow schema, ids not yet given (-1).
Result<Schema> SchemaFromArrow(const arrow::Schema& schema);
// Gives every field and nested field that has none the next id.
void AssignIds(std::vector<Field>* fields, int32_t* next_id);

nlohmann::json FieldToJson(const Field& field);
Result<Field> FieldFromJson(const nlohmann::json& json, int depth = 0);

}  // namespace headrace::table
