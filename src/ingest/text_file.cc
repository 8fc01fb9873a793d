#include "ingest/text_file.h"

#include <cerrno>

#include "base/utf8.h"

namespace headrace::ingest {
namespace {

constexpr size_t kReadBytes = 1 << 20;

}  // namespace

Result<std::unique_ptr<TextFile>> TextFile::Open(const std::string& path, const std::string& encoding) {
  auto file = std::make_unique<TextFile>();
  file->path_ = path;
  HEADRACE_TRY(file->Begin(encoding));
  return file;
}

Status TextFile::Begin(const std::string& encoding) {
  file_.reset(std::fopen(path_.c_str(), "rb"));
  if (!file_) return Status::FromErrno(errno, "read", path_);
  std::string mark(3, '\0');
  mark.resize(std::fread(mark.data(), 1, 3, file_.get()));
  size_t skip = 0;
  if (encoding == "latin-1") {
    encoding_ = Encoding::kLatin1;
  } else if (mark == "\xef\xbb\xbf") {
    skip = 3;
  } else if (mark.starts_with("\xff\xfe") || mark.starts_with("\xfe\xff")) {
    encoding_ = mark[0] == '\xff' ? Encoding::kUtf16Le : Encoding::kUtf16Be;
    skip = 2;
  } else if (encoding == "utf-16") {
    encoding_ = Encoding::kUtf16Le;
  }
  if (std::fseek(file_.get(), static_cast<long>(skip), SEEK_SET) != 0) {
    return Status::FromErrno(errno, "read", path_);
  }
  return Status::Ok();
}

Status TextFile::Read(std::string* text) {
  std::string* to = encoding_ == Encoding::kUtf8 ? text : &undecoded_;
  const size_t before = to->size();
  to->resize(before + kReadBytes);
  const size_t got = std::fread(to->data() + before, 1, kReadBytes, file_.get());
  to->resize(before + got);
  if (std::ferror(file_.get())) return Status::FromErrno(errno, "read", path_);
  ended_ = got == 0;
  if (encoding_ == Encoding::kUtf8) return Status::Ok();
  if (encoding_ != Encoding::kLatin1) return DecodeUtf16(text);
  for (const char c : undecoded_) AppendUtf8(static_cast<unsigned char>(c), text);
  undecoded_.clear();
  return Status::Ok();
}

Status TextFile::DecodeUtf16(std::string* text) {
  const auto unit = [&](size_t at) {
    const auto a = static_cast<unsigned char>(undecoded_[at]),
               b = static_cast<unsigned char>(undecoded_[at + 1]);
    return static_cast<uint32_t>(encoding_ == Encoding::kUtf16Le ? a | b << 8 : a << 8 | b);
  };
  size_t at = 0;
  while (at + 2 <= undecoded_.size()) {
    uint32_t c = unit(at);
    const bool pair = c >= 0xd800 && c < 0xdc00;
    if (pair && at + 4 > undecoded_.size()) break;
    if (pair) {
      const uint32_t low = unit(at + 2);
      if (low < 0xdc00 || low >= 0xe000) return Status::Corrupt("its text is not valid UTF-16");
      c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    if (c >= 0xd800 && c < 0xe000) return Status::Corrupt("its text is not valid UTF-16");
    AppendUtf8(c, text);
    at += pair ? 4 : 2;
  }
  undecoded_.erase(0, at);
  if (ended_ && !undecoded_.empty())
    return Status::Corrupt("its text is not valid UTF-16: it ends in half a character");
  return Status::Ok();
}

}  // namespace headrace::ingest
