// Probe: whether a file can be loaded without bringing the process down. A GGUF with lying parameters can
// abort inside llama.cpp, and a chat template can loop for ever, so a process of its own loads each new file,
// renders its template and makes one token; of an adapter it reads the head (adapter_file.h). The verdict is
// kept, by the file's identity (device, inode, size, time of change).
#pragma once

#include <string>

#include "base/cancel.h"
#include "base/status.h"

namespace headrace::model {

struct ProbeOptions {
  std::string
      program;  // the `headrace` program; "": this process if it is it, else HEADRACE_PROGRAM, else on PATH
  std::string folder;         // of verdicts; "": ~/.cache/headrace/probes
  double seconds = 60;        // then it is killed
  std::string chat_template;  // a given template to render as well
  StopToken stop = {};        // kills it, and nothing is kept
};
// Ok: it loads. Otherwise what happened: kCorrupt with the loader's words, or "crashed", or kTimeout.
Status Probe(const std::string& path, const ProbeOptions& options = {});

// The work of the probe's process: prints nothing; exit code 0 or an error on standard error.
Status ProbeHere(const std::string& path, const std::string& chat_template);

}  // namespace headrace::model
