// The terminal: colours only where there is one, a progress line with rate and time left, Ctrl-C.
#pragma once

#include <memory>
#include <string>

#include "base/cancel.h"
#include "base/progress.h"
#include "base/status.h"

namespace headrace::cli {

bool StdoutIsTerminal();
bool StderrIsTerminal();
int TerminalWidth();  // 0 where there is none

// Stops on the first Ctrl-C (SIGINT, SIGTERM); a second one ends the program at once.
StopToken StopOnSignal();

// While it lives, Ctrl-C does not end the program but stops the token that was given last: an answer of a
// conversation, or the wait for its next line. One at a time.
class Interrupts {
 public:
  // `end`: when the program is to end, which stops the token as well.
  explicit Interrupts(const StopToken& end);
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  // Stopped by the next Ctrl-C, not by one that was pressed before.
  StopToken Next();

 private:
  struct Watch;
  std::unique_ptr<Watch> watch_;
};

enum class LineRead { kLine, kEnd, kStopped };
// A line of standard input, without its end. After a stop what was typed of it is dropped.
Result<LineRead> ReadLine(std::string* line, const StopToken& stop);

// One key of a terminal, without Return: "" at its end.
Result<LineRead> ReadKey(std::string* key, const StopToken& stop);

// Draws on standard error: a line that is rewritten on a terminal, a line every few seconds in a pipe,
// nothing if quiet.
ProgressFn ProgressLine(bool quiet);
// One line of one's own, drawn the same way.
void DrawLine(const std::string& line);
// Wipes the line before anything else is printed.
void EndProgress();

}  // namespace headrace::cli
