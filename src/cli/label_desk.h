// label_desk: one item of a queue as a person sees it, and what the person answers: a key on a terminal, a
// line in a pipe.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cli/commands.h"
#include "cli/picture.h"
#include "cli/terminal.h"
#include "trace/annotator.h"

namespace headrace::cli {

struct LabelAnswer {
  enum class Kind { kLabel, kSkip, kUndo, kQuit };
  Kind kind = Kind::kQuit;
  trace::Judgement judgement;
};

class LabelDesk {
 public:
  LabelDesk(const Context& context, std::shared_ptr<table::Catalog> catalog, const trace::Queue& queue,
            Pictures pictures);
  ~LabelDesk();  // the files that it made go
  LabelDesk(const LabelDesk&) = delete;
  LabelDesk& operator=(const LabelDesk&) = delete;

  void Instruct() const;
  Status Show(const trace::QueueItem& item, const trace::QueueProgress& progress);
  // Asks until the answer is one. Without a terminal a line is the key of a label, the label or a number; u,
  // s and q undo, skip and quit; "c words" comments on this item. The end of the input quits.
  Result<LabelAnswer> Ask();
  // On a terminal, when nothing is left: whether to take the last answer back.
  Result<bool> AskToUndo() const;
  void Tell(const std::string& line) const;

 private:
  void ShowCells(const trace::QueueItem& item);
  Status ShowPicture(const trace::QueueItem& item, const std::string& column, const std::string& type);
  std::string Choices() const;
  Result<LineRead> Read(std::string* word, const StopToken& stop) const;
  std::optional<LabelAnswer> AnswerOf(const std::string& word) const;

  const Context& context_;
  std::shared_ptr<table::Catalog> catalog_;
  const trace::Queue& queue_;
  const Pictures pictures_;
  const bool terminal_;
  std::string folder_;  // of pictures that the terminal cannot show; "": none yet
  std::string comment_;
  double shown_ = 0;  // monotonic seconds
};

}  // namespace headrace::cli
