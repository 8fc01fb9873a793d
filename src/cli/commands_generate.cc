// run, chat, embed: a model answers on the terminal.
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <iostream>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/devices.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "engine/chat_session.h"
#include "engine/embedder.h"
#include "engine/engine.h"
#include "registry/registry.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;

constexpr char kAdapter[] = "adapter";  // the name of the only one

struct GenerateWords {
  std::string model, prompt, system, schema, regex, chat_template, adapter;
  std::vector<std::string> texts;
  bool chat = false, deterministic = false, no_lookup = false, cut = false, raw = false;
  int32_t context_tokens = 0, threads = 0;
  model::LoadOptions load;
  engine::Request request;
};

Result<std::shared_ptr<engine::ChatSession>> OpenSession(const Context& context, const GenerateWords& words) {
  const auto catalog = context.Open();
  HEADRACE_ASSIGN(
      const registry::ModelFiles files,
      registry::FindModelFiles(words.model, catalog.ok() ? *catalog : nullptr, ProgressLine(context.quiet)));
  if (!files.adapter.empty() && !words.adapter.empty())
    return Status::Invalid("'" + words.model + "' is an adapter already; --adapter goes with a model");
  const std::string& adapter = files.adapter.empty() ? words.adapter : files.adapter;
  engine::SessionOptions options;
  options.chat_template = words.chat_template;
  options.replace_template = true;
  if (!adapter.empty()) options.adapters = {{kAdapter, adapter}};
  options.context = words.context_tokens;
  options.load = words.load;
  options.load.progress = ProgressLine(context.quiet || !StderrIsTerminal());
  HEADRACE_ASSIGN(auto session, engine::ChatSession::Open(files.path, options));
  EndProgress();
  return session;
}

