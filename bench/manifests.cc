// Makes a table of very many fragments (entries only: a plan reads no data), and plans a pruned scan of it.
//   bench_manifests make FOLDER FRAGMENTS COMMITS      bench_manifests plan FOLDER
#include <sys/resource.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "base/clock.h"
#include "table/catalog.h"
#include "table/commit.h"

using namespace headrace;         // NOLINT: a program, not a header
using namespace headrace::table;  // NOLINT: likewise

namespace {

void Must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

// 50 columns in 10 files, each with statistics.
Fragment MakeEntry(const Schema& schema, int64_t number) {
  Fragment entry;
  entry.rows = 1000;
  for (int f = 0; f < 10; ++f) {
    ColumnGroup group{FileKind::kParquet, {}};
    for (int c = 0; c < 5; ++c) group.fields.push_back(schema.fields[static_cast<size_t>(f * 5 + c)].id);
    entry.files.push_back({Uuid::Random(), 40'000, std::make_shared<const ColumnGroup>(group)});
  }
  for (const auto& field : schema.fields) {
    entry.stats[field.id] = FieldStats{number * 1000, number * 1000 + 999, 0, 1000, false};
  }
  return entry;
}

void Make(const std::string& folder, int64_t fragments, int64_t commits) {
  auto catalog = Catalog::Init(folder, {.sync = false});
  Must(catalog.status());
  Schema schema;
  for (int i = 0; i < 50; ++i) {
    Field field;
    field.name = "c" + std::to_string(i);
    schema.fields.push_back(field);
  }
  auto table = (*catalog)->CreateTable("t", schema);
  Must(table.status());
  SnapshotLog log((*catalog)->environment(), (*table)->prefix());
  int64_t number = 0;
  const auto commit = [&](int64_t count) {
    AppendRows append;
    auto view = (*table)->At();
    Must(view.status());
    for (int64_t i = 0; i < count; ++i) append.fragments.push_back(MakeEntry(view->schema(), number++));
    Must(log.Commit({append, {.who = "bench"}, {}, {}}, {}).status());
  };
  for (int64_t left = fragments - commits; left > 0; left -= 10'000) commit(std::min<int64_t>(left, 10'000));
  for (int64_t i = 0; i < commits; ++i) commit(1);
}

void Plan(const std::string& folder) {
  const double start = MonotonicSeconds();
  auto catalog = Catalog::Open(folder);
  Must(catalog.status());
  auto table = (*catalog)->OpenTable("t");
  Must(table.status());
  auto view = (*table)->At();
  Must(view.status());
  const int64_t middle = view->snapshot().rows / 2;
  ScanOptions options;
  options.columns = {"c0", "c7"};
  options.where = "c3 between " + std::to_string(middle) + " and " + std::to_string(middle + 5000);
  auto plan = view->Plan(options);
  Must(plan.status());
  const double seconds = MonotonicSeconds() - start;
  std::ifstream status("/proc/self/status");
  long anonymous = 0;
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM", 0) == 0) anonymous = std::stol(line.substr(6));
  }
  std::printf("{\"seconds\": %f, \"peak_mb\": %f, \"fragments\": %ld, \"of\": %ld}\n", seconds,
              static_cast<double>(anonymous) / 1000, static_cast<long>(plan->fragments),
              static_cast<long>(plan->fragments_total));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 2 ? argv[1] : "";
  if (command == "make" && argc == 5) {
    Make(argv[2], std::stoll(argv[3]), std::stoll(argv[4]));
  } else if (command == "plan") {
    Plan(argv[2]);
  } else {
    std::fprintf(stderr, "usage: bench_manifests make FOLDER FRAGMENTS COMMITS | plan FOLDER\n");
    return 2;
  }
  return 0;
}
