#include "serve/model_list.h"

#include <algorithm>
#include "base/json.h"

#include "base/clock.h"
#include "http/http_server.h"
#include "serve/json_body.h"

namespace headrace::serve {
namespace {

using nlohmann::ordered_json;

constexpr size_t kPage = 20, kLargestPage = 1000;  // of Anthropic's list

// A name that a client may say, and what it stands for now.
struct Listed {
  std::string name;
  BackendReport report;
};

// Every one, but for the catch-all.
std::vector<Listed> AllNames(const Services& services) {
  std::vector<Listed> all;
  for (const BackendReport& report : services.models->reports()) {
    all.push_back({report.name, report});
    for (const std::string& adapter : services.models->AdaptersOf(report.name))
      all.push_back({adapter, report});
  }
  for (const auto& [alias, target] : services.models->aliases())
    if (alias != kAnyName)
      if (const Named named = services.models->FindAny(alias); named.backend)
        all.push_back({alias, named.backend->report()});
  return all;
}

// What is only known of a model that is loaded is null while it is not.
ordered_json EntryOf(const BackendReport& report, const std::string& name) {
  ordered_json entry = {{"id", name},
                        {"object", "model"},
                        {"created", 0},
                        {"owned_by", "headrace"},
                        {"root", report.name},
                        {"parent", name == report.name ? ordered_json() : ordered_json(report.name)},
                        {"state", StateName(report.state)},
                        {"kind", model::TaskName(report.task)}};
  ordered_json more = {{"max_model_len", nullptr},
                       {"sha256", nullptr},
                       {"architecture", nullptr},
                       {"quantization", nullptr},
                       {"chat", nullptr}};
  if (report.served) {
    const Served& served = *report.served;
    const model::Facts& facts = served.model().facts();
    entry["created"] = served.loaded_us / 1000000;
    more = {{"max_model_len", served.session->context()},
            {"sha256", served.sha256},
            {"architecture", facts.architecture},
            {"quantization", facts.quantization},
            {"chat", served.session->chat() != nullptr}};
  }
  entry.update(more);
  return entry;
}

ordered_json AnthropicEntry(const BackendReport& report, const std::string& name) {
  const Served* served = report.served.get();
  const ordered_json context = served != nullptr ? ordered_json(served->session->context()) : ordered_json();
  return {{"type", "model"},
          {"id", name},
          {"display_name", name},
          {"created_at", FormatMicros(served != nullptr ? served->loaded_us : 0)},  // RFC 3339
          {"max_input_tokens", context},
          {"max_tokens", context}};
}

}  // namespace

std::string ModelList(const Services& services) {
  ordered_json list = ordered_json::array();
  for (const Listed& one : AllNames(services)) list.push_back(EntryOf(one.report, one.name));
  return Dump({{"object", "list"}, {"data", list}});
}

std::string ModelEntry(const Services& services, const std::string& name) {
  const Named named = services.models->FindAny(name);
  return named.backend ? Dump(EntryOf(named.backend->report(), name)) : "";
}

std::string AnthropicModelList(const Services& services, std::string_view query) {
  const std::vector<Listed> all = AllNames(services);
  const std::string after = http::QueryValue(query, "after_id"),
                    before = http::QueryValue(query, "before_id");
  const long asked = std::strtol(http::QueryValue(query, "limit").c_str(), nullptr, 10);
  const size_t limit = asked > 0 ? std::min(static_cast<size_t>(asked), kLargestPage) : kPage;
  const auto place = [&](const std::string& name) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const Listed& one) { return one.name == name; });
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
  for (size_t i = first; i < end; ++i) list.push_back(AnthropicEntry(all[i].report, all[i].name));
  ordered_json body = {{"data", list}, {"has_more", more}, {"first_id", nullptr}, {"last_id", nullptr}};
  if (!list.empty()) {
    body["first_id"] = list.front()["id"];
    body["last_id"] = list.back()["id"];
  }
  return Dump(body);
}

std::string AnthropicModelEntry(const Services& services, const std::string& name) {
  const Named named = services.models->FindAny(name);
  return named.backend ? Dump(AnthropicEntry(named.backend->report(), name)) : "";
}

}  // namespace headrace::serve
