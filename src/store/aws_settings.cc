#include "store/aws_settings.h"

#include <unistd.h>

#include <cstring>
#include <fstream>

namespace headrace::store {
namespace {

using Values = AwsSettings::Values;

std::string Trim(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

std::string Lower(std::string text) {
  for (char& c : text) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
  return text;
}

// Every section of a profile file. Lines that are indented below a name without a value are nested in it.
std::map<std::string, Values> ReadSections(const std::string& path) {
  std::map<std::string, Values> sections;
  Values* section = nullptr;
  std::string parent;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const bool indented = !line.empty() && (line[0] == ' ' || line[0] == '\t');
    line = Trim(line);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line[0] == '[') {
      section = &sections[Trim(line.substr(1, line.find(']') - 1))];
      parent.clear();
      continue;
    }
    const size_t equals = line.find('=');
    if (section == nullptr || equals == std::string::npos) continue;
    const std::string name = Lower(Trim(line.substr(0, equals)));
    const std::string value = Trim(line.substr(equals + 1));
    if (indented && !parent.empty()) {
      (*section)[parent + "." + name] = value;
    } else {
      parent = value.empty() ? name : "";
      (*section)[name] = value;
    }
  }
  return sections;
}

// `name` of a section "kind name" or "kind "name""; "" for another kind.
std::string NameAfter(const std::string& section, const std::string& kind) {
  if (!section.starts_with(kind + " ")) return "";
  std::string name = Trim(section.substr(kind.size() + 1));
  if (name.size() > 1 && (name.front() == '"' || name.front() == '\'') && name.back() == name.front())
    name = name.substr(1, name.size() - 2);
  return name;
}

const Values& Section(const std::map<std::string, Values>& sections, const std::string& name) {
  static const Values kNone;
  const auto it = sections.find(name);
  return it == sections.end() ? kNone : it->second;
}

}  // namespace

AwsSettings AwsSettings::FromEnvironment() {
  Values values;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const char* equals = std::strchr(*entry, '=');
    if (equals == nullptr) continue;
    const std::string name(*entry, static_cast<size_t>(equals - *entry));
    if (name == "HOME" || name.starts_with("AWS_")) values[name] = equals + 1;
  }
  return AwsSettings(std::move(values));
}

AwsSettings::AwsSettings(Values environment) : environment_(std::move(environment)) {
  profile_name_ = Env("AWS_PROFILE");
  if (profile_name_.empty()) profile_name_ = "default";
  const std::string config = Env("AWS_CONFIG_FILE");
  const std::string shared = Env("AWS_SHARED_CREDENTIALS_FILE");
  ReadConfig(config.empty() ? InHome(".aws/config") : config);
  shared_ = ReadSections(shared.empty() ? InHome(".aws/credentials") : shared);
  for (const auto& [name, values] : shared_)
    for (const auto& [key, value] : values) profiles_[name][key] = value;
}

void AwsSettings::ReadConfig(const std::string& path) {
  for (auto& [section, values] : ReadSections(path)) {
    if (section == "default") {
      profiles_[section] = std::move(values);
    } else if (const std::string profile = NameAfter(section, "profile"); !profile.empty()) {
      profiles_.emplace(profile, std::move(values));
    } else if (const std::string session = NameAfter(section, "sso-session"); !session.empty()) {
      sso_sessions_[session] = std::move(values);
    } else if (const std::string services = NameAfter(section, "services"); !services.empty()) {
      services_[services] = std::move(values);
    }
  }
}

std::string AwsSettings::Find(const Values& values, const std::string& name) {
  const auto it = values.find(name);
  return it == values.end() ? "" : it->second;
}

std::string AwsSettings::Env(const std::string& name) const { return Find(environment_, name); }
const Values& AwsSettings::Profile(const std::string& name) const { return Section(profiles_, name); }
const Values& AwsSettings::SharedProfile(const std::string& name) const { return Section(shared_, name); }
const Values& AwsSettings::SsoSession(const std::string& name) const { return Section(sso_sessions_, name); }

std::string AwsSettings::Region() const {
  for (const char* name : {"AWS_REGION", "AWS_DEFAULT_REGION"})
    if (const std::string region = Env(name); !region.empty()) return region;
  return Get("region");
}

// As botocore: the environment before the files, a service's own before the one of all.
std::string AwsSettings::Endpoint(const std::string& service) const {
  const std::string ignore = Env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
  if (Lower(ignore.empty() ? Get("ignore_configured_endpoint_urls") : ignore) == "true") return "";
  std::string upper = service;
  for (char& c : upper) c = static_cast<char>(toupper(static_cast<unsigned char>(c)));
  std::string found;
  for (const std::string& candidate :
       {Env("AWS_ENDPOINT_URL_" + upper), Env("AWS_ENDPOINT_URL"),
        Find(Section(services_, Get("services")), service + ".endpoint_url"), Get("endpoint_url")}) {
    if (found.empty()) found = candidate;
  }
  while (!found.empty() && found.back() == '/') found.pop_back();
  return found;
}

}  // namespace headrace::store
