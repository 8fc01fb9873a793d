// Lists the files under folders in a fixed order; what cannot be read becomes an error.
#pragma once

#include <string>
#include <vector>

#include "ingest/ingest.h"

namespace headrace::ingest {

class ItemReader;

struct FoundFile {
  std::string path;                    // to open it
  std::string relative;                // to name it: under the folder given
  const ItemReader* reader = nullptr;  // null: a photograph, as far as its name tells
  int64_t bytes = 0;
  int64_t modified_ns = 0;
  std::string source = {};  // its absolute place, the key under which it is known; empty: standard input
};

// Hidden files are left out. Folders that cannot be read, broken links and loops of links become errors.
Status Walk(const std::string& source, const std::string& format, std::vector<FoundFile>* files,
            std::vector<IngestError>* errors);

}  // namespace headrace::ingest
