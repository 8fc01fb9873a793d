// delete, update, restore.
#include <unistd.h>

#include <cstdio>
#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "query/query.h"

namespace headrace::cli {
namespace {

struct ChangeWords {
  std::string table, where, why, version;
  std::vector<std::string> set;
  std::vector<int64_t> rows;
  bool all = false;
  bool purge = false;
  bool yes = false;
  bool dry_run = false;
};

Result<table::RowFilter> FilterOf(const ChangeWords& words) {
  const int given = (words.where.empty() ? 0 : 1) + (words.rows.empty() ? 0 : 1) + (words.all ? 1 : 0);
  if (given != 1) return Status::Invalid("say which rows: --where FILTER, --rows ID,ID… or --all");
  if (!words.rows.empty()) return table::RowFilter{"", words.rows};
  return table::RowFilter{words.all ? "true" : words.where};
}

int64_t CountRows(const table::RowSets& rows) {
  int64_t count = 0;
  for (const auto& set : rows) count += set == nullptr ? 0 : set->count();
  return count;
}

std::string Rows(int64_t count) { return HumanCount(count) + (count == 1 ? " row" : " rows"); }

Status PrintDone(const Context& context, const std::string& table, const char* done,
                 const table::CommitResult& result) {
  EndProgress();
  if (context.json) {
    PrintJson(
        {{"table", table}, {"version", result.version}, {"rows", result.rows}, {"bytes", result.bytes}});
  } else if (result.rows == 0) {
    std::printf("No row of '%s' passes; nothing was changed\n", table.c_str());
  } else if (!context.quiet) {
    std::printf("%s of '%s' %s (version %lld); headrace restore %s v%lld brings them back\n",
                Rows(result.rows).c_str(), table.c_str(), done, static_cast<long long>(result.version),
                table.c_str(), static_cast<long long>(result.version - 1));
  }
  return Status::Ok();
}

// Until when the bytes of purged rows can still be read.
Status PrintPurged(const Context& context, const std::string& table, const table::CommitResult& result,
                   const table::Snapshot& before) {
  std::vector<std::string> tags;
  for (const auto& [tag, version] : before.tags) tags.push_back(tag);
  if (context.json) {
    PrintJson({{"table", table},
               {"version", result.version},
               {"rows", result.rows},
               {"reachable_until", result.version - 1},
               {"tags", tags}});
  } else if (result.rows == 0) {
    std::printf("No row of '%s' passes; nothing was changed\n", table.c_str());
  } else if (!context.quiet) {
    std::printf(
        "%s of '%s' are deleted (version %lld). Their bytes can be read in versions up to v%lld until "
        "headrace gc has "
        "erased them, a grace period later\n",
        Rows(result.rows).c_str(), table.c_str(), static_cast<long long>(result.version),
        static_cast<long long>(result.version - 1));
    std::string held;
    for (const auto& tag : tags) held += (held.empty() ? "" : ", ") + tag;
    if (!held.empty())
      std::printf("Tags keep their versions, and the bytes in them, until they are removed: %s\n",
                  held.c_str());
  }
  return Status::Ok();
}

Status RunDelete(const Context& context, const ChangeWords& words) {
  HEADRACE_ASSIGN(const auto filter, FilterOf(words));
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(words.table));
  HEADRACE_ASSIGN(const auto view, opened->At());
  HEADRACE_ASSIGN(const auto rows, table::SelectRows(view, filter, context.stop));
  const int64_t count = CountRows(rows);
  if (words.dry_run) {
    if (context.json) {
      PrintJson({{"table", words.table}, {"rows", count}, {"of", view.snapshot().rows}});
    } else {
      std::printf("%s of %s would go\n", Rows(count).c_str(), HumanCount(view.snapshot().rows).c_str());
    }
    return Status::Ok();
  }
  if (count > 0) {
    HEADRACE_TRY(Confirm(context, words.yes,
                         "delete " + Rows(count) + " of " + HumanCount(view.snapshot().rows) + " from '" +
                             words.table + "'" +
                             (words.purge ? ", for ever, with every earlier version" : "")));
  }
  HEADRACE_ASSIGN(const auto done, opened->Delete(filter, context.Commit(words.why), words.purge));
  return words.purge ? PrintPurged(context, words.table, done, view.snapshot())
                     : PrintDone(context, words.table, "are deleted", done);
}

// "label = 'cat'" taken apart at its first equals sign.
Result<std::vector<query::Assignment>> Assignments(const std::vector<std::string>& words) {
  std::vector<query::Assignment> set;
  for (const auto& word : words) {
    const size_t equals = word.find('=');
    std::string column = word.substr(0, equals);
    while (!column.empty() && column.back() == ' ') column.pop_back();
    while (!column.empty() && column.front() == ' ') column.erase(0, 1);
    if (equals == std::string::npos || column.empty()) {
      return Status::Invalid("--set \"" + word +
                             "\" is not COLUMN=EXPRESSION, such as \"score = score * 2\"");
    }
    if (column.size() > 1 && column.front() == '"' && column.back() == '"')
      column = column.substr(1, column.size() - 2);
    set.push_back({column, word.substr(equals + 1)});
  }
  return set;
}

Status RunUpdate(const Context& context, const ChangeWords& words) {
  HEADRACE_ASSIGN(const auto set, Assignments(words.set));
  if (words.where.empty() && !words.all) return Status::Invalid("say which rows: --where FILTER, or --all");
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto engine, query::SqlEngine::Open(catalog));
  auto commit = context.Commit(words.why);
  commit.progress = ProgressLine(context.quiet || context.json);
  HEADRACE_ASSIGN(const auto done,
                  query::Update(catalog.get(), engine.get(), set, words.where, words.table, commit));
  return PrintDone(context, words.table, "are changed", done);
}

