// serve: models behind HTTP.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>

#include "base/byte_size.h"
#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/devices.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "serve/server.h"
#include "serve/services.h"

namespace headrace::cli {
namespace {

struct ServeWords {
  std::vector<std::string> models, adapters, aliases, load;
  std::string config, record = "full", memory, chat_template, otlp_grpc_port;
  bool print_config = false;
  double drain = 30, max_itl = 0;
  int queue = 1024, slots = 32;
  bool deterministic = false, no_lookup = false;
  serve::ServeOptions options;
};

// name=model, or a model: its name is what clients say.
serve::ModelChoice ParseModel(const std::string& word) {
  const size_t equals = word.find('=');
  if (equals != std::string::npos && word.find('/') > equals)
    return {word.substr(0, equals), word.substr(equals + 1)};
  std::string name = word.substr(word.rfind('/') + 1);
  if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  return {name, word};
}

// Options of a TOML file, where neither the command line nor the environment says otherwise.
Status ReadConfig(const std::string& path, CLI::App* command) {
  std::ifstream in(path);
  if (!in) return Status::FromErrno(errno, "read", path);
  std::vector<CLI::ConfigItem> items;
  try {
    items = CLI::ConfigTOML().from_config(in);
  } catch (const CLI::Error& error) {
    return Status::Invalid(path + " is not TOML: " + error.what());
  }
  for (const CLI::ConfigItem& item : items) {
    if (item.name == "++" || item.name == "--") continue;  // sections begin and end
    if (!item.parents.empty() && item.parents != std::vector<std::string>{"serve"}) continue;
    CLI::Option* option = command->get_option_no_throw("--" + item.name);
    if (option == nullptr && item.name == "models") option = command->get_option_no_throw("models");
    if (option == nullptr)
      return Status::Invalid(path + ": there is no option '" + item.name +
                             "' (headrace serve --print-config shows all)");
    if (option->count() > 0) continue;
    try {
      option->add_result(item.inputs);
      option->run_callback();
    } catch (const CLI::Error& error) {
      return Status::Invalid(path + ": " + item.name + ": " + error.what());
    }
  }
  return Status::Ok();
}

Result<std::vector<serve::ModelChoice>> ChooseModels(const ServeWords& words,
                                                     const std::shared_ptr<table::Catalog>& catalog) {
  std::vector<serve::ModelChoice> choices;
  for (const std::string& word : words.models) choices.push_back(ParseModel(word));
  if (!choices.empty()) return choices;
  if (catalog) {
    HEADRACE_ASSIGN(const auto entries, registry::Registry(catalog).List());
    for (const auto& entry : entries)
      if (!entry.adapter) choices.push_back({entry.name, entry.name});  // adapters come with their models
  }
  if (choices.empty())
    return Status::Invalid(
        "there is no model to serve: name one, a GGUF file or a model of the catalog (`headrace model add "
        "FILE --name NAME`)");
  return choices;
}

Status ReadGrpcPort(const std::string& text, http::HttpOptions* options) {
  if (text.empty()) return Status::Ok();
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size())
    return Status::Invalid("--otlp-grpc-port is a port, 0 to 65535, not '" + text + "'");
  options->http2 = http::Http2Options{port};
  return Status::Ok();
}

Status RunServe(const Context& context, ServeWords* words, CLI::App* command) {
  if (!words->config.empty()) HEADRACE_TRY(ReadConfig(words->config, command));
  if (words->print_config) {
    std::printf("%s", command->config_to_str(true, true).c_str());
    return Status::Ok();
  }
  serve::ServeOptions& options = words->options;
  HEADRACE_ASSIGN(options.record, serve::ParseRecordMode(words->record));
  HEADRACE_TRY(ReadGrpcPort(words->otlp_grpc_port, &options.http));
  if (!words->memory.empty()) {
    HEADRACE_ASSIGN(options.model.loader.memory, ParseByteSize(words->memory));
  }
  options.model.loader.chat_template = words->chat_template;
  for (const std::string& word : words->adapters) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0)
      return Status::Invalid("--adapter is NAME=FILE, not '" + word + "'");
    options.model.loader.adapters.emplace_back(word.substr(0, equals), word.substr(equals + 1));
  }
  for (const std::string& word : words->aliases) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == word.size())
      return Status::Invalid("--alias is NAME=MODEL, not '" + word + "'");
    options.model.aliases.emplace_back(word.substr(0, equals), word.substr(equals + 1));
  }
  options.model.loader.engine.core.max_gap = words->max_itl;
  options.model.loader.engine.core.queue = words->queue;
  options.model.loader.engine.core.slots = words->slots;
  options.model.loader.engine.core.deterministic = words->deterministic;
  options.model.loader.engine.core.lookup = !words->no_lookup;
  if (!words->load.empty() && words->load != std::vector<std::string>{"all"}) {
    options.model.load = words->load;
    std::erase(*options.model.load, "none");
  }
  options.model.say = [](const std::string& text) { std::fprintf(stderr, "headrace: %s\n", text.c_str()); };
  std::shared_ptr<table::Catalog> catalog;
  auto opened = context.Open();
  if (opened.ok()) {
    catalog = *opened;
  } else if (!context.catalog.empty() || !opened.status().Is(Code::kNotFound)) {
    return opened.status();
  } else if (!context.quiet) {
    std::fprintf(stderr,
                 "headrace: no catalog here, so requests are not recorded (`headrace init` makes one)\n");
  }
  HEADRACE_ASSIGN(options.models, ChooseModels(*words, catalog));
  const double before = MonotonicSeconds();
  HEADRACE_ASSIGN(const auto server, serve::Server::Start(catalog, options));
  std::string names;
  for (const auto& choice : options.models) names += (names.empty() ? "" : ", ") + choice.name;
  if (context.json) {
    nlohmann::ordered_json facts = {{"url", server->url()}, {"port", server->port()}, {"models", names}};
    if (!server->otlp_grpc().empty()) facts["otlp_grpc"] = server->otlp_grpc();
    PrintJson(facts);
    std::fflush(stdout);
  } else {
    std::fprintf(stderr, "headrace serves %s at %s (ready in %.1f s; Ctrl-C stops it)\n", names.c_str(),
                 server->url().c_str(), MonotonicSeconds() - before);
    if (!server->otlp_grpc().empty())
      std::fprintf(stderr, "headrace: spans over OTLP/gRPC are taken at %s\n", server->otlp_grpc().c_str());
    HEADRACE_ASSIGN(const model::Backends backends, model::LoadBackends());
    if (!context.quiet)
      for (const std::string& line : DeviceLines(backends))
        std::fprintf(stderr, "headrace: %s\n", line.c_str());
    for (const auto& served : server->services().models->loaded())
      if (served->task == model::Task::kWrite && !served->session->chat())
        std::fprintf(stderr,
                     "headrace: %s has no chat template: completions only (--chat-template names one)\n",
                     served->name.c_str());
    if (server->services().keys->empty() && !context.quiet)
      std::fprintf(stderr, "headrace: there are no keys: everyone on this machine may ask\n");
  }
  context.stop.Wait();
  if (!context.quiet && !context.json)
    std::fprintf(stderr, "headrace: stopping: %zu requests are running, and have %.0f s\n",
                 server->services().in_flight.size(), words->drain);
  const size_t ended = server->Drain(words->drain, {});
  if (ended > 0) std::fprintf(stderr, "headrace: %zu requests were ended with an error\n", ended);
  return Status::Ok();
}

