#include "trace/system_processes.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <limits>
#include <memory>
#include <utility>

namespace headrace::trace {

namespace {

constexpr int kMostDepth = 100;  // of processes that start processes: a damaged listing may have a circle

template <typename Each>
void ForEachName(const std::string& folder, const Each& each) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(folder.c_str()), closedir);
  if (!listing) return;
  while (const dirent* entry = readdir(listing.get())) {
    if (entry->d_name[0] != '.') each(entry->d_name);
  }
}

// Of a process that lives; a process of another user does not tell.
std::pair<double, double> ReadAndWritten(const std::string& folder, std::span<char> buffer) {
  const std::string_view text = ReadOnce(folder + "/io", buffer);
  return {NumberOf(text, "read_bytes:").value_or(0), NumberOf(text, "write_bytes:").value_or(0)};
}

// 0, which is no process, for what is none.
int ProcessId(double number) {
  return number >= 1 && number <= std::numeric_limits<int>::max() ? static_cast<int>(number) : 0;
}

}  // namespace

ProcessTree::ProcessTree(std::string proc, std::string folder)
    : proc_(std::move(proc)), folder_(std::move(folder)) {
  ForEachName(folder_ + "/task", [this](const char* thread) {
    told_ = told_ || access((folder_ + "/task/" + thread + "/children").c_str(), R_OK) == 0;
  });
}

// proc(5): "pid (name) state ppid …", where the name may hold anything.
bool ProcessTree::ParseStat(std::string_view text, Stat& stat) {
  const auto pid = FirstNumber(text);
  const size_t name_end = text.rfind(')');
  if (!pid || name_end == text.npos) return false;
  text.remove_prefix(name_end + 1);
  static const double tick_seconds = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
  static const auto page_bytes = static_cast<double>(sysconf(_SC_PAGESIZE));
  std::array<double, 25> fields{};
  for (size_t field = 3; field < fields.size(); ++field) {
    fields[field] = FirstNumber(TakeWord(text)).value_or(field == 3 ? 0 : kNoFigure);
  }
  if (!(fields[24] >= 0)) return false;
  stat.pid = ProcessId(*pid);
  stat.parent = ProcessId(fields[4]);
  stat.cpu_seconds =
      (fields[14] + fields[15] + fields[16] + fields[17]) * tick_seconds;  // the last two: of ended children
  stat.threads = fields[20];
  stat.memory_bytes = fields[24] * page_bytes;
  return true;
}

void ProcessTree::ListAll(std::span<char> buffer) {
  children_.clear();
  ForEachName(proc_, [&](const char* name) {
    Stat stat;
    if (name[0] < '0' || name[0] > '9') return;
    if (ParseStat(ReadOnce(proc_ + "/" + name + "/stat", buffer), stat)) {
      children_.emplace(stat.parent, stat.pid);
    }
  });
}

// Each thread has its own (proc(5): the file is there where the kernel has CONFIG_PROC_CHILDREN).
std::vector<int> ProcessTree::ChildrenOf(int pid, std::span<char> buffer) const {
  std::vector<int> found;
  if (!told_) {
    const auto [begin, end] = children_.equal_range(pid);
    for (auto child = begin; child != end; ++child) found.push_back(child->second);
    return found;
  }
  const std::string tasks = proc_ + "/" + std::to_string(pid) + "/task";
  ForEachName(tasks, [&](const char* thread) {
    std::string_view text = ReadOnce(tasks + "/" + thread + "/children", buffer);
    while (const auto child = FirstNumber(TakeWord(text))) found.push_back(ProcessId(*child));
  });
  return found;
}

double ProcessTree::OpenFiles() const {
  const std::string folder = folder_ + "/fd";
  struct stat facts {};
  if (stat(folder.c_str(), &facts) != 0) return kNoFigure;
  if (facts.st_size > 0) return static_cast<double>(facts.st_size);  // Linux 6.2 and newer
  double files = 0;
  ForEachName(folder, [&](const char* /*name*/) { ++files; });
  return files;
}

bool ProcessTree::Add(const std::string& folder, std::span<char> buffer, ProcessFigures& figures) const {
  Stat stat;
  if (!ParseStat(ReadOnce(folder + "/stat", buffer), stat)) return false;
  const auto [read, written] = ReadAndWritten(folder, buffer);
  ++figures.count;
  figures.memory_bytes += stat.memory_bytes;
  figures.cpu_seconds += stat.cpu_seconds;
  figures.read_bytes += read;
  figures.written_bytes += written;
  figures.threads = stat.threads;
  return true;
}

// Children before their parent: one that ends meanwhile is in its parent's counters then.
void ProcessTree::AddBelow(int pid, int depth, std::span<char> buffer, ProcessFigures& figures) const {
  if (depth > kMostDepth) return;
  for (const int child : ChildrenOf(pid, buffer)) {
    AddBelow(child, depth + 1, buffer, figures);
    Add(proc_ + "/" + std::to_string(child), buffer, figures);
  }
}

ProcessFigures ProcessTree::Read(std::span<char> buffer) {
  constexpr ProcessFigures none = {kNoFigure, kNoFigure, kNoFigure, kNoFigure, kNoFigure};
  Stat first;
  if (!ParseStat(ReadOnce(folder_ + "/stat", buffer), first)) return none;
  if (!told_) ListAll(buffer);
  ProcessFigures figures;
  AddBelow(first.pid, 0, buffer, figures);
  if (!Add(folder_, buffer, figures)) return none;
  figures.open_files = OpenFiles();
  return figures;
}

}  // namespace headrace::trace
