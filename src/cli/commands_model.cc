// model: what there is, what it can do here, and how it is made smaller.
#include <sys/stat.h>

#include <cstdio>
#include <thread>

#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/devices.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "model/adapter_file.h"
#include "model/arithmetic.h"
#include "model/chat.h"
#include "model/probe.h"
#include "registry/registry.h"

namespace headrace::cli {
namespace {

using model::Facts;
using nlohmann::ordered_json;

ordered_json FactsJson(const Facts& f) {
  return {{"name", f.name},
          {"architecture", f.architecture},
          {"quantization", f.quantization},
          {"licence", f.licence},
          {"parameters", f.parameters},
          {"weight_bytes", f.weight_bytes},
          {"context", f.trained_context},
          {"vocabulary", f.vocabulary},
          {"layers", f.layers},
          {"kind", model::TaskName(f.task())},
          {"memory", model::MemoryName(f.memory)},
          {"window", f.window},
          {"kv_bytes_per_token", f.kv_bytes_per_token},
          {"chat_template", f.has_template},
          {"template_hash", f.template_hash}};
}

std::string MemoryMeans(const Facts& f) {
  if (f.ranks) return "a reranker: it scores a query and a document, and does not generate";
  switch (f.memory) {
    case model::Memory::kAttention:
      return "any cached beginning of a prompt is reused";
    case model::Memory::kSlidingWindow:
      return "some layers see the last " + std::to_string(f.window) +
             " tokens only; cached beginnings are reused (each is held twice, so 128 of them at most)";
    case model::Memory::kRecurrent:
    case model::Memory::kHybrid:
      return "a cached prompt is reused only at its exact end; nothing is drafted";
    case model::Memory::kEncoder:
      return "it embeds texts and does not generate";
  }
  return "";
}

// What is said of an adapter, as JSON. `entry`: its facts, whether or not it is in the catalog.
ordered_json AdapterJson(const registry::Entry& entry) {
  ordered_json json = {
      {"name", entry.facts.name},
      {"kind", "adapter"},
      {"adapter_of", entry.adapter_of.empty() ? ordered_json() : ordered_json(entry.adapter_of)},
      {"architecture", entry.facts.architecture},
      {"quantization", entry.facts.quantization},
      {"licence", entry.licence},
      {"parameters", entry.facts.parameters},
      {"rank", entry.adapter->rank},
      {"alpha", entry.adapter->alpha}};
  for (const auto& [key, value] : {std::pair("base", entry.adapter->base),
                                   {"base_sha256", entry.adapter->base_sha256},
                                   {"run", entry.adapter->run},
                                   {"data", entry.adapter->data}})
    json[key] = value.empty() ? ordered_json() : ordered_json(value);
  return json;
}

Status InspectAdapter(const Context& context, const registry::Entry& entry) {
  if (context.json) {
    ordered_json json = AdapterJson(entry);
    json["file"] = entry.source;
    PrintJson(json);
    return Status::Ok();
  }
  const registry::AdapterFacts& adapter = *entry.adapter;
  std::printf("%s: a LoRA adapter for %s, %s parameters, %s\n", entry.name.c_str(),
              entry.facts.architecture.c_str(), HumanCount(entry.facts.parameters).c_str(),
              entry.facts.quantization.c_str());
  std::printf("  rank         %lld, alpha %g\n", static_cast<long long>(adapter.rank), adapter.alpha);
  if (!adapter.base.empty())
    std::printf("  made for     %s (%s)\n", adapter.base.c_str(), adapter.base_sha256.substr(0, 16).c_str());
  if (!adapter.run.empty())
    std::printf("  learned      %s, by the run %s\n", adapter.data.c_str(), adapter.run.c_str());
  std::printf("  weights      %s; licence %s\n",
              HumanBytes(static_cast<double>(entry.facts.weight_bytes)).c_str(),
              entry.licence.empty() ? "not said in the file" : entry.licence.c_str());
  return Status::Ok();
}

// The adapter that the word stands for, as far as its head is read; nothing of a model.
Result<std::optional<registry::Entry>> FindAdapter(const std::string& name,
                                                   const std::shared_ptr<table::Catalog>& catalog) {
  const std::optional<registry::Entry> none;
  struct stat info {};
  if (stat(name.c_str(), &info) == 0) {
    if (!S_ISREG(info.st_mode) || !model::Probe(name).ok() || !model::IsAdapter(name)) return none;
    HEADRACE_ASSIGN(registry::Entry entry, registry::Describe(name));
    entry.name = entry.source = name;
    return std::optional(std::move(entry));
  }
  if (!catalog || !registry::SplitAdapterName(name)) return none;
  HEADRACE_ASSIGN(registry::Entry entry, registry::Registry(catalog).Get(name));
  if (!entry.adapter) return none;
  return std::optional(std::move(entry));
}

Status RunInspect(const Context& context, const std::string& name, bool quick) {
  const auto catalog = context.Open();
  HEADRACE_ASSIGN(const auto adapter, FindAdapter(name, catalog.ok() ? *catalog : nullptr));
  if (adapter) return InspectAdapter(context, *adapter);
  HEADRACE_ASSIGN(const std::string path, registry::FindModelFile(name, catalog.ok() ? *catalog : nullptr,
                                                                  ProgressLine(context.quiet)));
  HEADRACE_TRY(model::Probe(path));
  HEADRACE_ASSIGN(const std::shared_ptr<model::Model> loaded, model::Model::Load(path));
  HEADRACE_ASSIGN(const model::Backends backends, model::LoadBackends());
  const Facts& f = loaded->facts();
  model::Arithmetic work;
  const int threads = static_cast<int>(std::thread::hardware_concurrency());
  if (!quick) {
    if (!context.quiet && StderrIsTerminal()) DrawLine("measuring memory and steps…");
    HEADRACE_ASSIGN(work, model::Work(loaded, threads));
    EndProgress();
  }
  if (context.json) {
    ordered_json json = FactsJson(f);
    json["file"] = path;
    json["build"] = model::BuildDescription();
    json["machine"] = DevicesJson(backends);
    if (!quick) {
      json["bandwidth"] = work.bandwidth;
      json["decode_ceiling"] = work.decode_ceiling;
      json["binding_batch"] = work.binding_batch;
      json["free_memory"] = work.free_memory;
      json["tokens_that_fit"] = work.tokens_that_fit;
      json["threads"] = threads;
      for (const auto& step : work.steps)
        json["steps"].push_back({{"rows", step.rows}, {"outputs", step.outputs}, {"seconds", step.seconds}});
    }
    PrintJson(json);
    return Status::Ok();
  }
  std::printf("%s: %s, %s parameters, %s\n", f.name.c_str(), f.architecture.c_str(),
              HumanCount(f.parameters).c_str(), f.quantization.c_str());
  std::printf("  weights      %s; licence %s\n", HumanBytes(static_cast<double>(f.weight_bytes)).c_str(),
              f.licence.empty() ? "not said in the file" : f.licence.c_str());
  std::printf("  context      %s tokens trained; %s of cache a token\n",
              HumanCount(f.trained_context).c_str(),
              HumanBytes(static_cast<double>(f.kv_bytes_per_token)).c_str());
  std::printf("  memory       %s: %s\n", std::string(model::MemoryName(f.memory)).c_str(),
              MemoryMeans(f).c_str());
  if (f.task() == model::Task::kWrite)
    std::printf("  chat         %s\n",
                f.has_template
                    ? ("its own template (" + f.template_hash + ")").c_str()
                    : "no template: a base model; name one to chat (chatml, gemma, llama3, plain)");
  const std::vector<std::string> devices = DeviceLines(backends);
  for (size_t i = 0; i < devices.size(); ++i)
    std::printf("  %-12s %s\n", i == 0 ? "computes on" : "", devices[i].c_str());
  if (quick) return Status::Ok();
  std::printf("On this machine (%d threads):\n", threads);
  std::printf("  bandwidth    %s/s, so at most %.0f tokens/s in one stream\n",
              HumanBytes(work.bandwidth).c_str(), work.decode_ceiling);
  if (work.tokens_that_fit > 0) {
    std::printf("  room         %s free: %s tokens of cache, as 1 × %s, 8 × %s or 32 × %s users × tokens\n",
                HumanBytes(static_cast<double>(work.free_memory)).c_str(),
                HumanCount(work.tokens_that_fit).c_str(),
                HumanCount(std::min<int64_t>(work.tokens_that_fit, f.trained_context)).c_str(),
                HumanCount(std::min<int64_t>(work.tokens_that_fit / 8, f.trained_context)).c_str(),
                HumanCount(std::min<int64_t>(work.tokens_that_fit / 32, f.trained_context)).c_str());
  }
  if (!work.steps.empty()) {
    std::printf(
        "  compute      binds from about %.0f rows on: there a step takes twice the time of one row\n",
        work.binding_batch);
    std::printf("  measured     %8s %12s %12s\n", "rows", "step", "tokens/s");
    for (const auto& step : work.steps)
      std::printf("    %-10s %8d %9.1f ms %12.0f\n", step.outputs ? "decoding" : "prefill", step.rows,
                  step.seconds * 1e3, step.rows / step.seconds);
  }
  return Status::Ok();
}

Status RunQuantize(const Context& context, const std::string& from, const std::string& to,
                   const std::string& type, bool no_speed) {
  const auto catalog = context.Open();
  HEADRACE_ASSIGN(const std::string path, registry::FindModelFile(from, catalog.ok() ? *catalog : nullptr));
  HEADRACE_TRY(model::Probe(path));
  struct stat before {
  }, after{};
  if (stat(path.c_str(), &before) != 0) return Status::FromErrno(errno, "read", path);
  if (stat(to.c_str(), &after) == 0)
    return Status::AlreadyExists(to + " is there already; name another file");
  if (!context.quiet && StderrIsTerminal()) DrawLine("quantizing to " + type + "…");
  const double start = MonotonicSeconds();
  HEADRACE_TRY(model::Quantize(path, to, type, static_cast<int>(std::thread::hardware_concurrency())));
  EndProgress();
  const double seconds = MonotonicSeconds() - start;
  stat(to.c_str(), &after);
  const auto speed = [](const std::string& file, double* decode, double* prefill) -> Status {
    HEADRACE_ASSIGN(const std::shared_ptr<model::Model> loaded, model::Model::Load(file));
    if (loaded->facts().task() != model::Task::kWrite) return Status::Ok();
    const int threads = static_cast<int>(std::thread::hardware_concurrency());
    HEADRACE_ASSIGN(
        const auto decoder,
        model::NewDecoder(loaded, {.cells = 1024, .max_rows = 512, .paths = 2, .threads = threads}));
    HEADRACE_ASSIGN(const auto steps, model::MeasureSteps(decoder.get(), threads));
    for (const auto& step : steps) {
      if (step.rows == 1) *decode = 1 / step.seconds;
      if (step.rows == 512) *prefill = 512 / step.seconds;
    }
    return Status::Ok();
  };
  double decode[2] = {}, prefill[2] = {};
  if (!no_speed) {
    HEADRACE_TRY(speed(path, &decode[0], &prefill[0]));
    HEADRACE_TRY(speed(to, &decode[1], &prefill[1]));
  }
  if (context.json) {
    PrintJson({{"file", to},
               {"type", type},
               {"seconds", seconds},
               {"bytes_before", before.st_size},
               {"bytes", after.st_size},
               {"decode_before", decode[0]},
               {"decode", decode[1]},
               {"prefill_before", prefill[0]},
               {"prefill", prefill[1]}});
    return Status::Ok();
  }
  std::printf("%s: %s, was %s (%.0f %%), in %s\n", to.c_str(),
              HumanBytes(static_cast<double>(after.st_size)).c_str(),
              HumanBytes(static_cast<double>(before.st_size)).c_str(),
              100.0 * static_cast<double>(after.st_size) / static_cast<double>(before.st_size),
              HumanSeconds(seconds).c_str());
  if (decode[1] > 0)
    std::printf("decoding one stream %.0f tokens/s, was %.0f; prefill %.0f, was %.0f\n", decode[1], decode[0],
                prefill[1], prefill[0]);
  return Status::Ok();
}

constexpr size_t kShownHash = 8;  // hex digits of a content hash

Status RunList(const Context& context) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto entries, registry::Registry(catalog).List());
  for (const auto& entry : entries) {
    if (context.json) {
      ordered_json json = entry.adapter ? AdapterJson(entry) : FactsJson(entry.facts);
      if (!entry.adapter) json["adapter_of"] = nullptr;
      json["name"] = entry.name;
      json["sha256"] = entry.sha256;
      json["bytes"] = entry.bytes;
      json["source"] = entry.source;
      json["added"] = FormatMicros(entry.added_us);
      json["revision"] = entry.revision;
      PrintJson(json);
    } else {
      std::printf("%-20s r%-4lld %-8s %8s  %-14s %-16s %s\n", entry.name.c_str(),
                  static_cast<long long>(entry.revision), entry.sha256.substr(0, kShownHash).c_str(),
                  HumanBytes(static_cast<double>(entry.bytes)).c_str(), entry.facts.architecture.c_str(),
                  entry.facts.quantization.c_str(),
                  entry.adapter ? ("adapter of rank " + std::to_string(entry.adapter->rank)).c_str()
                                : entry.licence.c_str());
    }
  }
  if (entries.empty() && !context.json && !context.quiet)
    std::fprintf(stderr, "no models yet; `headrace model add FILE.gguf --name NAME` adds one\n");
  return Status::Ok();
}

