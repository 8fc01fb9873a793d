// drop, rename.
#include <cstdio>

#include "cli/commands.h"

namespace headrace::cli {

void AddDrop(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("drop", "Take a table's name away, or a column of a table");
  auto table = std::make_shared<std::string>();
  auto column = std::make_shared<std::string>();
  auto why = std::make_shared<std::string>();
  command->add_option("table", *table, "The table")->required();
  command->add_option("column", *column, "A column (default: the whole table)");
  command->add_option("-m,--why", *why, "A note for the log");
  command->footer(
      "Older versions keep dropped columns: photos@v3. The files of a dropped table stay until they are "
      "collected.\n\nExamples:\n  headrace drop photos caption\n  headrace drop photos");
  command->callback([=] {
    *action = [=]() -> Status {
      HEADRACE_ASSIGN(const auto catalog, context->Open());
      const auto options = context->Commit(*why);
      if (column->empty()) return catalog->DropTable(*table, options);
      HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(*table));
      return opened->DropColumn(*column, options).status();
    };
  });
}

void AddRename(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("rename", "Rename a column of a table");
  auto table = std::make_shared<std::string>();
  auto from = std::make_shared<std::string>();
  auto to = std::make_shared<std::string>();
  auto why = std::make_shared<std::string>();
  command->add_option("table", *table, "The table")->required();
  command->add_option("from", *from, "The column's name")->required();
  command->add_option("to", *to, "Its new name")->required();
  command->add_option("-m,--why", *why, "A note for the table's log");
  command->footer("Examples:\n  headrace rename photos text caption");
  command->callback([=] {
    *action = [=]() -> Status {
      HEADRACE_ASSIGN(const auto catalog, context->Open());
      HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(*table));
      return opened->RenameColumn(*from, *to, context->Commit(*why)).status();
    };
  });
}

}  // namespace headrace::cli
