#include "ingest/csv_text.h"

#include <algorithm>

#include "base/limits.h"

namespace headrace::ingest {
namespace {

constexpr size_t kBlock = 1 << 20;

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
  HEADRACE_ASSIGN(file_, TextFile::Open(path, options.encoding));
  HEADRACE_TRY(Has(kBlock / 2).status());
  delimiter_ = options.delimiter;
  if (delimiter_ == 0 && path.ends_with(".tsv")) delimiter_ = '\t';
  if (delimiter_ == 0) delimiter_ = GuessDelimiter(buffer_.substr(0, buffer_.find('\n')));
  return Status::Ok();
}

Result<bool> CsvText::Has(size_t at) {
  while (at >= buffer_.size() && !file_->ended()) HEADRACE_TRY(file_->Read(&buffer_));
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
