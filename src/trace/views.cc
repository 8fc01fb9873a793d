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

const SqlView kViews[] = {
    {"queues_now", QueuesNow},
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
