// keep, gc, verify, repair.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>

#include "base/duration.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/terminal.h"

namespace headrace::cli {
namespace {

using Json = nlohmann::ordered_json;

// Readers and writers that began within this time are not protected by a lease yet.
constexpr int64_t kSafeGraceUs = int64_t{600} * 1'000'000;

struct KeepWords {
  std::string table, keep, why;
};

bool IsForEver(const std::string& text) {
  return text == "forever" || text == "for ever" || text == "all" || text == "always";
}

Result<int64_t> KeepOf(const std::string& text) {
  if (IsForEver(text)) return int64_t{0};
  auto keep = ParseDuration(text);
  if (!keep.ok()) return keep.status().Wrap("say how long versions are kept, such as 30d, or forever");
  return std::max<int64_t>(1, *keep);  // the newest version alone
}

std::string Kept(int64_t keep_us) {
  if (keep_us == 0) return "all its versions";
  if (keep_us == 1) return "its newest version, and those with tags";
  return "its versions for " + FormatDuration(keep_us) + ", and those with tags";
}

Status RunKeep(const Context& context, const KeepWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable(words.table));
  HEADRACE_ASSIGN(const auto view, table->At());
  int64_t keep_us = view.snapshot().keep_us;
  int64_t version = view.snapshot().version;
  if (!words.keep.empty()) {
    HEADRACE_ASSIGN(keep_us, KeepOf(words.keep));
    HEADRACE_ASSIGN(const auto done, table->SetRetention(keep_us, context.Commit(words.why)));
    version = done.version;
  }
  if (context.json) {
    const Json seconds = keep_us == 0 ? Json() : Json(static_cast<double>(keep_us) / 1e6);
    PrintJson({{"table", words.table}, {"keep_seconds", seconds}, {"version", version}});
  } else if (words.keep.empty() || !context.quiet) {
    std::printf("'%s' keeps %s%s\n", words.table.c_str(), Kept(keep_us).c_str(),
                keep_us == 0 || words.keep.empty() ? "" : "; headrace gc lets go of the others");
  }
  return Status::Ok();
}

struct GcWords {
  std::vector<std::string> tables;
  std::string keep, grace = "1d";
  bool keep_tagged = false;
  bool dry_run = false;
  bool yes = false;
};

std::string Versions(int64_t count) { return HumanCount(count) + (count == 1 ? " version" : " versions"); }
std::string Files(int64_t count) { return HumanCount(count) + (count == 1 ? " file" : " files"); }

std::string Describe(const table::Holder& holder, const table::CollectReport& report) {
  using Kind = table::Holder::Kind;
  switch (holder.kind) {
    case Kind::kNewest:
      return "the newest version";
    case Kind::kRetention:
      if (report.keep_us == 0) return Versions(holder.versions) + " before it: all are kept";
      if (report.keep_us == 1) return "the version that was the newest when this began";
      return Versions(holder.versions) + " of the last " + FormatDuration(report.keep_us);
    case Kind::kTag:
      return "tag '" + holder.name + "' (v" + std::to_string(holder.version) + ")";
    case Kind::kLease:
      return "in use by " + holder.name +
             (holder.version > 0 ? " (v" + std::to_string(holder.version) + ")" : "");
    case Kind::kGrace:
      break;
  }
  return "nothing, once the grace period is over";
}

Json ToJson(const table::CollectReport& report, bool dry_run) {
  if (report.table.empty())  // of no table: what programs that died had half put
    return {{"table", nullptr}, {"dry_run", dry_run}, {"uploads", report.deleted.objects}};
  const auto count = [](const table::ObjectCount& c) {
    return Json{{"files", c.objects}, {"bytes", c.bytes}};
  };
  Json holders = Json::array();
  for (const auto& holder : report.holders) {
    Json one = {{"by", table::HolderName(holder.kind)}};
    if (!holder.name.empty()) one["name"] = holder.name;
    if (holder.version > 0) one["version"] = holder.version;
    one["versions"] = holder.versions;
    one.update(count(holder.held));
    holders.push_back(std::move(one));
  }
  Json out = {{"table", report.table},     {"dropped", report.dropped},
              {"dry_run", dry_run},        {"version", report.version},
              {"expired", report.expired}, {"deleted", count(report.deleted)},
              {"stubs", report.stubs},     {"erased", report.erased},
              {"held", holders},           {"unknown", count(report.unknown)},
              {"damaged", report.damaged}};
  return out;
}

void Print(const table::CollectReport& report, bool dry_run) {
  const char* table = report.table.c_str();
  if (report.table.empty()) {
    const int64_t uploads = report.deleted.objects;
    std::printf("%s left half done by programs that died: %s\n",
                (HumanCount(uploads) + (uploads == 1 ? " upload" : " uploads")).c_str(),
                dry_run ? "would be removed" : "removed");
    return;
  }
  if (report.dropped) {
    if (report.deleted.objects > 0) {
      std::printf("%s (dropped): %s, %s %s\n", table, Files(report.deleted.objects).c_str(),
                  HumanBytes(static_cast<double>(report.deleted.bytes)).c_str(),
                  dry_run ? "would be deleted" : "deleted");
    }
    for (const auto& holder : report.holders) {
      std::printf("%s (dropped): %s held by %s\n", table,
                  HumanBytes(static_cast<double>(holder.held.bytes)).c_str(),
                  Describe(holder, report).c_str());
    }
    return;
  }
  if (report.erased > 0) {
    std::printf(
        "%s: rows deleted with --purge %s erased from the newest version; their older files go with the "
        "versions "
        "before it\n",
        table, dry_run ? "would be" : "are");
  }
  std::printf("%s: %s %s; %s, %s %s\n", table, Versions(report.expired).c_str(),
              dry_run ? "would expire" : (report.expired == 1 ? "expires" : "expire"),
              Files(report.deleted.objects).c_str(),
              HumanBytes(static_cast<double>(report.deleted.bytes)).c_str(),
              dry_run ? "would be deleted" : "deleted");
  for (const auto& holder : report.holders) {
    std::printf("  %10s  %12s  held by %s\n", HumanBytes(static_cast<double>(holder.held.bytes)).c_str(),
                Files(holder.held.objects).c_str(), Describe(holder, report).c_str());
  }
  if (report.unknown.objects > 0) {
    std::printf("  %10s  %12s  not Headrace's, or a newer one's: left alone\n",
                HumanBytes(static_cast<double>(report.unknown.bytes)).c_str(),
                Files(report.unknown.objects).c_str());
  }
}

// What the words may do to readers and writers, asked once.
Status ConfirmGc(const Context& context, const GcWords& words, const table::CollectOptions& collect) {
  std::string what;
  if (collect.keep_us.value_or(0) > 0)
    what = "let go of all versions but " +
           (*collect.keep_us == 1 ? std::string("the newest")
                                  : "those of the last " + FormatDuration(*collect.keep_us)) +
           " and those with tags";
  if (collect.grace_us < kSafeGraceUs) {
    what += (what.empty() ? "delete" : ", and delete") +
            std::string(" files at once: reads of older versions, and ") +
            "writes, that began within the last " + FormatDuration(kSafeGraceUs) + " may fail";
  }
  if (what.empty() || collect.dry_run) return Status::Ok();
  return Confirm(context, words.yes, what);
}

Status RunGc(const Context& context, const GcWords& words) {
  table::CollectOptions collect;
  collect.dry_run = words.dry_run;
  HEADRACE_ASSIGN(collect.grace_us, ParseDuration(words.grace));
  if (!words.keep.empty()) {
    HEADRACE_ASSIGN(collect.keep_us, KeepOf(words.keep));
  }
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_TRY(ConfirmGc(context, words, collect));
  auto commit = context.Commit("");
  Json all = Json::array();
  std::string damaged;
  const auto done = [&](const table::CollectReport& report) {
    EndProgress();
    if (context.json) all.push_back(ToJson(report, words.dry_run));
    if (!context.json && !context.quiet) Print(report, words.dry_run);
    for (const auto& one : report.damaged) {
      damaged += (damaged.empty() ? "" : "; ") + report.table + ": " + one;
    }
  };
  if (words.tables.empty()) HEADRACE_TRY(catalog->Collect(collect, commit, done));
  for (const auto& name : words.tables) {
    HEADRACE_ASSIGN(const auto table, catalog->OpenTable(name));
    HEADRACE_ASSIGN(const auto report, table->Collect(collect, commit));
    done(report);
  }
  if (context.json) PrintJson(all);
  if (damaged.empty()) return Status::Ok();
  return Status::Corrupt("nothing was deleted of tables that are damaged: " + damaged +
                         "; headrace verify says more");
}

struct VerifyWords {
  std::vector<std::string> tables;
  std::string absent;
  bool newest = false;
};

Json ToJson(const table::VerifyReport& report) {
  Json damaged = Json::array();
  for (const auto& one : report.damaged) {
    Json entry = {{"object", one.key}, {"what", one.what}};
    if (one.version > 0) entry["version"] = one.version;
    damaged.push_back(std::move(entry));
  }
  Json present = Json::array();
  for (const auto& one : report.present) present.push_back({{"object", one.key}, {"what", one.what}});
  return {
      {"table", report.table.empty() ? Json() : Json(report.table)},
      {"present", present},
      {"versions", report.versions},
      {"checked", {{"files", report.checked.objects}, {"bytes", report.checked.bytes}}},
      {"damaged", damaged},
      {"orphans",
       {{"files", report.orphans.objects}, {"bytes", report.orphans.bytes}, {"objects", report.orphan_keys}}},
      {"unknown", {{"files", report.unknown.objects}, {"bytes", report.unknown.bytes}}}};
}

void Print(const table::VerifyReport& report) {
  const std::string name = report.table.empty() ? "refs" : report.table;
  std::printf("%s: %s, %s of %s: %s\n", name.c_str(), Files(report.checked.objects).c_str(),
              HumanBytes(static_cast<double>(report.checked.bytes)).c_str(),
              Versions(report.versions).c_str(),
              report.damaged.empty()
                  ? "whole"
                  : (HumanCount(static_cast<int64_t>(report.damaged.size())) + " damaged").c_str());
  constexpr size_t kMostShown = 20;
  for (size_t i = 0; i < report.damaged.size() && i < kMostShown; ++i) {
    const auto& one = report.damaged[i];
    std::printf("  %s%s: %s\n", one.key.c_str(),
                one.version > 0 ? (" (v" + std::to_string(one.version) + ")").c_str() : "", one.what.c_str());
  }
  if (report.damaged.size() > kMostShown) std::printf("  … --json lists all\n");
  for (const auto& one : report.present) std::printf("  %s: %s\n", one.key.c_str(), one.what.c_str());
  if (report.orphans.objects > 0 && report.damaged.empty()) {
    std::printf("  %s, %s, that no version needs: headrace gc deletes them once they are old enough\n",
                Files(report.orphans.objects).c_str(),
                HumanBytes(static_cast<double>(report.orphans.bytes)).c_str());
  }
}

// Of a file's bytes, or the checksum itself: 16 hex digits, or a number as SQL shows it.
Result<uint64_t> ChecksumOf(const std::string& text) {
  if (std::filesystem::is_regular_file(text)) {
    HEADRACE_ASSIGN(const std::string bytes, ReadFile(text));
    return Xxh3(bytes);
  }
  const bool hex = text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (error == std::errc() && end == text.data() + text.size()) return value;
  return Status::Invalid(
      "'" + text +
      "' is neither a file nor a blob's checksum (16 hex digits of its XXH3, or the number in "
      "its checksum field)");
}

Status RunVerify(const Context& context, const VerifyWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  auto commit = context.Commit("");
  commit.progress = ProgressLine(context.quiet || context.json);
  table::VerifyOptions verify;
  verify.newest_only = words.newest;
  if (!words.absent.empty()) {
    HEADRACE_ASSIGN(verify.absent, ChecksumOf(words.absent));
    if (words.newest) return Status::Invalid("--absent reads all that is stored: leave out --newest");
  }
  Json all = Json::array();
  size_t damaged = 0;
  size_t present = 0;
  const auto done = [&](const table::VerifyReport& report) {
    EndProgress();
    damaged += report.damaged.size();
    present += report.present.size();
    if (context.json) all.push_back(ToJson(report));
    if (!context.json && (!context.quiet || !report.damaged.empty())) Print(report);
  };
  if (words.tables.empty()) HEADRACE_TRY(catalog->Verify(verify, commit, done));
  for (const auto& name : words.tables) {
    HEADRACE_ASSIGN(const auto table, catalog->OpenTable(name));
    HEADRACE_ASSIGN(const auto report, table->Verify(verify, commit));
    done(report);
  }
  if (context.json) PrintJson(all);
  if (damaged == 0 && present > 0)
    return Status::Corrupt(
        "these bytes are not shown to be absent; headrace gc erases what was deleted with --purge, once the "
        "grace period is over");
  if (damaged == 0 && verify.absent && !context.json && !context.quiet)
    std::printf("absent: no file holds these bytes\n");
  if (damaged == 0) return Status::Ok();
  return Status::Corrupt(
      HumanCount(static_cast<int64_t>(damaged)) +
      " damaged; earlier versions may be whole (headrace restore), and headrace repair mends "
      "what can be mended");
}

struct RepairWords {
  std::string table;
  bool yes = false;
  bool dry_run = false;
};

Status RunRepair(const Context& context, const RepairWords& words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable(words.table));
  HEADRACE_ASSIGN(auto report, table->Repair({false, words.dry_run}, context.Commit("")));
  const auto version = [](int64_t number) { return "v" + std::to_string(number); };
  if (!report.unreadable.empty() && report.readable > 0 && !words.dry_run) {
    HEADRACE_TRY(Confirm(context, words.yes,
                         "make " + version(report.readable) + " the newest version of '" + words.table +
                             "' again, and lose what came after it (" + report.why + ")"));
    if (words.yes || !context.json) {
      HEADRACE_ASSIGN(report, table->Repair({true, false}, context.Commit("")));
    }
  }
  if (context.json) {
    PrintJson({{"table", words.table},
               {"derived", report.derived},
               {"stubs", report.stubs},
               {"unreadable", report.unreadable},
               {"readable", report.readable},
               {"version", report.version}});
  } else {
    const char* would = words.dry_run ? "would be " : "";
    std::printf("%lld derived objects of '%s' %sdeleted; they are made again when they are needed\n",
                static_cast<long long>(report.derived), words.table.c_str(), would);
    if (report.stubs > 0) {
      std::printf("%lld missing versions of '%s' %sstubs, so that later ones are found\n",
                  static_cast<long long>(report.stubs), words.table.c_str(),
                  words.dry_run ? "would become " : "are ");
    }
    if (!report.unreadable.empty() && report.version > 0) {
      std::printf("'%s' is as it was at %s (now %s)\n", words.table.c_str(), version(report.readable).c_str(),
                  version(report.version).c_str());
    }
  }
  if (report.version > 0) return Status::Ok();
  if (report.readable == 0)
    return Status::Corrupt("no version of '" + words.table + "' can be read: " + report.why);
  return Status::Corrupt(version(report.unreadable.front()) + " of '" + words.table +
                         "' cannot be read, and " + version(report.readable) + " can; headrace repair " +
                         words.table + " --yes makes it the newest again: " + report.why);
}

}  // namespace

