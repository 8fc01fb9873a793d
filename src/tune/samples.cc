#include "tune/samples.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>

#include "base/limits.h"
#include "tune/samples_cells.h"
#include "tune/samples_chat.h"

namespace headrace::tune {
namespace {

using model::Token;

constexpr std::array<std::string_view, kDroppedReasons> kDroppedNames = {
    "not dropped", "null",
    "empty",       "no turn to learn",
    "too long",    "nothing left to learn",
    "broken",      "not valid in its batch"};

Status CheckColumns(const SampleColumns& columns) {
  const bool messages = !columns.messages.empty(), text = !columns.text.empty();
  const bool prompt = !columns.prompt.empty(), answer = !columns.answer.empty();
  if (prompt != answer)
    return Status::Invalid(
        "a column of prompts goes with one of answers: name both, or a column of messages or text");
  if (static_cast<int>(messages) + static_cast<int>(text) + static_cast<int>(prompt) != 1)
    return Status::Invalid(
        "rows are made of one column of messages, of two of prompts and answers, or of one of text");
  return Status::Ok();
}

Status CheckRoles(std::vector<std::string>* roles) {
  for (std::string& role : *roles) {
    if (role == "developer") role = "system";
    if (role == "function") role = "tool";
    if (role != "system" && role != "user" && role != "assistant" && role != "tool")
      return Status::Invalid("there is no role '" + role + "'; there are system, user, assistant and tool");
  }
  if (roles->empty()) return Status::Invalid("no role is learned; name one, assistant mostly");
  return Status::Ok();
}

// The end-of-sequence token, or another at which the server stops; -1: none.
Token EndOf(const model::Model& model) {
  if (model.eos() >= 0) return model.eos();
  const std::vector<Token> ends = model.EndTokens();
  return ends.empty() ? -1 : ends[0];
}

RowSamples Drop(Dropped why, int64_t row_id) {
  RowSamples made;
  made.row_id = row_id;
  made.dropped = why;
  return made;
}

bool IsBlank(const model::Message& message) {
  return Trimmed(message.content).empty() && Trimmed(message.reasoning).empty() && message.tool_calls.empty();
}

// The first column of a name; `own`: the last, as the stream's own columns come after a table's.
Result<const arrow::Array*> ColumnOf(const arrow::RecordBatch& batch, const std::string& name,
                                     bool own = false) {
  const std::vector<int> found = batch.schema()->GetAllFieldIndices(name);
  if (found.empty()) return Status::NotFound("the batch has no column '" + name + "'");
  return batch.column(own ? found.back() : found.front()).get();
}

// The cell of a text; an error names the column.
Result<std::optional<std::string_view>> CellOf(const arrow::RecordBatch& batch, const std::string& name,
                                               int64_t row) {
  HEADRACE_ASSIGN(const arrow::Array* values, ColumnOf(batch, name));
  auto text = TextAt(*values, row);
  if (!text.ok()) return Status::Invalid("column '" + name + "' " + text.status().message());
  return text;
}

}  // namespace

struct SampleMaker::State {
  explicit State(std::shared_ptr<const model::Model> of) : model(std::move(of)), names(*model) {}
  std::shared_ptr<const model::Model> model;
  model::ControlNames names;
  std::unique_ptr<TurnWriter> turns;
  Token end = -1;
};

SampleMaker::~SampleMaker() = default;

int64_t Sample::learned() const { return std::count(learn.begin(), learn.end(), 1); }

std::string_view DroppedName(Dropped dropped) { return kDroppedNames[static_cast<size_t>(dropped)]; }

Result<std::unique_ptr<SampleMaker>> SampleMaker::Make(std::shared_ptr<const model::Model> model,
                                                       const SampleOptions& options) {
  HEADRACE_TRY(CheckColumns(options.columns));
  if (options.most < 0) return Status::Invalid("a sample has 0 (any number) or more tokens at most");
  std::unique_ptr<SampleMaker> maker(new SampleMaker());
  maker->options_ = options;
  HEADRACE_TRY(CheckRoles(&maker->options_.roles));
  HEADRACE_TRY(CheckUtf8(options.system).Wrap("the system message cannot be read"));
  if (model->facts().task() != model::Task::kWrite)
    return Status::Unsupported(model->facts().name +
                               " writes nothing: only language models learn from samples");
  maker->state_ = std::make_unique<State>(model);
  maker->state_->end = EndOf(*model);
  const bool answers = !options.columns.prompt.empty();
  maker->chats_ =
      !options.columns.messages.empty() ||
      (answers && options.chat && (model->facts().has_template || !options.chat_template.empty()));
  if (maker->chats_) {
    HEADRACE_ASSIGN(maker->state_->turns, TurnWriter::Make(model, options.chat_template, options.think));
    maker->template_hash_ = maker->state_->turns->hash();
  }
  return maker;
}

std::vector<std::string> SampleMaker::columns() const {
  const SampleColumns& from = options_.columns;
  if (!from.messages.empty()) return {from.messages};
  if (!from.text.empty()) return {from.text};
  if (from.prompt == from.answer) return {from.prompt};
  return {from.prompt, from.answer};
}

Result<RowSamples> SampleMaker::Broken(const Status& problem, int64_t row_id) const {
  if (options_.broken == OnBroken::kFail)
    return problem.Wrap("row " + std::to_string(row_id) + " cannot be learned");
  RowSamples made = Drop(Dropped::kBroken, row_id);
  made.why = problem.ToString();
  return made;
}

Result<std::vector<RowSamples>> SampleMaker::Rows(const arrow::RecordBatch& batch) const {
  HEADRACE_ASSIGN(const arrow::Array* valid, ColumnOf(batch, "valid", true));
  HEADRACE_ASSIGN(const arrow::Array* row_id, ColumnOf(batch, "row_id", true));
  if (valid->type_id() != arrow::Type::UINT8 || row_id->type_id() != arrow::Type::INT64)
    return Status::Invalid("valid must be of uint8 and row_id of int64, as a stream's batches have them");
  std::vector<RowSamples> rows;
  for (int64_t row = 0; row < batch.num_rows(); ++row) {
    const int64_t id = static_cast<const arrow::Int64Array&>(*row_id).Value(row);
    if (static_cast<const arrow::UInt8Array&>(*valid).Value(row) == 0) {
      rows.push_back(Drop(Dropped::kAbsent, id));
      continue;
    }
    HEADRACE_ASSIGN(rows.emplace_back(), Row(batch, row, id));
  }
  return rows;
}

Result<RowSamples> SampleMaker::Row(const arrow::RecordBatch& batch, int64_t row, int64_t row_id) const {
  const SampleColumns& from = options_.columns;
  if (!from.messages.empty()) {
    HEADRACE_ASSIGN(const arrow::Array* values, ColumnOf(batch, from.messages));
    auto read = ConversationAt(*values, row);
    if (!read.ok() && read.status().Is(Code::kUnsupported))
      return Status::Invalid("column '" + from.messages + "' " + read.status().message());
    if (!read.ok()) return Broken(read.status(), row_id);
    if (!*read) return Drop(Dropped::kNull, row_id);
    return Chat(std::move((*read)->messages), (*read)->weights, row_id, (*read)->tools);
  }
  if (!from.text.empty()) {
    HEADRACE_ASSIGN(const auto text, CellOf(batch, from.text, row));
    return text ? Text(*text, row_id) : Drop(Dropped::kNull, row_id);
  }
  HEADRACE_ASSIGN(const auto prompt, CellOf(batch, from.prompt, row));
  HEADRACE_ASSIGN(const auto answer, CellOf(batch, from.answer, row));
  return prompt && answer ? Answer(*prompt, *answer, row_id) : Drop(Dropped::kNull, row_id);
}

Result<RowSamples> SampleMaker::Text(std::string_view text, int64_t row_id) const {
  if (const Status utf8 = CheckUtf8(text); !utf8.ok()) return Broken(utf8.Wrap("the text is broken"), row_id);
  if (Trimmed(text).empty()) return Drop(Dropped::kEmpty, row_id);
  if (options_.cut == Cut::kDrop && options_.most > 0 &&
      state_->model->FewestTokens(text.size()) > options_.most)
    return Drop(Dropped::kTooLong, row_id);
  auto tokens = state_->model->Tokenize(text, true, false);
  if (!tokens.ok()) return Broken(tokens.status(), row_id);
  RowSamples made;
  made.row_id = row_id;
  Sample& sample = made.samples.emplace_back();
  sample.tokens = std::move(*tokens);
  if (state_->end >= 0 && sample.tokens.back() != state_->end) sample.tokens.push_back(state_->end);
  sample.learn.assign(sample.tokens.size(), 1);
  sample.learn[0] = 0;
  sample.whole = static_cast<int64_t>(sample.tokens.size());
  Finish(&made);
  return made;
}

Result<RowSamples> SampleMaker::Answer(std::string_view prompt, std::string_view answer,
                                       int64_t row_id) const {
  if (chats_) return Chat({{"user", std::string(prompt)}, {"assistant", std::string(answer)}}, {}, row_id);
  if (const Status utf8 = CheckUtf8(prompt); !utf8.ok())
    return Broken(utf8.Wrap("the prompt is broken"), row_id);
  if (const Status utf8 = CheckUtf8(answer); !utf8.ok())
    return Broken(utf8.Wrap("the answer is broken"), row_id);
  if (Trimmed(answer).empty()) return Drop(Dropped::kEmpty, row_id);
  if (options_.cut == Cut::kDrop && options_.most > 0 &&
      state_->model->FewestTokens(prompt.size() + answer.size()) > options_.most)
    return Drop(Dropped::kTooLong, row_id);
  GrowingTokens tokens(*state_->model, state_->names);
  Parts parts = {{std::string(prompt), false}};
  const auto read = tokens.Read(parts);
  if (!read.ok()) return Broken(read.status(), row_id);
  parts[0].text += answer;
  if (const Status learned = tokens.Learn(parts); !learned.ok()) return Broken(learned, row_id);
  if (state_->end >= 0) tokens.LearnEnd(state_->end);
  RowSamples made;
  made.row_id = row_id;
  made.samples.push_back(tokens.Take());
  Finish(&made);
  return made;
}

Result<RowSamples> SampleMaker::Chat(std::vector<model::Message> messages, const std::vector<bool>& weights,
                                     int64_t row_id, const std::vector<model::Tool>& tools) const {
  HEADRACE_CHECK(chats_ && (weights.empty() || weights.size() == messages.size()));
  for (const model::Message& message : messages)
    if (const Status utf8 = CheckUtf8(message.content); !utf8.ok())
      return Broken(utf8.Wrap("a message's content is broken"), row_id);
  if (messages.empty()) return Drop(Dropped::kEmpty, row_id);
  if (!tools.empty() && !state_->turns->knows_tools())
    return Broken(Status::Invalid("it offers tools, which the chat template does not know"), row_id);
  std::vector<bool> wanted;
  bool any = false;
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& roles = options_.roles;
    const bool learned = (weights.empty() || weights[i]) &&
                         std::find(roles.begin(), roles.end(), messages[i].role) != roles.end();
    any = any || learned;
    wanted.push_back(learned && !IsBlank(messages[i]));
  }
  if (!any) return Drop(Dropped::kNoTurn, row_id);
  if (std::find(wanted.begin(), wanted.end(), true) == wanted.end()) return Drop(Dropped::kEmpty, row_id);
  if (!options_.system.empty() && messages[0].role != "system") {
    messages.insert(messages.begin(), {"system", options_.system});
    wanted.insert(wanted.begin(), false);
  }
  if (!state_->turns->knows_tools()) model::WriteCallsAsText(&messages);
  RowSamples made;
  made.row_id = row_id;
  if (const Status learned = Learn(messages, tools, wanted, &made); !learned.ok())
    return Broken(learned, row_id);
  Finish(&made);
  return made;
}

