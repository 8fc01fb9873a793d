// What is known of one field in one fragment (or page) without reading it.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "table/schema.h"
#include "table/value.h"

namespace arrow {
class Array;
}

namespace headrace::table {

struct FieldStats {
  Value min;  // a lower bound of the non-null, non-NaN values; null: unknown or none
  Value max;  // an upper bound of them
  int64_t nulls = 0;
  int64_t values = 0;  // non-null ones, NaN among them
  bool has_nan = false;
};

using StatsByField = std::map<int32_t, FieldStats>;

// Strings longer than this are cut in statistics: min rounds down, max up.
inline constexpr size_t kMaxStatBytes = 64;

// The leaf fields of a schema that get statistics: the first 32 scalars, those inside structs and the public
// facts of blobs among them.
std::vector<int32_t> StatFields(const Schema& schema, size_t limit = 32);

// Adds what `array` (of `field`'s type, top level) holds to `stats`, for each wanted leaf under the field.
void AddToStats(const Field& field, const arrow::Array& array, const std::vector<int32_t>& wanted,
                StatsByField* stats);

// The statistics of both together.
FieldStats MergeStats(const FieldStats& a, const FieldStats& b);

}  // namespace headrace::table
