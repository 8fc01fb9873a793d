// The commands of the `headrace` program. Each registers itself with its help, and runs when it is the one
// named.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <memory>
#include <string>

#include "base/cancel.h"
#include "table/catalog.h"

namespace headrace::cli {

struct Context {
  std::string catalog;  // --catalog
  bool json = false;
  bool quiet = false;
  StopToken stop;
  std::string command_line;  // for the log
  int exit_code = 0;         // where a command that succeeded ends with another

  // --catalog, else HEADRACE_CATALOG, else the nearest .headrace/ upwards.
  Result<std::string> Location() const;
  Result<std::shared_ptr<table::Catalog>> Open() const;
  table::CommitOptions Commit(const std::string& why) const;
};

// On a terminal: whether the person means it. In a pipe the words of the command are enough only with --yes.
Status Confirm(const Context& context, bool yes, const std::string& what);

// What the chosen command does, set by its callback and run after parsing.
using Action = std::function<Status()>;

void AddInit(CLI::App* app, Context* context, Action* action);
void AddIngest(CLI::App* app, Context* context, Action* action);
void AddLs(CLI::App* app, Context* context, Action* action);
void AddDescribe(CLI::App* app, Context* context, Action* action);
void AddLog(CLI::App* app, Context* context, Action* action);
void AddDiff(CLI::App* app, Context* context, Action* action);
void AddDu(CLI::App* app, Context* context, Action* action);
void AddSql(CLI::App* app, Context* context, Action* action);
void AddHead(CLI::App* app, Context* context, Action* action);
void AddGet(CLI::App* app, Context* context, Action* action);
void AddTag(CLI::App* app, Context* context, Action* action);
void AddAddColumns(CLI::App* app, Context* context, Action* action);
void AddDrop(CLI::App* app, Context* context, Action* action);
void AddRename(CLI::App* app, Context* context, Action* action);
void AddWiden(CLI::App* app, Context* context, Action* action);
void AddDelete(CLI::App* app, Context* context, Action* action);
void AddUpdate(CLI::App* app, Context* context, Action* action);
void AddRestore(CLI::App* app, Context* context, Action* action);
void AddCompact(CLI::App* app, Context* context, Action* action);
void AddSort(CLI::App* app, Context* context, Action* action);
void AddWriters(CLI::App* app, Context* context, Action* action);
void AddKeep(CLI::App* app, Context* context, Action* action);
void AddGc(CLI::App* app, Context* context, Action* action);
void AddVerify(CLI::App* app, Context* context, Action* action);
void AddRepair(CLI::App* app, Context* context, Action* action);
void AddStream(CLI::App* app, Context* context, Action* action);
void AddScore(CLI::App* app, Context* context, Action* action);
void AddQueue(CLI::App* app, Context* context, Action* action);
void AddLabel(CLI::App* app, Context* context, Action* action);
// In builds with the engine.
void AddModel(CLI::App* app, Context* context, Action* action);
void AddRun(CLI::App* app, Context* context, Action* action);
void AddChat(CLI::App* app, Context* context, Action* action);
void AddEmbed(CLI::App* app, Context* context, Action* action);
void AddServe(CLI::App* app, Context* context, Action* action);
void AddTop(CLI::App* app, Context* context, Action* action);
void AddRuns(CLI::App* app, Context* context, Action* action);
void AddTune(CLI::App* app, Context* context, Action* action);
void AddTrack(CLI::App* app, Context* context, Action* action);
void AddWatch(CLI::App* app, Context* context, Action* action);
void AddKey(CLI::App* app, Context* context, Action* action);
void AddTrace(CLI::App* app, Context* context, Action* action);
void AddRunsImport(CLI::App* app, Context* context, Action* action);

}  // namespace headrace::cli