Result<std::string> ReadAll(const std::string& path) {  // "-": standard input
  if (path == "-")
    return std::string(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  return ReadFile(path);
}

Result<std::unique_ptr<engine::Engine>> StartEngine(const engine::ChatSession& session,
                                                    GenerateWords* words) {
  engine::EngineOptions options;
  options.decoder.cells = words->context_tokens;
  options.decoder.threads = words->threads;
  options.core.deterministic = words->deterministic;
  options.core.lookup = !words->no_lookup;
  if (const auto found = session.adapters().find(kAdapter); found != session.adapters().end())
    words->request.adapter = found->second;
  return engine::Engine::Start(session.shared_model(), options);
}

Status SetStructure(GenerateWords* words) {
  auto& structure = words->request.structure;
  if (!words->schema.empty() && !words->regex.empty())
    return Status::Invalid("--json-schema and --regex cannot both be given");
  if (!words->schema.empty()) {
    structure.kind = engine::Structure::Kind::kSchema;
    structure.text = words->schema;
    if (const size_t first = words->schema.find_first_not_of(" \n\t");
        first == std::string::npos || words->schema[first] != '{') {
      HEADRACE_ASSIGN(structure.text, ReadAll(words->schema));
    }
  }
  if (!words->regex.empty()) structure = {engine::Structure::Kind::kRegex, words->regex};
  return Status::Ok();
}

ordered_json UsageJson(const engine::Usage& u) {
  return {{"prompt_tokens", u.prompt_tokens},   {"cached_tokens", u.cached_tokens},
          {"answer_tokens", u.answer_tokens},   {"forced_tokens", u.forced_tokens},
          {"drafted_tokens", u.drafted_tokens}, {"accepted_tokens", u.accepted_tokens},
          {"queue_seconds", u.queue_seconds},   {"prefill_seconds", u.prefill_seconds},
          {"decode_seconds", u.decode_seconds}, {"grammar_seconds", u.grammar_seconds}};
}

// Prints an answer as it comes. A stop ends it within one step.
Result<std::string> Answer(const Context& context, engine::Engine* engine, const engine::Request& request,
                           const StopToken& stop, engine::Usage* usage) {
  HEADRACE_ASSIGN(const std::shared_ptr<engine::Stream> stream, engine->Submit(request));
  const StopCallback on_stop(stop, [&] { stream->Cancel(); });
  std::string text;
  std::vector<engine::TokenOut> tokens;
  while (std::optional<engine::Delta> delta = stream->Next()) {
    text += delta->text;
    if (!context.json) {
      std::fwrite(delta->text.data(), 1, delta->text.size(), stdout);
      std::fflush(stdout);
    }
    for (auto& token : delta->tokens) tokens.push_back(std::move(token));
    if (delta->finish == engine::Finish::kNone) continue;
    *usage = delta->usage;
    if (!delta->error.ok()) return delta->error;
    if (delta->finish == engine::Finish::kLength &&
        request.structure.kind != engine::Structure::Kind::kNone && !context.quiet)
      std::fprintf(
          stderr,
          "headrace: the answer was cut off after %d tokens and is not whole; give more with --max-tokens\n",
          delta->usage.answer_tokens);
    if (context.json) {
      ordered_json json = {
          {"text", text}, {"finish", engine::FinishName(delta->finish)}, {"usage", UsageJson(delta->usage)}};
      if (request.top_logprobs >= 0)
        for (const auto& token : tokens)
          json["logprobs"].push_back({{"token", token.token}, {"logprob", token.logprob}});
      PrintJson(json);
    }
  }
  return text;
}

void PrintUsage(const engine::Usage& u) {
  std::fprintf(stderr, "\033[2m%s tokens at %.1f/s; the prompt's %s took %s%s\033[0m\n",
               HumanCount(u.answer_tokens).c_str(),
               u.answer_tokens > 1 ? (u.answer_tokens - 1) / std::max(u.decode_seconds, 1e-9) : 0.0,
               HumanCount(u.prompt_tokens).c_str(), HumanSeconds(u.prefill_seconds).c_str(),
               u.cached_tokens > 0 ? (", " + HumanCount(u.cached_tokens) + " of them cached").c_str() : "");
}

Status RunRun(const Context& context, GenerateWords* words) {
  if (words->prompt.empty() || words->prompt == "-") {
    if (words->prompt.empty() && isatty(0)) return Status::Invalid("give a prompt, or pipe one in");
    HEADRACE_ASSIGN(words->prompt, ReadAll("-"));
  }
  HEADRACE_TRY(SetStructure(words));
  HEADRACE_ASSIGN(const std::shared_ptr<engine::ChatSession> session, OpenSession(context, *words));
  engine::Request& request = words->request;
  bool endless = false;
  const bool chat = words->chat || !words->system.empty() || !words->chat_template.empty() ||
                    (session->model().facts().has_template && !words->raw);
  if (chat) {
    std::vector<model::Message> messages;
    if (!words->system.empty()) messages.push_back({"system", words->system});
    messages.push_back({"user", words->prompt});
    HEADRACE_ASSIGN(engine::ChatPrompt prompt, session->Chat(std::move(messages)));
    prompt.MoveInto(&request);
  } else {
    HEADRACE_ASSIGN(request.prompt, session->Text(words->prompt));
    endless = request.EndPlainText();
  }
  HEADRACE_ASSIGN(const auto engine, StartEngine(*session, words));
  engine::Usage usage;
  HEADRACE_ASSIGN(const std::string text, Answer(context, engine.get(), request, context.stop, &usage));
  if (!context.json && (text.empty() || text.back() != '\n')) std::printf("\n");
  std::fflush(stdout);
  if (endless && usage.answer_tokens == request.max_tokens && !context.quiet)
    std::fprintf(stderr, "headrace: the text was cut off after %d tokens; give more with --max-tokens\n",
                 usage.answer_tokens);
  if (!context.json && !context.quiet && StderrIsTerminal()) PrintUsage(usage);
  return context.stop.Check();
}

Status RunChat(const Context& context, GenerateWords* words) {
  HEADRACE_ASSIGN(const std::shared_ptr<engine::ChatSession> session, OpenSession(context, *words));
  if (session->chat() == nullptr) return session->chat_problem();
  HEADRACE_ASSIGN(const auto engine, StartEngine(*session, words));
  const bool terminal = isatty(0) != 0 && StdoutIsTerminal();
  Interrupts interrupts(context.stop);
  if (terminal)
    std::printf("%s. Ctrl-C stops an answer, Ctrl-D ends; /new begins anew.\n",
                session->model().facts().name.c_str());
  std::vector<model::Message> messages;
  const auto begin = [&] {
    messages.clear();
    if (!words->system.empty()) messages.push_back({"system", words->system});
  };
  begin();
  for (;;) {
    HEADRACE_TRY(context.stop.Check());
    if (terminal) std::printf("\033[1m> \033[0m");
    std::fflush(stdout);
    std::string line;
    HEADRACE_ASSIGN(const LineRead read, ReadLine(&line, interrupts.Next()));
    if (read == LineRead::kStopped) {
      if (terminal) std::printf("\n(Ctrl-D ends)\n");
      continue;
    }
    if (read == LineRead::kEnd || line == "/quit" || line == "/exit") break;
    if (line == "/new") {
      begin();
      continue;
    }
    if (line.empty()) continue;
    messages.push_back({"user", line});
    engine::Request request = words->request;
    engine::Usage usage;
    const StopToken stop = interrupts.Next();
    const auto answer = [&]() -> Result<std::string> {
      HEADRACE_ASSIGN(engine::ChatPrompt prompt, session->Chat(messages));
      prompt.MoveInto(&request);
      return Answer(context, engine.get(), request, stop, &usage);
    };
    Result<std::string> text = answer();
    if (!text.ok()) {
      if (!text.status().Is(Code::kLimit)) return text.status();
      std::fprintf(stderr, "headrace: %s; /new begins anew\n", text.status().ToString().c_str());
      messages.pop_back();
      continue;
    }
    if (!context.json) std::printf("\n");
    if (!context.json && !context.quiet && terminal && StderrIsTerminal()) PrintUsage(usage);
    messages.push_back({"assistant", std::move(*text)});
  }
  if (terminal) std::printf("\n");
  return Status::Ok();
}

// Numbers as the shortest decimals that give back the same floats.
std::vector<double> Shortest(const float* values, size_t count) {
  std::vector<double> result(count);
  for (size_t i = 0; i < count; ++i) {
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof digits, values[i]).ptr;
    std::from_chars(digits, end, result[i]);
  }
  return result;
}

