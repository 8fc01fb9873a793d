// key: who may ask a server.
#include <cstdio>
#include <iostream>

#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "serve/keys.h"

namespace headrace::cli {
namespace {

using serve::KeyFacts;

nlohmann::ordered_json KeyJson(const KeyFacts& k) {
  nlohmann::ordered_json json = {{"id", k.id},
                                 {"name", k.name},
                                 {"class", k.group},
                                 {"scopes", k.scopes},
                                 {"weight", k.weight},
                                 {"requests_per_minute", k.requests_per_minute},
                                 {"tokens_per_minute", k.tokens_per_minute},
                                 {"concurrent", k.concurrent},
                                 {"cache", k.cache},
                                 {"max_priority", k.max_priority},
                                 {"created", FormatMicros(k.created_us)},
                                 {"expires", nullptr},
                                 {"revoked", k.revoked}};
  if (k.expires_us > 0) json["expires"] = FormatMicros(k.expires_us);
  return json;
}

Result<std::string> ReadValue(const std::string& value) {
  if (value.empty()) return std::string();
  if (value != "-")
    return Status::Invalid(
        "--value takes - only, and reads the key from standard input: a command line is no secret");
  std::string line;
  std::getline(std::cin, line);
  if (line.ends_with('\r')) line.pop_back();
  if (line.empty()) return Status::Invalid("there is no key on standard input");
  return line;
}

Status Create(const Context& context, KeyFacts facts, const std::string& expires, const std::string& value) {
  if (!expires.empty()) {
    char* end = nullptr;
    const double days = std::strtod(expires.c_str(), &end);
    if (std::string(end) == "d" && days > 0) {
      facts.expires_us = NowMicros() + static_cast<int64_t>(days * 86400e6);
    } else {
      HEADRACE_ASSIGN(facts.expires_us, ParseMicros(expires));
    }
  }
  HEADRACE_ASSIGN(const std::string given, ReadValue(value));
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const serve::NewKey made, serve::CreateKey(catalog.get(), std::move(facts), given));
  if (context.json) {
    auto json = KeyJson(made.facts);
    if (given.empty()) json["key"] = made.key;
    PrintJson(json);
  } else if (!given.empty()) {
    if (!context.quiet)
      std::printf("what was read is the key of '%s' (%s) now\n", made.facts.name.c_str(),
                  made.facts.id.c_str());
  } else {
    std::printf("%s\n", made.key.c_str());
    if (!context.quiet)
      std::fprintf(stderr, "headrace: this is the key of '%s' (%s); it is shown this once\n",
                   made.facts.name.c_str(), made.facts.id.c_str());
  }
  return Status::Ok();
}

Status List(const Context& context) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto keys, serve::ListKeys(*catalog));
  if (context.json) {
    for (const KeyFacts& key : keys) PrintJson(KeyJson(key));
    return Status::Ok();
  }
  if (keys.empty()) std::printf("no keys; make one with `headrace key create NAME`\n");
  const int64_t now = NowMicros();
  for (const KeyFacts& k : keys) {
    std::string scopes;
    for (const auto& scope : k.scopes) scopes += (scopes.empty() ? "" : ",") + scope;
    std::string limits;
    if (k.requests_per_minute > 0) limits += " " + HumanCount(k.requests_per_minute) + " requests/min";
    if (k.tokens_per_minute > 0) limits += " " + HumanCount(k.tokens_per_minute) + " tokens/min";
    if (k.concurrent > 0) limits += " " + HumanCount(k.concurrent) + " at once";
    if (k.weight != 1) limits += " weight " + nlohmann::json(k.weight).dump();
    const char* state = k.revoked                                 ? "revoked"
                        : k.expires_us > 0 && k.expires_us <= now ? "expired"
                                                                  : "active";
    std::printf("%-16s %-16s %-8s %-20s%s\n", k.id.c_str(), k.name.c_str(), state, scopes.c_str(),
                limits.c_str());
  }
  return Status::Ok();
}

}  // namespace

void AddKey(CLI::App* app, Context* context, Action* action) {
  CLI::App* key = app->add_subcommand("key", "API keys of `headrace serve`");
  key->require_subcommand(1);
  auto facts = std::make_shared<KeyFacts>();
  auto expires = std::make_shared<std::string>(), value = std::make_shared<std::string>();
  CLI::App* create = key->add_subcommand("create", "Make a key; it is printed once");
  create->add_option("name", facts->name, "Whose it is")->required();
  create
      ->add_option("--scopes", facts->scopes,
                   "inference, record (scores and labels), admin (metrics and load), all")
      ->delimiter(',');
  create->add_option("--weight", facts->weight, "Its share of compute beside others")->capture_default_str();
  create->add_option("--rpm", facts->requests_per_minute, "Requests a minute (0: any)");
  create->add_option("--tpm", facts->tokens_per_minute, "Tokens of prompts and answers a minute (0: any)");
  create->add_option("--concurrent", facts->concurrent, "Requests in flight (0: any)");
  create
      ->add_option("--cache", facts->cache,
                   "Whose cached prefixes it shares: its own (key), or those of all keys with this name")
      ->capture_default_str();
  create
      ->add_option("--max-priority", facts->max_priority,
                   "The highest `priority` of its requests: those above 0 go before everybody's")
      ->capture_default_str();
  create->add_option("--class", facts->group, "Its class in metrics")->capture_default_str();
  create->add_option("--expires", *expires, "A time (2027-01-01), or days (30d)");
  create->add_option("--value", *value,
                     "-: the key is read from standard input, for clients that have one already");
  create->footer(
      "Clients send it as `Authorization: Bearer hr-…`, `x-api-key: hr-…` or `api-key: hr-…`.\n\n"
      "Examples:\n  headrace key create ada\n  headrace key create ada --rpm 60 --tpm 100000 --expires 30d\n"
      "  headrace key create nightly --class batch --weight 0.5 --concurrent 4\n"
      "  headrace key create boss --scopes all          # may read /metrics and /load too\n"
      "  printf %s \"$OLD_KEY\" | headrace key create ada --value -\n"
      "  export OPENAI_API_KEY=$(headrace key create ada -q)");
  create->callback([=] { *action = [=] { return Create(*context, *facts, *expires, *value); }; });
  CLI::App* list = key->add_subcommand("ls", "All keys, revoked ones too");
  list->callback([=] { *action = [=] { return List(*context); }; });
  auto which = std::make_shared<std::string>();
  CLI::App* revoke = key->add_subcommand("revoke", "End a key; servers know within seconds");
  revoke->add_option("key", *which, "Its name or id")->required();
  revoke->callback([=] {
    *action = [=]() -> Status {
      HEADRACE_ASSIGN(const auto catalog, context->Open());
      HEADRACE_ASSIGN(const KeyFacts gone, serve::RevokeKey(catalog.get(), *which));
      if (context->json) {
        PrintJson(KeyJson(gone));
      } else {
        std::printf("%s (%s) is revoked\n", gone.name.c_str(), gone.id.c_str());
      }
      return Status::Ok();
    };
  });
}

}  // namespace headrace::cli
