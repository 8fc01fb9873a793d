#include "ingest/json_records.h"

#include <algorithm>
#include <cstring>

#include "base/json_tape.h"

namespace headrace::ingest {
namespace {

constexpr size_t kKeep = 1 << 20;       // of text that was read, before it is dropped
constexpr size_t kFirstLine = 1 << 20;  // of a file that begins with [, looked at as a line

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

bool Blank(std::string_view text) { return std::all_of(text.begin(), text.end(), IsSpace); }

}  // namespace

Result<std::unique_ptr<JsonRecords>> JsonRecords::Open(const std::string& path, const std::string& encoding,
                                                       int64_t chunk_bytes, int64_t record_bytes) {
  auto records = std::make_unique<JsonRecords>();
  HEADRACE_ASSIGN(records->file_, TextFile::Open(path, encoding));
  records->chunk_bytes_ = chunk_bytes;
  records->record_bytes_ = record_bytes;
  HEADRACE_TRY(records->Decide());
  return records;
}

std::string JsonRecords::NameOf(const std::string& file, int64_t number) const {
  return form_ == Form::kArray ? file + "[" + std::to_string(number) + "]"
                               : file + ":" + std::to_string(number);
}

Result<bool> JsonRecords::Has(size_t at) {
  while (at >= buffer_.size() && !file_->ended()) HEADRACE_TRY(file_->Read(&buffer_));
  return at < buffer_.size();
}

Result<bool> JsonRecords::SkipSpace() {
  for (;; ++begin_) {
    HEADRACE_ASSIGN(const bool more, Has(begin_));
    if (!more) return false;
    if (!IsSpace(buffer_[begin_])) return true;
    line_ += buffer_[begin_] == '\n' ? 1 : 0;
    if (begin_ > kKeep) {
      buffer_.erase(0, begin_);
      begin_ = 0;
    }
  }
}

Status JsonRecords::Decide() {
  HEADRACE_ASSIGN(const bool more, SkipSpace());
  if (!more) {
    done_ = true;
    return Status::Ok();
  }
  const bool array = buffer_[begin_] == '[';
  if (!array && buffer_[begin_] != '{') return Status::Ok();
  const size_t look = array ? kFirstLine : static_cast<size_t>(record_bytes_);
  size_t end = buffer_.find('\n', begin_);
  while (end == std::string::npos && buffer_.size() - begin_ < look && !file_->ended()) {
    const size_t from = buffer_.size();
    HEADRACE_TRY(file_->Read(&buffer_));
    end = buffer_.find('\n', from);
  }
  const bool whole = end != std::string::npos || file_->ended();
  const auto line = std::string_view(buffer_).substr(begin_, end == std::string::npos ? end : end - begin_);
  JsonTape tape;
  const bool one_line = whole && tape.Read(line, true).ok();
  if (array) {
    // Lines of arrays hold no rows, but others among them may.
    const bool lines = one_line && end != std::string::npos && !Blank(std::string_view(buffer_).substr(end));
    form_ = lines ? Form::kLines : Form::kArray;
    return Status::Ok();
  }
  if (one_line || !whole) return Status::Ok();
  HEADRACE_ASSIGN(const Extent extent, MeasureNested(true));
  const bool object = !extent.too_long && !extent.cut &&
                      tape.Read(std::string_view(buffer_).substr(begin_, extent.size), true).ok();
  if (object) form_ = Form::kValues;
  return Status::Ok();
}

Result<bool> JsonRecords::Next(JsonChunk* chunk) {
  chunk->text.clear();
  chunk->records.clear();
  while (!done_ && static_cast<int64_t>(chunk->text.size()) < chunk_bytes_ &&
         static_cast<int64_t>(chunk->records.size()) < chunk_bytes_ / 16 + 1) {
    if (begin_ > kKeep) {
      buffer_.erase(0, begin_);
      begin_ = 0;
    }
    HEADRACE_TRY(form_ == Form::kLines ? Line(chunk) : form_ == Form::kArray ? Element(chunk) : Value(chunk));
  }
  return !chunk->records.empty();
}

Status JsonRecords::TooLong() const {
  return Status::Limit("it has more than " + std::to_string(record_bytes_) + " bytes");
}

// The next `size` characters are a record, or its fault is.
void JsonRecords::Take(size_t size, Status fault, JsonChunk* chunk) {
  const char* text = buffer_.data() + begin_;
  JsonRecord record;
  record.number = form_ == Form::kArray ? index_++ : line_;
  record.fault = std::move(fault);
  record.begin = chunk->text.size();
  if (record.fault.ok()) {
    record.size = size;
    chunk->text.append(text, size);
  }
  line_ += std::count(text, text + size, '\n');
  begin_ += size;
  chunk->records.push_back(std::move(record));
}

// A fault of the file, not of one record.
void JsonRecords::Tell(Status fault, JsonChunk* chunk) {
  chunk->records.push_back({.number = form_ == Form::kArray ? index_ : line_, .fault = std::move(fault)});
}

Status JsonRecords::Line(JsonChunk* chunk) {
  size_t from = begin_;
  bool too_long = false;
  size_t end = std::string::npos;
  for (;;) {
    end = buffer_.find('\n', from);
    if (end != std::string::npos || file_->ended()) break;
    if (static_cast<int64_t>(buffer_.size() - begin_) > record_bytes_) {
      too_long = true;
      buffer_.clear();
      begin_ = 0;
    }
    from = buffer_.size();
    HEADRACE_TRY(file_->Read(&buffer_));
  }
  const size_t size = (end == std::string::npos ? buffer_.size() : end) - begin_;
  too_long |= static_cast<int64_t>(size) > record_bytes_;
  if (too_long || !Blank(std::string_view(buffer_).substr(begin_, size))) {
    Take(size, too_long ? TooLong() : Status::Ok(), chunk);
  } else {
    begin_ += size;
  }
  if (end == std::string::npos) {
    done_ = true;
  } else {
    ++begin_;
    ++line_;
  }
  return Status::Ok();
}

Result<JsonRecords::Extent> JsonRecords::Measure() {
  if (buffer_[begin_] == '{' || buffer_[begin_] == '[') return MeasureNested(false);
  Extent extent;  // a number, a word, a string, or nonsense: to the next comma or bracket
  bool inside = false;
  for (size_t at = begin_;; ++at) {
    HEADRACE_ASSIGN(const bool more, Has(at));
    extent.size = at - begin_;
    if (!more) return extent;
    const char c = buffer_[at];
    if (c == '\\' && inside) {
      ++at;
    } else if (c == '"') {
      inside = !inside;
    }
    if (c == '\n' || (!inside && (c == ',' || c == ']' || c == '}' || c == '{' || c == '['))) {
      if (extent.size == 0) extent.size = 1;
      return extent;
    }
    if (static_cast<int64_t>(extent.size) > record_bytes_) {
      extent.too_long = true;
      return extent;
    }
  }
}

Result<JsonRecords::Extent> JsonRecords::MeasureNested(bool keep) {
  Extent extent;
  int64_t depth = 0;
  bool inside = false;
  for (size_t at = begin_;;) {
    HEADRACE_ASSIGN(const bool more, Has(at));
    if (!more) {
      extent.size = buffer_.size() - begin_;
      extent.cut = true;
      return extent;
    }
    if (static_cast<int64_t>(at - begin_) > record_bytes_) {
      extent.too_long = true;
      if (keep) return extent;
      line_ += std::count(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_),
                          buffer_.begin() + static_cast<std::ptrdiff_t>(at), '\n');
      buffer_.erase(0, at);
      at = begin_ = 0;
    }
    for (const size_t size = buffer_.size(); at < size;) {
      const char c = buffer_[at++];
      if (inside) {
        if (c == '\\') {
          HEADRACE_TRY(Has(at).status());
          ++at;
          if (at > size) break;
        } else if (c == '"' || c == '\n') {  // no string of JSON holds a line break: it was not closed
          inside = false;
        }
      } else if (c == '"') {
        inside = true;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if ((c == '}' || c == ']') && --depth == 0) {
        extent.size = at - begin_;
        extent.too_long |= static_cast<int64_t>(extent.size) > record_bytes_;
        return extent;
      }
    }
  }
}

Status JsonRecords::Element(JsonChunk* chunk) {
  HEADRACE_ASSIGN(const bool more, SkipSpace());
  if (!more) {
    done_ = true;
    Tell(Status::Corrupt("the file ends inside its array, after " + std::to_string(index_) + " elements"),
         chunk);
    return Status::Ok();
  }
  const char c = buffer_[begin_];
  if (!opened_) {
    opened_ = true;
    ++begin_;
    return Status::Ok();
  }
  if (c == ']') {
    if (comma_ && index_ > 0) Tell(Status::Corrupt("there is no element behind the last comma"), chunk);
    ++begin_;
    done_ = true;
    HEADRACE_ASSIGN(const bool behind, SkipSpace());
    if (behind) {
      Tell(Status::Corrupt("the array ends in line " + std::to_string(line_) +
                           " or before; what is behind it was not read"),
           chunk);
    }
    return Status::Ok();
  }
  if (c == ',') {
    if (comma_) Tell(Status::Corrupt("there is no element before a comma"), chunk);
    comma_ = true;
    ++begin_;
    return Status::Ok();
  }
  HEADRACE_ASSIGN(const Extent extent, Measure());
  Status fault = extent.too_long ? TooLong() : Status::Ok();
  if (extent.cut) fault = Status::Corrupt("the file ends inside it");
  if (!comma_) fault = Status::Corrupt("there is no comma before it");
  comma_ = false;
  Take(extent.size, std::move(fault), chunk);
  return Status::Ok();
}

Status JsonRecords::Value(JsonChunk* chunk) {
  HEADRACE_ASSIGN(const bool more, SkipSpace());
  if (!more) {
    done_ = true;
    return Status::Ok();
  }
  HEADRACE_ASSIGN(const Extent extent, Measure());
  Status fault = extent.too_long ? TooLong() : Status::Ok();
  if (extent.cut) fault = Status::Corrupt("the file ends inside it");
  Take(extent.size, std::move(fault), chunk);
  return Status::Ok();
}

}  // namespace headrace::ingest