Status RunEmbed(const Context& context, GenerateWords* words) {
  std::vector<std::string> texts = words->texts;
  if (texts.empty() || (texts.size() == 1 && texts[0] == "-")) {
    if (texts.empty() && isatty(0)) return Status::Invalid("give texts, or pipe them in, one a line");
    texts.clear();
    for (std::string line; std::getline(std::cin, line);) texts.push_back(line);
  }
  HEADRACE_ASSIGN(const std::shared_ptr<engine::ChatSession> session, OpenSession(context, *words));
  if (!session->adapters().empty())
    return Status::Unsupported("'" + words->model +
                               "' is an adapter, and adapters change no vectors here: name its model");
  model::EncoderOptions options;
  options.threads = words->threads;
  HEADRACE_ASSIGN(const auto embedder, engine::Embedder::Start(session->shared_model(), options));
  constexpr size_t kAtOnce = 256;
  std::vector<float> all;
  for (size_t at = 0; at < texts.size(); at += kAtOnce) {
    HEADRACE_TRY(context.stop.Check());
    const std::vector<std::string> some(
        texts.begin() + static_cast<ptrdiff_t>(at),
        texts.begin() + static_cast<ptrdiff_t>(std::min(at + kAtOnce, texts.size())));
    Result<engine::Embeddings> got = embedder->Embed(some, {.normalise = true, .cut = words->cut ? -1 : 0});
    if (!got.ok()) return got.status();
    const auto width = static_cast<size_t>(got->width);
    if (context.json || !StdoutIsTerminal()) {
      for (size_t i = 0; i < some.size(); ++i)
        PrintJson({{"index", at + i}, {"embedding", Shortest(got->values.data() + i * width, width)}});
    } else {
      all.insert(all.end(), got->values.begin(), got->values.end());
    }
  }
  if (all.empty()) return Status::Ok();
  const auto width = static_cast<size_t>(embedder->width());
  std::printf("%zu texts × %zu numbers; cosines to the first:\n", texts.size(), width);
  for (size_t i = 0; i < texts.size(); ++i) {
    double dot = 0;
    for (size_t j = 0; j < width; ++j) dot += double{all[j]} * all[i * width + j];
    std::printf("  %6.3f  [%.3f, %.3f, %.3f, …]  %s\n", dot, all[i * width], all[i * width + 1],
                all[i * width + 2], texts[i].substr(0, 60).c_str());
  }
  return Status::Ok();
}

