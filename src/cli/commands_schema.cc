// add-columns, drop, rename, widen.
#include <algorithm>
#include <cstdio>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/python.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "query/query.h"
#include "table/default_value.h"

namespace headrace::cli {
namespace {

struct AddColumnsWords {
  std::string table, expressions, from, why;
  std::vector<std::string> inputs;
  std::vector<std::string> types, defaults;  // NAME=TYPE, NAME=VALUE
};

// "NAME=REST" as its two parts.
Result<std::pair<std::string, std::string>> NameAnd(const std::string& rest, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    return Status::Invalid("'" + text + "' is not NAME=" + rest);
  return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

// Columns without data, from --type and --default.
Result<std::vector<table::Field>> EmptyColumns(const AddColumnsWords& words) {
  std::vector<table::Field> fields;
  for (const auto& text : words.types) {
    HEADRACE_ASSIGN(const auto named, NameAnd("TYPE", text));
    table::Field field;
    field.name = named.first;
    HEADRACE_ASSIGN(field.type, table::ParseType(named.second));
    fields.push_back(std::move(field));
  }
  for (const auto& text : words.defaults) {
    HEADRACE_ASSIGN(const auto named, NameAnd("VALUE", text));
    const auto field = std::find_if(fields.begin(), fields.end(),
                                    [&](const table::Field& each) { return each.name == named.first; });
    if (field == fields.end())
      return Status::Invalid("--default " + text + " needs --type " + named.first + "=TYPE");
    field->has_default = true;
    field->default_value = named.second;
    HEADRACE_ASSIGN(const auto value, table::DefaultOf(*field));
    HEADRACE_TRY(table::SetDefault(*value, &*field));
  }
  return fields;
}

Status RunPython(const Context& context, const AddColumnsWords& words) {
  HEADRACE_ASSIGN(const std::string location, context.Location());
  std::vector<std::string> line = {"--catalog", location,  "--inputs",  "",
                                   "--why",     words.why, words.table, words.from};
  for (const std::string& input : words.inputs) line[3] += (line[3].empty() ? "" : ",") + input;
  if (context.json) line.insert(line.begin(), "--json");
  return BecomePython("headrace.columns", line);
}

Status PrintAdded(const Context& context, const AddColumnsWords& words, const table::CommitResult& done) {
  if (context.json) {
    PrintJson(
        {{"table", words.table}, {"version", done.version}, {"rows", done.rows}, {"bytes", done.bytes}});
  } else if (!context.quiet) {
    std::printf("%s rows of '%s' have them (version %lld)\n", HumanCount(done.rows).c_str(),
                words.table.c_str(), static_cast<long long>(done.version));
  }
  return Status::Ok();
}

Status RunAddColumns(const Context& context, const AddColumnsWords& words) {
  if (!words.types.empty() || !words.defaults.empty()) {
    if (!words.from.empty() || !words.expressions.empty())
      return Status::Invalid("--type is for columns without data; expressions and functions give theirs");
    HEADRACE_ASSIGN(auto fields, EmptyColumns(words));
    HEADRACE_ASSIGN(const auto catalog, context.Open());
    HEADRACE_ASSIGN(const auto table, catalog->OpenTable(words.table));
    const size_t count = fields.size();
    HEADRACE_ASSIGN(const auto done, table->AddEmptyColumns(std::move(fields), context.Commit(words.why)));
    if (context.json) {
      PrintJson({{"table", words.table}, {"version", done.version}});
    } else if (!context.quiet) {
      std::printf("'%s' has %zu more column%s (version %lld)\n", words.table.c_str(), count,
                  count == 1 ? "" : "s", static_cast<long long>(done.version));
    }
    return Status::Ok();
  }
  if (words.from.empty() == words.expressions.empty())
    return Status::Invalid("give SQL expressions, --from file.py:function, or --type NAME=TYPE");
  if (!words.from.empty() && words.inputs.empty())
    return Status::Invalid("a function needs --inputs: the columns that it reads");
  if (!words.from.empty()) return RunPython(context, words);
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto engine, query::SqlEngine::Open(catalog));
  auto commit = context.Commit(words.why);
  commit.progress = ProgressLine(context.quiet || context.json);
  HEADRACE_ASSIGN(const auto done,
                  query::AddColumns(catalog.get(), engine.get(), words.expressions, words.table, commit));
  EndProgress();
  return PrintAdded(context, words, done);
}

}  // namespace

void AddAddColumns(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("add-columns", "Add columns to a table, from SQL or a Python function");
  auto words = std::make_shared<AddColumnsWords>();
  command->add_option("table", words->table, "The table")->required();
  command->add_option(
      "expressions", words->expressions,
      "SQL expressions over its columns, with names: \"image.width * image.height as pixels\"");
  command->add_option("--from", words->from,
                      "file.py:function; it gets a headrace.Batch of --inputs and gives a dict of columns");
  command->add_option("--inputs", words->inputs, "With --from: the columns that the function reads")
      ->delimiter(',');
  command
      ->add_option("--type", words->types,
                   "NAME=TYPE: a column without data, such as stars=int8; may be given more than once")
      ->allow_extra_args(false);
  command->add_option("--default", words->defaults, "NAME=VALUE: what its rows read as (default: null)")
      ->allow_extra_args(false);
  command->add_option("-m,--why", words->why, "A note for the table's log");
  command->footer(
      "Only the new columns are written. Of a column that is there, rows without a value are filled. Python "
      "is `python3`, or HEADRACE_PYTHON.\n\n"
      "Examples:\n  headrace add-columns photos \"image.width * image.height as pixels\"\n"
      "  headrace add-columns photos --from features.py:brightness --inputs image\n"
      "  headrace add-columns photos --type stars=int8 --default stars=3");
  command->callback([=] { *action = [=] { return RunAddColumns(*context, *words); }; });
}

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

void AddWiden(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("widen", "Give a column a wider type: int32 becomes int64");
  auto table = std::make_shared<std::string>();
  auto column = std::make_shared<std::string>();
  auto type = std::make_shared<std::string>();
  auto why = std::make_shared<std::string>();
  command->add_option("table", *table, "The table")->required();
  command->add_option("column", *column, "The column")->required();
  command->add_option("type", *type, "Its new type: int64, float64, \"decimal(20, 2)\", \"list<int64>\"")
      ->required();
  command->add_option("-m,--why", *why, "A note for the table's log");
  command->footer(
      "No value is written, and older versions read as they were.\n\nExamples:\n  headrace widen photos "
      "likes int64");
  command->callback([=] {
    *action = [=]() -> Status {
      HEADRACE_ASSIGN(const auto catalog, context->Open());
      HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(*table));
      return opened->WidenColumn(*column, *type, context->Commit(*why)).status();
    };
  });
}

}  // namespace headrace::cli
