// labels_column: what several people said of rows, as a column of the table: the label that most gave, or the
// mean of the numbers.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "table/table.h"

namespace headrace::trace {

struct Vote {
  int64_t row = 0;  // _row_id
  std::optional<double> value;
  std::string label;
};

struct Agreed {
  std::map<int64_t, std::string> labels;  // by row: what more people said than anything else
  std::map<int64_t, double> means;        // of the votes with numbers
  std::vector<int64_t> ties;              // rows without such a label, ascending
};
Agreed Agree(const std::vector<Vote>& votes);

struct LabelsColumn {
  table::CommitResult commit;
  int64_t filled = 0;  // rows with a value
  int64_t gone = 0;    // rows with votes that the newest version does not have any more
};
// Adds the column, or gives the one that is there new values throughout: null where nothing was agreed. Texts
// where `numbers` is false, else float64.
Result<LabelsColumn> WriteLabels(table::Table* table, const Agreed& agreed, bool numbers,
                                 const std::string& column, const table::CommitOptions& options);

}  // namespace headrace::trace
