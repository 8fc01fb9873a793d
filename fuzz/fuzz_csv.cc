// Delimited text: records in the order of their lines, each with cells or a fault.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "ingest/csv_text.h"

using namespace headrace;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const std::string path =
      std::filesystem::temp_directory_path() / ("fuzz-csv-" + std::to_string(getpid()));
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(data) + 1, static_cast<std::streamsize>(size) - 1);
  const char* encodings[] = {"", "utf-8", "utf-16", "latin-1"};
  const char delimiters[] = {'\0', ',', ';', '\t'};
  const auto text = ingest::CsvText::Open(
      path, {.delimiter = delimiters[data[0] / 4 % 4], .encoding = encodings[data[0] % 4]});
  if (!text.ok()) return 0;
  int64_t line = 0;
  for (ingest::CsvRecord record;;) {
    const auto more = (*text)->Next(&record);
    if (!more.ok() || !*more) break;
    if (record.line <= line) abort();
    if (record.fault.ok() && record.cells.empty()) abort();
    line = record.line;
  }
  return 0;
}
