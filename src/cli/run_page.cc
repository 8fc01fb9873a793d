#include "cli/run_page.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <tuple>

#include "base/base64.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/ordered_json.h"
#include "cli/page.h"
#include "cli/render.h"
#include "cli/run_diff.h"
#include "cli/run_media.h"
#include "cli/run_page_parts.h"
#include "cli/run_table.h"
#include "trace/run_curves.h"

namespace headrace::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostKeyText = 300;     // characters of a key
constexpr size_t kMostFacts = 20'000;    // keys of which a line is told
constexpr size_t kMostValue = 16 << 10;  // bytes of a value in a table
constexpr size_t kMostTableRows = 1000;  // of a table that was logged
constexpr size_t kMostNumbers = 2000;    // of an array that was logged, and bins of a histogram
constexpr size_t kMostLinked = 200;      // runs
constexpr size_t kIdText = 8;
constexpr int64_t kMostCells = 2'000'000, kMostCurves = 2'000;  // of all runs together

std::string KeyText(const std::string& key) { return Printable(key, kMostKeyText); }

struct Pages {
  Json page = Json::object();
  PageArrays arrays;
  RunPageFacts facts;
  std::vector<std::string> notes;
};

int64_t MicrosOf(const Json& time) {
  if (!time.is_string()) return 0;
  const auto micros = ParseMicros(time.get<std::string>());
  return micros.ok() ? *micros : 0;
}

// From which its time is counted.
Result<int64_t> BeganOf(query::SqlEngine* engine, const Json& run) {
  if (run["started"].is_string()) return MicrosOf(run["started"]);
  HEADRACE_ASSIGN(const auto found, Rows(engine, "select min(time) as time from hr.metrics where run = ?",
                                         {{"1", Text(run["id"])}}));
  return found.empty() ? 0 : MicrosOf(found[0]["time"]);
}

// Whether a page's script would read another number: its numbers are float64.
bool IsTooLong(const Json& value) {
  constexpr int64_t kMost = int64_t{1} << 53;
  if (value.is_number_unsigned()) return value.get<uint64_t>() > static_cast<uint64_t>(kMost);
  return value.is_number_integer() && (value.get<int64_t>() > kMost || value.get<int64_t>() < -kMost);
}

// [["lr", 0.1], …]
Json NamedList(const Json& object) {
  NamedValues values;
  Flatten(object, "", &values);
  Json list = Json::array();
  for (const auto& [name, value] : values) {
    const bool plain = value.is_primitive() && !value.is_string() && !IsTooLong(value);
    list.push_back({KeyText(name), plain ? value : Json(Shortened(Plain(value), kMostValue))});
  }
  return list;
}

// ---- curves

struct Curves {
  int64_t began = 0;
  trace::RunCurves read;
};

Json FactsOf(const trace::RunCurve& curve, size_t run) {
  Json facts = {{"key", KeyText(curve.key)},
                {"run", run},
                {"rank", curve.rank},
                {"last", PageNumber(curve.last.value)},
                {"step", std::to_string(curve.last.step)},
                {"min", nullptr},
                {"max", nullptr},
                {"count", curve.points},
                {"nans", curve.facts.nans},
                {"plus", curve.facts.plus},
                {"minus", curve.facts.minus}};
  if (curve.facts.n > 0) {
    facts["min"] = curve.facts.min;
    facts["max"] = curve.facts.max;
  }
  if (curve.key.starts_with(trace::kSystem)) facts["system"] = true;
  return facts;
}

// A chart of one key: the curves of all runs and ranks that logged it.
struct Member {
  const trace::RunCurve* curve = nullptr;
  size_t run = 0, facts = 0;
};
using Charts = std::map<std::pair<bool, std::string>, std::vector<Member>>;  // below sys/ or not, key

// A figure of the machine has its extremes beside it, as "sys/x.min" and "sys/x.max": they share its chart.
void JoinExtremes(Charts* charts) {
  for (auto at = charts->begin(); at != charts->end();) {
    const auto& [system, key] = at->first;
    const bool extreme = system && (key.ends_with(".min") || key.ends_with(".max"));
    const auto base = extreme ? charts->find({true, key.substr(0, key.size() - 4)}) : charts->end();
    if (base == charts->end()) {
      ++at;
      continue;
    }
    base->second.insert(base->second.end(), at->second.begin(), at->second.end());
    at = charts->erase(at);
  }
}

