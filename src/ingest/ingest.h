// ingest: files into tables. Begin here.
//
// Folders of photographs become rows (path, image, taken): the bytes go into packs, facts are read from
// headers without decoding pixels. Parquet, JSON, JSONL and CSV files become rows whose values are as they
// were, or the row is refused; columns that a later file brings are added.
//
// A file is known by its source (an absolute place), size, time of change and content. What a table has taken
// in is committed with the rows (table/taken.h): each file once, whoever else ingests it at the same time.
//
// One commit for all photographs, one for many data files: a stopped or failed ingest leaves whole files or
// nothing. What cannot be taken in becomes a row (path, error, code, time) of the table `<table>_errors` and
// never stops the rest.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/progress.h"
#include "table/catalog.h"

namespace headrace::ingest {

struct IngestOptions {
  std::string table;
  std::string format;  // "": by content and extension; "images", "parquet", "json", "jsonl" or "csv"
  std::map<std::string, std::string> types;  // of columns, by name; of the others they come from all values
  // CSV and JSON: "utf-8", "utf-16" or "latin-1"; empty: UTF-8, or UTF-16 where a byte order mark says so.
  std::string encoding;
  // CSV: the separator (0: by name and first line); the columns' names; whether the first row holds names
  // (by default where none are given here).
  char delimiter = 0;
  std::vector<std::string> names;
  std::optional<bool> header;
  std::string on_error = "skip";  // rows that cannot be taken in: "skip" them, or "fail" their whole file
  bool again = false;             // also take files that are in the table already
  // Files that changed since they were taken in: "skip", "add" (as new rows), or "replace" (the rows that
  // they became when they were last taken in go with the same commit).
  std::string on_change = "skip";
  // Files with the same bytes as one that was taken in under another name: "add", "skip", or "link" (of
  // photographs: rows of their own that share its bytes).
  std::string on_copy = "add";
  bool shuffle = false;             // photographs in random order (the same each time) instead of by path
  bool keep_errors = true;          // write the errors table
  int64_t commit_files = 10'000;    // data files of one commit, at most
  int64_t commit_bytes = 64 << 20;  // their bytes in memory; a file that is larger has a commit of its own
  table::CommitOptions commit;
  StopToken stop;
  ProgressFn progress;
};

struct IngestError {
  std::string path;  // "photos/broken.jpg", "captions.jsonl:17", "all.json[17]", "a.parquet:row 17"
  Status error;
  std::string source = {};  // the absolute place of the file, as bytes
};

struct IngestReport {
  std::string table;
  int64_t version = 0;  // 0: nothing was committed
  int64_t files = 0;    // taken in
  int64_t skipped = 0;  // there already
  int64_t rows = 0;
  int64_t bytes = 0;  // written
  double seconds = 0;
  std::vector<std::string> changed;  // files that are not what they were when they were taken in
  int64_t replaced = 0;              // of them, those whose earlier rows went
  struct Copy {
    std::string path;
    std::string as;  // the source that has the same bytes, or "row 17"
  };
  std::vector<Copy>
      same_bytes;  // their bytes were there under another name; on_copy says what became of them
  std::vector<std::string> notices;  // what was left out without being an error
  int64_t refused = 0;               // files of which nothing was taken, because of on_error
  std::vector<IngestError> errors;
  std::string errors_table;  // where they are, if there were any
};

// `sources`: files and folders; "-" is standard input (JSONL, or CSV if the format says so). The table is
// made if it is not there. Fails only if nothing can be done at all: no source, no catalog, a full disk, a
// stop.
Result<IngestReport> Ingest(table::Catalog* catalog, const std::vector<std::string>& sources,
                            const IngestOptions& options);

}  // namespace headrace::ingest
