#include "cli/label_desk.h"

#include <arrow/record_batch.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/clock.h"
#include "cli/render.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;
using trace::QueueItem;

constexpr int kPictureWidth = 640, kPictureHeight = 480;  // pixels on the terminal

bool IsPicture(const ordered_json& cell) {
  return cell.is_object() && cell.value("media_type", "").starts_with("image/");
}

std::string Facts(const ordered_json& cell) {
  std::string text = cell.value("media_type", "");
  if (cell.contains("width"))
    text += ", " + std::to_string(cell.value("width", 0)) + " × " + std::to_string(cell.value("height", 0));
  if (cell.contains("length"))
    text += ", " + HumanBytes(static_cast<double>(cell.value("length", int64_t{0})));
  return text;
}

std::string CellText(const ordered_json& cell) {
  if (cell.is_string()) return cell.get<std::string>();
  if (cell.is_object() && cell.contains("media_type")) return Facts(cell);
  return cell.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

// The text without what could steer the terminal; its further lines below the first.
std::string Indented(const std::string& text, size_t columns) {
  std::string shown;
  for (const char c : text) {
    if (c == '\n') {
      shown += "\n" + std::string(columns, ' ');
    } else if (static_cast<unsigned char>(c) >= ' ' || c == '\t') {
      shown += c;
    }
  }
  return shown;
}

Result<store::Bytes> BytesOf(const table::Catalog& catalog, const QueueItem& item,
                             const std::string& column) {
  HEADRACE_ASSIGN(const trace::RowTarget row, trace::ParseRowTarget(item.target.id));
  HEADRACE_ASSIGN(const table::View view, catalog.Resolve(row.table + "@" + row.version));
  HEADRACE_ASSIGN(const auto batch, view.Take({row.row}, {column}));
  HEADRACE_ASSIGN(const auto blobs, view.ReadBlobs(batch->column(0)));
  if (!blobs.at(0)) return Status::NotFound("the cell is empty");
  return *blobs[0];
}

}  // namespace

LabelDesk::LabelDesk(const Context& context, std::shared_ptr<table::Catalog> catalog,
                     const trace::Queue& queue, Pictures pictures)
    : context_(context),
      catalog_(std::move(catalog)),
      queue_(queue),
      pictures_(pictures),
      terminal_(StdoutIsTerminal() && isatty(STDIN_FILENO) == 1) {}

