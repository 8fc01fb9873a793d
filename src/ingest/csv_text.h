// Delimited text as records: RFC 4180, any separator, three encodings, and the line of every record.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "ingest/text_file.h"

namespace headrace::ingest {

struct CsvOptions {
  char delimiter = 0;  // 0: tab for .tsv, else comma, semicolon or tab, whichever the first line has most of
  std::string encoding;            // as TextFile's
  std::vector<std::string> names;  // of the columns; empty: the first row's, or column1, column2, …
  bool header = true;              // the first row holds names
};

struct CsvCell {
  std::string text;
  bool quoted = false;
  bool IsNull() const { return !quoted && (text.empty() || text == "NULL" || text == "null"); }
};

struct CsvRecord {
  int64_t line = 0;  // the first of its lines, from 1
  std::vector<CsvCell> cells;
  Status fault;  // why it cannot be taken in
};

class CsvText {
 public:
  static Result<std::unique_ptr<CsvText>> Open(const std::string& path, const CsvOptions& options);

  // False at the end. Blank lines are left out. A quote that is never closed invalidates its line only.
  Result<bool> Next(CsvRecord* record);
  char delimiter() const { return delimiter_; }

 private:
  Status Begin(const std::string& path, const CsvOptions& options);
  Result<bool> Has(size_t at);  // reads on until there is a byte here
  Status Parse(CsvRecord* record);
  Result<size_t> Quoted(size_t at, CsvRecord* record);
  Status SkipLine();

  std::unique_ptr<TextFile> file_;
  char delimiter_ = ',';
  std::string buffer_;  // UTF-8
  size_t begin_ = 0;    // of what is not read yet, in buffer_
  int64_t line_ = 1;
};

}  // namespace headrace::ingest