// What `compact` would do to the newest version.
Status ShowCompaction(const Context& context, const std::string& name, const table::Table& opened) {
  HEADRACE_ASSIGN(const auto view, opened.At());
  HEADRACE_ASSIGN(const auto fragments, view.Fragments());
  int64_t replaced = 0, made = 0, rows = 0;
  for (const auto& group : table::PlanCompaction(view.schema(), *fragments, {})) {
    replaced += static_cast<int64_t>(group.end - group.begin);
    made += group.empty ? 0 : 1;
    rows += table::RowsOf(*fragments, group);
  }
  if (context.json) {
    PrintJson({{"table", name},
               {"fragments", fragments->size()},
               {"replaced", replaced},
               {"written", made},
               {"rows", rows}});
  } else if (replaced == 0) {
    std::printf("'%s' is compact: nothing would be written\n", name.c_str());
  } else {
    std::printf("%s of %s fragments would become %s (%s)\n", HumanCount(replaced).c_str(),
                HumanCount(static_cast<int64_t>(fragments->size())).c_str(), HumanCount(made).c_str(),
                Rows(rows).c_str());
  }
  return Status::Ok();
}

Status RunCompact(const Context& context, const ChangeWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(words.table));
  if (words.dry_run) return ShowCompaction(context, words.table, *opened);
  HEADRACE_ASSIGN(const auto done, opened->Compact({}, context.Commit(words.why)));
  EndProgress();
  if (context.json) {
    PrintJson({{"table", words.table},
               {"version", done.version},
               {"commits", done.commits},
               {"replaced", done.replaced},
               {"fragments", done.fragments},
               {"rows", done.rows},
               {"bytes", done.bytes}});
  } else if (done.commits == 0) {
    std::printf("'%s' is compact: nothing was written\n", words.table.c_str());
  } else if (!context.quiet) {
    std::printf("%s fragments of '%s' became %s: %s, %s written (version %lld)\n",
                HumanCount(done.replaced).c_str(), words.table.c_str(), HumanCount(done.fragments).c_str(),
                Rows(done.rows).c_str(), HumanBytes(done.bytes).c_str(),
                static_cast<long long>(done.version));
  }
  return Status::Ok();
}

Status RunRestore(const Context& context, const ChangeWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(words.table));
  HEADRACE_ASSIGN(const auto now, opened->At());
  HEADRACE_ASSIGN(const auto then, opened->At(words.version));
  const std::string version = "version " + std::to_string(then.snapshot().version);
  HEADRACE_TRY(Confirm(context, words.yes,
                       "give '" + words.table + "' the " + Rows(then.snapshot().rows) + " of " + version +
                           " in place of its " + HumanCount(now.snapshot().rows)));
  HEADRACE_ASSIGN(const auto done, opened->Restore(words.version, context.Commit(words.why)));
  if (context.json) {
    PrintJson({{"table", words.table}, {"version", done.version}, {"restored", then.snapshot().version}});
  } else if (!context.quiet) {
    std::printf("'%s' is as it was at %s (now version %lld)\n", words.table.c_str(), version.c_str(),
                static_cast<long long>(done.version));
  }
  return Status::Ok();
}

}  // namespace

