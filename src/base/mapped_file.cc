#include "base/mapped_file.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>

namespace headrace {
namespace {

// A path where a handler of signals can read it: its end, if it is longer.
class PathText {
 public:
  void Set(const std::string& text) {
    const size_t size = std::min(text.size(), letters_.size() - 1);
    for (size_t i = 0; i < size; ++i) letters_[i].store(text[text.size() - size + i]);
    letters_[size].store(0);
  }
  void Set(const PathText& other) {
    for (size_t i = 0; i < letters_.size(); ++i) letters_[i].store(other.letters_[i].load());
  }
  std::string Get() const {
    std::string text;
    for (size_t i = 0; i < letters_.size() && letters_[i].load() != 0; ++i)
      text.push_back(letters_[i].load());
    return text;
  }

 private:
  std::array<std::atomic<char>, 248> letters_{};
};

// The newest files that were cut off.
struct Tears {
  struct One {
    PathText path;
    std::atomic<int64_t> number{-1};  // once the path is there
  };
  std::array<One, 16> newest;
  std::atomic<int64_t> count{0};

  void Add(const PathText& path) {
    const int64_t number = count.fetch_add(1);
    One& one = newest[static_cast<size_t>(number) % newest.size()];
    one.path.Set(path);
    one.number.store(number);
  }
};
Tears tears_seen;

Status CutOff(const std::string& path) { return Status::Corrupt(path + " was cut off while it was read"); }

}  // namespace

// Where a mapping lies. What the handler needs of it is here, since it may neither lock nor allocate.
struct MappedFile::Slot {
  std::atomic<uintptr_t> begin{0};  // 0: free; 1: being filled
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> torn{false};
  PathText path;
};

// All of them: a list that only grows.
struct MappedFile::Slots {
  std::array<Slot, 512> slots;
  std::atomic<Slots*> next{nullptr};

  static Slots* first() {
    static Slots list;
    return &list;
  }
  static Slot* Take() {
    for (Slots* part = first();;) {
      for (Slot& slot : part->slots) {
        uintptr_t free = 0;
        if (slot.begin.load(std::memory_order_relaxed) != 0) continue;
        if (slot.begin.compare_exchange_strong(free, 1)) return &slot;
      }
      Slots* next = part->next.load();
      if (next == nullptr) {
        auto* made = new Slots();
        if (part->next.compare_exchange_strong(next, made)) {
          next = made;
        } else {
          delete made;
        }
      }
      part = next;
    }
  }
};

// The handler, and what was there before it.
struct MappedFileSignals {
  using Slot = MappedFile::Slot;
  using Slots = MappedFile::Slots;

  // Puts the handler in its place, also where another took it meanwhile (Python's faulthandler).
  static void Install() {
    struct sigaction now {};
    if (sigaction(SIGBUS, nullptr, &now) != 0) return;
    if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == Handle) return;
    Slots::first();  // made before the handler can ask for it
    // Kept for ever: the handler may be reading the one before.
    before_.store(new struct sigaction(now));
    struct sigaction ours {};
    ours.sa_sigaction = Handle;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    sigaction(SIGBUS, &ours, nullptr);
  }

 private:
  static Slot* SlotAt(uintptr_t address) {
    for (Slots* part = Slots::first(); part != nullptr; part = part->next.load()) {
      for (Slot& slot : part->slots) {
        const uintptr_t begin = slot.begin.load();
        if (begin > 1 && address >= begin && address < slot.end.load()) return &slot;
      }
    }
    return nullptr;
  }

