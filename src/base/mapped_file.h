// Files mapped for reading, which somebody may cut off meanwhile. The system sends SIGBUS to who touches a
// page that is no longer there; here such pages read as zeros instead, and whoever read them asks CheckWhole.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace headrace {

// A handler of SIGBUS takes care of addresses in mappings of this class, and passes all others on to the
// handler that was there before it.
class MappedFile {
 public:
  // Maps the first `size` bytes of an open file, at least one. `path` must go on naming it as long as it is
  // to be checked.
  static Result<std::shared_ptr<const MappedFile>> Map(int fd, int64_t size, std::string path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }
  // Whether zeros were read in place of what is not there any more: for good, until it is mapped anew.
  bool is_torn() const;
  // How often that happened in this process. Corrupt where it did since it had happened `before` times, to a
  // file whose path has `part` in it: for who holds views of files that it does not know.
  static int64_t tears();
  static Status CheckSince(int64_t before, std::string_view part);
  // Corrupt where the file has become shorter, so that what was read until now may be zeros. Costs a look at
  // the last bytes, which are gone then; a stat() where they were zeros before.
  Status CheckWhole() const;

 private:
  struct Slot;
  struct Slots;
  friend struct MappedFileSignals;

  MappedFile() = default;
  std::array<uint8_t, 8> End() const;

  std::string path_;
  uint8_t* data_ = nullptr;
  int64_t size_ = 0;
  uint64_t device_ = 0, inode_ = 0;
  std::array<uint8_t, 8> end_{};  // the last bytes, as they were
  Slot* slot_ = nullptr;
};

}  // namespace headrace
