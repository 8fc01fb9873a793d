// Samples: rows of a table become tokens, and which of them are learned.
//
//   SampleOptions options{.columns = {.prompt = "question", .answer = "answer"}, .most = 2048};
//   HEADRACE_ASSIGN(auto maker, SampleMaker::Make(model, options));
//   HEADRACE_ASSIGN(std::vector<RowSamples> rows, maker->Rows(*batch));  // maker->columns() of a stream
//   for (const RowSamples& row : rows) counts.Add(row);
//
// A learned turn is learned where the server would let the model write it: the tokens before it are those of
// the prompt that the server makes of the same messages, bit for bit. So a conversation is one sample as long
// as each turn's prompt goes on where the last answer ended; where a template writes the past differently
// (without its reasoning, say), the next turn begins a sample of its own. Each learned token is learned once.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "model/chat.h"
#include "model/model.h"

namespace headrace::tune {

// What a row is made of: `messages`; or `prompt` and `answer`; or `text`.
struct SampleColumns {
  // A list of structs {role, content, …}, or JSON text: an array of messages as OpenAI's API has them, or an
  // object with `messages` and perhaps `tools`. Read are role (system, developer, user, assistant, tool,
  // function), content (text, or an array of parts of type text), reasoning_content (or reasoning),
  // tool_calls, name, tool_call_id, and weight: 0 keeps a turn from being learned.
  std::string messages;
  // Two texts. By the chat template a user's and an assistant's turn; without one (`chat` is false, or the
  // model has none) the answer follows the prompt's tokens as it is, and the model's end-of-sequence token
  // follows the answer. That one reads the prompt as a completion's.
  std::string prompt, answer;
  // A text, learned from its first token to the end-of-sequence token that follows it.
  std::string text;
};

// What becomes of a sample of more than `most` tokens.
enum class Cut {
  kEnd,    // its last tokens go
  kStart,  // its first tokens go, but for the beginning-of-sequence token
  kDrop,   // all of it goes
};

// What becomes of a row that cannot be read: broken JSON, a role that nobody knows, no UTF-8, content that is
// no text, messages that the template refuses.
enum class OnBroken { kFail, kDrop };

struct SampleOptions {
  SampleColumns columns;
  std::string system;                              // put before conversations that have no system message
  std::vector<std::string> roles = {"assistant"};  // whose turns are learned
  bool chat = true;                                // of prompts and answers: through the chat template
  bool think = true;                               // as RenderOptions::think
  int64_t most = 0;                                // tokens of a sample; 0: any number
  Cut cut = Cut::kEnd;
  OnBroken broken = OnBroken::kFail;
  std::string chat_template;  // as ChatTemplate::Make takes it; "": the model's own
};

struct Sample {
  std::vector<int32_t> tokens;
  // learn[i]: token i is learned, that is predicted from those before it; so never the first.
  std::vector<uint8_t> learn;
  int64_t row_id = -1;
  // Tokens that it had before it was cut; where its end was cut (Cut::kEnd), as far as it was made.
  int64_t whole = 0;

  int64_t learned() const;
};

// Why a row gave no sample.
enum class Dropped {
  kNot,
  kNull,     // a cell is null
  kEmpty,    // an answer, a text or all learned turns are blank; no messages
  kNoTurn,   // no turn of the roles that are learned
  kTooLong,  // more than `most` tokens, and Cut::kDrop
  kCutOff,   // what is to be learned was cut off
  kBroken,   // see OnBroken
  kAbsent,   // not valid in its batch: padding, or what the stream could not read; not counted
};
std::string_view DroppedName(Dropped dropped);  // "null", "empty", "no turn to learn", …
inline constexpr size_t kDroppedReasons = 8;

// What a row gave.
struct RowSamples {
  int64_t row_id = -1;
  std::vector<Sample> samples;
  Dropped dropped = Dropped::kNot;  // if samples is empty
  std::string why;                  // of a broken row
  int64_t cut_off = 0;  // samples that were dropped because nothing, or too much, was left of them
};

struct SampleCounts {
  static constexpr size_t kMostIds = 10;
  struct Reason {
    int64_t rows = 0;
    std::vector<int64_t> row_ids;  // the first kMostIds
    std::string why;               // of the first broken row
  };

  int64_t rows = 0, samples = 0;
  int64_t tokens = 0, learned = 0;
  int64_t split_rows = 0;   // that gave more than one sample
  int64_t cut_samples = 0;  // that lost tokens to `most`
  int64_t cut_tokens = 0;   // that they lost
  int64_t cut_off = 0;      // samples of which nothing to learn was left, their rows' other samples remaining
  std::array<Reason, kDroppedReasons> dropped;  // by Dropped

  void Add(const RowSamples& made);
  void Add(const SampleCounts& other);  // of rows that come after this one's
  // In a few lines, without what is 0.
  std::string ToString() const;
};

// Immutable; thread-safe, and threads do not wait for each other.
class SampleMaker {
 public:
  // kInvalid where the columns are not one of the three kinds, a role is unknown, or a template is needed and
  // the model has none.
  static Result<std::unique_ptr<SampleMaker>> Make(std::shared_ptr<const model::Model> model,
                                                   const SampleOptions& options);
  ~SampleMaker();
  SampleMaker(const SampleMaker&) = delete;
  SampleMaker& operator=(const SampleMaker&) = delete;

  // Those of a table that it reads.
  std::vector<std::string> columns() const;
  const SampleOptions& options() const { return options_; }
  // Whether rows go through a chat template, and the XXH3 of its text, hex; "" without.
  bool chats() const { return chats_; }
  const std::string& template_hash() const { return template_hash_; }

  // One for each row of a stream's batch as Arrow (stream::BatchToArrow): its columns, `valid` and `row_id`.
  // kNotFound where a column is missing, kInvalid where one is of a type that is not read or, with
  // OnBroken::kFail, a row is broken: the message has its id.
  Result<std::vector<RowSamples>> Rows(const arrow::RecordBatch& batch) const;

  // What Rows makes of a row's contents. Chat and, where chats(), Answer go through the template.
  Result<RowSamples> Text(std::string_view text, int64_t row_id) const;
  Result<RowSamples> Answer(std::string_view prompt, std::string_view answer, int64_t row_id) const;
  // `weights`: of each message; empty: all 1. `tools`: for templates that know tools.
  Result<RowSamples> Chat(std::vector<model::Message> messages, const std::vector<bool>& weights,
                          int64_t row_id, const std::vector<model::Tool>& tools = {}) const;

 private:
  struct State;
  SampleMaker() = default;
  // Of the wanted messages the turns.
  Status Learn(const std::vector<model::Message>& messages, const std::vector<model::Tool>& tools,
               const std::vector<bool>& wanted, RowSamples* made) const;
  void Finish(RowSamples* made) const;
  Result<RowSamples> Row(const arrow::RecordBatch& batch, int64_t row, int64_t row_id) const;
  Result<RowSamples> Broken(const Status& problem, int64_t row_id) const;

  SampleOptions options_;
  bool chats_ = false;
  std::string template_hash_;
  std::unique_ptr<State> state_;
};

// For people: a line of numbers (row, tokens, learned, cut from), then the text, what is learned as it is and
// the rest dimmed; without `colours` what is learned stands between ⟦ and ⟧. Control tokens have their names;
// control characters are made visible.
std::string Render(const model::Model& model, const Sample& sample, bool colours);

}  // namespace headrace::tune
