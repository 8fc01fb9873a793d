#include "trace/views.h"

#include "trace/kinds.h"
#include "trace/queue.h"
#include "trace/scores.h"
#include "trace/tables.h"

namespace headrace::trace {
namespace {

// `{scores}` in a text is the table of that name with all of its columns.
struct SqlView {
  const char* name;
  std::string (*text)();
};

// A row replaces the earlier ones of its id, and the score that it supersedes.
std::string ScoresNow() {
  return R"(with filled as (
  select * replace (coalesce(id, )" +
         SqlIdOfOldScore() + R"() as id, coalesce(target_kind, 'request') as target_kind,
    coalesce(target, request) as target) from {scores}
), newest as (
  select * from filled qualify row_number() over (partition by id order by time desc, seq desc nulls last) = 1
)
select * from newest where state is null and id not in (
  select supersedes from newest where state is null and supersedes is not null and supersedes <> id
))";
}

std::string QueuesNow() {
  return R"(with newest as (
  select * from {queues} qualify row_number() over (partition by id order by time desc) = 1
)
select * from newest where state is null qualify row_number() over (partition by name order by time desc) = 1)";
}

// What is known of each run: of each column the last value that a row has, since rows leave out what did not
// change.
std::string RunsNow() {
  std::string columns;
  for (const char* name : {"kind",      "name",    "project", "parent",  "who",      "host",     "pid",
                           "slurm_job", "code",    "diff",    "command", "env",      "inputs",   "outputs",
                           "config",    "summary", "tags",    "notes",   "again_of", "resume_of"})
    columns += std::string(",\n  arg_max(") + name + ", time) as " + name;
  return R"(select id, max(time) as time, max(life) as life, count(distinct life) as lives,
  arg_max(state, time) as state,
  case when arg_max(state, time) <> 'running' then arg_max(reason, time) end as reason,
  arg_max(writer, time) filter (state is not null) as writer, min(started) as started, case when arg_max(state, time) <> 'running' then arg_max(ended, time) end as ended)" +
         columns + "\nfrom {runs} where id is not null group by id";
}

// Every point that counts: of a step that a later life of the run has begun before, the later life's alone.
// The steps of what is below sys/ are seconds, and all of it counts.
std::string Points() {
  return R"(with lives as (
  select run, rank, life, min(from_step) as first from {metrics} where not starts_with(key, 'sys/')
  group by run, rank, life
), cuts as (
  select run, rank, life, min(first) over (
    partition by run, rank order by life rows between 1 following and unbounded following) as cut from lives
), every as (
  select run, key, rank, life, time, unnest(case
      when steps is not null then steps
      when to_step > from_step then generate_series(from_step, to_step, (to_step - from_step) // (n - 1))
      else list_transform(range(n), i -> from_step) end) as step,
    unnest(seconds) as seconds, unnest("values") as value
  from {metrics}
)
select e.run, e.key, e.rank, e.life, e.step, e.time + to_microseconds((e.seconds * 1e6)::bigint) as time, e.value
from every e left join cuts c on e.run = c.run and e.rank = c.rank and e.life = c.life
where starts_with(e.key, 'sys/') or c.cut is null or e.step < c.cut)";
}

const SqlView kViews[] = {
    {"points", Points},
    {"queues_now", QueuesNow},
    {"runs_now", RunsNow},
    {"scores_now", ScoresNow},
};

Result<std::string> Whole(const table::Catalog& catalog, const SpoolTable& table) {
  const std::string empty = EmptySelect(table.columns());
  HEADRACE_ASSIGN(const auto name, NameIn(catalog, table.name));
  if (!name) return "(" + empty + ") as " + table.name;
  return "(select * from " + *name + " union all by name " + empty + ") as " + table.name;
}

Result<std::string> TextOf(const table::Catalog& catalog, const SqlView& view) {
  std::string text = view.text();
  std::vector<SpoolTable> tables(SpoolTables().begin(), SpoolTables().end());
  tables.push_back(QueueTable());
  for (const SpoolTable& table : tables) {
    const std::string place = "{" + std::string(table.name) + "}";
    if (text.find(place) == std::string::npos) continue;
    HEADRACE_ASSIGN(const std::string whole, Whole(catalog, table));
    for (size_t at = 0; (at = text.find(place, at)) != std::string::npos; at += whole.size())
      text.replace(at, place.size(), whole);
  }
  return text;
}

}  // namespace

std::vector<std::string> Views() {
  std::vector<std::string> names;
  for (const SqlView& view : kViews) names.emplace_back(view.name);
  return names;
}

std::function<Result<std::string>(const std::string&)> ViewOf(std::shared_ptr<table::Catalog> catalog) {
  return [catalog = std::move(catalog)](const std::string& name) -> Result<std::string> {
    for (const SqlView& view : kViews)
      if (name == view.name) return TextOf(*catalog, view);
    return Status::NotFound("there is no view '" + name + "'");
  };
}

}  // namespace headrace::trace
