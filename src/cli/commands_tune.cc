// tune: a model learns from the rows of a table. The loop is Python's (python/headrace/tune_loop.py).
#include <cstdlib>
#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/python.h"

namespace headrace::cli {
namespace {

using nlohmann::json;

// What was given, by the names of hr.TuneConfig; the rest has its defaults there.
class Given {
 public:
  explicit Given(CLI::App* command) : command_(command) {}

  void Text(const std::string& name, const std::string& help) {
    Add<std::string>(name, help, [](const std::string& value) { return json(value); })->type_name("TEXT");
  }
  void Count(const std::string& name, const std::string& help) {
    Add<int64_t>(name, help, [](int64_t value) { return json(value); })->type_name("N");
  }
  void Number(const std::string& name, const std::string& help) {
    Add<double>(name, help, [](double value) { return json(value); })->type_name("X");
  }
  void Texts(const std::string& name, const std::string& key, const std::string& help) {
    command_
        ->add_option_function<std::vector<std::string>>(
            "--" + name, [this, key](const std::vector<std::string>& values) { values_[key] = values; }, help)
        ->allow_extra_args(false);
  }
  void Flag(const std::string& name, const std::string& key, bool value, const std::string& help) {
    command_->add_flag_callback(
        "--" + name, [this, key, value] { values_[key] = value; }, help);
  }
  CLI::Option* Positional(const std::string& name, const std::string& help) {
    return command_->add_option_function<std::string>(
        name, [this, name](const std::string& value) { values_[name] = value; }, help);
  }
  // A number, or a time ("10m").
  void CountOrTime(const std::string& name, const std::string& help) {
    Add<std::string>(name, help, [](const std::string& value) {
      const bool number =
          !value.empty() && value.find_first_not_of("0123456789") == std::string::npos && value.size() < 10;
      return number ? json(std::stoll(value)) : json(value);
    })->type_name("N|TIME");
  }
  const json& values() const { return values_; }

 private:
  template <typename T, typename F>
  CLI::Option* Add(const std::string& name, const std::string& help, F turn) {
    std::string key = name;
    for (char& letter : key)
      if (letter == '-') letter = '_';
    return command_->add_option_function<T>(
        "--" + name, [this, key, turn](const T& value) { values_[key] = turn(value); }, help);
  }

  CLI::App* command_;
  json values_ = json::object();
};

}  // namespace

void AddTune(CLI::App* app, Context* context, Action* action) {
  CLI::App* command = app->add_subcommand("tune", "Teach a model from the rows of a table (LoRA)");
  const auto given = std::make_shared<Given>(command);
  const auto resume = std::make_shared<std::string>();
  const auto show = std::make_shared<int64_t>(0);
  const auto plan = std::make_shared<bool>(false);
  given->Positional("model", "A model: its name in the catalog, or a GGUF file");
  given->Text("data", "The table: NAME, NAME@v12, NAME@tag");
  given->Text("out", "What the adapter is called");
  given->Text("where", "Only the rows that pass this filter");
  given->Text("messages", "The column of chats: lists of {role, content}, or JSON of them");
  given->Text("prompt", "The column of questions ...");
  given->Text("answer", "... and that of the answers, which are learned");
  given->Text("text", "The column of texts that are learned as they are");
  given->Text("system", "A system message for rows that have none");
  given->Texts("role", "roles", "Whose turns are learned; may be given more than once [assistant]");
  given->Flag("no-chat", "chat", false, "Prompts and answers as they are, without the chat template");
  given->Text("chat-template", "Instead of the model's own: a name, or a template's source");
  given->Count("max-tokens", "Tokens of a row [2048, or the model's context if that is less]");
  given->Text("cut", "What becomes of longer ones: end, start (is cut off), drop [end]");
  given->Text("broken", "What becomes of rows that cannot be read: fail, drop [fail]");
  given->Count("rank", "LoRA's rank [16]");
  given->Number("alpha", "LoRA's alpha [twice the rank]");
  given->Flag("rslora", "rslora", true, "Scale by alpha / sqrt(rank) instead of alpha / rank");
  given->Text("targets", "Which weights have adapters: all, attention, mlp [all]");
  given->Count("batch-tokens", "Tokens of a step at most [4096]");
  given->Count("micro-tokens", "Tokens that are computed at once: less needs less memory [2048]");
  given->Count("epochs", "How often each row is learned from [1]");
  given->Count("steps", "How many steps, instead of epochs");
  given->Number("learning-rate", "The highest learning rate [0.0002]");
  given->Text("schedule", "cosine, linear, constant or wsd [cosine]");
  given->Number("warmup", "The share of the training in which the rate rises [0.03]");
  given->Number("weight-decay", "AdamW's [0]");
  given->Number("clip", "Gradients are cut to this norm; 0: not [1]");
  given->Number("validation", "The share of the rows that is kept back and looked at [0.05]");
  given->Text("split-on", "What decides on which side a row is: a column or expression [_row_id]");
  given->Count("evaluations", "How often that is looked at [5]");
  given->CountOrTime("save-every", "Steps, or time, between two checkpoints [10m]");
  given->Count("keep-last", "Checkpoints that are kept, beside the best [2]");
  given->Text("precision", "Of weights and activations: auto, f32, bf16 [auto]");
  given->Count("seed", "Of the order of rows and of the first adapters [0]");
  given->Count("threads", "[all cores]");
  given->Text("name", "What the run is called [the adapter's name]");
  given->Text("project", "What it belongs to");
  given->Texts("tag", "tags", "A tag; may be given more than once");
  command->add_option("--resume", *resume,
                      "Go on with this run from its last checkpoint; nothing else is to be given");
  command->add_option("--show", *show, "Show so many samples with what is learned of them, and stop")
      ->type_name("N");
  command->add_flag("--plan", *plan,
                    "Say what it would take on this machine (tokens, steps, time, memory), and stop");
  command->footer(
      "Frozen weights are those of the file, quantized or not; what is learned is an adapter of a few "
      "megabytes, served as MODEL:OUT. The loss, "
      "the validation's and the machine's figures are a run: headrace watch RUN, headrace runs show RUN. A "
      "run that was killed goes on with "
      "--resume, bit for bit.\n\nExamples:\n  headrace tune smol --data support --prompt question --answer "
      "answer --out support\n  headrace tune "
      "smol --data chats@v3 --messages messages --out tone --epochs 3 --rank 32\n  headrace tune smol --data "
      "chats --messages messages --out tone "
      "--show 3\n  headrace tune --resume 019ade");
  command->callback([=] {
    *action = [=]() -> Status {
      HEADRACE_ASSIGN(const std::string location, context->Location());
      std::vector<std::string> words = {location, given->values().dump()};
      if (!resume->empty()) words.insert(words.end(), {"--resume", *resume});
      if (*show > 0) words.insert(words.end(), {"--show", std::to_string(*show)});
      if (*plan) words.emplace_back("--plan");
      if (context->json) words.emplace_back("--json");
      if (context->quiet) words.emplace_back("--quiet");
      // Threads that wait for each other sleep soon: on a busy machine, spinning ones keep the others from
      // the processor.
      setenv("GOMP_SPINCOUNT", "30000", 0);
      return BecomePython("headrace.tune_loop", words);
    };
  });
}

}  // namespace headrace::cli
