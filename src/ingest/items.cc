#include "ingest/items.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/hash.h"
#include "table/arrow_bridge.h"
#include "table/row_map.h"
#include "table/row_set.h"

namespace headrace::ingest {
namespace {

// The length of the UTF-8 character that begins here; 0 if none does (RFC 3629: no surrogates, no long
// forms).
size_t CharacterAt(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(at);
  if (first < 0x80) return 1;
  const auto tail = [&](size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return byte(at + i) >= low && byte(at + i) <= high;
  };
  if (first >= 0xc2 && first <= 0xdf) return tail(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    return tail(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf) && tail(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    return tail(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

// The writer under whose name earlier versions of this program took a data file in.
std::string MarkOf(const FoundFile& file) {
  const std::unique_ptr<char, void (*)(void*)> real(realpath(file.path.c_str(), nullptr), std::free);
  const std::string place = real ? real.get() : file.path;
  return "file:" + Hex64(Xxh3(place + '\0' + std::to_string(file.bytes) + '\0' +
                              std::to_string(file.modified_ns / 1'000'000'000) + '.' +
                              std::to_string(file.modified_ns % 1'000'000'000)));
}

// Whether there is a column `image` with the length and checksum of bytes.
bool HasPhotographs(const table::Schema& schema) {
  const auto* image = schema.Find("image");
  const auto has = [&](const char* name, table::Kind kind) {
    return image != nullptr &&
           std::any_of(image->type.children.begin(), image->type.children.end(),
                       [&](const table::Field& f) { return f.name == name && f.type.kind == kind; });
  };
  return has("length", table::Kind::kInt64) && has("checksum", table::Kind::kUInt64);
}

}  // namespace

std::string TextOfName(const std::string& name) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < name.size();) {
    const size_t length = CharacterAt(name, i);
    if (length == 0) {
      const auto byte = static_cast<unsigned char>(name[i++]);
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      continue;
    }
    if (name[i] == '\\' && i + 1 < name.size() &&
        (name[i + 1] == 'x' || name[i + 1] == '\\' || CharacterAt(name, i + 1) == 0)) {
      out += '\\';
    }
    out.append(name, i, length);
    i += length;
  }
  return out;
}

Status CheckUnchanged(const FoundFile& file) {
  struct stat info {};
  if (stat(file.path.c_str(), &info) != 0) return Status::FromErrno(errno, "look at", file.path);
  if (info.st_size == file.bytes &&
      int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec == file.modified_ns) {
    return Status::Ok();
  }
  return Status::Invalid("the file changed while it was read; ingest it again when nobody writes to it");
}

Result<uint64_t> HashFile(const FoundFile& file) {
  const std::unique_ptr<FILE, int (*)(FILE*)> in(std::fopen(file.path.c_str(), "rb"), std::fclose);
  if (!in) return Status::FromErrno(errno, "read", file.path);
  Xxh3Stream hash;
  std::string buffer(static_cast<size_t>(std::min<int64_t>(1 << 20, file.bytes + 1)), '\0');
  for (;;) {
    const size_t got = std::fread(buffer.data(), 1, buffer.size(), in.get());
    if (got == 0) break;
    hash.Add(std::string_view(buffer).substr(0, got));
  }
  if (std::ferror(in.get())) return Status::FromErrno(errno, "read", file.path);
  HEADRACE_TRY(CheckUnchanged(file));
  return hash.Digest();
}

Result<Items> Items::Load(const RunState& run, const std::vector<FoundFile>& files) {
  Items items;
  if (run.options.on_change == "replace" && !run.options.again) {
    for (const auto& file : files) items.replacing_.emplace(file.source, &file);
  }
  const auto table = run.catalog->OpenTable(run.options.table);
  if (table.status().Is(Code::kNotFound)) return items;
  if (!table.ok()) return table.status();
  HEADRACE_ASSIGN(items.taken_, (*table)->TakenIn());
  for (const auto& [source, item] : items.taken_.items) items.by_content_.emplace(item.content, source);
  HEADRACE_ASSIGN(items.view_, (*table)->At());
  for (const auto& [name, mark] : items.view_->snapshot().writers) {
    if (name.starts_with("file:")) items.marks_.insert(name);
  }
  if (items.taken_.rows_before > 0) HEADRACE_TRY(items.LoadRowsBefore(*items.view_));
  return items;
}

Status Items::LoadRowsBefore(const table::View& view) {
  const auto* path = view.schema().Find("path");
  if (path == nullptr || path->type.kind != table::Kind::kString || !HasPhotographs(view.schema()))
    return Status::Ok();
  table::ScanOptions options{.columns = {"path", "image.length", "image.checksum"}};
  options.limit = taken_.rows_before;
  HEADRACE_ASSIGN(const auto reader, view.Scan(options));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) return Status::Ok();
    const auto& paths = static_cast<const arrow::StringArray&>(*batch->column(0));
    const auto& lengths = static_cast<const arrow::Int64Array&>(*batch->column(1));
    const auto& sums = static_cast<const arrow::UInt64Array&>(*batch->column(2));
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      if (paths.IsNull(i)) continue;
      const bool known = lengths.IsValid(i) && sums.IsValid(i);
      rows_before_.emplace(paths.GetString(i), known ? std::pair(lengths.Value(i), sums.Value(i))
                                                     : std::pair<int64_t, uint64_t>(-1, 0));
    }
  }
}

bool Items::AmongRowsBefore(const FoundFile& file, uint64_t content) const {
  if (file.reader != nullptr) return !marks_.empty() && marks_.contains(MarkOf(file));
  const auto [begin, end] = rows_before_.equal_range(TextOfName(file.relative));
  for (auto it = begin; it != end; ++it) {
    const auto& [length, checksum] = it->second;
    if (length < 0 || (length == file.bytes && checksum == content)) return true;
  }
  return false;
}

bool Items::Unchanged(const FoundFile& file) const {
  const auto found = taken_.items.find(file.source);
  return found != taken_.items.end() && found->second.bytes == file.bytes &&
         found->second.modified_ns == file.modified_ns;
}

Items::Answer Items::Replace(const FoundFile& file, const table::TakenItem& before, RunState* run,
                             table::TakenItem* item) {
  if (before.first_row < 0) {
    run->report.notices.push_back(file.relative +
                                  " has changed, and the table does not know which rows were its (an earlier "
                                  "Headrace took it in): delete them, and take it with --again");
    return Answer::kSkip;
  }
  item->replaced_first = before.first_row;
  item->replaced_rows = before.rows;
  return Answer::kTake;
}

Result<bool> Items::HasRows(const table::TakenItem& item) {
  if (item.first_row < 0 || !view_) return true;
  if (!fragments_) {
    HEADRACE_ASSIGN(fragments_, view_->Fragments());
  }
  const table::RowMap rows(*fragments_);
  for (int64_t id = item.first_row; id < item.first_row + item.rows; ++id) {
    const auto found = rows.Find(id);
    if (!found) continue;
    const table::Fragment& fragment = (*fragments_)[*found];
    HEADRACE_ASSIGN(const auto deleted, view_->Deleted(fragment));
    if (deleted == nullptr) return true;
    HEADRACE_ASSIGN(const table::RowIds ids, view_->reader().Ids(fragment));
    if (!deleted->Contains(ids.PlaceOf(id))) return true;
  }
  return item.rows == 0;
}

bool Items::IsReplaced(const table::TakenItem& item) {
  const auto file = replacing_.find(item.source);
  if (file == replacing_.end() || item.first_row < 0 || Unchanged(*file->second)) return false;
  const auto [answer, first] = replaced_.try_emplace(item.source, true);
  if (first) {
    const auto content = HashFile(*file->second);
    answer->second = !content.ok() || *content != item.content;
  }
  return answer->second;
}

Status Items::LoadRows() {
  if (rows_) return Status::Ok();
  rows_.emplace();
  if (!view_ || !HasPhotographs(view_->schema())) return Status::Ok();
  HEADRACE_ASSIGN(const auto reader, view_->Scan({.columns = {"image.checksum"}, .with_row_ids = true}));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) break;
    const auto& sums = static_cast<const arrow::UInt64Array&>(*batch->column(0));
    const auto& ids = static_cast<const arrow::Int64Array&>(*batch->column(1));
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      if (sums.IsValid(i)) rows_->emplace(sums.Value(i), ids.Value(i));
    }
  }
  for (const auto& [source, item] : taken_.items) sources_.emplace(item.first_row, &item);
  return Status::Ok();
}

Result<int64_t> Items::RowWith(uint64_t content) {
  HEADRACE_TRY(LoadRows());
  const auto row = rows_->find(content);
  return row == rows_->end() ? -1 : row->second;
}

Result<std::optional<std::string>> Items::CopyOf(const FoundFile& file, uint64_t content, bool decides) {
  const auto here = of_this_run_.find(content);
  if (here != of_this_run_.end()) return std::optional(here->second);
  if (decides && file.reader == nullptr) {  // a photograph: its bytes are those of a row
    HEADRACE_TRY(LoadRows());
    const auto [begin, end] = rows_->equal_range(content);
    for (auto it = begin; it != end; ++it) {
      const auto item = sources_.find(it->second);
      if (item == sources_.end()) return std::optional("row " + std::to_string(it->second));
      if (!IsReplaced(*item->second)) return std::optional(item->second->source);
    }
    return std::optional<std::string>();
  }
  const auto [begin, end] = by_content_.equal_range(content);
  for (auto it = begin; it != end; ++it) {
    const auto& item = taken_.items.at(it->second);
    HEADRACE_ASSIGN(const bool there, HasRows(item));
    if (there && !IsReplaced(item)) return std::optional(item.source);
  }
  return std::optional<std::string>();
}

Result<Items::Answer> Items::Decide(const FoundFile& file, uint64_t content, RunState* run,
                                    table::TakenItem* item) {
  const auto found = taken_.items.find(file.source);
  const bool there = found != taken_.items.end();
  *item = {file.source, file.bytes, file.modified_ns, content, there ? found->second.version : 0};
  const auto take = [&] {
    of_this_run_.emplace(content, file.source);
    return Answer::kTake;
  };
  if (run->options.again) return take();
  if (there) {
    if (found->second.bytes == file.bytes && found->second.content == content) return Answer::kSkip;
    run->report.changed.push_back(file.relative);
    if (run->options.on_change == "replace") {
      const Answer answer = Replace(file, found->second, run, item);
      return answer == Answer::kTake ? take() : answer;
    }
    return run->options.on_change == "add" ? take() : Answer::kSkip;
  }
  if (AmongRowsBefore(file, content)) return Answer::kKnown;
  HEADRACE_ASSIGN(const auto copy, CopyOf(file, content, run->options.on_copy != "add"));
  if (!copy) return take();
  run->report.same_bytes.push_back({file.relative, *copy});
  return run->options.on_copy == "skip" ? Answer::kSkip : take();
}

}  // namespace headrace::ingest
