// The terminal: colours only where there is one, a progress line with rate and time left, Ctrl-C.
#pragma once

#include <string>

#include "base/cancel.h"
#include "base/progress.h"

namespace headrace::cli {

bool StdoutIsTerminal();
bool StderrIsTerminal();
int TerminalWidth();  // 0 where there is none

// Stops on the first Ctrl-C (SIGINT, SIGTERM); a second one ends the program at once.
StopToken StopOnSignal();

// From here on Ctrl-C stops nothing by itself; TakeInterrupt tells that it was pressed (a conversation stops
// its answer).
void CatchInterrupts();
// Whether Ctrl-C was pressed since the last call.
bool TakeInterrupt();
enum class LineRead { kLine, kEnd, kInterrupted };
// A line of standard input, without its end.
LineRead ReadLine(std::string* line);

// Draws on standard error: a line that is rewritten on a terminal, a line every few seconds in a pipe,
// nothing if quiet.
ProgressFn ProgressLine(bool quiet);
// One line of one's own, drawn the same way.
void DrawLine(const std::string& line);
// Wipes the line before anything else is printed.
void EndProgress();

}  // namespace headrace::cli
