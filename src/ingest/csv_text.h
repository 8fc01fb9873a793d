// Delimited text as records: RFC 4180, any separator, three encodings, and the line of every record.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace headrace::ingest {

struct CsvOptions {
  char delimiter = 0;  // 0: tab for .tsv, else comma, semicolon or tab, whichever the first line has most of
  std::string encoding;  // "": UTF-8, or UTF-16 where a byte order mark says so; "utf-8", "utf-16", "latin-1"
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

  // False at the end. Blank lines are left out. A quote that is never closed costs its line only.
  Result<bool> Next(CsvRecord* record);
  char delimiter() const { return delimiter_; }

 private:
  enum class Encoding { kUtf8, kUtf16Le, kUtf16Be, kLatin1 };

  Status Begin(const std::string& path, const CsvOptions& options);
  Status Fill();  // more of the file at the end of buffer_
  Status Decode(std::string bytes);
  Result<bool> Has(size_t at);  // reads on until there is a byte here
  Status Parse(CsvRecord* record);
  Result<size_t> Quoted(size_t at, CsvRecord* record);
  Status SkipLine();

  std::unique_ptr<FILE, int (*)(FILE*)> file_{nullptr, std::fclose};
  std::string path_;
  Encoding encoding_ = Encoding::kUtf8;
  char delimiter_ = ',';
  std::string buffer_;  // UTF-8
  std::string undecoded_;
  size_t begin_ = 0;  // of what is not read yet, in buffer_
  bool ended_ = false;
  int64_t line_ = 1;
};

}  // namespace headrace::ingest