Status SampleMaker::Learn(const std::vector<model::Message>& messages, const std::vector<model::Tool>& tools,
                          const std::vector<bool>& wanted, RowSamples* made) const {
  GrowingTokens tokens(*state_->model, state_->names);
  for (size_t k = 0; k < messages.size(); ++k) {
    if (!wanted[k]) continue;
    // What comes later would be cut off.
    if (options_.cut == Cut::kEnd && options_.most > 0 && static_cast<int64_t>(tokens.size()) > options_.most)
      break;
    HEADRACE_ASSIGN(const Turn turn, state_->turns->Write(messages, tools, k));
    HEADRACE_ASSIGN(const bool grown, tokens.Read(turn.prompt));
    if (!grown) {
      made->samples.push_back(tokens.Take());
      HEADRACE_TRY(tokens.Read(turn.prompt).status());
    }
    HEADRACE_TRY(tokens.Learn(turn.whole));
    if (turn.open && state_->end >= 0) tokens.LearnEnd(state_->end);
  }
  made->samples.push_back(tokens.Take());
  return Status::Ok();
}

// Cuts samples, and drops those of which nothing to learn is left.
void SampleMaker::Finish(RowSamples* made) const {
  const auto most = static_cast<size_t>(options_.most);
  const Token bos = state_->model->bos();
  bool too_long = false;
  std::erase_if(made->samples, [&](Sample& sample) {
    sample.row_id = made->row_id;
    if (most > 0 && sample.tokens.size() > most) {
      if (options_.cut == Cut::kDrop) {
        too_long = true;
        ++made->cut_off;
        return true;
      }
      if (options_.cut == Cut::kStart) {
        const bool begins = sample.tokens[0] == bos && most > 1;
        const auto keep = static_cast<std::ptrdiff_t>(begins ? 1 : 0);
        const auto gone = static_cast<std::ptrdiff_t>(sample.tokens.size() - most);
        sample.tokens.erase(sample.tokens.begin() + keep, sample.tokens.begin() + keep + gone);
        sample.learn.erase(sample.learn.begin() + keep, sample.learn.begin() + keep + gone);
      }
      sample.tokens.resize(most);
      sample.learn.resize(most);
      sample.learn[0] = 0;
    }
    if (sample.learned() > 0) return false;
    ++made->cut_off;
    return true;
  });
  if (made->samples.empty()) made->dropped = too_long ? Dropped::kTooLong : Dropped::kCutOff;
}

