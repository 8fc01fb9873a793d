// Standard input as a file without a name: types come from all of its values, so it is read twice.
#pragma once

#include <cstdint>
#include <string>

#include "base/cancel.h"
#include "base/file.h"

namespace headrace::ingest {

class SpooledInput {
 public:
  // All of standard input, under TMPDIR (/tmp); gone with this.
  static Result<SpooledInput> Standard(const StopToken& stop);
  // A path under which this process can open it any number of times.
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_.get()); }
  int64_t bytes() const { return bytes_; }

 private:
  Fd fd_;
  int64_t bytes_ = 0;
};

}  // namespace headrace::ingest
