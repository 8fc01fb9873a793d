#include "serve/model_list.h"
#include "serve/json_body.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "http/http_server.h"
#include "serve/json_body.h"

namespace headrace::serve {
namespace {

using nlohmann::ordered_json;

constexpr size_t kPage = 20, kLargestPage = 1000;  // of Anthropic's list

struct Named {
  std::string name;
  std::shared_ptr<Served> served;
};

// Every name that a client may say, but for the catch-all.
std::vector<Named> AllNames(const Services& services) {
  std::vector<Named> all;
  for (const auto& served : services.models->all()) {
    all.push_back({served->name, served});
    for (const auto& [name, index] : served->adapters) all.push_back({name, served});
  }
  for (const auto& [alias, target] : services.models->aliases())
    if (alias != kAnyName)
      for (const bool embedding : {false, true})
        if (const Chosen chosen = services.models->Find(alias, embedding); chosen.served) {
          all.push_back({alias, chosen.served});
          break;
        }
  return all;
}

Chosen FindEither(const Services& services, const std::string& name) {
  Chosen chosen = services.models->Find(name, false);
  return chosen.served ? chosen : services.models->Find(name, true);
}

ordered_json ModelEntry(const Served& served, const std::string& name) {
  const model::Facts& facts = served.model->facts();
  return {{"id", name},
          {"object", "model"},
          {"created", served.loaded_us / 1000000},
          {"owned_by", "headrace"},
          {"root", served.name},
          {"parent", name == served.name ? ordered_json() : ordered_json(served.name)},
          {"max_model_len", served.embeds() ? served.model->facts().trained_context : served.context},
          {"kind", served.embeds() ? "embedding" : "language"},
          {"sha256", served.sha256},
          {"architecture", facts.architecture},
          {"quantization", facts.quantization},
          {"chat", served.chat != nullptr}};
}

ordered_json AnthropicEntry(const Served& served, const std::string& name) {
  std::string created = FormatMicros(served.loaded_us);  // RFC 3339
  return {{"type", "model"},
          {"id", name},
          {"display_name", name},
          {"created_at", created},
          {"max_input_tokens", served.context},
          {"max_tokens", served.context}};
}

}  // namespace

std::string ModelList(const Services& services) {
  ordered_json list = ordered_json::array();
  for (const Named& one : AllNames(services)) list.push_back(ModelEntry(*one.served, one.name));
  return Dump({{"object", "list"}, {"data", list}});
}

std::string ModelEntry(const Services& services, const std::string& name) {
  const Chosen chosen = FindEither(services, name);
  return chosen.served ? Dump(ModelEntry(*chosen.served, name)) : "";
}

std::string AnthropicModelList(const Services& services, std::string_view query) {
  const std::vector<Named> all = AllNames(services);
  const std::string after = http::QueryValue(query, "after_id"),
                    before = http::QueryValue(query, "before_id");
  const long asked = std::strtol(http::QueryValue(query, "limit").c_str(), nullptr, 10);
  const size_t limit = asked > 0 ? std::min(static_cast<size_t>(asked), kLargestPage) : kPage;
  const auto place = [&](const std::string& name) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const Named& one) { return one.name == name; });
    return static_cast<size_t>(found - all.begin());
  };
  size_t first = after.empty() ? 0 : std::min(place(after) + 1, all.size()), end = all.size();
  bool more = false;
  if (!before.empty() && after.empty()) {  // the page that ends before it
    end = place(before);
    first = end > limit ? end - limit : 0;
    more = first > 0;
  } else {
    end = std::min(first + limit, all.size());
    more = end < all.size();
  }
  ordered_json list = ordered_json::array();
  for (size_t i = first; i < end; ++i) list.push_back(AnthropicEntry(*all[i].served, all[i].name));
  ordered_json body = {{"data", list}, {"has_more", more}, {"first_id", nullptr}, {"last_id", nullptr}};
  if (!list.empty()) {
    body["first_id"] = list.front()["id"];
    body["last_id"] = list.back()["id"];
  }
  return Dump(body);
}

std::string AnthropicModelEntry(const Services& services, const std::string& name) {
  const Chosen chosen = FindEither(services, name);
  return chosen.served ? Dump(AnthropicEntry(*chosen.served, name)) : "";
}

}  // namespace headrace::serve