Status RunLog(const Context& context, const std::string& name) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto history, registry::Registry(catalog).History(name));
  for (const registry::Revision& one : history) {
    if (context.json) {
      PrintJson({{"name", name},
                 {"revision", one.revision},
                 {"sha256", one.sha256},
                 {"kept", one.there},
                 {"time", FormatMicros(one.time_us)},
                 {"who", one.who},
                 {"why", one.why}});
    } else {
      const std::string what = one.sha256.empty() ? "removed" : one.sha256.substr(0, kShownHash);
      std::printf("r%-4lld %-19.19s  %-8s %-9s %-12s %s\n", static_cast<long long>(one.revision),
                  FormatMicros(one.time_us).c_str(), what.c_str(),
                  one.sha256.empty() || one.there ? "" : "(deleted)", one.who.c_str(), one.why.c_str());
    }
  }
  return Status::Ok();
}

Status RunRollback(const Context& context, const std::string& name, int64_t revision) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(
      const registry::Entry entry,
      registry::Registry(catalog).Rollback(name, revision, table::DefaultWho(), context.command_line));
  if (context.json) {
    PrintJson({{"name", name}, {"sha256", entry.sha256}, {"revision", entry.revision}});
  } else {
    std::printf("%s is %s again (r%lld); running servers take it within seconds\n", name.c_str(),
                entry.sha256.substr(0, kShownHash).c_str(), static_cast<long long>(entry.revision));
  }
  return Status::Ok();
}