std::string SeriesName(const Member& one, bool alone, const std::string& key, const std::string& run) {
  std::string name = run;
  const auto add = [&](const std::string& part) { name += (name.empty() ? "" : " · ") + part; };
  if (one.curve->rank != 0 ||
      (run.empty() && !alone && one.curve->key == key && !key.starts_with(trace::kSystem)))
    add("rank " + std::to_string(one.curve->rank));
  if (key.starts_with(trace::kSystem) && !alone)
    add(one.curve->key == key ? "mean" : one.curve->key.substr(key.size() + 1));
  return name;
}

Json Chart(const std::string& key, const std::vector<Member>& members, const std::vector<Curves>& runs,
           const std::vector<std::string>& names, PageArrays* arrays) {
  Json chart = {{"key", KeyText(key)}, {"series", Json::array()}};
  if (key.starts_with(trace::kSystem)) chart["system"] = true;
  int64_t least = INT64_MAX;
  int shift = 0;
  std::set<int64_t> lives;
  for (const Member& one : members) {
    const trace::RunCurve& curve = *one.curve;
    if (curve.form == trace::RunCurve::kBuckets) {
      shift = std::max(shift, curve.by_step.shift());
      const int64_t width = curve.by_step.shift();
      least = std::min(least, curve.by_step.all().begin()->first << width);
    } else {
      least = std::min(least, curve.whole[0].step);
    }
    const auto of_rank = runs[one.run].read.lives.find(curve.rank);
    if (of_rank != runs[one.run].read.lives.end() && !chart.contains("system"))
      for (const auto& [life, first] : of_rank->second)
        if (life != of_rank->second.begin()->first) lives.insert(first);
    Json series = SeriesData(curve, runs[one.run].began, arrays);
    series["fact"] = one.facts;
    series["name"] = SeriesName(one, members.size() == 1, key, runs.size() > 1 ? names[one.run] : "");
    series["colour"] = runs.size() > 1 ? one.run : chart["series"].size();
    chart["series"].push_back(std::move(series));
  }
  // Where the buckets of all of them begin at multiples of their widths.
  chart["origin"] = std::to_string(least >> shift << shift);
  if (!lives.empty() && lives.size() <= 1000) {
    chart["lives"] = Json::array();
    for (const int64_t first : lives) chart["lives"].push_back(std::to_string(first));
  }
  return chart;
}

void AddCurves(const std::vector<Curves>& runs, const std::vector<std::string>& names, Pages* pages) {
  Charts charts;
  Json facts = Json::array();
  size_t all = 0, facts_left = 0;
  bool ranks = false, early = false;
  for (size_t run = 0; run < runs.size(); ++run) {
    for (const trace::RunCurve& curve : runs[run].read.curves) {
      ++all;
      ranks = ranks || curve.rank != 0;
      pages->facts.points += curve.points;
      if (curve.form != trace::RunCurve::kFacts)
        charts[{curve.key.starts_with(trace::kSystem), curve.key}].push_back({&curve, run, facts.size()});
      early = early || (curve.form == trace::RunCurve::kBuckets &&
                        runs[run].read.buckets < trace::RunCurvesOptions().most_buckets);
      pages->facts.curves += curve.form != trace::RunCurve::kFacts;
      if (facts.size() < kMostFacts || curve.form != trace::RunCurve::kFacts) {
        facts.push_back(FactsOf(curve, run));
      } else {
        ++facts_left;
      }
    }
  }
  pages->page["facts"] = std::move(facts);
  pages->page["ranks"] = ranks;
  Json list = Json::array();
  JoinExtremes(&charts);
  for (const auto& [key, members] : charts)
    list.push_back(Chart(key.second, members, runs, names, &pages->arrays));
  pages->page["charts"] = std::move(list);
  if (const auto drawn = static_cast<size_t>(pages->facts.curves); drawn < all)
    pages->notes.push_back(
        "Of " + HumanCount(static_cast<int64_t>(all)) + " curves this page draws the first " +
        HumanCount(pages->facts.curves) +
        "; the others are lines of the table Metrics. --key NAME,… draws those that you name.");
  if (facts_left > 0)
    pages->notes.push_back("The table Metrics leaves out " + HumanCount(static_cast<int64_t>(facts_left)) +
                           " curves more.");
  if (early)
    pages->notes.push_back(
        "Long curves share this page’s room: below each stands where its zoom ends. --key NAME,… gives those "
        "that "
        "you name more of it.");
}

