// Snapshots: any bytes inside a right envelope must decode to a snapshot or an error.
#include <cstdint>
#include <string>

#include "base/hash.h"
#include "table/snapshot.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  (void)headrace::table::DecodeSnapshot(body, "fuzz");
  // With a right checksum, so that the parser behind it is reached.
  const std::string sealed =
      "{\"xxh3\":\"" + headrace::Hex64(headrace::Xxh3(body)) + "\",\"snapshot\":" + std::string(body) + "}";
  const auto decoded = headrace::table::DecodeSnapshot(sealed, "fuzz");
  if (decoded.ok()) (void)headrace::table::EncodeSnapshot(*decoded);
  return 0;
}