void SampleCounts::Add(const RowSamples& made) {
  if (made.dropped == Dropped::kAbsent) return;
  ++rows;
  samples += static_cast<int64_t>(made.samples.size());
  for (const Sample& sample : made.samples) {
    const auto size = static_cast<int64_t>(sample.tokens.size());
    tokens += size;
    learned += sample.learned();
    cut_samples += sample.whole > size ? 1 : 0;
    cut_tokens += sample.whole - size;
  }
  split_rows += made.samples.size() > 1 ? 1 : 0;
  if (made.dropped == Dropped::kNot) {
    cut_off += made.cut_off;
    return;
  }
  Reason& reason = dropped[static_cast<size_t>(made.dropped)];
  ++reason.rows;
  if (reason.row_ids.size() < kMostIds) reason.row_ids.push_back(made.row_id);
  if (reason.why.empty()) reason.why = made.why;
}

void SampleCounts::Add(const SampleCounts& other) {
  rows += other.rows;
  samples += other.samples;
  tokens += other.tokens;
  learned += other.learned;
  split_rows += other.split_rows;
  cut_samples += other.cut_samples;
  cut_tokens += other.cut_tokens;
  cut_off += other.cut_off;
  for (size_t i = 0; i < dropped.size(); ++i) {
    Reason& mine = dropped[i];
    const Reason& theirs = other.dropped[i];
    mine.rows += theirs.rows;
    for (const int64_t id : theirs.row_ids)
      if (mine.row_ids.size() < kMostIds) mine.row_ids.push_back(id);
    if (mine.why.empty()) mine.why = theirs.why;
  }
}

