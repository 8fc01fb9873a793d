#include "table/refs.h"

#include <algorithm>
#include <future>

#include "base/clock.h"
#include "base/exception_text.h"
#include "base/ids.h"
#include "base/json.h"
#include "table/json_read.h"
#include "table/keys.h"
#include "table/schema.h"
#include "table/sealed_json.h"
#include "table/settle.h"

namespace headrace::table {
namespace {

using nlohmann::json;

constexpr const char* kRefKinds[] = {"table", "snapshot", "model", "none"};

Result<ObjectName> ParseRefKey(const std::string& key) {
  auto name = ParseKey(key);
  if (!name || name->kind != ObjectKind::kRef) return Status::Corrupt("'" + key + "' is not a ref's file");
  return *std::move(name);
}

}  // namespace

Result<RefValue> Refs::Read(std::string_view name, int64_t revision) const {
  const std::string key = RefKey(name, revision);
  HEADRACE_ASSIGN(const auto bytes, store_->Get(key));
  try {
    const auto in = ParseJsonOrThrow(bytes.view());
    if (!SealHolds(in)) return Status::Corrupt(key + " is damaged: its checksum does not match");
    RefValue value;
    value.name = in.at("name").get<std::string>();
    value.revision = JsonInt<int64_t>(in.at("revision"));
    const auto kind = in.at("kind").get<std::string>();
    const auto known = std::find(std::begin(kRefKinds), std::end(kRefKinds), kind);
    if (known == std::end(kRefKinds)) {
      return Status::Unsupported(key + " points to a '" + kind +
                                 "', a kind of a newer Headrace; update this one");
    }
    value.kind = static_cast<RefKind>(known - std::begin(kRefKinds));
    value.target = in.at("target").get<std::string>();
    value.who = in.value("who", "");
    value.why = in.value("why", "");
    value.tag = in.value("tag", "");
    value.time_us = JsonInt<int64_t>(in.at("time_us"));
    if (value.revision != revision || value.name != name) return Status::Corrupt(key + " holds another ref");
    return value;
  } catch (const std::exception& error) {
    return Status::Corrupt("cannot read " + key + ": " + ExceptionText(error));
  }
}

Result<RefValue> Refs::Get(std::string_view name) const {
  // Most names are set once. Where a round trip costs, that value is fetched beside the question for the
  // newest.
  std::future<Result<RefValue>> only;
  if (!store_->is_local()) only = std::async(std::launch::async, [&] { return Read(name, 1); });
  HEADRACE_ASSIGN(const auto newest, store_->List(RefFolder(name), "", 1));
  RefValue none;
  none.name = std::string(name);
  if (newest.empty()) return none;
  HEADRACE_ASSIGN(const ObjectName parsed, ParseRefKey(newest[0].key));
  if (parsed.number == 1 && only.valid()) {
    auto value = only.get();
    if (value.ok()) return value;  // else it may have come between both answers
  }
  return Read(name, parsed.number);
}

Result<RefValue> Refs::Move(std::string_view name, int64_t expected_revision, RefKind kind,
                            std::string target, std::string who, std::string why, std::string tag) const {
  HEADRACE_TRY(ValidateName("ref", name));
  HEADRACE_ASSIGN(const RefValue now, Get(name));
  const auto conflict = [&] {
    return Status::Conflict("'" + std::string(name) + "' was moved meanwhile; look at it and decide again");
  };
  if (now.revision != expected_revision) return conflict();
  RefValue next{std::string(name),
                expected_revision + 1,
                kind,
                std::move(target),
                std::move(who),
                std::move(why),
                std::max(NowMicros(), now.time_us + 1),
                std::move(tag)};
  const std::string transaction = Uuid::Random().ToString();
  json out = {
      {"name", next.name},       {"revision", next.revision}, {"kind", kRefKinds[static_cast<int>(kind)]},
      {"target", next.target},   {"who", next.who},           {"why", next.why},
      {"time_us", next.time_us}, {"transaction", transaction}};
  if (!next.tag.empty()) out["tag"] = next.tag;
  Seal(&out);
  const std::string key = RefKey(name, next.revision);
  const std::string text = out.dump(-1, ' ', false, json::error_handler_t::replace);
  HEADRACE_ASSIGN(const bool ours, PutSettled(
                                       store_.get(), key, text,
                                       [&](std::string_view there) -> Result<bool> { return there == text; },
                                       "the store never said whether '" + next.name + "' was moved to " +
                                           next.target + "; look at it before trying again"));
  return ours ? Result<RefValue>(next) : Result<RefValue>(conflict());
}

Result<std::vector<RefValue>> Refs::History(std::string_view name) const {
  HEADRACE_ASSIGN(const auto files, store_->List(RefFolder(name), "", 1'000'000));
  std::vector<RefValue> history;
  for (const auto& file : files) {
    HEADRACE_ASSIGN(const ObjectName parsed, ParseRefKey(file.key));
    HEADRACE_ASSIGN(auto value, Read(name, parsed.number));
    history.push_back(std::move(value));
  }
  return history;
}

Result<std::vector<RefValue>> Refs::All() const {
  HEADRACE_ASSIGN(const auto files, store_->List(kRefsFolder, "", 10'000'000));
  std::vector<RefValue> all;
  std::string last;
  for (const auto& file : files) {  // ascending keys: each folder's newest comes first
    const std::string folder = file.key.substr(0, file.key.rfind('/'));
    if (folder == last) continue;
    last = folder;
    HEADRACE_ASSIGN(const ObjectName parsed, ParseRefKey(file.key));
    HEADRACE_ASSIGN(auto value, Read(parsed.name, parsed.number));
    if (value.kind != RefKind::kNone) all.push_back(std::move(value));
  }
  std::sort(all.begin(), all.end(), [](const RefValue& a, const RefValue& b) { return a.name < b.name; });
  return all;
}

}  // namespace headrace::table