Status RunAdd(const Context& context, const std::string& path, const std::string& name,
              const std::string& licence) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  registry::AddOptions options;
  options.licence = licence;
  options.who = table::DefaultWho();
  options.why = context.command_line;
  options.progress = ProgressLine(context.quiet);
  options.stop = context.stop;
  HEADRACE_TRY(model::Probe(path));
  registry::Registry registry(catalog);
  const bool adapter = model::IsAdapter(path);
  const auto parts = registry::SplitAdapterName(name);
  if (adapter && !parts)
    return Status::Invalid(path + " is an adapter: its name is its model's and its own, as in --name gemma:" +
                           (name.find(':') == std::string::npos ? name : "support"));
  HEADRACE_ASSIGN(const registry::Entry entry,
                  adapter ? registry.AddAdapter(path, parts->first, parts->second, options)
                          : registry.Add(path, name, options));
  EndProgress();
  if (context.json) {
    PrintJson({{"name", entry.name},
               {"sha256", entry.sha256},
               {"bytes", entry.bytes},
               {"kind", adapter ? "adapter" : model::TaskName(entry.facts.task())},
               {"adapter_of", adapter ? ordered_json(entry.adapter_of) : ordered_json()},
               {"revision", entry.revision}});
  } else {
    std::printf("%s is %s (%s, %s %s%s)\n", entry.name.c_str(), entry.sha256.substr(0, 16).c_str(),
                HumanBytes(static_cast<double>(entry.bytes)).c_str(), entry.facts.architecture.c_str(),
                entry.facts.quantization.c_str(),
                adapter             ? (", an adapter of " + entry.adapter_of).c_str()
                : entry.facts.ranks ? ", a reranker"
                                    : "");
  }
  return Status::Ok();
}

}  // namespace