  // Zeros from this page to the mapping's end.
  static bool MapZeros(uintptr_t address, Slot* slot) {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t from = address / page * page;
    if (!slot->torn.exchange(true)) tears_seen.Add(slot->path);
    void* const at = reinterpret_cast<void*>(from);  // NOLINT(performance-no-int-to-ptr)
    return mmap(at, slot->end.load() - from, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
           MAP_FAILED;
  }

  static void Handle(int signal, siginfo_t* info, void* context) {
    const int error = errno;
    if (info->si_code == BUS_ADRERR) {
      const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
      Slot* const slot = SlotAt(address);
      if (slot != nullptr && MapZeros(address, slot)) {
        errno = error;
        return;
      }
    }
    const bool is_fault = info->si_code > 0;
    // A handler that was asked about a fault, and wants it to end the process (Python's faulthandler): here
    // it would be asked again.
    const bool again = !is_fault && info->si_pid == getpid() && asked_.load();
    if (is_fault) asked_.store(true);
    if (again || !PassOn(signal, info, context)) EndBy(signal);
    errno = error;
  }

  // Ends the process once this handler returns, as the signal does by itself.
  static void EndBy(int signal) {
    struct sigaction by_default {};
    by_default.sa_handler = SIG_DFL;
    sigemptyset(&by_default.sa_mask);
    sigaction(signal, &by_default, nullptr);
    raise(signal);
  }

  // False where there was no handler.
  static bool PassOn(int signal, siginfo_t* info, void* context) {
    const struct sigaction* before = before_.load();
    if (before == nullptr || before->sa_handler == SIG_DFL || before->sa_handler == SIG_IGN) return false;
    if ((before->sa_flags & SA_SIGINFO) != 0) {
      before->sa_sigaction(signal, info, context);
    } else {
      before->sa_handler(signal);
    }
    return true;
  }

  static std::atomic<const struct sigaction*> before_;
  static std::atomic<bool> asked_;
};
std::atomic<const struct sigaction*> MappedFileSignals::before_{nullptr};
std::atomic<bool> MappedFileSignals::asked_{false};

Result<std::shared_ptr<const MappedFile>> MappedFile::Map(int fd, int64_t size, std::string path) {
  HEADRACE_CHECK(size > 0);
  MappedFileSignals::Install();
  struct stat info {};
  if (fstat(fd, &info) != 0) return Status::FromErrno(errno, "look at", path);
  std::shared_ptr<MappedFile> file(new MappedFile());
  void* const map = mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) return Status::FromErrno(errno, "map", path);
  file->path_ = std::move(path);
  file->data_ = static_cast<uint8_t*>(map);
  file->size_ = size;
  file->device_ = info.st_dev;
  file->inode_ = info.st_ino;
  file->slot_ = Slots::Take();
  const auto begin = reinterpret_cast<uintptr_t>(map);
  file->slot_->torn.store(false);
  file->slot_->path.Set(file->path_);
  file->slot_->end.store(begin + static_cast<uintptr_t>(size));
  file->slot_->begin.store(begin);
  file->end_ = file->End();
  return std::shared_ptr<const MappedFile>(std::move(file));
}

MappedFile::~MappedFile() {
  if (slot_ == nullptr) return;
  slot_->begin.store(1);
  munmap(data_, static_cast<size_t>(size_));
  slot_->begin.store(0);
}

bool MappedFile::is_torn() const { return slot_->torn.load(std::memory_order_relaxed); }

int64_t MappedFile::tears() { return tears_seen.count.load(std::memory_order_acquire); }

Status MappedFile::CheckSince(int64_t before, std::string_view part) {
  const int64_t now = tears();
  if (now == before) return Status::Ok();
  const auto kept = static_cast<int64_t>(tears_seen.newest.size());
  if (now - before > kept) return CutOff("more than one file");
  for (int64_t number = before; number < now; ++number) {
    const auto& one = tears_seen.newest[static_cast<size_t>(number % kept)];
    if (one.number.load() != number) return CutOff("a file");  // it happens right now
    const std::string path = one.path.Get();
    if (path.find(part) != std::string::npos) return CutOff(path);
  }
  return Status::Ok();
}

std::array<uint8_t, 8> MappedFile::End() const {
  std::array<uint8_t, 8> bytes{};
  const auto count = std::min(size_, static_cast<int64_t>(bytes.size()));
  const volatile uint8_t* const end = data_ + size_ - count;  // anew each time
  for (int64_t i = 0; i < count; ++i) bytes[static_cast<size_t>(i)] = end[i];
  return bytes;
}

Status MappedFile::CheckWhole() const {
  std::atomic_thread_fence(std::memory_order_acquire);  // after whatever was read
  if (is_torn() || End() != end_) return CutOff(path_);
  if (end_ != std::array<uint8_t, 8>{}) return Status::Ok();
  struct stat info {};
  // A file that was deleted or replaced is still there for who has it mapped.
  const bool same = stat(path_.c_str(), &info) == 0 && info.st_ino == inode_ && info.st_dev == device_;
  return same && info.st_size < size_ ? CutOff(path_) : Status::Ok();
}

}  // namespace headrace
