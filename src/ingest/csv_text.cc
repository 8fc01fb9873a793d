#include "ingest/csv_text.h"

#include <algorithm>
#include <cerrno>

#include "base/limits.h"

namespace headrace::ingest {
namespace {

constexpr size_t kBlock = 1 << 20;

void AppendUtf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
  } else if (c < 0x10000) {
    *out += {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
             static_cast<char>(0x80 | (c & 63))};
  } else {
    *out += {static_cast<char>(0xf0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
             static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
  }
}

char GuessDelimiter(std::string_view line) {
  char best = ',';
  std::ptrdiff_t most = 0;
  for (const char c : {',', ';', '\t', '|'}) {
    std::ptrdiff_t n = 0;
    bool inside = false;
    for (const char d : line) {
      if (d == '"') inside = !inside;
      n += !inside && d == c ? 1 : 0;
    }
    if (n > most) {
      best = c;
      most = n;
    }
  }
  return best;
}

}  // namespace

Result<std::unique_ptr<CsvText>> CsvText::Open(const std::string& path, const CsvOptions& options) {
  auto text = std::make_unique<CsvText>();
  HEADRACE_TRY(text->Begin(path, options));
  return text;
}

Status CsvText::Begin(const std::string& path, const CsvOptions& options) {
  path_ = path;
  file_.reset(std::fopen(path.c_str(), "rb"));
  if (!file_) return Status::FromErrno(errno, "read", path);
  std::string mark(3, '\0');
  mark.resize(std::fread(mark.data(), 1, 3, file_.get()));
  size_t skip = 0;
  if (mark == "\xef\xbb\xbf") {
    skip = 3;
  } else if (mark.starts_with("\xff\xfe") || mark.starts_with("\xfe\xff")) {
    encoding_ = mark[0] == '\xff' ? Encoding::kUtf16Le : Encoding::kUtf16Be;
    skip = 2;
  } else if (options.encoding == "utf-16") {
    encoding_ = Encoding::kUtf16Le;
  }
  if (options.encoding == "latin-1") {
    encoding_ = Encoding::kLatin1;
    skip = 0;
  }
  if (std::fseek(file_.get(), static_cast<long>(skip), SEEK_SET) != 0) {
    return Status::FromErrno(errno, "read", path);
  }
  HEADRACE_TRY(Has(kBlock / 2).status());
  delimiter_ = options.delimiter;
  if (delimiter_ == 0 && path.ends_with(".tsv")) delimiter_ = '\t';
  if (delimiter_ == 0) delimiter_ = GuessDelimiter(buffer_.substr(0, buffer_.find('\n')));
  return Status::Ok();
}

Status CsvText::Fill() {
  std::string bytes(kBlock, '\0');
  bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file_.get()));
  if (std::ferror(file_.get())) return Status::FromErrno(errno, "read", path_);
  ended_ = bytes.empty();
  return Decode(std::move(bytes));
}

Status CsvText::Decode(std::string bytes) {
  if (encoding_ == Encoding::kUtf8) {
    buffer_ += bytes;
    return Status::Ok();
  }
  if (encoding_ == Encoding::kLatin1) {
    for (const char c : bytes) AppendUtf8(static_cast<unsigned char>(c), &buffer_);
    return Status::Ok();
  }
  undecoded_ += bytes;
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
    if (pair) c = 0x10000 + ((c - 0xd800) << 10) + (unit(at + 2) - 0xdc00);
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return Status::Corrupt("its text is not valid UTF-16");
    AppendUtf8(c, &buffer_);
    at += pair ? 4 : 2;
  }
  undecoded_.erase(0, at);
  if (ended_ && !undecoded_.empty())
    return Status::Corrupt("its text is not valid UTF-16: it ends in half a character");
  return Status::Ok();
}

Result<bool> CsvText::Has(size_t at) {
  while (at >= buffer_.size() && !ended_) HEADRACE_TRY(Fill());
  return at < buffer_.size();
}

Result<bool> CsvText::Next(CsvRecord* record) {
  if (begin_ > kBlock) {
    buffer_.erase(0, begin_);
    begin_ = 0;
  }
  for (;;) {
    HEADRACE_ASSIGN(const bool more, Has(begin_));
    if (!more) return false;
    const char c = buffer_[begin_];
    if (c != '\n' && c != '\r') break;
    line_ += c == '\n' ? 1 : 0;
    ++begin_;
  }
  record->line = line_;
  record->cells.clear();
  record->fault = Status::Ok();
  HEADRACE_TRY(Parse(record));
  return true;
}

Status CsvText::SkipLine() {
  for (;; ++begin_) {
    HEADRACE_ASSIGN(const bool more, Has(begin_));
    if (!more) return Status::Ok();
    if (buffer_[begin_] == '\n') break;
  }
  ++begin_;
  ++line_;
  return Status::Ok();
}

// The cell whose opening quote is here; where it ends.
Result<size_t> CsvText::Quoted(size_t at, CsvRecord* record) {
  CsvCell cell;
  cell.quoted = true;
  for (++at;; ++at) {
    HEADRACE_ASSIGN(const bool more, Has(at));
    if (!more || static_cast<int64_t>(at - begin_) > limits::kMaxJsonLineBytes) {
      record->fault = Status::Corrupt("a quote that begins in this row is not closed");
      return at;
    }
    if (buffer_[at] != '"') {
      cell.text += buffer_[at];
      continue;
    }
    HEADRACE_ASSIGN(const bool next, Has(at + 1));
    if (!next || buffer_[at + 1] != '"') break;
    cell.text += '"';
    ++at;
  }
  ++at;
  HEADRACE_ASSIGN(const bool next, Has(at));
  if (next && buffer_[at] != delimiter_ && buffer_[at] != '\n' && buffer_[at] != '\r') {
    record->fault =
        Status::Corrupt("there is text behind a closing quote; a quote inside quotes is written twice");
  }
  record->cells.push_back(std::move(cell));
  return at;
}

Status CsvText::Parse(CsvRecord* record) {
  size_t at = begin_;
  for (;;) {
    HEADRACE_ASSIGN(const bool more, Has(at));
    if (more && buffer_[at] == '"') {
      HEADRACE_ASSIGN(at, Quoted(at, record));
      if (!record->fault.ok()) return SkipLine();
    } else {
      CsvCell cell;
      for (;; ++at) {
        HEADRACE_ASSIGN(const bool inside, Has(at));
        if (!inside || buffer_[at] == delimiter_ || buffer_[at] == '\n') break;
        cell.text += buffer_[at];
      }
      if (!cell.text.empty() && cell.text.back() == '\r') cell.text.pop_back();
      record->cells.push_back(std::move(cell));
    }
    HEADRACE_ASSIGN(bool next, Has(at));
    if (next && buffer_[at] == '\r') {
      ++at;
      HEADRACE_ASSIGN(next, Has(at));
    }
    if (next && buffer_[at] == delimiter_) {
      ++at;
      continue;
    }
    line_ += std::count(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_),
                        buffer_.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    if (next) {
      ++line_;
      ++at;
    }
    begin_ = at;
    return Status::Ok();
  }
}

}  // namespace headrace::ingest
