// Runs as people ask for them: rows of the view `runs_now`, found by id, by the beginning of one, by name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "query/query.h"
#include "table/catalog.h"

namespace headrace::cli {

// An engine that sees what lies in spools, and the views over them.
Result<std::unique_ptr<query::SqlEngine>> OpenSql(const std::shared_ptr<table::Catalog>& catalog);

// Rows of a query as JSON objects; columns of JSON are values, not text.
Result<std::vector<nlohmann::ordered_json>> Rows(query::SqlEngine* engine, const std::string& sql,
                                                 std::vector<query::Param> params = {});

// `summary.loss` and `config.opt.lr` in a condition as SQL; a number where they stand beside one, else text.
// Names that hold other characters stand in double quotes: summary."val/f1".
std::string WithJsonFields(const std::string& condition);
// One such field, or a column, as SQL to sort by: numbers as numbers.
std::string SortExpression(const std::string& field);

// The id of the run that a person means: an id, the beginning of one (6 characters or more), a name (the
// latest run of it), or @last.
Result<std::string> RunOf(query::SqlEngine* engine, const std::string& told);

// Runs whose process is gone but whose machine could not say so: `state` becomes "killed" where Slurm says
// that their job has ended, else "silent", and `reason` tells what Slurm said, or since when. Of rows with
// id, state, time, writer, who and slurm_job.
Status TellSilent(const table::Catalog& catalog, query::SqlEngine* engine,
                  std::vector<nlohmann::ordered_json>* runs);

inline constexpr int kMostJsonDepth = 64;  // of what is read as values: whatever walks them is recursive

// A text of JSON as its value; anything else as it is, and JSON that is nested deeper than kMostJsonDepth.
nlohmann::ordered_json Parsed(const nlohmann::ordered_json& value);
// The text itself; "" where it is none.
std::string Text(const nlohmann::ordered_json& value);
// A value as people read it on a terminal: texts without quotes, nothing that a terminal would obey.
std::string Plain(const nlohmann::ordered_json& value);

}  // namespace headrace::cli
