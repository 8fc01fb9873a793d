#include "cli/run_diff.h"

#include <algorithm>
#include <set>

#include "base/clock.h"
#include "base/json.h"
#include "cli/render.h"
#include "cli/run_table.h"

namespace headrace::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string TextAt(const Json& object, const char* name) {
  return object.is_object() && object.contains(name) ? Text(object[name]) : "";
}

NamedValues Listed(const Json& list) {
  NamedValues out;
  if (!list.is_array()) return out;
  for (const Json& one : list) {
    std::string name = TextAt(one, "name");
    if (name.empty()) name = TextAt(one, "table");
    name = TextAt(one, "kind") + " " + name;
    for (int copy = 1;; ++copy)
      if (out.try_emplace(copy == 1 ? name : name + " " + std::to_string(copy), InputText(one)).second) break;
  }
  return out;
}

NamedValues Known(const Json& run) {
  NamedValues known;
  const auto add = [&](const char* prefix, const NamedValues& values) {
    for (const auto& [name, value] : values) known[prefix + name] = value;
  };
  for (const char* part : {"config", "summary", "code", "env"}) {
    NamedValues values;
    Flatten(run[part], "", &values);
    add((std::string(part) + ".").c_str(), values);
  }
  add("input ", Listed(run["inputs"]));
  add("output ", Listed(run["outputs"]));
  return known;
}

}  // namespace

void Flatten(const Json& value, const std::string& name, NamedValues* out) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, item] : value.items()) Flatten(item, name.empty() ? key : name + "." + key, out);
  } else if (!name.empty()) {
    (*out)[name] = value;
  }
}

std::string InputText(const Json& input) {
  const std::string kind = TextAt(input, "kind"), sha = TextAt(input, "sha256");
  std::string text = TextAt(input, "name");
  if (kind == "table") {
    if (text.empty()) text = "table " + TextAt(input, "table");
    return text + "@v" + Plain(input.value("version", Json(0)));
  }
  if (kind == "stream" && input.contains("sources") && input["sources"].is_array()) {
    text = "stream of ";
    for (const Json& source : input["sources"])
      text += (text.ends_with("of ") ? "" : ", ") + InputText(source) +
              (source.is_object() && source.contains("where") ? " where " + Plain(source["where"]) : "");
    return text;
  }
  if (!sha.empty()) text += (text.empty() ? "" : " ") + ("sha256:" + sha.substr(0, 12));
  if (input.is_object() && input.contains("bytes") && input["bytes"].is_number())
    text += " " + HumanBytes(input["bytes"].get<double>());
  return text;
}

std::string TimeText(const Json& time) {
  if (!time.is_string()) return "";
  const auto micros = ParseMicros(time.get<std::string>());
  return micros.ok() ? ShortTime(*micros) : time.get<std::string>();
}

std::string TookText(const Json& run) {
  const auto micros = [&](const char* name) -> int64_t {
    if (!run.contains(name) || !run[name].is_string()) return 0;
    const auto parsed = ParseMicros(run[name].get<std::string>());
    return parsed.ok() ? *parsed : 0;
  };
  const int64_t from = micros("started"), to = run["state"] == "running" ? NowMicros() : micros("ended");
  return from > 0 && to >= from ? HumanSeconds(static_cast<double>(to - from) / 1e6) : "";
}

Differences DifferencesOf(const std::vector<Json>& runs) {
  Differences found;
  const auto add = [&](const std::string& what, std::vector<Json> values) {
    const bool same = std::ranges::all_of(values, [&](const Json& one) {
      return one.is_discarded() ? values[0].is_discarded() : one == values[0];
    });
    if (same) {
      ++found.same;
    } else {
      found.rows.push_back({what, std::move(values)});
    }
  };
  for (const char* part : {"state", "project", "host"}) {
    std::vector<Json> values;
    for (const Json& run : runs) values.push_back(run[part]);
    add(part, std::move(values));
  }
  std::vector<NamedValues> known;
  std::set<std::string> names;
  for (const Json& run : runs) {
    known.push_back(Known(run));
    for (const auto& [name, value] : known.back()) names.insert(name);
  }
  for (const char* part : {"config.", "summary.", "code.", "env.", "input ", "output "}) {
    for (auto name = names.lower_bound(part); name != names.end() && name->starts_with(part); ++name) {
      std::vector<Json> values;
      for (const NamedValues& one : known) {
        const auto at = one.find(*name);
        values.push_back(at == one.end() ? Json(Json::value_t::discarded) : at->second);
      }
      add(*name, std::move(values));
    }
  }
  return found;
}

}  // namespace headrace::cli
