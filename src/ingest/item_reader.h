// How the files of a format become rows. A new format is one more ItemReader in item_reader.cc; walking,
// committing, errors and what is taken in already are the same for all of them. Photographs, a row per file
// and all of them one commit, are photos.cc's.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/type_fwd.h>

#include "ingest/run_state.h"
#include "ingest/walk.h"

namespace arrow {
class RecordBatchReader;
}

namespace headrace::ingest {

class ItemReader {
 public:
  virtual ~ItemReader() = default;
  // The values of IngestOptions::format that mean it.
  virtual std::vector<std::string_view> formats() const = 0;
  // How the names of its files end, in lower case.
  virtual std::vector<std::string_view> endings() const = 0;
  // The file's rows. `given`: columns whose type does not come from the file. Rows that cannot be read become
  // errors of the run's report. The run must outlive the reader.
  virtual Result<std::shared_ptr<arrow::RecordBatchReader>> Open(const FoundFile& file,
                                                                 const std::vector<table::Field>& given,
                                                                 RunState* run) const = 0;
};

// The default for standard input.
const ItemReader& JsonItems();
// By the value of IngestOptions::format; null: "images", or no format.
const ItemReader* ItemReaderOf(std::string_view format);
// By the file's name; null: a photograph, or nothing that ingest knows.
const ItemReader* ItemReaderFor(std::string_view path);
// Every value of IngestOptions::format, "" aside.
std::vector<std::string_view> Formats();

}  // namespace headrace::ingest