void SamplingOptions(CLI::App* command, const std::shared_ptr<GenerateWords>& words) {
  engine::Sampling& sampling = words->request.sampling;
  sampling.temperature = 0.8F;
  sampling.top_p = 0.95F;
  command
      ->add_option("-n,--max-tokens", words->request.max_tokens,
                   "Of the answer (default: what the context holds; 256 where plain text is continued)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("-t,--temperature", sampling.temperature, "0: always the likeliest token")
      ->capture_default_str();
  command->add_option("--top-p", sampling.top_p, "Among the likeliest that reach this probability together")
      ->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "Among the k likeliest (0: all)")->capture_default_str();
  command
      ->add_option("--min-p", sampling.min_p, "Among those above this share of the likeliest's probability")
      ->capture_default_str();
  command->add_option("--repetition-penalty", sampling.repetition_penalty)->capture_default_str();
  command
      ->add_option("--seed", sampling.seed,
                   "The same seed gives the same answer (with --deterministic under any load)")
      ->capture_default_str();
  command->add_option("--stop", words->request.stops, "Ends the answer; may be given several times");
  command->add_option("--chat-template", words->chat_template,
                      "chatml, gemma, llama3, plain, or a template's text, instead of the model's own");
  command->add_option("--adapter", words->adapter, "A LoRA adapter (GGUF)");
  command->add_option("-c,--context", words->context_tokens,
                      "Tokens of cache (default: the model's context, at most 32,768)");
  command->add_option("--threads", words->threads, "Default: one per core");
  AddDeviceOptions(command, &words->load);
  command->add_flag("--deterministic", words->deterministic, "The same bits whatever else runs");
  command->add_flag("--no-lookup", words->no_lookup, "Do not draft by prompt lookup");
}

}  // namespace

void AddRun(CLI::App* app, Context* context, Action* action) {
  auto words = std::make_shared<GenerateWords>();
  auto* command = app->add_subcommand("run", "A model answers a prompt");
  command
      ->add_option("model", words->model,
                   "A GGUF file, or a model's name in the catalog, or an adapter's (MODEL:NAME)")
      ->required();
  command->add_option("prompt", words->prompt, "The prompt; - or nothing: standard input");
  command->add_flag("--chat", words->chat,
                    "As a chat turn, by the model's template (the default where it has one)");
  command->add_flag("--raw", words->raw, "As plain text to continue, even where the model has a template");
  command->add_option("--system", words->system, "A system message");
  command->add_option("--json-schema", words->schema,
                      "The answer is JSON of this schema: a file, -, or the schema itself");
  command->add_option("--regex", words->regex, "The answer matches this regular expression");
  command->add_option("--logprobs", words->request.top_logprobs, "With --json: log-probabilities");
  SamplingOptions(command, words);
  command->footer(
      "Examples:\n  headrace run model.gguf \"The capital of France is\" -n 20\n  headrace run gemma \"A "
      "cat\" --json-schema cat.schema.json\n  git diff | headrace run qwen --system \"Write a commit "
      "message\"");
  command->callback([=] { *action = [=] { return RunRun(*context, words.get()); }; });
}

void AddChat(CLI::App* app, Context* context, Action* action) {
  auto words = std::make_shared<GenerateWords>();
  auto* command = app->add_subcommand("chat", "A conversation; Ctrl-C stops an answer, Ctrl-D ends");
  command
      ->add_option("model", words->model,
                   "A GGUF file, or a model's name in the catalog, or an adapter's (MODEL:NAME)")
      ->required();
  command->add_option("--system", words->system, "A system message");
  SamplingOptions(command, words);
  command->callback([=] { *action = [=] { return RunChat(*context, words.get()); }; });
}

void AddEmbed(CLI::App* app, Context* context, Action* action) {
  auto words = std::make_shared<GenerateWords>();
  auto* command =
      app->add_subcommand("embed", "Vectors of texts, one JSON object a line (on a terminal: their cosines)");
  command->add_option("model", words->model, "A GGUF file, or a model's name in the catalog")->required();
  command->add_option("text", words->texts, "Texts; - or none: lines of standard input");
  command->add_flag("--cut", words->cut,
                    "Cut texts that are too long for the model, instead of refusing them");
  command->add_option("--threads", words->threads, "Default: one per core");
  command->callback([=] { *action = [=] { return RunEmbed(*context, words.get()); }; });
}

}  // namespace headrace::cli