// ---- lineage

void AddOne(const Json& run, const char* how, Json* runs) {
  runs->push_back({{"how", how}, {"name", Plain(run["name"])}, {"id", Plain(run["id"])}});
}

bool IsSha(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// The entries of a list as lines, each with the runs whose `theirs` name the same content.
Result<Json> Linked(query::SqlEngine* engine, const Json& run, const char* mine, const char* theirs,
                    const char* how) {
  Json lines = Json::array();
  if (!run[mine].is_array()) return lines;
  std::string shas;
  for (const Json& entry : run[mine]) {
    if (!entry.is_object()) continue;
    lines.push_back({{"kind", entry.contains("kind") ? Plain(entry["kind"]) : ""},
                     {"text", Shortened(Printable(InputText(entry), kMostValue), kMostValue)},
                     {"runs", Json::array()}});
    const std::string sha = entry.contains("sha256") ? Text(entry["sha256"]) : "";
    lines.back()["sha256"] = sha;
    if (IsSha(sha) && shas.size() < kMostLinked * 65) shas += (shas.empty() ? "" : "|") + sha;
  }
  if (shas.empty()) return lines;
  const std::string column = std::string(theirs) + "::varchar";
  HEADRACE_ASSIGN(
      const auto others,
      Rows(engine,
           "select id, name, " + column + " as list from runs_now where id <> ?2 and regexp_matches(" +
               column + ", ?1) order by started desc limit " + std::to_string(kMostLinked),
           {{"1", shas}, {"2", Text(run["id"])}}));
  for (Json& line : lines) {
    const std::string sha = line["sha256"].get<std::string>();
    if (!IsSha(sha)) continue;
    for (const Json& other : others)
      if (Text(other["list"]).find(sha) != std::string::npos) AddOne(other, how, &line["runs"]);
  }
  return lines;
}

Result<Json> Related(query::SqlEngine* engine, const Json& run) {
  Json lines = Json::array();
  const auto add = [&](const char* what, const Json& other) {
    const std::string name = Plain(other["name"]);
    lines.push_back({{"kind", what}, {"text", (name.empty() ? "" : name + " ") + Plain(other["id"])}});
  };
  const std::string id = Text(run["id"]);
  for (const auto& [column, forth, back] :
       {std::tuple("parent", "parent", "child"), std::tuple("again_of", "repeats", "repeated by"),
        std::tuple("resume_of", "goes on from", "went on as")}) {
    if (const std::string told = Text(run[column]); !told.empty()) {
      HEADRACE_ASSIGN(const auto found,
                      Rows(engine, "select id, name from runs_now where id = ?", {{"1", told}}));
      add(forth, found.empty() ? Json{{"id", told}, {"name", ""}} : found[0]);
    }
    HEADRACE_ASSIGN(const auto others, Rows(engine,
                                            "select id, name from runs_now where " + std::string(column) +
                                                " = ? order by started limit " + std::to_string(kMostLinked),
                                            {{"1", id}}));
    for (const Json& other : others) add(back, other);
  }
  return lines;
}

// ---- media

// What a script may need of a text, cut where it is long; why it was cut.
std::pair<Json, std::string> MediaText(const MediaItem& item) {
  if (item.kind != "table" && item.kind != "array") return {Shortened(item.text), ""};
  if (JsonDepth(item.text) > kMostJsonDepth) return {Shortened(item.text), ""};
  Json value = ParseJsonInOrder(item.text);
  Json* list = item.kind == "array"                          ? &value
               : value.is_object() && value.contains("rows") ? &value["rows"]
                                                             : nullptr;
  if (!list || !list->is_array()) return {Shortened(item.text), ""};
  const size_t all = list->size(), most = item.kind == "array" ? kMostNumbers : kMostTableRows;
  if (all > most) list->get_ref<Json::array_t&>().resize(most);
  for (Json& row : *list) {
    if (row.is_string()) row = Shortened(row.get<std::string>(), kMostValue);
    if (!row.is_array()) continue;
    for (Json& cell : row)
      if (cell.is_string()) cell = Shortened(cell.get<std::string>(), kMostValue);
  }
  return {value.dump(-1, ' ', false, Json::error_handler_t::replace),
          all > most ? "the first " + HumanCount(static_cast<int64_t>(most)) + " of " +
                           HumanCount(static_cast<int64_t>(all))
                     : ""};
}

Json MediaJson(const MediaItem& item, PageArrays* arrays) {
  if (!item.left.empty()) return {{"left", Printable(item.left, kMostKeyText)}};
  Json json = {{"kind", item.kind}, {"format", item.format}};
  if (!item.caption.empty()) json["caption"] = Shortened(item.caption, kMostValue);
  if (!item.text.empty()) {
    auto [text, cut] = MediaText(item);
    json["text"] = std::move(text);
    if (!cut.empty()) json["cut"] = cut;
  }
  if (Json facts = JsonDepth(item.facts) > kMostJsonDepth ? Json() : ParseJsonInOrder(item.facts);
      facts.is_object()) {
    const size_t bins = facts.contains("counts") && facts["counts"].is_array() ? facts["counts"].size() : 0;
    if (bins > kMostNumbers) {
      json["cut"] =
          "a histogram of " + HumanCount(static_cast<int64_t>(bins)) + " bins: more than this page draws";
    } else {
      json["facts"] = std::move(facts);
    }
  }
  if (!item.bytes.empty()) json["data"] = arrays->AddText(EncodeBase64(item.bytes));
  return json;
}

void AddMedia(const RunMedia& media, Pages* pages) {
  Json list = Json::array(), output = Json::array();
  for (const MediaOfKey& key : media.keys) {
    Json one = {{"key", KeyText(key.key)}, {"rank", key.rank}, {"all", key.steps}, {"steps", Json::array()}};
    for (const MediaOfStep& step : key.shown) {
      Json items = Json::array();
      for (const MediaItem& item : step.items) items.push_back(MediaJson(item, &pages->arrays));
      one["steps"].push_back({{"step", std::to_string(step.step)}, {"items", std::move(items)}});
    }
    list.push_back(std::move(one));
  }
  pages->page["media"] = std::move(list);
  std::string note;
  if (media.keys_left > 0)
    note =
        "Media of " + HumanCount(static_cast<int64_t>(media.keys_left)) + " keys more are not on this page. ";
  if (media.replaced > 0)
    note += HumanCount(media.replaced) + " of earlier lives were replaced by later ones: hr.media has them.";
  if (!note.empty()) pages->page["mediaNote"] = note;
  for (const OutputPiece& piece : media.output)
    output.push_back({{"error", piece.error}, {"text", Shortened(piece.text)}});
  pages->page["output"] = std::move(output);
  if (media.output_left > 0)
    pages->page["outputNote"] = "The end of it: " + HumanCount(static_cast<int64_t>(media.output_left)) +
                                " pieces before it are in hr.media.";
}

// ---- what else is known

Json About(const Json& run) {
  Json about = Json::array();
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) about.push_back({name, Shortened(value, kMostValue)});
  };
  add("started", TimeText(run["started"]));
  add("took", TookText(run));
  if (run["lives"].is_number() && run["lives"].get<int64_t>() > 1) add("lives", Plain(run["lives"]));
  add("project", Plain(run["project"]));
  add("by", Plain(run["who"]));
  add("on", Plain(run["host"]));
  add("Slurm job", Plain(run["slurm_job"]));
  std::string tags;
  if (run["tags"].is_array())
    for (const Json& tag : run["tags"]) tags += (tags.empty() ? "" : ", ") + Plain(tag);
  add("tags", tags);
  return about;
}

