// Splits a JSON file into the texts of its records, some megabytes at a time. The content decides the form:
// lines of objects, an array of objects, or objects one after another, each over any number of lines.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "ingest/text_file.h"

namespace headrace::ingest {

struct JsonRecord {
  size_t begin = 0, size = 0;  // of its text
  int64_t number = 0;          // of its first line, from 1; in an array its index, from 0
  Status fault;                // why there is no text, if not ok
};

struct JsonChunk {
  std::string text;
  std::vector<JsonRecord> records;

  std::string_view Text(const JsonRecord& record) const {
    return std::string_view(text).substr(record.begin, record.size);
  }
};

class JsonRecords {
 public:
  // `chunk_bytes`: a chunk ends with the record that reaches it. A record holds up to `record_bytes`.
  static Result<std::unique_ptr<JsonRecords>> Open(const std::string& path, const std::string& encoding,
                                                   int64_t chunk_bytes, int64_t record_bytes);

  // False at the end.
  Result<bool> Next(JsonChunk* chunk);

  // How a record is named: "file.jsonl:17", or "file.json[17]" in an array.
  std::string NameOf(const std::string& file, int64_t number) const;

 private:
  enum class Form { kLines, kArray, kValues };

  // A value from begin_ on, found by its brackets and quotes alone.
  struct Extent {
    size_t size = 0;
    bool too_long = false;  // passed over
    bool cut = false;       // the file ends inside it
  };

  Status Decide();
  Result<bool> Has(size_t at);  // reads on until there is a character here
  Result<bool> SkipSpace();     // false at the end
  Status Line(JsonChunk* chunk);
  Status Element(JsonChunk* chunk);
  Status Value(JsonChunk* chunk);
  Result<Extent> Measure();
  Result<Extent> MeasureNested(bool keep);  // `keep`: stop at a value that is too long
  void Take(size_t size, Status fault, JsonChunk* chunk);
  void Tell(Status fault, JsonChunk* chunk);
  Status TooLong() const;

  std::unique_ptr<TextFile> file_;
  std::string buffer_;
  size_t begin_ = 0;  // of what is not read yet, in buffer_
  int64_t chunk_bytes_ = 0, record_bytes_ = 0;
  Form form_ = Form::kLines;
  int64_t line_ = 1;
  int64_t index_ = 0;
  bool comma_ = true;  // in an array: an element may follow here
  bool opened_ = false, done_ = false;
};

}  // namespace headrace::ingest
