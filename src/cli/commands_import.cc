#include <memory>

#include "cli/commands.h"
#include "cli/python.h"

namespace headrace::cli {

void AddRunsImport(CLI::App* app, Context* context, Action* action) {
  const auto there = app->get_subcommands([](const CLI::App* one) { return one->get_name() == "runs"; });
  CLI::App* runs =
      there.empty() ? app->add_subcommand("runs", "Runs of programs")->require_subcommand(1) : there.front();
  auto path = std::make_shared<std::string>();
  CLI::App* command = runs->add_subcommand("import", "Take in the runs of TensorBoard, W&B or MLflow");
  command->add_option("path", *path, "A file of theirs, or a folder that holds some")->required();
  command->footer(
      "TensorBoard's event files, W&B's offline folders, MLflow's database (SQLite). A run is imported once. "
      "Nothing of the trackers has to be installed; Python is `python3`, or HEADRACE_PYTHON.\n\n"
      "Examples:\n  headrace runs import lightning_logs\n  headrace runs import mlflow.db");
  command->callback([=] {
    *action = [=]() -> Status {
      std::vector<std::string> words = {*path};
      if (context->json) words.emplace_back("--json");
      // Without one that is named or found, there is a new one.
      if (const auto location = context->Location(); location.ok()) {
        words.insert(words.end(), {"--catalog", *location});
      }
      return BecomePython("headrace.importers", words);
    };
  });
}

}  // namespace headrace::cli