Json More(const Json& run) {
  Json more = Json::array();
  std::string words;
  if (run["command"].is_array())
    for (const Json& word : run["command"]) words += (words.empty() ? "" : " ") + Plain(word);
  Json code = NamedList(run["code"]);
  if (!words.empty()) code.push_back({"command", Shortened(words, kMostValue)});
  if (!code.empty()) more.push_back({"Code", std::move(code)});
  if (const std::string diff = Text(run["diff"]); !diff.empty())
    more.push_back({"Changes to the commit", Shortened(diff)});
  if (Json env = NamedList(run["env"]); !env.empty()) more.push_back({"Environment", std::move(env)});
  return more;
}

Result<Json> RunJson(query::SqlEngine* engine, const Json& run, const std::string& name, bool alone) {
  Json json = {{"id", Plain(run["id"])},
               {"name", Shortened(name, kMostValue)},
               {"state", Plain(run["state"])},
               {"reason", Shortened(Plain(run["reason"]), kMostValue)},
               {"notes", Shortened(Text(run["notes"]), kMostPageText)}};
  if (!alone) return json;
  json["about"] = About(run);
  json["config"] = NamedList(run["config"]);
  json["summary"] = NamedList(run["summary"]);
  HEADRACE_ASSIGN(json["inputs"], Linked(engine, run, "inputs", "outputs", "made by"));
  HEADRACE_ASSIGN(json["outputs"], Linked(engine, run, "outputs", "inputs", "used by"));
  HEADRACE_ASSIGN(json["related"], Related(engine, run));
  json["more"] = More(run);
  return json;
}

