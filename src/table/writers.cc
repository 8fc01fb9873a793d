#include "table/writers.h"

#include <algorithm>
#include <vector>

#include "base/limits.h"

namespace headrace::table {
namespace {

const WriterMark* MarkOf(const Snapshot& head, const WriterClaim& claim) {
  const auto it = head.writers.find(claim.writer);
  return claim.writer.empty() || it == head.writers.end() ? nullptr : &it->second;
}

// Programs before `taken` noted each file of rows as a writer, and nobody commits under these names again.
bool IsFile(const std::string& writer) { return writer.starts_with("file:"); }

}  // namespace

std::optional<int64_t> FindCommitted(const Snapshot& head, const WriterClaim& claim) {
  const WriterMark* mark = MarkOf(head, claim);
  if (mark == nullptr || mark->sequence < claim.sequence) return std::nullopt;
  if (mark->sequence > claim.sequence && claim.after) return std::nullopt;
  return mark->version;
}

Status CheckClaim(const Snapshot& head, const WriterClaim& claim) {
  if (claim.writer.empty()) return Status::Ok();
  const WriterMark* mark = MarkOf(head, claim);
  if (mark == nullptr && claim.since < head.writers_forgotten) {
    return Status::Unknown(
        "nobody knows whether commit " + std::to_string(claim.sequence) + " of writer '" + claim.writer +
        "' was made: the table has forgotten writers that last committed by version " +
        std::to_string(head.writers_forgotten) +
        ", and this one may be among them. Look whether its rows are there; if not, say so by naming a later "
        "version that does not have them ('since')");
  }
  const int64_t last = mark == nullptr ? -1 : mark->sequence;
  if (!claim.after || *claim.after == last) return Status::Ok();
  return Status::Conflict("writer '" + claim.writer + "' has committed sequence " + std::to_string(last) +
                          ", not " + std::to_string(*claim.after) + ": somebody else writes under its name");
}

void NoteCommitted(const WriterClaim& claim, Snapshot* next) {
  if (claim.writer.empty()) return;
  WriterMark& mark = next->writers[claim.writer];
  mark.sequence = claim.sequence;
  mark.version = next->version;
}

Status ChangeWriter(const WriterChange& change, Snapshot* next) {
  auto& writers = next->writers;
  if (change.kind == WriterChange::Kind::kKeep) {
    writers.try_emplace(change.writer, WriterMark{-1, next->version}).first->second.keep = true;
    return Status::Ok();
  }
  const auto it = writers.find(change.writer);
  if (it == writers.end()) return Status::NotFound("the table knows no writer '" + change.writer + "'");
  it->second.keep = false;
  if (change.kind == WriterChange::Kind::kRelease) return Status::Ok();
  if (it->second.sequence >= 0)
    next->writers_forgotten = std::max(next->writers_forgotten, it->second.version);
  writers.erase(it);
  return Status::Ok();
}

Status MakeRoom(const std::string& writer, const std::function<Result<int64_t>(int64_t version)>& put_us,
                Snapshot* next) {
  auto& writers = next->writers;
  if (static_cast<int64_t>(writers.size()) <= limits::kMaxWriters) return Status::Ok();
  std::vector<std::pair<int64_t, std::string>> stale;
  for (const auto& [name, mark] : writers) {
    if (name != writer && !mark.keep && !IsFile(name)) stale.emplace_back(mark.version, name);
  }
  std::sort(stale.begin(), stale.end());
  if (static_cast<int64_t>(stale.size()) > kMarksForgotten) stale.resize(kMarksForgotten);
  // Versions came in the order of their numbers, whatever a clock said: those before one that is old are.
  HEADRACE_ASSIGN(const int64_t now_us, put_us(next->version - 1));
  size_t old = 0;
  for (size_t end = stale.size(); old < end;) {
    const size_t middle = old + (end - old) / 2;
    HEADRACE_ASSIGN(const int64_t put, put_us(stale[middle].first));
    if (put > 0 && now_us > 0 && put <= now_us - kMarkUs) {
      old = middle + 1;
    } else {
      end = middle;
    }
  }
  if (old == 0) {
    return Status::Limit(
        "the table remembers " + std::to_string(limits::kMaxWriters) +
        " writers, and each of them is to be kept or has committed within 30 days. A writer is "
        "a machine or a job that comes back under its name, not a process: let one be "
        "forgotten, or commit without a writer's name");
  }
  for (size_t i = 0; i < old; ++i) {
    next->writers_forgotten = std::max(next->writers_forgotten, stale[i].first);
    writers.erase(stale[i].second);
  }
  return Status::Ok();
}

}  // namespace headrace::table