LabelDesk::~LabelDesk() {
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

void LabelDesk::Tell(const std::string& line) const {
  if (!context_.json) std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

std::string LabelDesk::Choices() const {
  std::string text;
  for (const auto& one : queue_.rubric.labels) text += (text.empty() ? "" : ", ") + one.key + " " + one.label;
  if (text.empty())
    text = "a number from " + nlohmann::json(queue_.rubric.least).dump() + " to " +
           nlohmann::json(queue_.rubric.most).dump();
  return text + "; u undo, s skip, c comment, q quit";
}

void LabelDesk::Instruct() const {
  if (!queue_.rubric.instructions.empty()) Tell(queue_.rubric.instructions);
  Tell(queue_.rubric.name + ": " + Choices());
}

Status LabelDesk::Show(const QueueItem& item, const trace::QueueProgress& progress) {
  shown_ = MonotonicSeconds();
  if (context_.json) {
    PrintJson({{"item", item.number},
               {"target", item.target.kind + ":" + item.target.id},
               {"shown", item.shown},
               {"labels", progress.labels},
               {"wanted", progress.wanted},
               {"mine", progress.mine},
               {"left", progress.left}});
    std::fflush(stdout);
    return Status::Ok();
  }
  Tell("\n" + item.target.kind + " " + item.target.id + "   " + HumanCount(progress.labels) + " of " +
       HumanCount(progress.wanted) + " labels, " + HumanCount(progress.mine) + " yours, " +
       HumanCount(progress.left) + " left for you");
  ShowCells(item);
  return Status::Ok();
}

void LabelDesk::ShowCells(const QueueItem& item) {
  size_t width = 0;
  for (const auto& [name, cell] : item.shown.items()) width = std::max(width, name.size());
  for (const auto& [name, cell] : item.shown.items()) {
    Tell("  " + name + std::string(width - name.size(), ' ') + "  " + Indented(CellText(cell), width + 4));
    if (!IsPicture(cell) || item.target.kind != "row" || (!terminal_ && pictures_ == Pictures::kNone))
      continue;
    const Status status = ShowPicture(item, name, cell.value("media_type", ""));
    if (!status.ok()) Tell("  (" + status.message() + ")");  // the facts may be enough
  }
}

Status LabelDesk::ShowPicture(const QueueItem& item, const std::string& column, const std::string& type) {
  HEADRACE_ASSIGN(const store::Bytes bytes, BytesOf(*catalog_, item, column));
  if (pictures_ != Pictures::kNone) {
    HEADRACE_ASSIGN(const std::string picture,
                    DrawPicture(pictures_, bytes.view(), kPictureWidth, kPictureHeight));
    std::fwrite(picture.data(), 1, picture.size(), stdout);
    return Status::Ok();
  }
  if (folder_.empty()) {
    std::string name = (std::filesystem::temp_directory_path() / "headrace-label-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) return Status::FromErrno(errno, "make", "a folder for pictures");
    folder_ = name;
  }
  const std::string path =
      folder_ + "/" + std::to_string(item.number) + "." + type.substr(type.find('/') + 1);
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.view().data(), bytes.size());
  file.close();
  if (!file) return Status::Io("cannot write " + path);
  Tell("  " + path);
  return Status::Ok();
}

Result<LineRead> LabelDesk::Read(std::string* word, const StopToken& stop) const {
  if (!terminal_) return ReadLine(word, stop);
  std::printf("> ");
  std::fflush(stdout);
  if (queue_.rubric.labels.empty()) return ReadLine(word, stop);
  HEADRACE_ASSIGN(const LineRead read, ReadKey(word, stop));
  if (*word != "c" || read != LineRead::kLine) {
    std::printf("%s\n", word->c_str());
    return read;
  }
  std::printf("comment: ");
  std::fflush(stdout);
  HEADRACE_ASSIGN(const LineRead line, ReadLine(word, stop));
  *word = "c " + *word;
  return line;
}

std::optional<LabelAnswer> LabelDesk::AnswerOf(const std::string& word) const {
  LabelAnswer answer;
  answer.judgement.comment = comment_;
  answer.judgement.seconds = MonotonicSeconds() - shown_;
  if (word == "q") return answer;
  answer.kind = word == "u"   ? LabelAnswer::Kind::kUndo
                : word == "s" ? LabelAnswer::Kind::kSkip
                              : LabelAnswer::Kind::kLabel;
  if (answer.kind != LabelAnswer::Kind::kLabel) return answer;
  const trace::Rubric& rubric = queue_.rubric;
  for (const auto& one : rubric.labels)
    if (word == one.key || word == one.label) answer.judgement.label = one.label;
  if (rubric.labels.empty()) {
    double value = 0;
    const auto read = std::from_chars(word.data(), word.data() + word.size(), value);
    if (read.ec == std::errc() && read.ptr == word.data() + word.size()) answer.judgement.value = value;
  }
  if (rubric.Check(answer.judgement.value, answer.judgement.label).ok()) return answer;
  return std::nullopt;
}

Result<bool> LabelDesk::AskToUndo() const {
  if (!terminal_) return false;
  std::printf("u takes the last one back, any other key ends: ");
  std::fflush(stdout);
  std::string key;
  HEADRACE_ASSIGN(const LineRead read, ReadKey(&key, context_.stop));
  std::printf("\n");
  return read == LineRead::kLine && key == "u";
}

Result<LabelAnswer> LabelDesk::Ask() {
  comment_.clear();
  for (;;) {
    std::string word;
    HEADRACE_ASSIGN(const LineRead read, Read(&word, context_.stop));
    if (read != LineRead::kLine) return LabelAnswer{};
    while (!word.empty() && (word.back() == '\r' || word.back() == ' ')) word.pop_back();
    if (word.starts_with("c ")) {
      comment_ = word.substr(2);
      continue;
    }
    if (word.empty()) continue;
    if (auto answer = AnswerOf(word)) return *answer;
    const std::string wrong = word == "?" ? "" : "'" + Indented(word, 0) + "' is none of them. ";
    std::fprintf(stderr, "%s%s: %s\n", wrong.c_str(), queue_.rubric.name.c_str(), Choices().c_str());
  }
}

}  // namespace headrace::cli
