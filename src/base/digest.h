// SHA-256, for what must be equal for certain: keys, signatures, bytes that are shared.
#pragma once

#include <string>
#include <string_view>

namespace headrace {

std::string Hex(std::string_view bytes);        // lower case
std::string Sha256(std::string_view bytes);     // 32 bytes
std::string Sha256Hex(std::string_view bytes);  // 64 digits

// The same, of bytes that come piece by piece.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(const Sha256Stream&) = delete;
  Sha256Stream& operator=(const Sha256Stream&) = delete;

  void Add(std::string_view bytes);
  std::string Hex();  // of all that was added; once

 private:
  void* context_;
};

}  // namespace headrace