void AddKeep(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("keep", "Say how long a table keeps its old versions");
  auto words = std::make_shared<KeepWords>();
  command->add_option("table", words->table, "The table")->required();
  command->add_option("time", words->keep, "30d, 12h, 2w, 0s (the newest alone), or forever; none: show it");
  command->add_option("-m,--why", words->why, "A note for the table's log");
  command->footer(
      "A version is kept for so long after the next one came, so that the table can be read as it was at any "
      "moment of that time. The newest, and versions with tags or refs, are kept whatever their age. Nothing "
      "goes before `headrace gc`.\n\nExamples:\n  headrace keep photos 30d\n  headrace keep photos forever");
  command->callback([=] { *action = [=] { return RunKeep(*context, *words); }; });
}

void AddGc(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("gc", "Delete files that no version needs any more");
  auto words = std::make_shared<GcWords>();
  command->add_option("tables", words->tables, "The tables; none: all, and those that were dropped");
  command->add_option("--keep", words->keep, "Instead of the table's own (headrace keep): 30d, 0s, forever");
  command->add_flag("--keep-tagged", words->keep_tagged, "Keep versions with tags: always so");
  command->add_option("--grace", words->grace, "How long files stay once nothing needs them")
      ->capture_default_str();
  command->add_flag("-n,--dry-run", words->dry_run, "Only say what would go, and what holds the rest");
  command->add_flag("-y,--yes", words->yes, "Do not ask");
  command->footer(
      "Two steps: versions older than the table keeps expire, and a day later (--grace) the files that only "
      "they needed go, with those that died writers left behind. What is being read or written is held by "
      "leases, however long it takes. Run it from cron; it may run beside everything else, and be killed.\n\n"
      "Examples:\n  headrace gc --dry-run\n  headrace gc photos --keep 7d --yes");
  command->callback([=] { *action = [=] { return RunGc(*context, *words); }; });
}

