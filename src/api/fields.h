// Fields: a JSON object read field by field, so that each error has its path, and what nobody asked for is
// known. Inside this folder, a Fault is thrown; no other exception and none past the front headers.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>
#include "base/json.h"

#include "api/fault.h"
#include "engine/sampling_ranges.h"

namespace headrace::api {

using Json = nlohmann::ordered_json;

inline constexpr int kMaxJsonDepth = 128;

// The body as a JSON object; throws a Fault. A name that appears twice in one object is refused.
Json ParseBody(std::string_view body);

class Fields {
 public:
  // `at`: the path of this object, "" for the body.
  Fields(const Json& object, std::string at);

  std::string PathOf(const std::string& name) const { return at_.empty() ? name : at_ + "." + name; }
  // The value, or null where it is absent or JSON's null.
  const Json* Find(const std::string& name);
  const Json& Need(const std::string& name);

  std::optional<std::string> Text(const std::string& name);
  std::string NeedText(const std::string& name);
  std::optional<double> Number(const std::string& name, double least, double most);
  std::optional<int64_t> Integer(const std::string& name, int64_t least, int64_t most);
  std::optional<int64_t> Integer(const std::string& name, const engine::IntegerRange& range) {
    return Integer(name, range.least, range.most);
  }
  bool Flag(const std::string& name, bool otherwise);
  const Json* Array(const std::string& name);
  const Json* Object(const std::string& name);
  // A text or a list of texts.
  std::vector<std::string> Texts(const std::string& name);

  // The paths of fields that were never asked for.
  void Rest(std::vector<std::string>* unknown) const;

 private:
  [[noreturn]] void Wrong(const std::string& name, const std::string& wanted, const Json& got) const;
  const Json& object_;
  std::string at_;
  std::set<std::string> seen_;
};

[[noreturn]] void Refuse(const std::string& param, const std::string& message);
// "an object", "a number", …
std::string KindOf(const Json& value);

}  // namespace headrace::api
