// Files of JSON: rows come out of them, or reasons; whatever is JSON by itself is so wherever it stands.
#include <arrow/record_batch.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/json_tape.h"
#include "ingest/json_reader.h"

using namespace headrace;

namespace {

void CheckTape(std::string_view text) {
  JsonTape tape, part;
  if (!tape.Read(text).ok()) return;
  for (uint32_t i = 0; i < tape[0].next; ++i) {
    if (tape[i].next <= i || !part.Read(tape.Raw(i)).ok()) abort();
    if (part[0].next != tape[i].next - i) abort();
    if (tape[i].kind == JsonKind::kString && tape.Text(i).size() > tape.Raw(i).size()) abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static TaskPool pool(1);
  static const std::string path =
      std::filesystem::temp_directory_path() / ("fuzz-json-" + std::to_string(getpid()));
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  CheckTape(text);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  ingest::JsonSource source{.path = path, .name = "f", .pool = &pool};
  source.chunk_bytes = 1 + data[0] % 64;
  source.record_bytes = data[0] % 2 == 0 ? 1000 : 20;
  if (data[0] % 3 == 0) {
    for (const char* type : {"json", "list<float32>", "tensor<int8>[2]", "struct<a: date, b: string>"}) {
      table::Field field;
      field.name = std::string(1, static_cast<char>('a' + source.given.size()));
      field.type = *table::ParseType(type);
      source.given.push_back(std::move(field));
    }
  }
  std::vector<ingest::IngestError> errors;
  const auto reader = ingest::OpenJson(source, &errors);
  if (!reader.ok()) return 0;
  for (std::shared_ptr<arrow::RecordBatch> batch;;) {
    if (!(*reader)->ReadNext(&batch).ok()) abort();  // the second reading finds what the first did
    if (!batch) break;
    if (!batch->ValidateFull().ok()) abort();
  }
  for (const auto& error : errors) {
    if (error.path.empty() || error.error.ok() || error.error.message().empty()) abort();
  }
  return 0;
}