void AddModel(CLI::App* app, Context* context, Action* action) {
  auto* group = app->add_subcommand("model", "Models: add, list, inspect, quantize, go back, remove");
  group->require_subcommand(1);
  struct Words {
    std::string model, to, type = "Q4_K_M", name, licence, chat_template;
    int64_t revision = 0;
    bool quick = false, data = false;
  };
  auto words = std::make_shared<Words>();

  auto* ls = group->add_subcommand("ls", "The catalog's models");
  ls->callback([=] { *action = [=] { return RunList(*context); }; });

  auto* add = group->add_subcommand("add",
                                    "Tries a GGUF file, a model or a LoRA adapter of one, in a process of "
                                    "its own, and keeps it in the catalog "
                                    "by its content's hash");
  add->add_option("file", words->model, "A GGUF file")->required();
  add->add_option("--name", words->name,
                  "What to call it; a name that is taken moves to the new model, and remembers. An adapter's "
                  "is MODEL:NAME")
      ->required();
  add->add_option("--licence,--license", words->licence, "Its licence, where the file does not say");
  add->footer(
      "Examples:\n  headrace model add gemma-3-270m.gguf --name gemma\n  headrace model add support.gguf "
      "--name "
      "gemma:support");
  add->callback(
      [=] { *action = [=] { return RunAdd(*context, words->model, words->name, words->licence); }; });

  auto* inspect = group->add_subcommand("inspect", "What a model is, and what it can do on this machine");
  inspect->add_option("model", words->model, "A GGUF file or a model's name")->required();
  inspect->add_flag("--quick", words->quick, "Do not measure");
  inspect->callback([=] { *action = [=] { return RunInspect(*context, words->model, words->quick); }; });

  auto* quantize = group->add_subcommand("quantize", "Writes a smaller model; reports size and speed");
  quantize->add_option("model", words->model, "A GGUF file or a model's name")->required();
  quantize->add_option("to", words->to, "The new file")->required();
  std::string types;
  for (const std::string& name : model::QuantizationNames()) types += (types.empty() ? "" : ", ") + name;
  quantize->add_option("--type", words->type, "One of " + types)->capture_default_str();
  quantize->add_flag("--no-speed", words->quick, "Do not measure speeds");
  quantize->callback([=] {
    *action = [=] { return RunQuantize(*context, words->model, words->to, words->type, words->quick); };
  });

  auto* log = group->add_subcommand("log", "What a name stood for, newest first");
  log->add_option("model", words->model, "Its name")->required();
  log->callback([=] { *action = [=] { return RunLog(*context, words->model); }; });

  auto* rollback = group->add_subcommand("rollback", "Gives a name back the model that it had before");
  rollback->add_option("model", words->model, "Its name")->required();
  rollback->add_option("revision", words->revision,
                       "A revision of `model log` (default: the model before this one)");
  rollback->footer("Examples:\n  headrace model rollback gemma\n  headrace model rollback gemma 3");
  rollback->callback([=] { *action = [=] { return RunRollback(*context, words->model, words->revision); }; });

  auto* rm = group->add_subcommand("rm", "Forgets a model's name");
  rm->add_option("model", words->model, "Its name")->required();
  rm->add_flag("--data", words->data, "Also delete the weights, if no other name stands for them");
  rm->callback([=] {
    *action = [=]() -> Status {
      HEADRACE_ASSIGN(const auto catalog, context->Open());
      return registry::Registry(catalog).Remove(words->model, words->data, table::DefaultWho());
    };
  });

  auto* probe =
      group->add_subcommand("probe", "Tries a file in this process (add and run do it for you in another)");
  probe->group("");
  probe->add_option("file", words->model)->required();
  probe->add_option("--chat-template", words->chat_template);
  probe->callback([=] { *action = [=] { return model::ProbeHere(words->model, words->chat_template); }; });
}

}  // namespace headrace::cli