void AddVerify(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("verify", "Read everything that is stored, and check it");
  auto words = std::make_shared<VerifyWords>();
  command->add_option("tables", words->tables, "The tables; none: all, and what refs point to");
  command->add_flag("--newest", words->newest, "Only the newest version of each");
  command->add_option(
      "--absent", words->absent,
      "A file, or a blob's checksum: say whether its bytes are still anywhere, and end with 1 if so");
  command->footer(
      "Every checksum (pages, tensors, blobs, manifests, snapshots) and every reference, of every version "
      "that "
      "is kept. Damage is named with the object and the newest version that needs it, and the exit code is "
      "1.\n\n"
      "Examples:\n  headrace verify\n  headrace verify photos --newest --json");
  command->callback([=] { *action = [=] { return RunVerify(*context, *words); }; });
}

void AddRepair(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("repair", "Mend what can be mended of a damaged table");
  auto words = std::make_shared<RepairWords>();
  command->add_option("table", words->table, "The table")->required();
  command->add_flag("-n,--dry-run", words->dry_run, "Only say what would be done");
  command->add_flag("-y,--yes", words->yes, "Do not ask");
  command->footer(
      "Deletes derived objects (they are made again when they are needed). Where the newest version's own "
      "file is "
      "damaged, so that the table does not open, the newest version that can be read becomes the newest "
      "again.");
  command->callback([=] { *action = [=] { return RunRepair(*context, *words); }; });
}

}  // namespace headrace::cli