// The option, also from the environment.
CLI::Option* Env(CLI::Option* option, const char* name) {
  return option->envname(std::string("HEADRACE_SERVE_") + name);
}

void AddListenOptions(CLI::App* command, ServeWords* words) {
  http::HttpOptions* h = &words->options.http;
  Env(command
          ->add_option("--host", h->hosts,
                       "Where to listen; others can reach 0.0.0.0; unix:PATH is a socket file; repeatable")
          ->delimiter(',')
          ->capture_default_str(),
      "HOST");
  Env(command->add_option("--port", h->port, "0: any free one")->capture_default_str(), "PORT");
  Env(command
          ->add_option("--otlp-grpc-port", words->otlp_grpc_port,
                       "Take spans over OTLP/gRPC, too, at this port of the same hosts: 4317 is where "
                       "OpenTelemetry's SDKs send by themselves; 0: any free one (default: not taken; "
                       "OTLP/HTTP is /v1/traces of --port)")
          ->type_name("UINT"),
      "OTLP_GRPC_PORT");
  Env(command->add_option("--certificate", h->certificate, "A PEM file: TLS, with --private-key"),
      "CERTIFICATE");
  Env(command->add_option("--private-key", h->private_key, "The certificate's key, PEM"), "PRIVATE_KEY");
}

void AddConnectionLimits(CLI::App* command, http::HttpOptions* h) {
  Env(command->add_option("--max-body", h->max_body, "Bytes of one request")->capture_default_str(),
      "MAX_BODY");
  Env(command
          ->add_option("--max-bodies", h->max_bodies,
                       "Bytes of all bodies together whose requests are not answered yet")
          ->capture_default_str(),
      "MAX_BODIES");
  Env(command->add_option("--max-connections", h->max_connections, "Open at once")->capture_default_str(),
      "MAX_CONNECTIONS");
  command
      ->add_option("--write-seconds", h->write_seconds, "A reader that takes nothing for so long is dropped")
      ->capture_default_str();
}

