// du: where the bytes of a catalog and of a table lie.
#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/storage_report.h"
#include "table/storage.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;

std::string Bytes(const table::Amount& amount) { return HumanBytes(static_cast<double>(amount.bytes)); }

table::Amount Total(const table::Storage& storage) {
  table::Amount total;
  for (const auto* part :
       {&storage.newest, &storage.older, &storage.history, &storage.derived, &storage.unnamed}) {
    total.objects += part->objects;
    total.bytes += part->bytes;
  }
  return total;
}

ordered_json AmountJson(const table::Amount& amount) {
  return {{"objects", amount.objects}, {"bytes", amount.bytes}};
}

ordered_json DuJson(const std::string& name, const table::Storage& storage) {
  return {{"table", name},
          {"version", storage.version},
          {"total", AmountJson(Total(storage))},
          {"newest", AmountJson(storage.newest)},
          {"older", AmountJson(storage.older)},
          {"history", AmountJson(storage.history)},
          {"derived", AmountJson(storage.derived)},
          {"unnamed", AmountJson(storage.unnamed)}};
}

Status DuCatalog(const Context& context) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto names, catalog->TableNames());
  std::vector<std::vector<std::string>> rows = {
      {"table", "total", "newest version", "only older ones", "history", "derived", "by none"}};
  for (const auto& name : names) {
    HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(name));
    HEADRACE_ASSIGN(const auto storage, table::MeasureStorage(*opened, context.stop));
    if (context.json) PrintJson(DuJson(name, storage));
    rows.push_back({name, Bytes(Total(storage)), Bytes(storage.newest), Bytes(storage.older),
                    Bytes(storage.history), Bytes(storage.derived), Bytes(storage.unnamed)});
  }
  HEADRACE_ASSIGN(const auto beside, table::MeasureBeside(*catalog, context.stop));
  if (context.json) {
    PrintJson({{"dropped", AmountJson(beside.dropped)},
               {"models", AmountJson(beside.models)},
               {"artifacts", AmountJson(beside.artifacts)}});
    return Status::Ok();
  }
  if (beside.dropped.objects > 0) rows.push_back({"(dropped tables)", Bytes(beside.dropped)});
  if (beside.models.objects > 0) rows.push_back({"(models)", Bytes(beside.models)});
  if (beside.artifacts.objects > 0) rows.push_back({"(artifacts of runs)", Bytes(beside.artifacts)});
  PrintAligned(rows, 1, 7);
  return Status::Ok();
}

// Versions whose expiry frees bytes, and those that have tags; the newest `limit` of them.
void PrintVersions(const table::Storage& storage, int64_t limit) {
  std::vector<std::vector<std::string>> rows;
  int64_t freed = 0;
  for (const auto& version : storage.versions) {
    if (version.version == storage.version) break;  // the newest stays
    freed += version.last.bytes;
    if (version.last.objects == 0 && version.tags.empty()) continue;
    std::string label = std::to_string(version.version);
    for (const auto& tag : version.tags) label += " [" + tag + "]";
    rows.push_back({label, ShortTime(version.time_us), table::OperationName(version.operation.kind),
                    Bytes(version.last), HumanBytes(static_cast<double>(freed))});
  }
  if (rows.empty()) return;
  const size_t skipped =
      limit >= 0 && static_cast<int64_t>(rows.size()) > limit ? rows.size() - static_cast<size_t>(limit) : 0;
  rows.erase(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(skipped));
  rows.insert(rows.begin(), {"version", "time (UTC)", "what", "used last by it", "frees with all before"});
  std::printf("\n");
  PrintAligned(rows, 3, 5);
}

Status DuTable(const Context& context, const std::string& name, int64_t limit) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(name));
  HEADRACE_ASSIGN(const auto storage, table::MeasureStorage(*opened, context.stop));
  if (context.json) {
    ordered_json json = DuJson(name, storage);
    json["storage"] = ColumnsJson(storage.newest_columns);
    json["versions"] = ordered_json::array();
    for (const auto& version : storage.versions) {
      json["versions"].push_back({{"version", version.version},
                                  {"time", FormatMicros(version.time_us)},
                                  {"kind", table::OperationName(version.operation.kind)},
                                  {"written", version.operation.bytes},
                                  {"tags", version.tags},
                                  {"used_last", AmountJson(version.last)}});
    }
    PrintJson(json);
    return Status::Ok();
  }
  const table::Amount total = Total(storage);
  std::printf("%s: %s in %s objects\n", name.c_str(), Bytes(total).c_str(),
              HumanCount(total.objects).c_str());
  std::vector<std::vector<std::string>> parts = {{"held by", "bytes", "objects", ""}};
  const auto part = [&](const char* what, const table::Amount& amount, const std::string& why) {
    if (amount.objects > 0) parts.push_back({what, Bytes(amount), HumanCount(amount.objects), why});
  };
  part("the newest version", storage.newest, "version " + std::to_string(storage.version));
  part("older versions only", storage.older, "what expiring them frees");
  part("history", storage.history, "snapshots");
  part("derived", storage.derived, "selections of streams, locks; made again where needed");
  part("no version", storage.unnamed, "being written just now, or left behind");
  PrintAligned(parts, 1, 3);
  std::printf("\n");
  PrintColumns(storage.newest_columns, storage.rows);
  PrintVersions(storage, limit);
  return Status::Ok();
}

}  // namespace

void AddDu(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("du", "Where the bytes lie: by column, by version, and of no version");
  auto name = std::make_shared<std::string>();
  auto limit = std::make_shared<int64_t>(20);
  command->add_option("table", *name, "The table (default: a line for each)");
  command->add_option("-n", *limit, "Newest versions to show; -1 for all")->capture_default_str();
  command->footer("Examples:\n  headrace du\n  headrace du photos\n  headrace du photos --json");
  command->callback([=] {
    *action = [=] { return name->empty() ? DuCatalog(*context) : DuTable(*context, *name, *limit); };
  });
}

}  // namespace headrace::cli
