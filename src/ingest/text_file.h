// Reads a text file incrementally and decodes it to UTF-8.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "base/status.h"

namespace headrace::ingest {

class TextFile {
 public:
  // `encoding`: "utf-8", "utf-16", "latin-1"; "": UTF-8, or UTF-16 where a byte order mark says so. The mark
  // is left out.
  static Result<std::unique_ptr<TextFile>> Open(const std::string& path, const std::string& encoding);

  // Adds the next piece, a megabyte or so; nothing at the end. UTF-8 is not checked.
  Status Read(std::string* text);
  bool ended() const { return ended_; }

 private:
  enum class Encoding { kUtf8, kUtf16Le, kUtf16Be, kLatin1 };

  Status Begin(const std::string& encoding);
  Status DecodeUtf16(std::string* text);

  std::unique_ptr<FILE, int (*)(FILE*)> file_{nullptr, std::fclose};
  std::string path_;
  Encoding encoding_ = Encoding::kUtf8;
  std::string undecoded_;
  bool ended_ = false;
};

}  // namespace headrace::ingest