// Which models are in memory, and when.
void AddLoadOptions(CLI::App* command, ServeWords* words) {
  Env(command
          ->add_option(
              "--load", words->load,
              "Models to load at the start (default: all; none); the others when they are asked for, "
              "in the place of what is idle where memory is short; repeatable")
          ->delimiter(','),
      "LOAD");
  const std::map<std::string, double> units = {{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86'400}};
  Env(command
          ->add_option("--sleep-after", words->options.model.sleep_after,
                       "A model that nobody asked for so long (30s, 15m, 2h) gives its memory back until it "
                       "is asked for again; 0: never")
          ->transform(CLI::AsNumberWithUnit(units))
          ->check(CLI::NonNegativeNumber)
          ->capture_default_str(),
      "SLEEP_AFTER");
}

void AddEngineOptions(CLI::App* command, ServeWords* words) {
  serve::ModelOptions& model = words->options.model;
  Env(command->add_option("--memory", words->memory,
                          "What weights and caches may take, like 8GB (default: 80 % of what is free)"),
      "MEMORY");
  Env(command->add_option("-c,--context", model.loader.engine.decoder.cells,
                          "Tokens of cache for each language model (default: its context, at most 32,768)"),
      "CONTEXT");
  Env(command->add_option("-t,--threads", model.loader.engine.decoder.threads,
                          "Of a step (default: all cores)"),
      "THREADS");
  const auto devices = AddDeviceOptions(command, &model.loader.load);
  Env(devices[0], "GPU_LAYERS");
  Env(devices[1], "DEVICE");
  Env(command->add_option("--slots", words->slots, "Requests that run at once")->capture_default_str(),
      "SLOTS");
  Env(command->add_option("--queue", words->queue, "Requests that wait; more are refused")
          ->capture_default_str(),
      "QUEUE");
  Env(command->add_option(
          "--max-itl", words->max_itl,
          "Seconds between two tokens that a long prompt of another may cost (default: by the machine)"),
      "MAX_ITL");
  command->add_flag("--deterministic", words->deterministic, "The same text whatever else runs");
  command->add_flag("--no-lookup", words->no_lookup, "No drafts from the prompt");
}

}  // namespace

void AddServe(CLI::App* app, Context* context, Action* action) {
  auto words = std::make_shared<ServeWords>();
  CLI::App* command = app->add_subcommand(
      "serve", "Models behind OpenAI's and Anthropic's APIs; every request becomes a row of `traces`");
  command->footer(
      "Options also come from HEADRACE_SERVE_* variables and from a TOML file (--config); the command line "
      "wins.\n"
      "Try:\n  headrace serve gemma minilm --chat-template gemma\n  curl localhost:8000/v1/models\n"
      "  headrace sql \"select id, model, answer_tokens, why from traces order by started desc limit 5\"\n"
      "  headrace top");
  serve::ServeOptions& o = words->options;
  http::HttpOptions& h = o.http;
  command->add_option(
      "models", words->models,
      "GGUF files, or models of the catalog; NAME=MODEL names one for clients. None: all of the catalog");
  AddListenOptions(command, words.get());
  Env(command->add_option("--chat-template", words->chat_template,
                          "For models that bring none: chatml, gemma, llama3, plain, or a template's text"),
      "CHAT_TEMPLATE");
  Env(command->add_flag("--replace-chat-template", o.model.loader.replace_template,
                        "Use --chat-template for models that bring one too"),
      "REPLACE_CHAT_TEMPLATE");
  command->add_option(
      "--adapter", words->adapters,
      "NAME=FILE: a LoRA adapter of the first language model; repeatable. Those of the catalog, as "
      "MODEL:NAME, are served by themselves");
  command->add_option("--alias", words->aliases,
                      "NAME=MODEL: another name of a served model, loaded once; * for any name; repeatable");
  AddLoadOptions(command, words.get());
  AddEngineOptions(command, words.get());
  Env(command
          ->add_option("--record", words->record,
                       "What `traces` keeps: full, hash (of texts), none (no texts)")
          ->capture_default_str(),
      "RECORD");
  Env(command
          ->add_option("--commit-seconds", o.commit_seconds,
                       "Between commits of traces (SQL sees newer rows all the same)")
          ->capture_default_str(),
      "COMMIT_SECONDS");
  Env(command
          ->add_option("--cors-origins", o.cors_origins,
                       "Whose pages may ask from a browser: https://example.org,…; * for any")
          ->delimiter(','),
      "CORS_ORIGINS");
  Env(command
          ->add_option(
              "--allow-host", o.hosts,
              "Names of this server, for requests without a key that come through a proxy; repeatable")
          ->delimiter(','),
      "ALLOW_HOST");
  Env(command->add_flag("--open", o.open, "Anyone may ask, keys or not; /metrics and /load still need a key"),
      "OPEN");
  Env(command->add_option("--defaults", o.defaults,
                          "JSON of fields that calls for text leave out: {\"temperature\": 0.7, "
                          "\"max_tokens\": 512, \"chat_template_kwargs\": {\"enable_thinking\": false}}"),
      "DEFAULTS");
  Env(command->add_flag("--strict-fields", o.strict_fields,
                        "Refuse fields that nothing reads, instead of naming them in x-headrace-ignored"),
      "STRICT_FIELDS");
  Env(command
          ->add_option("--drain", words->drain,
                       "Seconds that running requests have when the server is stopped")
          ->capture_default_str(),
      "DRAIN");
  AddConnectionLimits(command, &h);
  command->add_option("--config", words->config, "A TOML file of these options")
      ->envname("HEADRACE_SERVE_CONFIG");
  command->add_flag("--print-config", words->print_config, "Print all options as TOML and stop");
  command->callback([words, context, action, command] {
    *action = [words, context, command] { return RunServe(*context, words.get(), command); };
  });
}

}  // namespace headrace::cli