Status Confirm(const Context& context, bool yes, const std::string& what) {
  if (yes || context.json) return Status::Ok();
  if (!StdoutIsTerminal() || isatty(STDIN_FILENO) == 0) {
    return Status::Invalid("this would " + what + "; say --yes to do it without a question");
  }
  std::printf("This will %s. Go on? [y/N] ", what.c_str());
  std::fflush(stdout);
  std::string answer;
  HEADRACE_ASSIGN(const LineRead read, ReadLine(&answer, context.stop));
  if (read != LineRead::kLine || (answer != "y" && answer != "Y" && answer != "yes")) {
    return Status::Cancelled();
  }
  return Status::Ok();
}

void AddDelete(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("delete", "Delete rows of a table");
  auto words = std::make_shared<ChangeWords>();
  command->add_option("table", words->table, "The table")->required();
  command->add_option("--where", words->where, "The rows that go: a filter, such as \"lang = 'en'\"");
  command->add_option("--rows", words->rows, "The rows that go, by id: 17,18")->delimiter(',');
  command->add_flag("--all", words->all, "Every row goes");
  command->add_flag(
      "--purge", words->purge,
      "Their bytes go too: the next headrace gc erases them, and lets go of every earlier version");
  command->add_flag("-n,--dry-run", words->dry_run, "Only say how many rows would go");
  command->add_flag("-y,--yes", words->yes, "Do not ask");
  command->add_option("-m,--why", words->why, "A note for the table's log");
  command->footer(
      "Earlier versions keep the rows, and `headrace restore` brings them back. Ids of deleted rows are "
      "never given "
      "again.\n\nExamples:\n  headrace delete photos --where \"image.width < 64\" --dry-run\n"
      "  headrace delete photos --rows 17,18 -m \"asked to be forgotten\"");
  command->callback([=] { *action = [=] { return RunDelete(*context, *words); }; });
}

void AddUpdate(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("update", "Give rows of a table new values");
  auto words = std::make_shared<ChangeWords>();
  command->add_option("table", words->table, "The table")->required();
  command
      ->add_option("--set", words->set,
                   "COLUMN=EXPRESSION, SQL over its columns; may be given more than once")
      ->required();
  command->add_option("--where", words->where, "The rows that change: a filter");
  command->add_flag("--all", words->all, "Every row changes");
  command->add_option("-m,--why", words->why, "A note for the table's log");
  command->footer(
      "Only the columns that change are written, and of few rows only these.\n\nExamples:\n"
      "  headrace update captions --set \"lang='de'\" --where \"path like 'de/%'\"\n"
      "  headrace update captions --set \"score = score / 100\" --all");
  command->callback([=] { *action = [=] { return RunUpdate(*context, *words); }; });
}

void AddRestore(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("restore", "Bring a table back to an earlier version");
  auto words = std::make_shared<ChangeWords>();
  command->add_option("table", words->table, "The table")->required();
  command->add_option("version", words->version, "A version, tag or time: v7, golden, 2026-11-22T08:00")
      ->required();
  command->add_flag("-y,--yes", words->yes, "Do not ask");
  command->add_option("-m,--why", words->why, "A note for the table's log");
  command->footer(
      "This is a new version: those in between stay, and can be restored too.\n\nExamples:\n"
      "  headrace restore photos v7");
  command->callback([=] { *action = [=] { return RunRestore(*context, *words); }; });
}

void AddCompact(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("compact", "Write a table's small fragments into larger ones");
  auto words = std::make_shared<ChangeWords>();
  command->add_option("table", words->table, "The table")->required();
  command->add_flag("-n,--dry-run", words->dry_run, "Only say what would be written");
  command->add_option("-m,--why", words->why, "A note for the table's log");
  command->footer(
      "Updates and deletes go into the files too, and rows are sorted where the table has a key (headrace "
      "sort). Rows and their ids stay; earlier versions keep their files.\n\nExamples:\n  headrace compact "
      "traces\n  headrace compact photos --dry-run");
  command->callback([=] { *action = [=] { return RunCompact(*context, *words); }; });
}

}  // namespace headrace::cli
