// Rows for people and for programs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/type_fwd.h>
#include <nlohmann/json_fwd.hpp>

#include "base/status.h"

namespace arrow {
class RecordBatchReader;
}

namespace headrace::cli {

// One cell as JSON: blobs as their facts, bytes as {"bytes": n}, decimals, NaN and infinities as strings.
nlohmann::ordered_json CellToJson(const arrow::Field& field, const arrow::Array& array, int64_t row);
// At most `limit` characters of a text, its control characters (of terminals too) made visible.
std::string Printable(std::string_view text, size_t limit);
// One cell as short text for a table on a terminal.
std::string CellToText(const arrow::Field& field, const arrow::Array& array, int64_t row);
// A row as a JSON object on one line, without its newline; json columns as they were written.
std::string RowToJson(const arrow::RecordBatch& batch, int64_t row);

struct RenderOptions {
  bool json = false;      // one object a line
  int64_t max_rows = -1;  // of a table on a terminal; the rest is counted, not shown
  bool colour = false;
  int width = 0;  // of the terminal; 0: unlimited
};
// Prints all rows; the number printed or counted.
Result<int64_t> Render(arrow::RecordBatchReader* rows, const RenderOptions& options);

// One JSON value and a newline on standard output.
void PrintJson(const nlohmann::ordered_json& json);

// Rows of text as an aligned table, its first row the names; columns [right_from, right_to) to the right.
void PrintAligned(const std::vector<std::vector<std::string>>& rows, size_t right_from, size_t right_to);

std::string ShortTime(int64_t micros);  // "2026-11-22 08:15:00"
std::string HumanBytes(double bytes);   // "1.2 GB"
std::string HumanCount(int64_t count);  // "12,345"
std::string HumanSeconds(double s);     // "0.8 s", "2 min 5 s"
// Columns that `text` takes on a terminal.
int DisplayWidth(const std::string& text);

}  // namespace headrace::cli
