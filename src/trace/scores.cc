#include "trace/scores.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <iterator>
#include <mutex>

#include "base/clock.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/json.h"
#include "trace/columns.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

constexpr const char* kTargetKinds[] = {"request", "span", "trace", "session", "run", "sample", "row"};
constexpr size_t kIdDigits = 32;

bool IsKind(const std::string& word) {
  return std::find(std::begin(kTargetKinds), std::end(kTargetKinds), word) != std::end(kTargetKinds);
}

std::string FieldText(const json& row, const char* name) {
  const auto found = row.find(name);
  return found == row.end() || !found->is_string() ? "" : found->get<std::string>();
}

std::string Told(const std::string& text) { return std::to_string(text.size()) + ":" + text; }

int64_t NextTime(int64_t after_us) {
  static std::mutex mutex;
  static int64_t last = 0;
  const std::lock_guard lock(mutex);
  return last = std::max({last + 1, after_us + 1, NowMicros()});
}

}  // namespace

Result<Target> ParseTarget(std::string text) {
  const size_t colon = text.find(':');
  const std::string kind = colon == std::string::npos ? "" : text.substr(0, colon);
  if (IsKind(kind)) return ParseTarget(kind, text.substr(colon + 1));
  return ParseTarget("request", std::move(text));
}

Result<Target> ParseTarget(const std::string& kind, std::string text) {
  if (kind.empty()) return ParseTarget(std::move(text));
  if (!IsKind(kind)) {
    std::string kinds;
    for (const char* known : kTargetKinds) kinds += (kinds.empty() ? "" : ", ") + std::string(known);
    return Status::Invalid("there is no kind of target '" + kind + "'; there are " + kinds);
  }
  if (text.starts_with(kind + ":")) text.erase(0, kind.size() + 1);
  if (kind == "request") text = RowIdOf(std::move(text));
  if (text.empty()) return Status::Invalid("the id of a " + kind + " is empty");
  if (kind == "row") HEADRACE_TRY(ParseRowTarget(text).status());
  return Target{kind, std::move(text)};
}

Result<RowTarget> ParseRowTarget(const std::string& id) {
  const size_t colon = id.rfind(':'), at = id.rfind('@', colon);
  const Status wrong =
      Status::Invalid("'" + id + "' is no row; write TABLE@vVERSION:ROW, as in photos@v7:42");
  if (colon == std::string::npos || at == std::string::npos || at == 0 || at + 1 == colon) return wrong;
  RowTarget target{id.substr(0, at), id.substr(at + 1, colon - at - 1), 0};
  const char* end = id.data() + id.size();
  const auto read = std::from_chars(id.data() + colon + 1, end, target.row);
  if (read.ec != std::errc() || read.ptr != end || target.row < 0) return wrong;
  return target;
}

std::string ScoreId(const json& row) {
  std::string text;
  for (const char* name : {"target_kind", "target", "against", "name", "who", "judge"})
    text += Told(FieldText(row, name));
  const auto repeat = row.find("repeat");
  const bool told = repeat != row.end() && repeat->is_number_integer();
  text += Told(std::to_string(told ? repeat->get<int64_t>() : 0));
  return Sha256Hex(text).substr(0, kIdDigits);
}

std::string SqlIdOfOldScore() {
  const auto told = [](const std::string& column) {
    return "strlen(coalesce(" + column + ", '')) || ':' || coalesce(" + column + ", '')";
  };
  return "left(sha256('7:request' || " + told("request") + " || '0:' || " + told("name") + " || " +
         told("who") + " || '0:1:0'), " + std::to_string(kIdDigits) + ")";
}

void FinishScore(json* row, int64_t after_us) {
  static const std::string writer = Uuid::Random().ToString();
  static std::atomic<int64_t> seq{0};
  if ((*row)["target_kind"] == "request") (*row)["request"] = (*row)["target"];
  (*row)["id"] = ScoreId(*row);
  (*row)["time"] = NextTime(after_us);
  (*row)["seq"] = ++seq;
  (*row)["writer"] = writer;
}

}  // namespace headrace::trace
