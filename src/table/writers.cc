#include "table/writers.h"

#include <algorithm>

#include "base/limits.h"

namespace headrace::table {
namespace {

const WriterMark* MarkOf(const Snapshot& head, const WriterClaim& claim) {
  const auto it = head.writers.find(claim.writer);
  return claim.writer.empty() || it == head.writers.end() ? nullptr : &it->second;
}

}  // namespace

std::optional<int64_t> FindCommitted(const Snapshot& head, const WriterClaim& claim) {
  const WriterMark* mark = MarkOf(head, claim);
  if (mark == nullptr || mark->sequence < claim.sequence) return std::nullopt;
  if (mark->sequence > claim.sequence && claim.after) return std::nullopt;
  return mark->version;
}

Status CheckAfter(const Snapshot& head, const WriterClaim& claim) {
  if (claim.writer.empty() || !claim.after) return Status::Ok();
  const WriterMark* mark = MarkOf(head, claim);
  const int64_t last = mark == nullptr ? -1 : mark->sequence;
  if (*claim.after == last) return Status::Ok();
  return Status::Conflict("writer '" + claim.writer + "' has committed sequence " + std::to_string(last) +
                          ", not " + std::to_string(*claim.after) + ": somebody else writes under its name");
}

void NoteCommitted(const WriterClaim& claim, Snapshot* next) {
  if (claim.writer.empty()) return;
  next->writers[claim.writer] = {claim.sequence, next->version};
  if (static_cast<int64_t>(next->writers.size()) <= limits::kMaxWriters) return;
  next->writers.erase(
      std::min_element(next->writers.begin(), next->writers.end(),
                       [](const auto& a, const auto& b) { return a.second.version < b.second.version; }));
}

}  // namespace headrace::table
