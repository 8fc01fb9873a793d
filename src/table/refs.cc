#include "table/refs.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/exception_text.h"
#include "base/ids.h"
#include "table/json_read.h"
#include "table/schema.h"
#include "table/sealed_json.h"
#include "table/settle.h"

namespace headrace::table {
namespace {

using nlohmann::json;

constexpr const char* kKinds[] = {"table", "snapshot", "model", "none"};

std::string Folder(std::string_view name) { return "refs/" + EncodeRefName(name) + "/"; }

std::string Key(std::string_view name, int64_t revision) {
  char number[32];
  std::snprintf(number, sizeof number, "%020llu",
                static_cast<unsigned long long>(UINT64_MAX - static_cast<uint64_t>(revision)));
  return Folder(name) + number + ".json";
}

Result<int64_t> RevisionOf(const std::string& key) {
  const std::string name = key.substr(key.rfind('/') + 1);
  char* end = nullptr;
  const uint64_t reversed = std::strtoull(name.c_str(), &end, 10);
  if (std::string_view(end) != ".json") return Status::Corrupt("'" + key + "' is not a ref's file");
  return static_cast<int64_t>(UINT64_MAX - reversed);
}

}  // namespace

std::string EncodeRefName(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-') {
      out += c;
    } else {
      char hex[4];
      std::snprintf(hex, sizeof hex, "%%%02X", static_cast<unsigned char>(c));
      out += hex;
    }
  }
  return out;
}

Result<std::string> DecodeRefName(std::string_view encoded) {
  std::string out;
  for (size_t i = 0; i < encoded.size(); ++i) {
    if (encoded[i] != '%') {
      out += encoded[i];
      continue;
    }
    if (i + 2 >= encoded.size()) return Status::Corrupt("a ref's folder name is cut off");
    out += static_cast<char>(std::strtol(std::string(encoded.substr(i + 1, 2)).c_str(), nullptr, 16));
    i += 2;
  }
  return out;
}

Result<RefValue> Refs::Read(std::string_view name, int64_t revision) const {
  const std::string key = Key(name, revision);
  HEADRACE_ASSIGN(const auto bytes, store_->Get(key));
  try {
    const auto in = json::parse(bytes.view());
    if (!SealHolds(in)) return Status::Corrupt(key + " is damaged: its checksum does not match");
    RefValue value;
    value.name = in.at("name").get<std::string>();
    value.revision = JsonInt<int64_t>(in.at("revision"));
    const auto kind = in.at("kind").get<std::string>();
    const auto known = std::find(std::begin(kKinds), std::end(kKinds), kind);
    if (known == std::end(kKinds)) {
      return Status::Unsupported(key + " points to a '" + kind +
                                 "', a kind of a newer Headrace; update this one");
    }
    value.kind = static_cast<RefKind>(known - std::begin(kKinds));
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
  HEADRACE_ASSIGN(const auto newest, store_->List(Folder(name), "", 1));
  RefValue none;
  none.name = std::string(name);
  if (newest.empty()) return none;
  HEADRACE_ASSIGN(const int64_t revision, RevisionOf(newest[0].key));
  return Read(name, revision);
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
      {"name", next.name},       {"revision", next.revision}, {"kind", kKinds[static_cast<int>(kind)]},
      {"target", next.target},   {"who", next.who},           {"why", next.why},
      {"time_us", next.time_us}, {"transaction", transaction}};
  if (!next.tag.empty()) out["tag"] = next.tag;
  Seal(&out);
  const std::string key = Key(name, next.revision);
  const std::string text = out.dump(-1, ' ', false, json::error_handler_t::replace);
  HEADRACE_ASSIGN(const bool ours, PutSettled(
                                       store_.get(), key, text,
                                       [&](std::string_view there) -> Result<bool> { return there == text; },
                                       "the store never said whether '" + next.name + "' was moved to " +
                                           next.target + "; look at it before trying again"));
  return ours ? Result<RefValue>(next) : Result<RefValue>(conflict());
}

Result<std::vector<RefValue>> Refs::History(std::string_view name) const {
  HEADRACE_ASSIGN(const auto files, store_->List(Folder(name), "", 1'000'000));
  std::vector<RefValue> history;
  for (const auto& file : files) {
    HEADRACE_ASSIGN(const int64_t revision, RevisionOf(file.key));
    HEADRACE_ASSIGN(auto value, Read(name, revision));
    history.push_back(std::move(value));
  }
  return history;
}

Result<std::vector<RefValue>> Refs::All() const {
  HEADRACE_ASSIGN(const auto files, store_->List("refs/", "", 10'000'000));
  std::vector<RefValue> all;
  std::string last;
  for (const auto& file : files) {  // ascending keys: each folder's newest comes first
    const std::string folder = file.key.substr(0, file.key.rfind('/'));
    if (folder == last) continue;
    last = folder;
    HEADRACE_ASSIGN(const std::string name, DecodeRefName(folder.substr(5)));
    HEADRACE_ASSIGN(const int64_t revision, RevisionOf(file.key));
    HEADRACE_ASSIGN(auto value, Read(name, revision));
    if (value.kind != RefKind::kNone) all.push_back(std::move(value));
  }
  std::sort(all.begin(), all.end(), [](const RefValue& a, const RefValue& b) { return a.name < b.name; });
  return all;
}

}  // namespace headrace::table