std::string SampleCounts::ToString() const {
  const auto number = [](int64_t n, const std::string& of) {
    return std::to_string(n) + " " + of + (n == 1 ? "" : "s");
  };
  std::string text = number(rows, "row") + " gave " + number(samples, "sample") + " of " +
                     number(tokens, "token") + ", " + std::to_string(learned) + " of them learned\n";
  if (split_rows > 0)
    text += number(split_rows, "row") + " gave several samples: the template rewrites past turns\n";
  if (cut_samples > 0)
    text += number(cut_samples, "sample") + " cut, " + number(cut_tokens, "token") + " lost\n";
  if (cut_off > 0) text += number(cut_off, "further sample") + " dropped: nothing to learn was left\n";
  for (size_t i = 1; i < dropped.size(); ++i) {
    const Reason& reason = dropped[i];
    if (reason.rows == 0) continue;
    text += number(reason.rows, "row") + " dropped: " + std::string(kDroppedNames[i]) + " (row";
    for (const int64_t id : reason.row_ids) text += " " + std::to_string(id);
    text += static_cast<size_t>(reason.rows) > reason.row_ids.size() ? " …)" : ")";
    text += reason.why.empty() ? "\n" : "; the first: " + reason.why + "\n";
  }
  return text;
}

}  // namespace headrace::tune