// Of two runs of one name, each with the beginning of its id.
std::vector<std::string> NamesOf(const std::vector<Json>& runs) {
  std::map<std::string, int> count;
  for (const Json& run : runs) ++count[Plain(run["name"])];
  std::vector<std::string> names;
  for (const Json& run : runs) {
    std::string name = Printable(Plain(run["name"]), kMostKeyText);
    const std::string id = Plain(run["id"]).substr(0, kIdText);
    names.push_back(name.empty() ? id : count[Plain(run["name"])] > 1 ? name + " " + id : name);
  }
  return names;
}

void AddDifferences(const std::vector<Json>& runs, Pages* pages) {
  const Differences found = DifferencesOf(runs);
  Json rows = Json::array();
  for (const Difference& one : found.rows) {
    Json values = Json::array();
    for (const Json& value : one.values)
      values.push_back(value.is_discarded() ? Json() : Json(Shortened(Plain(value), kMostValue)));
    rows.push_back({{"what", KeyText(one.what)}, {"values", std::move(values)}});
  }
  pages->page["differences"] = std::move(rows);
  pages->page["same"] = found.same;
}

}  // namespace

Result<RunPageFacts> WriteRunPage(const std::string& path, const std::shared_ptr<table::Catalog>& catalog,
                                  query::SqlEngine* engine, const std::vector<Json>& runs,
                                  const std::vector<std::string>& keys) {
  Pages pages;
  const std::vector<std::string> names = NamesOf(runs);
  const auto count = static_cast<int64_t>(runs.size());
  std::vector<Curves> curves;
  pages.page["runs"] = Json::array();
  for (size_t i = 0; i < runs.size(); ++i) {
    const Json& run = runs[i];
    HEADRACE_ASSIGN(Json json, RunJson(engine, run, names[i], runs.size() == 1));
    pages.page["runs"].push_back(std::move(json));
    Curves& one = curves.emplace_back();
    HEADRACE_ASSIGN(one.began, BeganOf(engine, run));
    HEADRACE_ASSIGN(one.read, trace::ReadRunCurves(*catalog, {.run = Text(run["id"]),
                                                              .keys = keys,
                                                              .began = one.began,
                                                              .most_cells = kMostCells / count,
                                                              .most_curves = kMostCurves / count}));
  }
  AddCurves(curves, names, &pages);
  pages.page["media"] = pages.page["output"] = Json::array();
  if (runs.size() == 1) {
    HEADRACE_ASSIGN(const RunMedia media, ReadRunMedia(*catalog, Text(runs[0]["id"]), curves[0].read.lives));
    AddMedia(media, &pages);
  } else {
    AddDifferences(runs, &pages);
  }
  pages.page["notes"] = pages.notes;
  // The script comes before what curves and pictures are made of, so that a browser paints while it still
  // reads those.
  std::string page = PageHead(runs.size() == 1 ? "Run" : "Runs", kRunPageStyle) + kRunPageBody;
  page += DataElement("run", pages.page);
  page += PageScript({kPlotScript, kRunPageScript});
  pages.arrays.AppendTo(&page);
  page += "</body></html>\n";
  pages.facts.bytes = page.size();
  HEADRACE_TRY(ReplaceFile(path, page, /*sync=*/false));
  return pages.facts;
}

}  // namespace headrace::cli
